#include "qmq/crc32c.h"

#include "tests/unit/store/store_fixture.h"

namespace qmq::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

/// Wants one tag.
class WantsTag final : public MessageMatcher {
public:
    explicit WantsTag(std::string tag) : tag_(std::move(tag)) {}
    bool MayMatch(std::uint32_t tag_mask) const override {
        ++masks;
        return (tag_mask & TagBit(tag_)) != 0;
    }
    bool Matches(const MessageHead& head) const override {
        ++heads;
        return HeadHasTag(head, tag_);
    }
    mutable int masks = 0;
    mutable int heads = 0;

private:
    const std::string tag_;
};

class ReadTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(test_.Open().ok()); }
    ReadReply Read(const ReadRequest& request, const std::string& subject = "orders") {
        auto reply = test_.store->Read(*test_.store->FindSubject(subject, false), request);
        EXPECT_TRUE(reply.ok()) << reply.status();
        return reply.ok() ? std::move(*reply) : ReadReply();
    }
    std::vector<std::string> Bodies(const ReadReply& reply) {
        std::vector<std::string> bodies;
        for (const MessageRun& run : reply.runs) {
            for (std::string& body : BodiesOf(run)) {
                bodies.push_back(std::move(body));
            }
        }
        return bodies;
    }

    std::unique_ptr<env::FileSystem> files_ = env::MakeMemoryFileSystem();
    TestStore test_{*files_};
};

TEST_F(ReadTest, AWholeBatchIsTheVeryBytesThatWereSent) {
    const Slice batch = MakeBatch({"a", "b", "c"});
    const auto view = BatchView::Parse(batch.bytes(), BatchLimits());
    ASSERT_TRUE(
        test_.store->AppendMessages(*test_.store->FindSubject("orders", true), batch, view.value())
            .ok());
    const ReadReply reply = Read({.end = 3, .max_messages = 10});
    ASSERT_THAT(reply.runs, SizeIs(1));
    EXPECT_EQ(reply.runs[0].header.data(), batch.data());
    EXPECT_EQ(reply.runs[0].body.data(), batch.data() + BatchHeader::kBytes);
    EXPECT_EQ(reply.runs[0].count, 3U);
    EXPECT_EQ(reply.next, 3U);
}

TEST_F(ReadTest, APartOfABatchTravelsAsABatchOfItsOwn) {
    ASSERT_TRUE(test_.Put("orders", {"a", "b", "c", "d"}).ok());
    const ReadReply reply = Read({.from = 1, .end = 3, .max_messages = 10});
    ASSERT_THAT(reply.runs, SizeIs(1));
    EXPECT_EQ(reply.runs[0].first_sequence, 1U);
    EXPECT_THAT(BodiesOf(reply.runs[0]), ElementsAre("b", "c"));
    EXPECT_EQ(reply.next, 3U);
}

TEST_F(ReadTest, MaxMessagesEndsInsideOfABatch) {
    ASSERT_TRUE(test_.Put("orders", {"a", "b", "c"}).ok());
    ASSERT_TRUE(test_.Put("orders", {"d", "e"}).ok());
    EXPECT_THAT(Bodies(Read({.end = 5, .max_messages = 4})), ElementsAre("a", "b", "c", "d"));
    EXPECT_THAT(Bodies(Read({.from = 4, .end = 5, .max_messages = 4})), ElementsAre("e"));
}

TEST_F(ReadTest, MaxBytesEndsBeforeTheMessageThatIsTooMuchButGivesTheFirst) {
    ASSERT_TRUE(test_.Put("orders", {std::string(1000, 'a'), std::string(1000, 'b')}).ok());
    const ReadReply one = Read({.end = 2, .max_messages = 10, .max_bytes = 1500});
    EXPECT_THAT(Bodies(one), SizeIs(1));
    EXPECT_EQ(one.next, 1U);
    EXPECT_THAT(Bodies(Read({.from = 1, .end = 2, .max_messages = 10, .max_bytes = 1})), SizeIs(1));
}

