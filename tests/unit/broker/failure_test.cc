#include "tests/unit/broker/broker_fixture.h"
#include "tests/unit/broker/faulty_files.h"

// Full disks, failed writes and syncs, stopping, and data of another making.
namespace qmq::broker::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class FailureTest : public BrokerTest {
protected:
    FailureTest() : faulty_(*memory_) { files_ = &faulty_; }
    ~FailureTest() override { Crash(); }

    static Status Full() { return Status::ResourceExhausted("no space left on device"); }
    std::shared_ptr<std::optional<std::vector<BatchReceipt>>> PostOne(const std::string& body) {
        std::vector<SendBatch> frame;
        frame.push_back(Batch("orders", {body}));
        return Post(std::move(frame));
    }

    FaultyFiles faulty_;
};

TEST_F(FailureTest, AFullDiskRefusesSendsUntilThereIsRoom) {
    Open();
    Member member = Join("orders", "billing");
    faulty_.write_error = Full();
    const BatchReceipt refused = Send("orders", {"lost"});
    EXPECT_EQ(refused.outcome, SendOutcome::kRefused);
    EXPECT_EQ(refused.status.code(), StatusCode::kResourceExhausted);
    faulty_.write_error = {};
    const BatchReceipt receipt = Send("orders", {"kept"});
    EXPECT_TRUE(receipt.status.ok()) << receipt.status;
    EXPECT_THAT(member.bodies(), ElementsAre("kept"));
    CrashAndOpen();
    Member again = Join("orders", "billing");
    EXPECT_THAT(again.bodies(), ElementsAre("kept"));
}

TEST_F(FailureTest, AHandOutThatCannotBeLoggedIsMadeLater) {
    Open();
    Member member = Join("orders", "billing", "c1", {0, 0});
    Send("orders", {"a"});
    faulty_.write_error = Full();
    member.session->Grant(Plenty());
    time_.Settle();
    EXPECT_THAT(member.got(), IsEmpty());
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 0U);
    faulty_.write_error = {};
    time_.Advance(200ms);
    ASSERT_THAT(member.got(), SizeIs(1));
    EXPECT_EQ(member.got()[0].pull, 0U);
    EXPECT_EQ(Ack(member, 0)->not_held_count(), 0U);
}

TEST_F(FailureTest, AnAckThatCannotBeLoggedFailsAndMayBeRepeated) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b", "c"});
    faulty_.write_error = Full();
    EXPECT_EQ(Ack(member, 0, 1).status().code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 3U);
    faulty_.write_error = {};
    EXPECT_EQ(Ack(member, 0, 1)->not_held_count(), 0U);
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 1U);
}

// The record of every kind of verdict is taken back with the write, and nothing is left of it.
TEST_F(FailureTest, EveryVerdictIsTakenBackWhenItsWriteFails) {
    for (const std::string& subject : {std::string("orders"), DeadLetterSubject("orders", "x")}) {
        for (const AckVerdict verdict : {AckVerdict::kAck,
                                         AckVerdict::kRetry,
                                         AckVerdict::kDeadLetter,
                                         AckVerdict::kRelease}) {
            SCOPED_TRACE(subject + " " + std::to_string(static_cast<int>(verdict)));
            memory_ = env::MakeMemoryFileSystem();
            FaultyFiles faulty(*memory_);
            files_ = &faulty;
            Open();
            Member member = Join(subject, "billing", "c1", {3, 10'000});
            Send(subject, {"a", "b", "c"});
            faulty.write_error = Full();
            const AckItem item{verdict, 0, 1, 1s, "why"};
            EXPECT_EQ(Judge(member, {item}).status().code(), StatusCode::kResourceExhausted);
            const GroupInfo info = Info(subject, "billing");
            EXPECT_EQ(info.in_flight_count, 3U);
            EXPECT_EQ(info.waiting_retry_count, 0U);
            EXPECT_EQ(info.lag_count, 3U);
            faulty.write_error = {};
            EXPECT_EQ(Judge(member, {item})->not_held_count(), 0U);
            EXPECT_EQ(Ack(member, 2)->not_held_count(), 0U);
            EXPECT_EQ(Info(subject, "billing").in_flight_count, 0U);
            Crash();
            files_ = &faulty_;
        }
    }
}

TEST_F(FailureTest, ASubscriptionThatCannotBeLoggedIsClosedWithTheReason) {
    Open();
    Send("orders", {"a"});
    faulty_.write_error = Full();
    Member member = Join("orders", "billing");
    ASSERT_TRUE(member.sink->closed);
    EXPECT_EQ(member.sink->closed->code(), StatusCode::kResourceExhausted);
    faulty_.write_error = {};
    Member again = Join("orders", "billing");
    EXPECT_THAT(again.bodies(), ElementsAre("a"));
}

TEST_F(FailureTest, AConsumerThatGoesWhileTheDiskIsFullIsForgottenLater) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    faulty_.write_error = Full();
    member.session->Close();
    time_.Settle();
    ASSERT_TRUE(member.sink->closed);
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 1U);
    faulty_.write_error = {};
    time_.Advance(2s);
    Member other = Join("orders", "billing", "other");
    EXPECT_THAT(other.bodies(), ElementsAre("a"));
}

