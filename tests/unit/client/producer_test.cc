#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <coroutine>
#include <functional>
#include <map>

#include "qmq/id.h"

#include "tests/support/fake_groups.h"
#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using testing::ReceiptOf;
using testing::Refuse;
using ::testing::SizeIs;
using ::testing::StartsWith;

/// The broker groups that lead to each broker: this suite runs with one and with two.
std::size_t Groups() {
    return static_cast<std::size_t>(testing::g_fake_groups.per_broker);
}

class ProducerTest : public testing::ClientFixture {
protected:
    ProducerTest() : client(MakeClient()) {}

    /// A producer whose lane to "a" is up and idle.
    Producer Ready(ProducerOptions options = {}) {
        Producer producer = MakeProducer(client, options);
        SendFuture first = producer.Send(Message("s").SetBody("first"));
        Settle();
        EXPECT_TRUE(first.ready());
        return producer;
    }
    /// Within each broker group, messages of one subject are stored in the order of `receipts`.
    static void ExpectOrder(const std::vector<SendReceipt>& receipts) {
        std::map<std::string, std::uint64_t> next;
        for (const SendReceipt& receipt : receipts) {
            std::uint64_t& least = next[receipt.broker_group];
            EXPECT_GE(receipt.sequence, least) << receipt;
            least = receipt.sequence + 1;
        }
        EXPECT_LE(next.size(), Groups());
    }

    Client client;
};

TEST_F(ProducerTest, AReceiptSaysWhereAndHowItWasStored) {
    Producer producer = MakeProducer(client);
    const SendFuture future = producer.Send(Message("s").SetBody("x"));
    Settle();
    const SendReceipt receipt = ReceiptOf(future);
    EXPECT_TRUE(receipt.ok()) << receipt.status;
    EXPECT_THAT(receipt.broker_group, StartsWith("a"));
    EXPECT_EQ(receipt.durability, Durability::kMemory);
    EXPECT_EQ(receipt.sequence, 0U);
    EXPECT_EQ(receipt.attempts, 1U);
    ASSERT_THAT(broker().stored(), SizeIs(1));
    EXPECT_EQ(broker().stored()[0].id, receipt.message_id);
    EXPECT_EQ(receipt.message_id.size(), MessageIdGenerator::kLength);
}

TEST_F(ProducerTest, AnIdOfTheApplicationIsKept) {
    Producer producer = Ready();
    const SendFuture future = producer.Send(Message("s").SetId("order-7"));
    Settle();
    EXPECT_EQ(ReceiptOf(future).message_id, "order-7");
    EXPECT_EQ(broker().stored()[1].id, "order-7");
}

TEST_F(ProducerTest, AnIdleConnectionSendsAtOnce) {
    Producer producer = Ready();
    const std::size_t before = broker().frame_count();
    (void)producer.Send(Message("s"));
    EXPECT_EQ(broker().frame_count(), before + 1);
}

TEST_F(ProducerTest, ABusyConnectionGathersUntilAnAnswer) {
    Producer producer = Ready();
    broker().SetHoldSends(true);
    std::vector<SendFuture> futures;
    for (int i = 0; i < 100; ++i) {
        futures.push_back(producer.Send(Message("s")));
    }
    EXPECT_EQ(broker().held_frame_count(), 2 * Groups());
    broker().AnswerHeld();
    Settle();
    EXPECT_EQ(broker().held_frame_count(), 2 * Groups());
    while (broker().AnswerHeld()) {
        Settle();
    }
    std::vector<SendReceipt> receipts;
    for (const SendFuture& future : futures) {
        receipts.push_back(ReceiptOf(future));
    }
    ExpectOrder(receipts);
    EXPECT_THAT(broker().stored(), SizeIs(101));
    EXPECT_LE(broker().frame_count(), 5 * Groups());
}

TEST_F(ProducerTest, ABusyConnectionGathersNoLongerThanTheLinger) {
    ProducerOptions options;
    options.linger = milliseconds(5);
    Producer producer = Ready(options);
    broker().SetHoldSends(true);
    for (std::size_t i = 0; i < 2 * Groups() + 1; ++i) {
        (void)producer.Send(Message("s"));
    }
    ASSERT_EQ(broker().held_frame_count(), 2 * Groups());
    Advance(milliseconds(4));
    EXPECT_EQ(broker().held_frame_count(), 2 * Groups());
    Advance(milliseconds(1));
    EXPECT_EQ(broker().held_frame_count(), 2 * Groups() + 1);
}

TEST_F(ProducerTest, WhatHasLingeredTakesMessagesUntilThereIsRoomForIt) {
    ProducerOptions options;
    options.max_in_flight_frames = 2;
    Producer producer = Ready(options);
    broker().SetHoldSends(true);
    for (std::size_t i = 0; i < 2 * Groups() + 1; ++i) {
        producer.Send(Message("s")).Detach();
    }
    Advance(milliseconds(10));  // The last has lingered, and two frames are on each way.
    producer.Send(Message("s")).Detach();
    ASSERT_EQ(broker().held_frame_count(), 2 * Groups());
    std::vector<std::size_t> counts;
    broker().SetSendHook([&counts](const SendBatch& batch) -> std::optional<BatchReceipt> {
        counts.push_back(BatchView::Trusted(batch.batch.bytes()).count());
        return std::nullopt;
    });
    while (broker().AnswerHeld()) {
        Settle();
    }
    EXPECT_THAT(broker().stored(), SizeIs(2 * Groups() + 3));
    std::vector<std::size_t> expected(2 * Groups(), 1);
    expected.push_back(2);
    EXPECT_EQ(counts, expected);
}