TEST_F(ReadTest, AFilterLooksAtMasksFirstAndTheTagDecides) {
    // Two tags with the same bit: the mask lets both through.
    std::string twin;
    for (int i = 0; twin.empty(); ++i) {
        const std::string tag = "t" + std::to_string(i);
        twin = TagBit(tag) == TagBit("paid") ? tag : "";
    }
    ASSERT_TRUE(
        test_.Append("orders", {"a", "b", "c", "d", "e"}, {"paid", twin, "x", "paid", "paid"})
            .ok());
    ASSERT_TRUE(test_.store->Write().ok());
    const WantsTag matcher("paid");
    const ReadReply reply = Read({.end = 5, .max_messages = 10, .matcher = &matcher});
    EXPECT_THAT(Bodies(reply), ElementsAre("a", "d", "e"));
    ASSERT_THAT(reply.runs, SizeIs(2)) << "neighbours travel together";
    EXPECT_EQ(reply.next, 5U);
    EXPECT_EQ(matcher.masks, 5);
    EXPECT_EQ(matcher.heads, 4);
}

TEST_F(ReadTest, MaxScannedEndsASearchThatFindsNothing) {
    for (int i = 0; i < 10; ++i) {
        ASSERT_TRUE(test_.Put("orders", {"a", "b"}).ok());
    }
    const WantsTag matcher("paid");
    const ReadReply reply =
        Read({.end = 20, .max_messages = 10, .max_scanned = 7, .matcher = &matcher});
    EXPECT_THAT(reply.runs, IsEmpty());
    EXPECT_EQ(reply.next, 7U);
}

TEST_F(ReadTest, NothingIsReadAboveTheEndThatWasAskedFor) {
    ASSERT_TRUE(test_.Put("orders", {"a", "b", "c"}).ok());
    EXPECT_THAT(Bodies(Read({.end = 2, .max_messages = 10})), ElementsAre("a", "b"));
    const ReadReply none = Read({.from = 3, .end = 100, .max_messages = 10});
    EXPECT_THAT(none.runs, IsEmpty());
    EXPECT_EQ(none.next, 3U);
}

TEST_F(ReadTest, FiltersAndPartsWorkFromFilesToo) {
    for (int i = 0; i < 200; ++i) {
        ASSERT_TRUE(test_
                        .Append("orders",
                                {std::to_string(i) + std::string(500, ' '), "no", "yes"},
                                {"paid", "open", "paid"})
                        .ok());
        ASSERT_TRUE(test_.store->Write().ok());
        test_.SyncAll();
    }
    ASSERT_TRUE(test_.Close().ok());
    ASSERT_TRUE(test_.Reopen().ok());
    const WantsTag matcher("paid");
    ReadRequest request{.end = 600, .max_messages = 7, .matcher = &matcher};
    std::size_t found = 0;
    while (request.from < request.end) {
        const ReadReply reply = Read(request);
        found += Bodies(reply).size();
        ASSERT_GT(reply.next, request.from);
        request.from = reply.next;
    }
    EXPECT_EQ(found, 400U);
}

TEST_F(ReadTest, NewestBatchesStayInMemoryUpToABound) {
    for (int i = 0; i < 300; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(30'000, 'x')}).ok());
    }
    EXPECT_THAT(test_.BodiesIn("orders"), SizeIs(300)) << "nine MB, some of it from files again";
}

TEST_F(ReadTest, SubjectsKnowTheirKind) {
    EXPECT_EQ(test_.store->FindSubject("orders", false), nullptr);
    EXPECT_EQ(test_.store->FindSubject("orders", true)->kind(), SubjectKind::kReal);
    EXPECT_EQ(test_.store->FindSubject("%RETRY%orders%g", true)->kind(), SubjectKind::kRetry);
    EXPECT_EQ(test_.store->FindSubject("%DEAD_RETRY%orders%g", true)->kind(),
              SubjectKind::kDeadLetter);
    EXPECT_EQ(test_.store->FindSubject(std::string(5000, 'x'), true), nullptr);
    EXPECT_THAT(test_.store->Subjects(), SizeIs(3));
}

TEST_F(ReadTest, TenThousandSubjectsOverManySegmentsAreAllFound) {
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < 10'000; ++i) {
            ASSERT_TRUE(test_.Append("subject-" + std::to_string(i), {std::to_string(round)}).ok());
        }
        ASSERT_TRUE(test_.store->Write().ok());
        test_.SyncAll();
    }
    ASSERT_TRUE(test_.Close().ok());
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(test_.store->Subjects().size(), 10'000U);
    for (int i = 0; i < 10'000; i += 97) {
        EXPECT_THAT(test_.BodiesIn("subject-" + std::to_string(i)), ElementsAre("0", "1", "2"));
    }
}

}  // namespace
}  // namespace qmq::store
