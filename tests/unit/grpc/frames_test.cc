#include <gmock/gmock.h>
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "qmq/v1/broker.pb.h"

#include "plugins/grpc/codec/consume_frames.h"
#include "plugins/grpc/codec/proto_wire.h"
#include "plugins/grpc/codec/publish_frames.h"

// The codec by hand is held against the generated classes, both ways: what one writes the other
// reads as the same.

namespace qmq::rpc {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

std::string Flatten(MessageGatherer* gatherer) {
    auto slice = ToContiguous(gatherer->Finish());
    EXPECT_TRUE(slice.ok()) << slice.status();
    return std::string(slice->bytes());
}

Slice Bytes(std::size_t count, char fill) {
    return Slice::Own(std::string(count, fill));
}

const std::vector<SendBatch>& SomeBatches() {
    static const std::vector<SendBatch> batches = {
        {"order.paid", Bytes(100, 'a'), Durability::kFsync},
        {"票", Bytes(100'000, 'b'), Durability::kDefault},
        {"", {}, Durability::kReplicatedFsync},
    };
    return batches;
}

std::string SomePublishFrame() {
    MessageGatherer gatherer;
    AppendRequest(1, SomeBatches(), &gatherer);
    AppendRequest(1ULL << 40, {}, &gatherer);
    AppendRequest(0, std::span(SomeBatches()).first(1), &gatherer);
    return Flatten(&gatherer);
}

TEST(PublishFrameTest, WhatIsWrittenByHandIsReadByTheGeneratedClass) {
    qmq::v1::PublishFrame frame;
    ASSERT_TRUE(frame.ParseFromString(SomePublishFrame()));
    ASSERT_EQ(frame.requests_size(), 3);
    ASSERT_EQ(frame.requests(0).batches_size(), 3);
    EXPECT_EQ(frame.requests(0).id(), 1U);
    EXPECT_EQ(frame.requests(0).batches(0).subject(), "order.paid");
    EXPECT_EQ(frame.requests(0).batches(0).durability(), qmq::v1::DURABILITY_FSYNC);
    EXPECT_EQ(frame.requests(0).batches(0).batch(), std::string(100, 'a'));
    EXPECT_EQ(frame.requests(0).batches(1).subject(), "票");
    EXPECT_EQ(frame.requests(0).batches(1).batch(), std::string(100'000, 'b'));
    EXPECT_EQ(frame.requests(1).id(), 1ULL << 40);
    // And the generated class writes the very same bytes.
    EXPECT_EQ(frame.SerializeAsString(), SomePublishFrame());
}

TEST(PublishFrameTest, TheSizeOfARequestIsKnownBeforeItIsWritten) {
    MessageGatherer gatherer;
    AppendRequest(77, SomeBatches(), &gatherer);
    EXPECT_EQ(gatherer.bytes(), RequestSize(77, SomeBatches()).bytes);
}

TEST(PublishFrameTest, WhatTheGeneratedClassWritesIsReadByHand) {
    const Slice frame = Slice::Own(SomePublishFrame());
    auto requests = DecodePublishFrame(frame, {});
    ASSERT_TRUE(requests.ok()) << requests.status();
    ASSERT_THAT(*requests, SizeIs(3));
    const auto& batches = requests->at(0).batches;
    ASSERT_THAT(batches, SizeIs(3));
    for (std::size_t i = 0; i < batches.size(); ++i) {
        EXPECT_EQ(batches[i].subject, SomeBatches()[i].subject);
        EXPECT_EQ(batches[i].durability, SomeBatches()[i].durability);
        EXPECT_EQ(batches[i].batch.bytes(), SomeBatches()[i].batch.bytes());
    }
    // No copy: the batch is a part of the frame, and keeps it.
    EXPECT_EQ(batches[1].batch.owner(), frame.owner());
    EXPECT_EQ(requests->at(1).id, 1ULL << 40);
}

/// The batches of a frame, by whether they are parts of it.
std::vector<bool> ArePartsOf(const std::string& bytes) {
    const Slice frame = Slice::Own(bytes);
    const auto requests = DecodePublishFrame(frame, {});
    std::vector<bool> parts;
    for (const PublishRequest& request : requests.value()) {
        for (const SendBatch& batch : request.batches) {
            parts.push_back(batch.batch.owner() == frame.owner());
        }
    }
    return parts;
}

std::string FrameOf(const std::vector<std::size_t>& batch_sizes) {
    qmq::v1::PublishFrame frame;
    for (const std::size_t size : batch_sizes) {
        qmq::v1::SubjectBatch* batch = frame.add_requests()->add_batches();
        batch->set_subject("s");
        batch->set_batch(std::string(size, 'b'));
    }
    return frame.SerializeAsString();
}

// It kept the whole frame for as long as it was kept itself: 100 of 100 bytes kept 800 MiB.
TEST(PublishFrameTest, ASmallBatchDoesNotKeepALargeFrame) {
    EXPECT_THAT(ArePartsOf(FrameOf({100, 1'000'000, 100})), ElementsAre(false, true, false));
    // A field of a later version: number 15, 100,000 bytes.
    EXPECT_THAT(ArePartsOf(FrameOf({100}) + "\x7a\xa0\x8d\x06" + std::string(100'000, 'x')),
                ElementsAre(false));
}

// None of the large ones was a quarter of the frame, so all counted as the small ones that are most
// of it, and the tiny one kept the frame.
TEST(PublishFrameTest, ATinyBatchBesideSeveralLargeOnesDoesNotKeepTheirFrame) {
    std::vector<std::size_t> four(4, 900'000);
    four.push_back(100);
    EXPECT_THAT(ArePartsOf(FrameOf(four)), ElementsAre(true, true, true, true, false));
    std::vector<std::size_t> usual(15, 64U << 10);
    usual.push_back(100);
    EXPECT_FALSE(ArePartsOf(FrameOf(usual)).back());
}

TEST(PublishFrameTest, BatchesThatAreMostOfTheirFrameAreNotCopied) {
    EXPECT_THAT(ArePartsOf(FrameOf({64})), ElementsAre(true));
    EXPECT_THAT(ArePartsOf(FrameOf(std::vector<std::size_t>(1'000, 64))), Each(true));
    EXPECT_THAT(ArePartsOf(FrameOf({200'000, 1'000'000, 200'000})), Each(true));
}

std::vector<PublishResult> SomeResults() {
    return {{5,
             {{Status(), SendOutcome::kPersisted, Durability::kFsync, 1ULL << 50},
              {Status::ResourceExhausted("full"), SendOutcome::kRefused, {}, 0},
              {Status::Unavailable(""), SendOutcome::kUnknown, {}, 0},
              {Status(), SendOutcome::kPersisted, Durability::kDefault, 0}}},
            {6, {}}};
}

std::string SomePublishReply() {
    std::string bytes;
    for (const PublishResult& result : SomeResults()) {
        AppendResult(result, &bytes);
    }
    return bytes;
}

TEST(PublishReplyTest, BothWaysAgreeWithTheGeneratedClass) {
    qmq::v1::PublishReply reply;
    ASSERT_TRUE(reply.ParseFromString(SomePublishReply()));
    ASSERT_EQ(reply.results_size(), 2);
    ASSERT_EQ(reply.results(0).receipts_size(), 4);
    EXPECT_EQ(reply.results(0).receipts(1).outcome(), qmq::v1::BatchReceipt::REFUSED);
    EXPECT_EQ(reply.results(0).receipts(1).status().message(), "full");
    EXPECT_TRUE(reply.results(0).receipts(2).has_status());
    EXPECT_EQ(reply.SerializeAsString(), SomePublishReply());

    auto results = DecodePublishReply(SomePublishReply(), {});
    ASSERT_TRUE(results.ok()) << results.status();
    ASSERT_THAT(*results, SizeIs(2));
    const std::vector<PublishResult> all = SomeResults();
    for (std::size_t i = 0; i < 4; ++i) {
        const BatchReceipt& read = results->at(0).receipts[i];
        const BatchReceipt& written = all[0].receipts[i];
        EXPECT_EQ(read.status, written.status);
        EXPECT_EQ(read.outcome, written.outcome);
        EXPECT_EQ(read.durability, written.durability);
        EXPECT_EQ(read.first_sequence, written.first_sequence);
    }
}

TEST(PublishReplyTest, AReceiptThatContradictsItselfIsRefused) {
    qmq::v1::PublishReply reply;
    reply.add_results()->add_receipts()->set_outcome(qmq::v1::BatchReceipt::REFUSED);
    EXPECT_EQ(DecodePublishReply(reply.SerializeAsString(), {}).status().code(),
              StatusCode::kInvalidArgument);
    reply.mutable_results(0)->mutable_receipts(0)->set_outcome(
        static_cast<qmq::v1::BatchReceipt::Outcome>(9));
    reply.mutable_results(0)->mutable_receipts(0)->mutable_status()->set_code(
        qmq::v1::Status::UNAVAILABLE);
    auto read = DecodePublishReply(reply.SerializeAsString(), {});
    ASSERT_TRUE(read.ok());
    EXPECT_EQ(read->at(0).receipts[0].outcome, SendOutcome::kUnknown);
}

SubscribeRequest SomeSubscribe() {
    SubscribeRequest request;
    request.key = {"order.paid", "ticketing", "me", ConsumeSource::kSubject};
    request.filter = {TagMode::kAll, {"a", "b"}};
    request.start = StartPosition::kEarliest;
    request.resume = ResumePoint{3, 4};
    return request;
}

std::vector<AckItem> SomeItems() {
    return {{AckVerdict::kAck, 0, 0, {}, ""},
            {AckVerdict::kRetry, 1, 5, std::chrono::milliseconds(0), ""},
            {AckVerdict::kDeadLetter, 1ULL << 60, 1ULL << 60, {}, "bad 票"},
            {AckVerdict::kRelease, 7, 9, std::chrono::hours(1), "x"},
            {AckVerdict::kAck, 10, 10, {}, "", Durability::kDefault},
            {AckVerdict::kBegin, 11, 12, {}, "", Durability::kReplicatedFsync}};
}

std::string SomeConsumeRequest() {
    std::string bytes;
    AppendSubscribe(1, SomeSubscribe(), &bytes);
    AppendCredit(1, {1'000, 1ULL << 33}, &bytes);
    AppendCredit(2, {}, &bytes);
    AppendAck(1, 12, SomeItems(), &bytes);
    AppendClose(1ULL << 33, &bytes);
    return bytes;
}

TEST(ConsumeRequestTest, BothWaysAgreeWithTheGeneratedClass) {
    qmq::v1::ConsumeRequest request;
    ASSERT_TRUE(request.ParseFromString(SomeConsumeRequest()));
    ASSERT_EQ(request.commands_size(), 5);
    EXPECT_EQ(request.commands(0).subscribe().consumer_id(), "me");
    EXPECT_TRUE(request.commands(2).has_credit());
    ASSERT_EQ(request.commands(3).ack().items_size(), 6);
    EXPECT_TRUE(request.commands(3).ack().items(1).has_delay_ms());
    EXPECT_FALSE(request.commands(3).ack().items(0).has_delay_ms());
    EXPECT_FALSE(request.commands(3).ack().items(0).has_durability());
    EXPECT_TRUE(request.commands(3).ack().items(4).has_durability());
    EXPECT_EQ(request.commands(3).ack().items(4).durability(), qmq::v1::DURABILITY_DEFAULT);
    EXPECT_EQ(request.commands(3).ack().items(5).verdict(), qmq::v1::AckItem::BEGIN);
    EXPECT_TRUE(request.commands(4).has_close());
    EXPECT_EQ(request.SerializeAsString(), SomeConsumeRequest());

    auto commands = DecodeConsumeRequest(SomeConsumeRequest(), {});
    ASSERT_TRUE(commands.ok()) << commands.status();
    ASSERT_THAT(*commands, SizeIs(5));
    EXPECT_EQ(std::get<SubscribeRequest>(commands->at(0).command).key, SomeSubscribe().key);
    EXPECT_EQ(std::get<Credit>(commands->at(1).command).bytes, 1ULL << 33);
    const auto& ack = std::get<AckCommand>(commands->at(3).command);
    EXPECT_EQ(ack.id, 12U);
    ASSERT_THAT(ack.items, SizeIs(SomeItems().size()));
    for (std::size_t i = 0; i < SomeItems().size(); ++i) {
        EXPECT_EQ(ack.items[i].verdict, SomeItems()[i].verdict);
        EXPECT_EQ(ack.items[i].first, SomeItems()[i].first);
        EXPECT_EQ(ack.items[i].last, SomeItems()[i].last);
        EXPECT_EQ(ack.items[i].delay, SomeItems()[i].delay);
        EXPECT_EQ(ack.items[i].error, SomeItems()[i].error);
        EXPECT_EQ(ack.items[i].durability, SomeItems()[i].durability);
    }
    EXPECT_TRUE(std::holds_alternative<CloseCommand>(commands->at(4).command));
    EXPECT_EQ(commands->at(4).subscription, 1ULL << 33);
}

TEST(ConsumeRequestTest, AVerdictThatIsUnknownIsRefused) {
    qmq::v1::ConsumeRequest request;
    request.add_commands()->mutable_ack()->add_items()->set_verdict(
        static_cast<qmq::v1::AckItem::Verdict>(9));
    EXPECT_THAT(
        std::string(DecodeConsumeRequest(request.SerializeAsString(), {}).status().message()),
        HasSubstr("verdict 9"));
}

TEST(ConsumeRequestTest, ADurabilityThatIsUnknownIsRefused) {
    qmq::v1::ConsumeRequest request;
    request.add_commands()->mutable_ack()->add_items()->set_durability(
        static_cast<qmq::v1::Durability>(6));
    EXPECT_THAT(
        std::string(DecodeConsumeRequest(request.SerializeAsString(), {}).status().message()),
        HasSubstr("durability 6"));
}

TEST(ConsumeRequestTest, ADurabilityOfAnotherTypeIsPassedOverAndNotTakenForADefault) {
    // commands { ack { items { 6: "" } } }
    const std::string bytes("\x0a\x06\x22\x04\x12\x02\x32\x00", 8);
    auto commands = DecodeConsumeRequest(bytes, {});
    ASSERT_TRUE(commands.ok()) << commands.status();
    const auto& ack = std::get<AckCommand>(commands->at(0).command);
    ASSERT_THAT(ack.items, SizeIs(1));
    EXPECT_EQ(ack.items[0].durability, Durability::kMemory);
}

std::vector<DeliveredBatch> SomeDelivery() {
    DeliveredBatch small;
    small.first_pull_sequence = 3;
    small.count = 2;
    small.header = Bytes(16, 'h');
    small.body = Bytes(40, 'm');
    DeliveredBatch large;
    large.first_pull_sequence = 5;
    large.first_sequence = 1ULL << 44;
    large.count = 4'000;
    large.attempt = 3;
    large.from_retry = true;
    large.header = Bytes(16, 'H');
    large.body = Bytes(70'000, 'M');
    return {small, large};
}

std::string SomeConsumeFrame() {
    MessageGatherer gatherer;
    AppendSubscribed(1, {77, 12, {"a 票", "", "b"}}, gatherer.text());
    AppendDelivery(1, SomeDelivery(), &gatherer);
    AppendAckResult(1, 9, AckReply{{{0, 0}, {5, 7}}}, gatherer.text());
    AppendAckResult(1, 10, Status::Unavailable("gone"), gatherer.text());
    AppendAckResult(1, 11, AckReply{}, gatherer.text());
    AppendClosed(1, Status::Cancelled("closed"), gatherer.text());
    return Flatten(&gatherer);
}

TEST(ConsumeFrameTest, BothWaysAgreeWithTheGeneratedClass) {
    qmq::v1::ConsumeFrame frame;
    ASSERT_TRUE(frame.ParseFromString(SomeConsumeFrame()));
    ASSERT_EQ(frame.events_size(), 6);
    const auto& batch = frame.events(1).delivery().batches(1);
    EXPECT_EQ(batch.batch(), std::string(16, 'H') + std::string(70'000, 'M'));
    EXPECT_EQ(batch.attempt(), 3U);
    EXPECT_TRUE(batch.from_retry());
    EXPECT_EQ(frame.events(3).ack().status().message(), "gone");
    EXPECT_EQ(frame.events(5).closed().code(), qmq::v1::Status::CANCELLED);
    EXPECT_EQ(frame.SerializeAsString(), SomeConsumeFrame());

    auto events = DecodeConsumeFrame(Slice::Own(SomeConsumeFrame()), {});
    ASSERT_TRUE(events.ok()) << events.status();
    ASSERT_THAT(*events, SizeIs(6));
    EXPECT_EQ(std::get<SubscribeReply>(events->at(0).event).held_below, 12U);
    EXPECT_THAT(std::get<SubscribeReply>(events->at(0).event).warnings,
                ElementsAre("a 票", "", "b"));
    const auto& read = std::get<std::vector<DeliveredBatch>>(events->at(1).event).at(1);
    EXPECT_EQ(read.first_sequence, 1ULL << 44);
    EXPECT_EQ(read.count, 4'000U);
    EXPECT_EQ(read.header.bytes(), std::string(16, 'H'));
    EXPECT_EQ(read.body.bytes(), std::string(70'000, 'M'));
    // The two parts follow each other in memory, so they can be read as one batch.
    EXPECT_EQ(read.header.data() + read.header.size(), read.body.data());
    EXPECT_EQ(std::get<AckResult>(events->at(2).event).reply.value().not_held,
              (std::vector<PullRange>{{0, 0}, {5, 7}}));
    EXPECT_EQ(std::get<AckResult>(events->at(3).event).reply.status(), Status::Unavailable("gone"));
    EXPECT_TRUE(std::get<AckResult>(events->at(4).event).reply.ok());
    EXPECT_EQ(std::get<ClosedEvent>(events->at(5).event).status, Status::Cancelled("closed"));
}

TEST(ConsumeFrameTest, MoreWarningsThanTheLimitOfItemsAreRefused) {
    std::string bytes;
    AppendSubscribed(1, {77, 12, std::vector<std::string>(4, "w")}, &bytes);
    FrameLimits limits;
    limits.max_item_count = 3;
    EXPECT_EQ(DecodeConsumeFrame(Slice::Borrow(bytes), limits).status().code(),
              StatusCode::kInvalidArgument);
}

TEST(ConsumeFrameTest, AWarningThatIsNoTextTravelsAsOne) {
    std::string bytes;
    AppendSubscribed(1, {77, 12, {"\xff"}}, &bytes);
    qmq::v1::ConsumeFrame frame;
    ASSERT_TRUE(frame.ParseFromString(bytes));
    EXPECT_EQ(frame.events(0).subscribed().warnings(0), "?");
}

TEST(ConsumeFrameTest, AnEventOfANewerServerIsPassedOver) {
    const std::string bytes("\x0a\x05\x08\x01\x7a\x01x", 7);  // events { subscription: 1, 15: "x" }
    auto events = DecodeConsumeFrame(Slice::Borrow(bytes), {});
    ASSERT_TRUE(events.ok()) << events.status();
    EXPECT_TRUE(std::holds_alternative<std::monostate>(events->at(0).event));
}

/// Every decoder, for what must hold of all.
struct Decoder {
    const char* name;
    std::string (*sample)();
    std::function<Status(std::string_view)> decode;
};

class EveryDecoder : public testing::TestWithParam<Decoder> {
private:
    google::protobuf::LogSilencer silencer_;  // It reports text that is not UTF-8.
};

TEST_P(EveryDecoder, TakesItsSampleAndNoBytesAtAll) {
    EXPECT_TRUE(GetParam().decode(GetParam().sample()).ok());
    EXPECT_TRUE(GetParam().decode("").ok());
}

TEST_P(EveryDecoder, SurvivesEveryTruncationInMemoryOfItsOwn) {
    const std::string sample = GetParam().sample();
    for (std::size_t length = 0; length < sample.size();
         length = length < 400 ? length + 1 : length + 997) {
        // A copy on the heap, so that a read behind the end is one that sanitizers see.
        const std::vector<char> cut(sample.begin(),
                                    sample.begin() + static_cast<std::ptrdiff_t>(length));
        (void)GetParam().decode({cut.data(), cut.size()});
    }
}

TEST_P(EveryDecoder, SurvivesEveryByteChangedToEveryOther) {
    const std::string sample = GetParam().sample();
    for (std::size_t at = 0; at < std::min<std::size_t>(sample.size(), 300); ++at) {
        for (int value = 0; value < 256; value += 3) {
            std::string changed = sample;
            changed[at] = static_cast<char>(value);
            (void)GetParam().decode(changed);
        }
    }
}

TEST_P(EveryDecoder, SurvivesNoise) {
    std::mt19937 random(20260117);  // The same every run.
    for (int round = 0; round < 20'000; ++round) {
        std::string noise(random() % 64, '\0');
        for (char& byte : noise) {
            // Small numbers are tags and lengths: so more of it gets deeper in.
            byte = static_cast<char>(random() % (random() % 2 == 0 ? 48 : 256));
        }
        (void)GetParam().decode(noise);
    }
}

TEST_P(EveryDecoder, RefusesMoreItemsThanTheLimitBeforeItMakesRoomForThem) {
    std::string many;
    for (int i = 0; i < 65'537; ++i) {
        many += std::string("\x0a\x00", 2);
    }
    const Status status = GetParam().decode(many);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("65536 items"));
}

INSTANTIATE_TEST_SUITE_P(
    All,
    EveryDecoder,
    testing::Values(
        Decoder{"PublishFrame",
                SomePublishFrame,
                [](std::string_view bytes) {
                    return DecodePublishFrame(Slice::Borrow(bytes), {}).status();
                }},
        Decoder{"PublishReply",
                SomePublishReply,
                [](std::string_view bytes) { return DecodePublishReply(bytes, {}).status(); }},
        Decoder{"ConsumeRequest",
                SomeConsumeRequest,
                [](std::string_view bytes) { return DecodeConsumeRequest(bytes, {}).status(); }},
        Decoder{"ConsumeFrame",
                SomeConsumeFrame,
                [](std::string_view bytes) {
                    return DecodeConsumeFrame(Slice::Borrow(bytes), {}).status();
                }}),
    [](const auto& test) { return test.param.name; });

TEST(MessageGathererTest, LargePiecesAreReferencedAndKeptUntilTheBufferIsGone) {
    auto memory = std::make_shared<const std::string>(10'000, 'x');
    MessageGatherer gatherer;
    gatherer.text()->append("small");
    gatherer.Append(Slice(memory, *memory));
    gatherer.text()->append("end");
    EXPECT_EQ(gatherer.bytes(), 10'008U);
    {
        const grpc::ByteBuffer buffer = gatherer.Finish();
        EXPECT_EQ(memory.use_count(), 2);
        EXPECT_EQ(ToContiguous(buffer)->bytes(), "small" + *memory + "end");
    }
    EXPECT_EQ(memory.use_count(), 1);
    EXPECT_TRUE(gatherer.empty());
}

TEST(MessageGathererTest, AMessageOfNothingIsAMessage) {
    MessageGatherer gatherer;
    auto bytes = ToContiguous(gatherer.Finish());
    ASSERT_TRUE(bytes.ok());
    EXPECT_TRUE(bytes->empty());
}

}  // namespace
}  // namespace qmq::rpc