TEST_F(ProducerTest, AFloodOverThousandsOfSubjectsSendsEachMessageOnce) {
    constexpr int kSubjects = 3'000;
    constexpr int kRounds = 7;
    Producer producer = Ready();
    broker().SetHoldSends(true);
    std::vector<SendFuture> futures;
    for (int round = 0; round < kRounds; ++round) {
        for (int i = 0; i < kSubjects; ++i) {
            Message message("subject-" + std::to_string(i));
            // Ids of all lengths, and made ones, in batches that are used again and again.
            if ((i + round) % 3 == 0) {
                message.SetId(std::string(static_cast<std::size_t>(i % 40 + 1), 'x') +
                              std::to_string(round));
            }
            futures.push_back(producer.Send(std::move(message)));
            if (i % 500 == 0) {
                Advance(milliseconds(1));
                broker().AnswerHeld();
                Settle();
            }
        }
    }
    for (int turn = 0; turn < 1'000 && !futures.back().ready(); ++turn) {
        broker().AnswerHeld();
        Advance(milliseconds(1));
    }
    while (broker().AnswerHeld()) {
        Settle();
    }
    ASSERT_THAT(broker().stored(), SizeIs(kSubjects * kRounds + 1));
    // As many batches as are unanswered at once are far fewer than subjects.
    EXPECT_GT(broker().frame_count(), 3U);
    std::map<std::pair<std::string, std::uint64_t>, std::string> stored;
    std::map<std::string, std::uint64_t> next;
    for (const auto& message : broker().stored()) {
        const std::uint64_t sequence = next[message.subject]++;
        stored[{message.subject, sequence}] = message.id;
    }
    for (std::size_t i = 0; i < futures.size(); ++i) {
        const SendReceipt receipt = ReceiptOf(futures[i]);
        ASSERT_TRUE(receipt.ok()) << receipt.status;
        const std::string subject = "subject-" + std::to_string(i % kSubjects);
        EXPECT_EQ(receipt.message_id, (stored[{subject, receipt.sequence}])) << subject;
        EXPECT_TRUE(receipt.sequence == i / kSubjects || Groups() > 1) << receipt;
    }
}

/// What a flood over many subjects has when one frame is on its way: most messages wait, a few in
/// batches that were begun when there were few subjects.
class ManySubjectsTest : public ProducerTest {
protected:
    static constexpr int kSubjects = 500;
    static constexpr int kRounds = 5;

    static std::string SubjectOf(int i) { return "subject-" + std::to_string(i); }
    /// Sends `kRounds` messages to each subject.
    void Flood(Producer& producer) {
        receipts.resize(static_cast<std::size_t>(kSubjects) * kRounds);
        for (int round = 0; round < kRounds; ++round) {
            for (int i = 0; i < kSubjects; ++i) {
                const std::size_t slot =
                    static_cast<std::size_t>(round) * kSubjects + static_cast<std::size_t>(i);
                Message message(SubjectOf(i));
                message.SetId(std::to_string(slot)).SetBody(std::string(slot % 400, 'x'));
                EXPECT_TRUE(producer
                                .Send(std::move(message),
                                      [this, slot](const SendReceipt& receipt) {
                                          receipts[slot].push_back(receipt);
                                      })
                                .ok());
            }
        }
    }
    void AnswerAll() {
        for (int turn = 0; turn < 1'000; ++turn) {
            broker().AnswerHeld();
            Advance(milliseconds(1));
        }
    }
    void ExpectOneReceiptEach(SendOutcome outcome) {
        for (std::size_t slot = 0; slot < receipts.size(); ++slot) {
            ASSERT_THAT(receipts[slot], SizeIs(1)) << slot;
            EXPECT_EQ(receipts[slot][0].outcome, outcome) << receipts[slot][0].status;
            EXPECT_EQ(receipts[slot][0].message_id, std::to_string(slot));
        }
    }

    static std::size_t Slot(int round, int subject) {
        return static_cast<std::size_t>(round) * kSubjects + static_cast<std::size_t>(subject);
    }
    void ExpectOrderOfEachSubject() {
        for (int i = 0; i < kSubjects; ++i) {
            std::vector<SendReceipt> of_subject;
            for (int round = 0; round < kRounds; ++round) {
                of_subject.push_back(receipts[Slot(round, i)][0]);
            }
            ExpectOrder(of_subject);
        }
        std::map<std::string, std::uint64_t> next;
        for (const auto& message : broker().stored()) {
            const std::uint64_t sequence = next[message.subject]++;
            if (message.subject != "s") {
                EXPECT_EQ(receipts[std::stoul(message.id)][0].sequence, sequence);
            }
        }
    }

    std::vector<std::vector<SendReceipt>> receipts;
};

TEST_F(ManySubjectsTest, EveryMessageIsStoredInTheOrderOfItsSubjectAndAnsweredOnce) {
    Producer producer = Ready();
    broker().SetHoldSends(true);
    Flood(producer);
    AnswerAll();
    ExpectOneReceiptEach(SendOutcome::kPersisted);
    ExpectOrderOfEachSubject();
}