TEST_F(FailureTest, AboveTheHighWaterOnlySendsAreRefused) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    faulty_.used_percent = 99;
    time_.Advance(30s);
    EXPECT_EQ(Send("orders", {"b"}).status.code(), StatusCode::kResourceExhausted);
    EXPECT_TRUE(Ack(member, 0).ok());
}

TEST_F(FailureTest, AfterAFailedSyncWhatWaitsIsUnknownAndNothingIsTakenAnyMore) {
    Open();
    Member member = Join("orders", "billing");
    auto pull = [this] {
        PullRequest request;
        request.consumer = MakeRequest("orders", "other");
        request.max_wait = 1h;
        return PostPull(request);
    }();
    time_.Settle();
    faulty_.sync_error = Status::DataLoss("input/output error");
    const BatchReceipt receipt = Send("orders", {"a"});
    EXPECT_EQ(receipt.outcome, SendOutcome::kUnknown);
    EXPECT_EQ(receipt.status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(std::string(receipt.status.message()), HasSubstr("input/output error"));
    EXPECT_THAT(member.got(), IsEmpty()) << "it may be gone after a power cut";
    ASSERT_TRUE(member.sink->closed);
    EXPECT_EQ(member.sink->closed->code(), StatusCode::kUnavailable);
    ASSERT_TRUE(*pull);
    EXPECT_EQ((*pull)->status().code(), StatusCode::kUnavailable);

    faulty_.sync_error = {};
    const BatchReceipt later = Send("orders", {"b"});
    EXPECT_EQ(later.outcome, SendOutcome::kRefused);
    EXPECT_EQ(later.status.code(), StatusCode::kUnavailable);
    Member late = Join("orders", "billing");
    ASSERT_TRUE(late.sink->closed);
    EXPECT_EQ(late.sink->closed->code(), StatusCode::kUnavailable);
    EXPECT_FALSE(CloseBroker().ok());
    // A new process reads what is there.
    CrashAndOpen();
    EXPECT_TRUE(Send("orders", {"c"}).status.ok());
}

TEST_F(FailureTest, CloseAnswersWhatItHasAndRefusesTheRest) {
    Open();
    Member member = Join("orders", "billing");
    auto waiting = PostOne("a");
    auto pull = [this] {
        PullRequest request;
        request.consumer = MakeRequest("orders", "other");
        request.max_wait = 1h;
        return PostPull(request);
    }();
    EXPECT_TRUE(CloseBroker().ok());
    ASSERT_TRUE(*waiting);
    EXPECT_TRUE((**waiting)[0].status.ok()) << (**waiting)[0].status;
    ASSERT_TRUE(member.sink->closed);
    EXPECT_EQ(member.sink->closed->code(), StatusCode::kUnavailable);
    ASSERT_TRUE(*pull);
    EXPECT_EQ((*pull)->status().code(), StatusCode::kUnavailable);
    EXPECT_EQ(Send("orders", {"b"}).status.code(), StatusCode::kUnavailable);
    EXPECT_EQ(Ack(member, 0).status().code(), StatusCode::kUnavailable);

    CrashAndOpen();
    Member again = Join("orders", "billing");
    EXPECT_THAT(again.bodies(), ElementsAre("a"));
}

TEST_F(FailureTest, AfterACleanStopConsumersGoOnWithWhatTheyHold) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b"});
    const std::uint64_t incarnation = member.sink->subscribed->incarnation;
    EXPECT_TRUE(CloseBroker().ok());
    CrashAndOpen();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.resume = ResumePoint{incarnation, 2};
    Member again = Join(request);
    EXPECT_EQ(again.sink->subscribed->held_below, 2U);
    EXPECT_THAT(again.got(), IsEmpty());
    EXPECT_EQ(Ack(again, 0, 1)->not_held_count(), 0U);
}