TEST_F(ManySubjectsTest, ABatchStaysWithinItsCountAndItsBytes) {
    ProducerOptions options;
    options.max_batch_count = 4;
    options.max_batch_bytes = 1'024;
    Producer producer = Ready(options);
    broker().SetHoldSends(true);
    broker().SetSendHook([](const SendBatch& batch) -> std::optional<BatchReceipt> {
        EXPECT_LE(batch.batch.size(), 1'024U);
        EXPECT_LE(BatchView::Trusted(batch.batch.bytes()).count(), 4U);
        return std::nullopt;
    });
    Flood(producer);
    AnswerAll();
    ExpectOneReceiptEach(SendOutcome::kPersisted);
}

TEST_F(ManySubjectsTest, MoreThanTheStageTakesGoesStraightIntoItsBatch) {
    ProducerOptions options;
    options.max_pending_bytes = 7U << 18;  // Half of it is the stage's, less than all need.
    Producer producer = Ready(options);
    broker().SetHoldSends(true);
    Flood(producer);
    AnswerAll();
    ExpectOneReceiptEach(SendOutcome::kPersisted);
    ExpectOrderOfEachSubject();
}

TEST_F(ManySubjectsTest, WhatIsNotAnsweredInTimeIsSaidSo) {
    Producer producer = Ready();
    broker().SetHoldSends(true);
    Flood(producer);
    Advance(seconds(60));
    for (std::size_t slot = 0; slot < receipts.size(); ++slot) {
        ASSERT_THAT(receipts[slot], SizeIs(1)) << slot;
        EXPECT_FALSE(receipts[slot][0].ok());
        EXPECT_EQ(receipts[slot][0].message_id, std::to_string(slot));
    }
}

TEST_F(ManySubjectsTest, WhatWaitsAtShutdownIsAnsweredAsRefused) {
    broker().SetConnectError(Status::Unavailable("connection refused"));
    Producer producer = MakeProducer(client);
    Flood(producer);
    const ShutdownReport report = client.Shutdown(milliseconds(0));
    EXPECT_EQ(report.sends_refused, static_cast<std::uint64_t>(kSubjects) * kRounds);
    Settle();
    ExpectOneReceiptEach(SendOutcome::kRefused);
}

TEST_F(ManySubjectsTest, FuturesAndCallbacksOfOneBatchAreEachAnswered) {
    Producer producer = Ready();
    broker().SetHoldSends(true);
    Flood(producer);
    std::vector<SendFuture> futures;
    for (int i = 0; i < kSubjects; ++i) {
        futures.push_back(producer.Send(Message(SubjectOf(i)).SetId("future-" + SubjectOf(i))));
    }
    AnswerAll();
    ExpectOneReceiptEach(SendOutcome::kPersisted);
    for (int i = 0; i < kSubjects; ++i) {
        EXPECT_EQ(ReceiptOf(futures[static_cast<std::size_t>(i)]).message_id,
                  "future-" + SubjectOf(i));
        const std::uint64_t sequence = ReceiptOf(futures[static_cast<std::size_t>(i)]).sequence;
        EXPECT_TRUE(sequence == kRounds || Groups() > 1) << sequence;
    }
}

TEST_F(ProducerTest, ARouteOfEverySubjectIsAskedForOnce) {
    cluster.SetEverySubject(true);
    Producer producer = Ready();
    const std::size_t before = cluster.discover_count();
    for (int i = 0; i < 100; ++i) {
        producer.Send(Message("subject-" + std::to_string(i))).Detach();
    }
    Advance(milliseconds(1));
    EXPECT_THAT(broker().stored(), SizeIs(101));
    EXPECT_EQ(cluster.discover_count(), before);
    Advance(seconds(121));  // Routes are asked for again each minute.
    EXPECT_LE(cluster.discover_count(), before + 4);
    EXPECT_GT(cluster.discover_count(), before);
}

TEST_F(ProducerTest, SubjectsAreAskedForSinglyOnceTheirRoutesDiffer) {
    cluster.SetEverySubject(true);
    Producer producer = Ready();
    for (int i = 0; i < 10; ++i) {
        producer.Send(Message("subject-" + std::to_string(i))).Detach();
    }
    Settle();
    const std::size_t before = cluster.discover_count();
    cluster.SetEverySubject(false);
    Advance(seconds(61));
    EXPECT_GE(cluster.discover_count(), before + 11);
}

TEST_F(ProducerTest, ARouteOfEverySubjectIsAskedForAgainWhenASendDoesNotFit) {
    cluster.SetEverySubject(true);
    Producer producer = Ready();
    const std::size_t before = cluster.discover_count();
    broker().SetSendHook([](const SendBatch&) -> std::optional<BatchReceipt> {
        return Refuse(Status::Unavailable("not mine any more"));
    });
    producer.Send(Message("other")).Detach();
    Advance(seconds(2));
    EXPECT_GT(cluster.discover_count(), before);
    broker().SetSendHook(nullptr);
    Advance(seconds(10));
    EXPECT_THAT(broker().stored(), SizeIs(2));
}

TEST_F(ProducerTest, AFloodGathersEvenWhenEveryAnswerComesAtOnce) {
    testing::FakeCluster inline_cluster;  // Answers inside the call.
    testing::FakeBroker& only = inline_cluster.AddBroker("a");
    auto options = Options();
    options.transports = {inline_cluster.factory()};
    Client other = MakeClient(std::move(options));
    Producer producer = MakeProducer(other);
    std::vector<SendFuture> futures;
    for (int i = 0; i < 1'000; ++i) {
        futures.push_back(producer.Send(Message("s")));
        time.clock.Advance(microseconds(1));
    }
    EXPECT_LT(only.frame_count(), 20 * Groups());
    // Who waits for an answer does not wait for the linger.
    EXPECT_TRUE(futures.back().Get().ok());
    EXPECT_THAT(only.stored(), SizeIs(1'000));
}

TEST_F(ProducerTest, TheEndOfAFloodGoesWithinTheLinger) {
    testing::FakeCluster inline_cluster;
    testing::FakeBroker& only = inline_cluster.AddBroker("a");
    auto options = Options();
    options.transports = {inline_cluster.factory()};
    Client other = MakeClient(std::move(options));
    Producer producer = MakeProducer(other);
    for (int i = 0; i < 50; ++i) {
        producer.Send(Message("s")).Detach();
        time.clock.Advance(microseconds(1));
    }
    EXPECT_LT(only.stored().size(), 50U);
    Advance(milliseconds(1));
    EXPECT_THAT(only.stored(), SizeIs(50));
}

TEST_F(ProducerTest, CallbacksThatSendTheNextMessageDoNotLinger) {
    testing::FakeCluster inline_cluster;
    testing::FakeBroker& only = inline_cluster.AddBroker("a");
    auto options = Options();
    options.transports = {inline_cluster.factory()};
    Client other = MakeClient(std::move(options));
    Producer producer = MakeProducer(other);
    int left = 1'000;
    std::function<void(const SendReceipt&)> next = [&](const SendReceipt&) {
        time.clock.Advance(microseconds(1));
        if (left-- > 0) {
            EXPECT_TRUE(producer.Send(Message("s"), next).ok());
        }
    };
    for (int i = 0; i < 64; ++i) {
        next({});
    }
    const TimePoint begin = time.clock.Now();
    Settle();
    EXPECT_THAT(only.stored(), SizeIs(1'000));
    EXPECT_LT(time.clock.Now() - begin, milliseconds(3));
}

TEST_F(ProducerTest, AFullBatchDoesNotLinger) {
    ProducerOptions options;
    options.max_batch_count = 10;
    Producer producer = Ready(options);
    broker().SetHoldSends(true);
    for (std::size_t i = 0; i < 2 * Groups() + 10; ++i) {
        (void)producer.Send(Message("s"));
    }
    EXPECT_EQ(broker().held_frame_count(), 2 * Groups() + 1);
}

TEST_F(ProducerTest, ABatchStaysWithinItsBytes) {
    ProducerOptions options;
    options.max_batch_bytes = 4'096;
    Producer producer = Ready(options);
    broker().SetSendHook([](const SendBatch& batch) -> std::optional<BatchReceipt> {
        EXPECT_LE(batch.batch.size(), 4'096U);
        return std::nullopt;
    });
    broker().SetHoldSends(true);
    for (int i = 0; i < 100; ++i) {
        (void)producer.Send(Message("s").SetBody(std::string(500, 'x')));
    }
    while (broker().AnswerHeld()) {
        Settle();
    }
    EXPECT_THAT(broker().stored(), SizeIs(101));
}

TEST_F(ProducerTest, AMessageLargerThanABatchTravelsAlone) {
    ProducerOptions options;
    options.max_batch_bytes = 1'024;
    Producer producer = Ready(options);
    const SendFuture future = producer.Send(Message("s").SetBody(std::string(100'000, 'x')));
    Settle();
    EXPECT_TRUE(ReceiptOf(future).ok());
}

TEST_F(ProducerTest, NeverMoreFramesInFlightThanAllowed) {
    ProducerOptions options;
    options.max_in_flight_frames = 3;
    options.max_batch_count = 1;
    Producer producer = Ready(options);
    broker().SetHoldSends(true);
    for (int i = 0; i < 50; ++i) {
        (void)producer.Send(Message("s"));
        Settle();
        ASSERT_LE(broker().held_frame_count(), 3 * Groups());
    }
    int answered = 0;
    while (broker().AnswerHeld()) {
        Settle();
        ASSERT_LE(broker().held_frame_count(), 3 * Groups());
        ++answered;
    }
    EXPECT_THAT(broker().stored(), SizeIs(51));
}

TEST_F(ProducerTest, OneFrameCarriesManySubjects) {
    Producer producer = Ready();
    broker().SetHoldSends(true);
    for (std::size_t i = 0; i < 2 * Groups(); ++i) {
        (void)producer.Send(Message("s"));
    }
    for (int i = 0; i < 20; ++i) {
        (void)producer.Send(Message("subject-" + std::to_string(i)));
    }
    Settle();
    for (std::size_t i = 0; i < 2 * Groups(); ++i) {
        broker().AnswerHeld();
    }
    Settle();
    EXPECT_THAT(broker().frame_sizes(), ::testing::Contains(::testing::Ge(20 / Groups())));
}

TEST_F(ProducerTest, MessagesOfOneThreadAreStoredInTheirOrder) {
    Producer producer = MakeProducer(client);
    broker().SetHoldSends(true);
    std::vector<SendFuture> futures;
    for (int i = 0; i < 500; ++i) {
        futures.push_back(producer.Send(Message("s").SetId(std::to_string(i))));
        if (i % 7 == 0) {
            Settle();
            broker().AnswerHeld();
        }
    }
    Settle();
    while (broker().AnswerHeld()) {
        Settle();
    }
    const auto stored = broker().stored();
    ASSERT_THAT(stored, SizeIs(500));
    std::vector<SendReceipt> receipts;
    for (const SendFuture& future : futures) {
        receipts.push_back(ReceiptOf(future));
        EXPECT_EQ(stored[receipts.back().sequence].id, receipts.back().message_id);
    }
    ExpectOrder(receipts);
}

TEST_F(ProducerTest, ACallbackComesOnceAndNeverInsideTheCall) {
    Producer producer = Ready();
    int calls = 0;
    EXPECT_TRUE(producer
                    .Send(Message("s"),
                          [&](const SendReceipt& receipt) {
                              ++calls;
                              EXPECT_TRUE(receipt.ok());
                          })
                    .ok());
    EXPECT_EQ(calls, 0);
    Settle();
    EXPECT_EQ(calls, 1);
    // What is not taken has no callback.
    EXPECT_FALSE(producer.Send(Message(), [&](const SendReceipt&) { ++calls; }).ok());
    Settle();
    EXPECT_EQ(calls, 1);
}

TEST_F(ProducerTest, AnInlineCallbackDoesNotComeInsideTheCallEither) {
    testing::FakeCluster inline_cluster;
    inline_cluster.AddBroker("a");
    auto options = Options();
    options.transports = {inline_cluster.factory()};
    options.inline_callbacks = true;
    Client other = MakeClient(std::move(options));
    Producer producer = MakeProducer(other);
    Settle();
    bool inside = false;
    int calls = 0;
    for (int i = 0; i < 3; ++i) {
        inside = true;
        EXPECT_TRUE(producer
                        .Send(Message("s"),
                              [&](const SendReceipt& receipt) {
                                  ++calls;
                                  EXPECT_TRUE(receipt.ok());
                                  EXPECT_FALSE(inside);
                              })
                        .ok());
        inside = false;
        Settle();
    }
    EXPECT_EQ(calls, 3);
}

TEST_F(ProducerTest, ACallbackThatThrowsTouchesNoOther) {
    Producer producer = Ready();
    broker().SetHoldSends(true);
    int calls = 0;
    for (int i = 0; i < 10; ++i) {
        EXPECT_TRUE(producer
                        .Send(Message("s"),
                              [&calls, i](const SendReceipt&) {
                                  ++calls;
                                  if (i % 3 == 0) {
                                      throw std::runtime_error("callback " + std::to_string(i));
                                  }
                                  if (i % 3 == 1) {
                                      throw i;  // NOLINT(misc-throw-by-value-catch-by-reference):
                                                // any type may come.
                                  }
                              })
                        .ok());
    }
    while (broker().AnswerHeld()) {
        Settle();
    }
    EXPECT_EQ(calls, 10);
    EXPECT_TRUE(Logged("callback 3"));
}

struct Fire {
    struct promise_type {
        Fire get_return_object() { return {}; }
        std::suspend_never initial_suspend() { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
};

Fire SendTwice(Producer producer, std::vector<SendReceipt>* receipts) {
    receipts->push_back(co_await producer.Send(Message("s").SetBody("1")));
    receipts->push_back(co_await producer.Send(Message("s").SetBody("2")));
}

TEST_F(ProducerTest, ACoroutineResumesWithTheReceipt) {
    Producer producer = Ready();
    std::vector<SendReceipt> receipts;
    SendTwice(producer, &receipts);
    EXPECT_THAT(receipts, SizeIs(0));
    Settle();
    ASSERT_THAT(receipts, SizeIs(2));
    EXPECT_TRUE(receipts[0].ok() && receipts[1].ok());
    EXPECT_LT(receipts[0].sequence, receipts[1].sequence);
}

TEST_F(ProducerTest, RefusesWhatCannotBeSent) {
    Producer producer = Ready();
    EXPECT_EQ(ReceiptOf(producer.Send(Message())).status.code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(ReceiptOf(producer.Send(Message("a/b"))).status.code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(ReceiptOf(producer.Send(Message("s"), milliseconds(0))).status.code(),
              StatusCode::kInvalidArgument);
    EXPECT_EQ(ReceiptOf(producer.Send(Message("s"), hours(2))).outcome, SendOutcome::kRefused);
    EXPECT_THAT(broker().stored(), SizeIs(1));
}

TEST_F(ProducerTest, ADelayIsRefusedClearlyUntilThereIsADelayServer) {
    Producer producer = Ready();
    Message message("s");
    message.SetDelay(milliseconds(500), time.clock);
    const SendReceipt receipt = ReceiptOf(producer.Send(std::move(message)));
    EXPECT_EQ(receipt.outcome, SendOutcome::kRefused);
    EXPECT_EQ(receipt.status.code(), StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(receipt.status.message()), HasSubstr("SetDelay"));
}

TEST_F(ProducerTest, ADelayTooShortToMatterIsSentAtOnce) {
    Producer producer = Ready();
    Message message("s");
    message.SetDelay(milliseconds(499), time.clock);
    const SendFuture future = producer.Send(std::move(message));
    Settle();
    EXPECT_TRUE(ReceiptOf(future).ok());
    const auto head = BatchView::Trusted(broker().stored()[1].batch).begin_heads().Next();
    EXPECT_FALSE(head->deliver_at.has_value());
}

TEST_F(ProducerTest, TooMuchPendingIsRefusedAndRoomIsUsedAgain) {
    ProducerOptions options;
    options.max_pending_count = 10;
    Producer producer = Ready(options);
    broker().SetHoldSends(true);
    std::vector<SendFuture> taken;
    for (int i = 0; i < 10; ++i) {
        taken.push_back(producer.Send(Message("s")));
    }
    const SendReceipt refused = ReceiptOf(producer.Send(Message("s")));
    EXPECT_EQ(refused.status.code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(refused.status.message()), HasSubstr("10 messages"));
    while (broker().AnswerHeld()) {
        Settle();
    }
    const SendFuture again = producer.Send(Message("s"));
    broker().AnswerHeld();
    Settle();
    EXPECT_TRUE(ReceiptOf(again).ok());
}

TEST_F(ProducerTest, TooManyPendingBytesAreRefused) {
    ProducerOptions options;
    options.max_pending_bytes = 64 << 10;
    Producer producer = Ready(options);
    broker().SetHoldSends(true);
    (void)producer.Send(Message("s").SetBody(std::string(60 << 10, 'x')));
    EXPECT_EQ(
        ReceiptOf(producer.Send(Message("s").SetBody(std::string(10 << 10, 'x')))).status.code(),
        StatusCode::kResourceExhausted);
}

TEST_F(ProducerTest, WithoutARouteTheDeadlineRefusesWithTheReason) {
    cluster.SetDiscoverError(Status::Unavailable("nobody knows the way"));
    Producer producer = MakeProducer(client);
    const SendFuture future = producer.Send(Message("s"), seconds(3));
    Advance(milliseconds(2'999));
    EXPECT_FALSE(future.ready());
    Advance(milliseconds(1));
    const SendReceipt receipt = ReceiptOf(future);
    EXPECT_EQ(receipt.outcome, SendOutcome::kRefused);
    EXPECT_EQ(receipt.status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(std::string(receipt.status.message()), HasSubstr("nobody knows the way"));
    EXPECT_EQ(receipt.attempts, 0U);
}

TEST_F(ProducerTest, ARouteThatComesInTimeCarriesWhatWaited) {
    cluster.SetDiscoverError(Status::Unavailable("not yet"));
    Producer producer = MakeProducer(client);
    const SendFuture future = producer.Send(Message("s"));
    Advance(seconds(3));
    cluster.SetDiscoverError(Status::Ok());
    Advance(seconds(6));
    EXPECT_TRUE(ReceiptOf(future).ok());
}

TEST_F(ProducerTest, WithoutAConnectionTheDeadlineSaysWhichBrokerAndWhy) {
    broker().SetConnectError(Status::Unavailable("connection refused"));
    Producer producer = MakeProducer(client);
    const SendFuture future = producer.Send(Message("s"), seconds(3));
    Advance(seconds(3));
    const SendReceipt receipt = ReceiptOf(future);
    EXPECT_EQ(receipt.outcome, SendOutcome::kRefused);
    EXPECT_THAT(std::string(receipt.status.message()), HasSubstr("connection refused"));
    EXPECT_THAT(std::string(receipt.status.message()), HasSubstr("fake-a"));
}

TEST_F(ProducerTest, AConnectionThatNeverComesUpIsGivenUpAndMadeAgain) {
    broker().SetConnectable(false);
    Producer producer = MakeProducer(client);
    const SendFuture future = producer.Send(Message("s"), hours(1));
    Advance(seconds(60));
    EXPECT_GE(broker().connect_count(), 3U);
    broker().SetConnectable(true);
    Advance(seconds(60));
    EXPECT_TRUE(ReceiptOf(future).ok());
}

TEST_F(ProducerTest, AnAnswerLostWithTheConnectionIsSentAgainWithTheSameId) {
    Producer producer = Ready();
    broker().SetHoldSends(true);
    const SendFuture future = producer.Send(Message("s").SetId("once"));
    Settle();
    broker().Cut();
    broker().SetHoldSends(false);
    Advance(seconds(5));
    const SendReceipt receipt = ReceiptOf(future);
    EXPECT_TRUE(receipt.ok()) << receipt.status;
    EXPECT_EQ(receipt.attempts, 2U);
    EXPECT_EQ(broker().stored().back().id, "once");
}

TEST_F(ProducerTest, AnAnswerThatNeverComesIsUnknownAtTheDeadline) {
    Producer producer = Ready();
    broker().SetHoldSends(true);
    const SendFuture future = producer.Send(Message("s"), seconds(2));
    Advance(seconds(2));
    const SendReceipt receipt = ReceiptOf(future);
    EXPECT_EQ(receipt.outcome, SendOutcome::kUnknown);
    EXPECT_EQ(receipt.status.code(), StatusCode::kDeadlineExceeded);
    // The late answer must find nothing to answer twice.
    broker().AnswerHeld();
    Settle();
    EXPECT_EQ(future.Get().outcome, SendOutcome::kUnknown);
}

TEST_F(ProducerTest, AShortDeadlineIsKeptBesideALongOne) {
    Producer producer = Ready();
    Advance(seconds(1));
    (void)producer.Send(Message("s"));  // Sets the timer for its own, distant deadline.
    Settle();
    Advance(seconds(1));
    broker().SetHoldSends(true);
    const SendFuture future = producer.Send(Message("s"), milliseconds(100));
    Advance(milliseconds(100));
    EXPECT_EQ(ReceiptOf(future).outcome, SendOutcome::kUnknown);
}

TEST_F(ProducerTest, WhatOnlyGathersIsSentBeforeAnybodyIsRefused) {
    testing::FakeCluster inline_cluster;
    testing::FakeBroker& only = inline_cluster.AddBroker("a");
    auto options = Options();
    options.transports = {inline_cluster.factory()};
    Client other = MakeClient(std::move(options));
    ProducerOptions producer_options;
    producer_options.max_pending_count = 20;
    Producer producer = MakeProducer(other, producer_options);
    for (int i = 0; i < 500; ++i) {
        producer.Send(Message("s")).Detach();
        time.clock.Advance(microseconds(1));
    }
    ASSERT_TRUE(producer.Flush(milliseconds(0)).ok());
    EXPECT_THAT(only.stored(), SizeIs(500));
}

TEST_F(ProducerTest, ABusyBrokerIsTriedAgainWithinTheDeadline) {
    Producer producer = Ready();
    int refusals = 3;
    broker().SetSendHook([&](const SendBatch&) -> std::optional<BatchReceipt> {
        if (refusals-- > 0) {
            return Refuse(Status::ResourceExhausted("busy"));
        }
        return std::nullopt;
    });
    const SendFuture future = producer.Send(Message("s"));
    Advance(seconds(10));
    const SendReceipt receipt = ReceiptOf(future);
    EXPECT_TRUE(receipt.ok()) << receipt.status;
    EXPECT_EQ(receipt.attempts, 4U);
}

TEST_F(ProducerTest, ABrokerThatStaysBusyRefusesAtTheDeadlineWithItsWords) {
    Producer producer = Ready();
    broker().SetSendHook([&](const SendBatch&) -> std::optional<BatchReceipt> {
        return Refuse(Status::ResourceExhausted("disk full"));
    });
    const SendFuture future = producer.Send(Message("s"), seconds(5));
    Advance(seconds(5));
    const SendReceipt receipt = ReceiptOf(future);
    EXPECT_EQ(receipt.outcome, SendOutcome::kRefused);
    EXPECT_EQ(receipt.status.code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(receipt.status.message()), HasSubstr("disk full"));
    EXPECT_GT(receipt.attempts, 3U);
}

TEST_F(ProducerTest, APermanentRefusalIsFinalAtOnce) {
    Producer producer = Ready();
    broker().SetSendHook([&](const SendBatch&) -> std::optional<BatchReceipt> {
        return Refuse(Status::PermissionDenied("not yours"));
    });
    const SendFuture future = producer.Send(Message("s"));
    Settle();
    const SendReceipt receipt = ReceiptOf(future);
    EXPECT_EQ(receipt.outcome, SendOutcome::kRefused);
    EXPECT_EQ(receipt.status.code(), StatusCode::kPermissionDenied);
    EXPECT_EQ(receipt.attempts, 1U);
}

TEST_F(ProducerTest, OfABatchWithOneBadMessageOnlyThatOneFails) {
    Producer producer = Ready();
    broker().SetSendHook([&](const SendBatch& batch) -> std::optional<BatchReceipt> {
        auto heads = BatchView::Trusted(batch.batch.bytes()).begin_heads();
        while (const auto head = heads.Next()) {
            if (head->id == "bad") {
                return Refuse(Status::InvalidArgument("message \"bad\" is bad"));
            }
        }
        return std::nullopt;
    });
    broker().SetHoldSends(true);
    std::vector<SendFuture> futures;
    for (int i = 0; i < 20; ++i) {
        futures.push_back(producer.Send(Message("s").SetId(i == 13 ? "bad" : std::to_string(i))));
    }
    while (broker().AnswerHeld()) {
        Settle();
    }
    for (std::size_t i = 0; i < futures.size(); ++i) {
        const SendReceipt receipt = ReceiptOf(futures[i]);
        EXPECT_EQ(receipt.ok(), i != 13) << i << ": " << receipt.status;
        EXPECT_EQ(receipt.message_id, i == 13 ? "bad" : std::to_string(i));
        if (i == 13) {
            EXPECT_EQ(receipt.status.code(), StatusCode::kInvalidArgument);
        }
    }
    EXPECT_THAT(broker().stored(), SizeIs(20));
}

TEST_F(ProducerTest, TwoBrokerGroupsShareTheLoad) {
    cluster.AddBroker("b");
    Producer producer = MakeProducer(client);
    for (int i = 0; i < 20; ++i) {
        (void)producer.Send(Message("s"));
        Settle();
    }
    EXPECT_GE(broker("a").stored().size(), 8U);
    EXPECT_GE(broker("b").stored().size(), 8U);
}

TEST_F(ProducerTest, AFailedBatchGoesToAnotherBrokerGroup) {
    cluster.AddBroker("b");
    Producer producer = MakeProducer(client);
    for (const char* name : {"a", "b"}) {
        broker(name).SetSendHook([&, name](const SendBatch&) -> std::optional<BatchReceipt> {
            if (std::string(name) == "a") {
                return Refuse(Status::Unavailable("stopping"));
            }
            return std::nullopt;
        });
    }
    std::vector<SendFuture> futures;
    for (int i = 0; i < 4; ++i) {
        futures.push_back(producer.Send(Message("s")));
        Settle();
    }
    Advance(seconds(3));
    for (const SendFuture& future : futures) {
        const SendReceipt receipt = ReceiptOf(future);
        EXPECT_THAT(receipt.broker_group, StartsWith("b"));
        EXPECT_LE(receipt.attempts, 1 + Groups());
    }
}

TEST_F(ProducerTest, AReadOnlyBrokerGroupIsNotWrittenTo) {
    cluster.AddBroker("a", false);
    cluster.AddBroker("b");
    Producer producer = MakeProducer(client);
    for (int i = 0; i < 10; ++i) {
        (void)producer.Send(Message("s"));
        Settle();
    }
    EXPECT_THAT(broker("a").stored(), SizeIs(0));
    EXPECT_THAT(broker("b").stored(), SizeIs(10));
}

TEST_F(ProducerTest, WhatWasGatheredForABrokerThatIsLostGoesElsewhere) {
    cluster.AddBroker("b");
    Producer producer = MakeProducer(client);
    for (int i = 0; i < 2; ++i) {
        (void)producer.Send(Message("s"));
        Settle();
    }
    broker("a").SetHoldSends(true);
    broker("b").SetHoldSends(true);
    std::vector<SendFuture> futures;
    for (int i = 0; i < 40; ++i) {
        futures.push_back(producer.Send(Message("s")));
        Advance(milliseconds(2));
    }
    broker("a").SetConnectError(Status::Unavailable("gone for good"));
    broker("a").Cut();
    broker("b").SetHoldSends(false);
    while (broker("b").AnswerHeld()) {
        Settle();
    }
    Advance(seconds(10));
    for (const SendFuture& future : futures) {
        EXPECT_THAT(ReceiptOf(future).broker_group, StartsWith("b"));
    }
}

TEST_F(ProducerTest, TheLastRouteIsKeptWhenDiscoveryFails) {
    Producer producer = Ready();
    cluster.SetDiscoverError(Status::Unavailable("meta is away"));
    Advance(std::chrono::minutes(10));
    EXPECT_TRUE(Logged("meta is away"));
    const SendFuture future = producer.Send(Message("s"));
    Settle();
    EXPECT_TRUE(ReceiptOf(future).ok());
}

TEST_F(ProducerTest, ANewBrokerGroupIsFoundAtTheNextRefresh) {
    Producer producer = Ready();
    cluster.AddBroker("b");
    Advance(seconds(61));
    for (int i = 0; i < 4; ++i) {
        (void)producer.Send(Message("s"));
        Settle();
    }
    EXPECT_GE(broker("b").stored().size(), 1U);
}

TEST_F(ProducerTest, ABrokerGroupThatLeftTheRouteGetsNothingMore) {
    cluster.AddBroker("b");
    Producer producer = Ready();
    cluster.RemoveBroker("a");
    Advance(seconds(61));
    const std::size_t before = broker("a").stored().size();
    for (int i = 0; i < 4; ++i) {
        (void)producer.Send(Message("s"));
        Settle();
    }
    EXPECT_EQ(broker("a").stored().size(), before);
}

TEST_F(ProducerTest, ABrokenBrokerGroupIsGivenARestAndThenProbed) {
    cluster.AddBroker("b");
    Producer producer = MakeProducer(client);
    int asked = 0;
    bool broken = true;
    broker("a").SetSendHook([&](const SendBatch&) -> std::optional<BatchReceipt> {
        ++asked;
        return broken ? std::optional(Refuse(Status::Unavailable("no"))) : std::nullopt;
    });
    for (int i = 0; i < 200; ++i) {
        (void)producer.Send(Message("s"));
        Advance(milliseconds(5));
    }
    const int asked_before_rest = asked;
    EXPECT_LT(asked_before_rest, 60 * static_cast<int>(Groups()));
    EXPECT_TRUE(Logged("giving it a rest"));
    broken = false;
    Advance(seconds(3));
    for (int i = 0; i < 20; ++i) {
        (void)producer.Send(Message("s"));
        Settle();
    }
    EXPECT_GT(asked, asked_before_rest + 5);
}

TEST_F(ProducerTest, AloneABrokerThatWasGivenARestIsUsedAgainWhenItIsBack) {
    Producer producer = Ready();
    bool broken = true;
    broker().SetSendHook([&](const SendBatch&) -> std::optional<BatchReceipt> {
        return broken ? std::optional(Refuse(Status::Unavailable("no"))) : std::nullopt;
    });
    std::vector<SendFuture> futures;
    for (int i = 0; i < 100; ++i) {
        futures.push_back(producer.Send(Message("s"), seconds(60)));
        Advance(milliseconds(5));
    }
    broken = false;
    Advance(seconds(30));
    for (const SendFuture& future : futures) {
        EXPECT_TRUE(ReceiptOf(future).ok());
    }
}

TEST_F(ProducerTest, MessagesWithTheirOwnDeadlinesAreNotHeldToTheirNeighbours) {
    broker().SetConnectable(false);
    Producer producer = MakeProducer(client);
    const SendFuture slow = producer.Send(Message("s"), seconds(20));
    const SendFuture fast = producer.Send(Message("s"), seconds(1));
    const SendFuture middle = producer.Send(Message("s"), seconds(10));
    Advance(seconds(1));
    EXPECT_TRUE(fast.ready());
    EXPECT_FALSE(middle.ready());
    Advance(seconds(9));
    EXPECT_TRUE(middle.ready());
    EXPECT_FALSE(slow.ready());
    Advance(seconds(10));
    EXPECT_TRUE(slow.ready());
}

TEST_F(ProducerTest, NoReceiptComesMuchBeforeItsDeadline) {
    broker().SetConnectable(false);
    Producer producer = MakeProducer(client);
    std::vector<std::pair<SendFuture, TimePoint>> sent;
    for (int i = 0; i < 300; ++i) {
        sent.emplace_back(producer.Send(Message("s"), seconds(10)), time.clock.Now() + seconds(10));
        Advance(milliseconds(10));
    }
    for (int i = 0; i < 1'100; ++i) {
        for (const auto& [future, deadline] : sent) {
            if (future.ready()) {
                ASSERT_GE(time.clock.Now(), deadline - milliseconds(400));
            } else {
                ASSERT_LE(time.clock.Now(), deadline + milliseconds(20));
            }
        }
        Advance(milliseconds(10));
    }
}

TEST_F(ProducerTest, ADroppedFutureLosesNothingButTheAnswer) {
    Producer producer = Ready();
    producer.Send(Message("s").SetBody("gone")).Detach();
    Settle();
    EXPECT_THAT(broker().stored(), SizeIs(2));
}

TEST_F(ProducerTest, DroppingTheProducerStillSendsWhatItTook) {
    SendFuture future;
    {
        Producer producer = Ready();
        broker().SetHoldSends(true);
        for (int i = 0; i < 10; ++i) {
            future = producer.Send(Message("s"));
        }
    }
    while (broker().AnswerHeld()) {
        Settle();
    }
    EXPECT_TRUE(ReceiptOf(future).ok());
}

TEST_F(ProducerTest, FlushDoesNotLingerAndSaysHowManyAreLeft) {
    ProducerOptions options;
    options.linger = seconds(1);
    Producer producer = Ready(options);
    broker().SetHoldSends(true);
    const std::size_t count = 2 * Groups() + 3;
    for (std::size_t i = 0; i < count; ++i) {
        (void)producer.Send(Message("s"));
    }
    const Status status = producer.Flush(milliseconds(0));
    EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(count) + " messages"));
    EXPECT_EQ(broker().held_frame_count(), 2 * Groups() + 1);
    while (broker().AnswerHeld()) {
        Settle();
    }
    EXPECT_TRUE(producer.Flush(milliseconds(0)).ok());
}

TEST_F(ProducerTest, FlushFromACallbackIsRefusedInsteadOfWaitingForItself) {
    Producer producer = Ready();
    Status status;
    EXPECT_TRUE(producer
                    .Send(Message("s"),
                          [&](const SendReceipt&) { status = producer.Flush(milliseconds(1'000)); })
                    .ok());
    Settle();
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
}

TEST_F(ProducerTest, TheDurabilityAskedForTravels) {
    ProducerOptions options;
    options.durability = Durability::kFsync;
    Durability asked = Durability::kDefault;
    broker().SetSendHook([&](const SendBatch& batch) -> std::optional<BatchReceipt> {
        asked = batch.durability;
        return std::nullopt;
    });
    Producer producer = Ready(options);
    EXPECT_EQ(asked, Durability::kFsync);
}

TEST_F(ProducerTest, TooFewReceiptsAreUnknownAndTriedAgain) {
    Producer producer = Ready();
    int answers = 0;
    broker().SetSendHook([&](const SendBatch&) -> std::optional<BatchReceipt> {
        return answers++ == 0 ? std::optional(BatchReceipt{}) : std::nullopt;
    });
    const SendFuture future = producer.Send(Message("s"));
    Advance(seconds(3));
    EXPECT_TRUE(ReceiptOf(future).ok());
}

TEST_F(ProducerTest, AtShutdownWhatIsInFlightIsUnknownAndWhatIsNotIsRefused) {
    ProducerOptions options;
    options.max_in_flight_frames = 1;
    Producer producer = Ready(options);
    broker().SetHoldSends(true);
    const SendFuture flying = producer.Send(Message("s"));
    for (std::size_t i = 1; i < Groups(); ++i) {
        producer.Send(Message("s")).Detach();  // By the other ways.
    }
    const SendFuture waiting = producer.Send(Message("s"));
    const ShutdownReport report = client.Shutdown(milliseconds(0));
    EXPECT_EQ(ReceiptOf(flying).outcome, SendOutcome::kUnknown);
    EXPECT_EQ(ReceiptOf(flying).status.code(), StatusCode::kDeadlineExceeded);
    EXPECT_EQ(ReceiptOf(waiting).outcome, SendOutcome::kRefused);
    EXPECT_EQ(ReceiptOf(waiting).status.code(), StatusCode::kCancelled);
    EXPECT_FALSE(report.drained);
    EXPECT_EQ(report.sends_unknown, Groups());
    EXPECT_EQ(report.sends_refused, 1U);
    EXPECT_EQ(ReceiptOf(producer.Send(Message("s"))).status.code(), StatusCode::kCancelled);
}

TEST_F(ProducerTest, AnAsynchronousShutdownDrainsFirst) {
    Producer producer = Ready();
    broker().SetHoldSends(true);
    const SendFuture future = producer.Send(Message("s"));
    std::optional<ShutdownReport> report;
    client.ShutdownAsync(seconds(10), [&](const ShutdownReport& done) { report = done; });
    Settle();
    EXPECT_FALSE(report.has_value());
    broker().AnswerHeld();
    Settle();
    ASSERT_TRUE(report.has_value());
    EXPECT_TRUE(report->drained);
    EXPECT_TRUE(ReceiptOf(future).ok());
}

TEST_F(ProducerTest, AnAsynchronousShutdownEndsAtItsDeadline) {
    Producer producer = Ready();
    broker().SetHoldSends(true);
    const SendFuture future = producer.Send(Message("s"));
    std::optional<ShutdownReport> report;
    client.ShutdownAsync(seconds(10), [&](const ShutdownReport& done) { report = done; });
    Advance(milliseconds(9'999));
    EXPECT_FALSE(report.has_value());
    Advance(milliseconds(1));
    ASSERT_TRUE(report.has_value());
    EXPECT_EQ(report->sends_unknown, 1U);
    EXPECT_EQ(ReceiptOf(future).outcome, SendOutcome::kUnknown);
}

TEST_F(ProducerTest, EveryCallbackIsCalledBeforeShutdownReturns) {
    Producer producer = Ready();
    broker().SetHoldSends(true);
    int calls = 0;
    for (int i = 0; i < 100; ++i) {
        EXPECT_TRUE(producer.Send(Message("s"), [&](const SendReceipt&) { ++calls; }).ok());
    }
    client.Shutdown(milliseconds(0));
    EXPECT_EQ(calls, 100);
    broker().AnswerHeld();
    Settle();
    EXPECT_EQ(calls, 100);
}

TEST_F(ProducerTest, WaitReadySaysWhyItIsNot) {
    cluster.SetDiscoverError(Status::PermissionDenied("who are you"));
    const Status status = client.WaitReady("s", milliseconds(0));
    EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
    Producer producer = MakeProducer(client);
    (void)producer.Send(Message("s"));
    Settle();
    EXPECT_EQ(client.WaitReady("a/b", milliseconds(0)).code(), StatusCode::kInvalidArgument);
}

TEST_F(ProducerTest, WaitReadyIsImmediateWhenTheWayIsOpen) {
    Producer producer = Ready();
    EXPECT_TRUE(client.WaitReady("s", milliseconds(0)).ok());
}

}  // namespace
}  // namespace qmq