TEST_F(FailureTest, ASessionThatOutlivesTheBrokerDoesNothing) {
    Open();
    Member member = Join("orders", "billing");
    Crash();
    member.session->Grant(Plenty());
    EXPECT_EQ(Ack(member, 0).status().code(), StatusCode::kCancelled);
    member.session->Close();
    time_.Settle();
    EXPECT_FALSE(member.sink->closed);
}

TEST_F(FailureTest, AnotherNumberOfShardsIsRefusedWithBoth) {
    options_.shards = 2;
    Open();
    Crash();
    options_.shards = 3;
    const Status status = TryOpen();
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("shards=2"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("shards=3"));
}

TEST_F(FailureTest, ASecondBrokerOnTheSameDataIsRefused) {
    Open();
    Result<std::unique_ptr<Broker>> second =
        Broker::Open(options_,
                     BrokerEnvironment{
                         *files_, time_.clock, time_.executor, time_.io, Strand::Mode::kPosted, 1});
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.status().code(), StatusCode::kFailedPrecondition);
}

TEST_F(FailureTest, EachOptionOutOfRangeIsNamed) {
    const std::vector<std::pair<std::string, std::function<void(BrokerOptions&)>>> cases = {
        {"directory", [](BrokerOptions& o) { o.directory.clear(); }},
        {"shards", [](BrokerOptions& o) { o.shards = 65; }},
        {"default_durability",
         [](BrokerOptions& o) { o.default_durability = Durability::kReplicated; }},
        {"best_durability", [](BrokerOptions& o) { o.best_durability = Durability::kDefault; }},
        {"subject_durability",
         [](BrokerOptions& o) {
             o.subject_durability = {{"x", Durability::kReplicatedFsync}};
         }},
        {"flush_interval", [](BrokerOptions& o) { o.flush_interval = 9ms; }},
        {"max_queued_requests", [](BrokerOptions& o) { o.max_queued_requests = 0; }},
        {"max_queued_bytes", [](BrokerOptions& o) { o.max_queued_bytes = 1; }},
        {"max_in_flight", [](BrokerOptions& o) { o.max_in_flight_per_consumer = 0; }},
        {"retry_delay", [](BrokerOptions& o) { o.retry_delay = 2h; }},
        {"idle_group_retention",
         [](BrokerOptions& o) { o.idle_group_retention = std::chrono::hours(0); }},
    };
    const BrokerOptions good = options_;
    for (const auto& [word, spoil] : cases) {
        options_ = good;
        spoil(options_);
        const Status status = TryOpen();
        EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << word;
        EXPECT_THAT(std::string(status.message()), HasSubstr(word));
    }
}

// It was counted each time that a full disk refused it.
TEST_F(FailureTest, ADeadLetterThatWasTakenBackIsNotCounted) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"m"});
    const AckItem item{AckVerdict::kDeadLetter, 0, 0, {}, {}};
    faulty_.write_error = Full();
    for (int i = 0; i < 3; ++i) {
        EXPECT_FALSE(Judge(member, {item}).ok());
        time_.Advance(2s);
    }
    faulty_.write_error = {};
    time_.Advance(2s);
    EXPECT_EQ(Info("orders", "billing").lag_count, 1U);
    EXPECT_EQ(Info("orders", "billing").dead_letter_count, 0U) << "nothing lies there";
    EXPECT_TRUE(Judge(member, {item}).ok());
    EXPECT_EQ(Info("orders", "billing").dead_letter_count, 1U);
}

// When the disk had no room for the last of several actions, the first ones were written by the
// next round all the same: what was acked after that came again with the next start.
TEST_F(FailureTest, ActionsThatBelongTogetherAreLoggedAllOrNot) {
    std::size_t reached = 0;
    for (int filler = 0; filler < 70 && !HasFailure(); ++filler) {
        SCOPED_TRACE("filler " + std::to_string(filler));
        memory_ = env::MakeMemoryFileSystem();
        FaultyFiles faulty(*memory_);
        files_ = &faulty;
        options_.store.segment_bytes = 64U << 10U;
        Open();
        SubscribeRequest request = MakeRequest("orders", "billing");
        request.reconnect_grace = 1s;
        request.ack_timeout = 1h;
        Member member = Join(request);
        for (int i = 0; i < 10; ++i) {
            Send("orders", std::vector<std::string>(500, "m"));
        }
        ASSERT_THAT(member.got(), SizeIs(5'000));
        std::vector<AckItem> begun;
        for (std::uint64_t pull = 0; pull < 5'000; pull += 2) {
            begun.push_back(AckItem{AckVerdict::kBegin, pull, pull, {}, {}});
        }
        ASSERT_TRUE(Judge(member, begun).ok());
        faulty.allocate_error = Full();
        for (int i = 0; i < filler; ++i) {
            Send("other", {std::string(2'000, 'x')});
        }
        member.session.reset();
        time_.Advance(1'500ms);
        faulty.allocate_error = {};
        request.resume = ResumePoint{0, 5'000};
        Member again = Join(request, {0, 0});
        if (again.sink->subscribed && again.sink->subscribed->held_below == 5'000) {
            ++reached;
            const auto reply = Ack(again, 0, 4'999);
            ASSERT_TRUE(reply.ok() && reply->not_held_count() == 0);
            again.session.reset();
            CrashAndOpen();
            EXPECT_EQ(Info("orders", "billing").lag_count, 0U) << "all were acked";
        }
        again.session.reset();
        Crash();
        files_ = &faulty_;
    }
    EXPECT_GT(reached, 0U);
}

// A visit that the device stops in the midst of what it sets aside keeps the part that it saw.
TEST_F(FailureTest, WhatIsSetAsideIsKeptWhenAReadFailsInItsMidst) {
    // One whose bit in the index is that of "own", so that it must be read, and one whose is not.
    std::string like = "a";
    std::string unlike = "b";
    for (int i = 0; TagBit(like) != TagBit("own"); ++i) {
        like = "like" + std::to_string(i);
    }
    for (int i = 0; TagBit(unlike) == TagBit("own"); ++i) {
        unlike = "unlike" + std::to_string(i);
    }
    SubscribeRequest own = MakeRequest("orders", "billing", "own");
    own.filter = {TagMode::kAny, {"own"}};
    SubscribeRequest other = MakeRequest("orders", "billing", "other");
    other.filter = {TagMode::kAny, {like, unlike}};
    Open();
    BatchBuilder builder;
    for (const std::string& tag : {unlike, like}) {
        Message message("orders");
        message.SetBody(tag);
        message.AddTag(tag);
        builder.Add(message, "id-" + tag, time_.clock.WallNow());
    }
    Send(SendBatch{"orders", Slice::Own(builder.Finish()), Durability::kDefault});
    {
        Member first = Join(own, {0, 0});
        Member second = Join(other, {0, 0});
    }
    CrashAndOpen();
    Member wants = Join(other, {0, 0});
    Member looks = Join(own, {0, 0});
    faulty_.failed_read = faulty_.read_count + 2;
    looks.session->Grant(Plenty());
    time_.Settle();
    EXPECT_GE(faulty_.read_count, faulty_.failed_read);
    time_.Advance(1s);
    wants.session->Grant(Plenty());
    time_.Advance(1s);
    EXPECT_THAT(wants.bodies(), ElementsAre(unlike, like));
}

// What could not be buried on the way to something else was noted as looked at, and never looked at
// again.
TEST_F(FailureTest, ARetryThatFoundNoRoomForItsDeadLetterIsBuriedLater) {
    options_.store.segment_bytes = 64U << 10U;
    Open();
    const auto retry = [](std::uint64_t pull, std::chrono::milliseconds delay) {
        return AckItem{AckVerdict::kRetry, pull, pull, delay, "why"};
    };
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.retry.max_attempts = 10;
    Member member = Join(request);
    Send("orders", {"small"});
    Send("orders", {std::string(40'000, 'x')});  // Half of a segment, so the next is made ahead.
    ASSERT_THAT(member.got(), SizeIs(2));
    ASSERT_TRUE(Judge(member, {retry(1, 1s)}).ok());
    time_.Advance(2s);
    ASSERT_THAT(member.got(), SizeIs(3));
    faulty_.allocate_error = Full();  // The third segment is there, and will be the last.
    ASSERT_TRUE(Judge(member, {retry(member.got()[2].pull, 10s)}).ok());
    ASSERT_TRUE(Judge(member, {retry(0, 10s)}).ok());
    ASSERT_EQ(Info("orders", "billing").waiting_retry_count, 2U);
    request.retry.max_attempts = 2;  // Too few for the large one, which would be at its third.
    Member lower = Join(request);
    time_.Advance(11s);
    ASSERT_THAT(lower.bodies(), ElementsAre("small"));
    ASSERT_EQ(Info("orders", "billing").dead_letter_count, 0U);
    ASSERT_TRUE(Ack(lower, lower.got()[0].pull).ok());
    faulty_.allocate_error = {};
    time_.Advance(1min);
    EXPECT_EQ(Info("orders", "billing").waiting_retry_count, 0U);
    EXPECT_EQ(Info("orders", "billing").dead_letter_count, 1U);
}

// A request whose later item failed woke nobody for what its earlier ones had done.
TEST_F(FailureTest, WhatARequestThatFailsHasAckedMakesRoomAllTheSame) {
    options_.store.segment_bytes = 64U << 10U;
    options_.max_in_flight_per_consumer = 2;
    Open();
    faulty_.allocate_error = Full();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    Send("orders", {std::string(40'000, 'x')});
    Send("orders", {"c"});
    ASSERT_THAT(member.got(), SizeIs(2));
    const AckItem ack{AckVerdict::kAck, 0, 0, {}, {}};
    const AckItem retry{AckVerdict::kRetry, 1, 1, 1s, "why"};  // Its copy needs another segment.
    EXPECT_EQ(Judge(member, {ack, retry}).status().code(), StatusCode::kResourceExhausted);
    ASSERT_THAT(member.got(), SizeIs(3));
    EXPECT_EQ(member.got()[2].body, "c");
}

// The group was there without a place, and kept everything from sequence 0 on.
TEST_F(FailureTest, AGroupWhoseFirstSubscriberWasRefusedKeepsNothing) {
    options_.store.segment_bytes = 64U << 10U;
    options_.store.drop_consumed = true;
    Open();
    Member member = Join("orders", "billing");
    for (int i = 0; i < 10; ++i) {
        Send("orders", {std::string(30'000, 'o')});
    }
    faulty_.write_error = Full();
    Member refused = Join("orders", "other");
    ASSERT_TRUE(refused.sink->closed);
    faulty_.write_error = {};
    ASSERT_TRUE(Ack(member, 0, 9).ok());
    time_.Advance(1min);
    std::uint64_t first = 0;
    broker_->ListSubjects(
        [&first](Result<std::vector<SubjectInfo>> r) { first = (*r)[0].first_sequence; });
    time_.Settle();
    EXPECT_GT(first, 5U);
}

// A read that passes over what a filter refuses and then meets an error ended there, without the
// error and without a message: the group was looked at only when something else happened.
TEST_F(FailureTest, WhatCannotBeReadBehindWhatIsRefusedIsLookedAtAgain) {
    Open();
    {
        Member all = Join("orders", "billing", "all");
        Send("orders", {"x"}, {"other"});
        Send("orders", {"y"}, {"wanted"});
        ASSERT_THAT(all.got(), SizeIs(2));
    }
    CrashAndOpen();  // The newest batches are in no cache.
    SubscribeRequest request = MakeRequest("orders", "billing", "some");
    request.filter = {TagMode::kAny, {"wanted"}};
    Member some = Join(request);
    faulty_.failed_read = faulty_.read_count + 1;  // Once.
    time_.Advance(5min);                           // "all" is given up.
    EXPECT_THAT(some.bodies(), Contains("y"));
}

}  // namespace
}  // namespace qmq::broker::testing
