// How much a producer holds: callbacks that have not run count, and memory is counted as it is
// used.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class SendBudgetTest : public testing::ClientFixture {
protected:
    SendBudgetTest() : client(MakeClient(SlowCallbacks())) {}

    /// Callbacks run when the test says so, apart from everything else.
    ClientOptions SlowCallbacks() {
        ClientOptions options = Options();
        options.runtime.callbacks = &callbacks;
        return options;
    }
    Producer Limited(std::size_t count) {
        ProducerOptions options;
        options.max_pending_count = count;
        return MakeProducer(client, options);
    }
    Status SendCounted(Producer& producer) {
        return producer.Send(Message("s"), [this](const SendReceipt&) { ++called; });
    }

    testing::ManualExecutor callbacks{time.clock};
    Client client;
    int called = 0;
};

// Room was given back with the answer: with callbacks slower than answers, or the broker away,
// millions of callbacks were owed whatever the limit said.
TEST_F(SendBudgetTest, RoomIsGivenBackWhenTheCallbackHasRun) {
    Producer producer = Limited(10);
    for (int i = 0; i < 10; ++i) {
        ASSERT_TRUE(SendCounted(producer).ok());
    }
    Advance(seconds(1));
    EXPECT_THAT(broker().stored(), SizeIs(10));
    const Status full = SendCounted(producer);
    EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(full.message()), HasSubstr("10 messages"));
    callbacks.RunAll();
    EXPECT_EQ(called, 10);
    EXPECT_TRUE(SendCounted(producer).ok());
}

TEST_F(SendBudgetTest, EachCallbackGivesItsRoomBackAtItsEnd) {
    Producer producer = Limited(4);
    std::vector<Status> inside;
    for (int i = 0; i < 4; ++i) {
        ASSERT_TRUE(producer
                        .Send(Message("s"),
                              [&](const SendReceipt&) { inside.push_back(SendCounted(producer)); })
                        .ok());
    }
    Advance(seconds(1));
    callbacks.RunOne();
    ASSERT_THAT(inside, ::testing::Not(::testing::IsEmpty()));
    EXPECT_EQ(inside[0].code(), StatusCode::kResourceExhausted) << "its own room is not free yet";
    callbacks.RunAll();
    Advance(seconds(1));
    callbacks.RunAll();
    ASSERT_THAT(inside, SizeIs(4));
    EXPECT_TRUE(inside[1].ok()) << "the first one's room is";
}

// A refused send was a callback that waited with all others.
TEST_F(SendBudgetTest, ARefusalCostsNothingAndCallsNobody) {
    Producer producer = Limited(1);
    broker().SetConnectable(false);
    ASSERT_TRUE(SendCounted(producer).ok());
    for (int i = 0; i < 1'000; ++i) {
        EXPECT_FALSE(SendCounted(producer).ok());
    }
    EXPECT_EQ(producer.stats().pending_count, 1U);
    EXPECT_EQ(producer.stats().refused_count, 1'000U);
    Advance(seconds(60));
    callbacks.RunAll();
    EXPECT_EQ(called, 1);
    EXPECT_EQ(producer.stats().callbacks_owed, 0U);
}

TEST_F(SendBudgetTest, AFutureGivesItsRoomBackWithTheAnswer) {
    Producer producer = Limited(1);
    for (int i = 0; i < 10; ++i) {
        const SendFuture future = producer.Send(Message("s"));
        Settle();
        ASSERT_TRUE(future.ready());
        EXPECT_TRUE(future.Get().ok());
    }
}

TEST_F(SendBudgetTest, CallbacksThatAreOwedAreCounted) {
    Producer producer = Limited(100);
    for (int i = 0; i < 20; ++i) {
        ASSERT_TRUE(SendCounted(producer).ok());
    }
    Advance(seconds(1));
    EXPECT_EQ(producer.stats().callbacks_owed, 20U);
    EXPECT_EQ(producer.stats().pending_count, 20U);
    callbacks.RunAll();
    EXPECT_EQ(producer.stats().callbacks_owed, 0U);
    EXPECT_EQ(producer.stats().pending_count, 0U);
}

TEST_F(SendBudgetTest, ACallbackIsDestroyedWhenItHasRun) {
    Producer producer = Limited(100);
    const auto first = std::make_shared<int>(0);
    bool first_gone = false;
    std::weak_ptr<int> watched;
    {
        auto captured = std::make_shared<int>(7);
        watched = captured;
        ASSERT_TRUE(
            producer.Send(Message("s"), [captured = std::move(captured)](const SendReceipt&) {})
                .ok());
    }
    ASSERT_TRUE(
        producer.Send(Message("s"), [&](const SendReceipt&) { first_gone = watched.expired(); })
            .ok());
    Advance(seconds(1));
    callbacks.RunAll();
    EXPECT_TRUE(first_gone);
}

// What a message costs, not its body: half a million small ones took three times the bound.
TEST_F(SendBudgetTest, BytesAreThoseOfMemory) {
    broker().SetConnectable(false);
    for (const int subjects : {1, 3'000}) {
        ProducerOptions options;
        options.max_pending_bytes = 4U << 20;
        Producer producer = MakeProducer(client, options);
        std::uint64_t taken = 0;
        while (
            producer
                .Send(Message("s-" + std::to_string(taken % static_cast<std::uint64_t>(subjects))),
                      [](const SendReceipt&) {})
                .ok()) {
            ++taken;
        }
        // An id and a callback cost more than a hundred bytes, a batch more than five hundred, and
        // so does a subject.
        const std::uint64_t used = std::min(taken, static_cast<std::uint64_t>(subjects));
        EXPECT_LE(taken * 120 + used * 1'000, 4U << 20) << subjects;
        EXPECT_GE(taken, subjects == 1 ? 5'000U : 2'500U) << subjects;
        // The last one may have made memory grow.
        EXPECT_LE(producer.stats().pending_bytes, (4U << 20) + (128U << 10)) << subjects;
        EXPECT_EQ(producer.stats().pending_count, taken);
    }
}

TEST_F(SendBudgetTest, EverythingIsGivenBackInTheEnd) {
    for (const int subjects : {1, 3, 500}) {
        Producer producer = MakeProducer(client);
        broker().SetHoldSends(true);
        for (int i = 0; i < 5'000; ++i) {
            Message message("s-" + std::to_string(i % subjects));
            message.SetBody(std::string(static_cast<std::size_t>(i % 300), 'x'));
            if (i % 5 == 0) {
                message.SetOrderingKey("k" + std::to_string(i % 7));
            }
            if (i % 2 == 0) {
                ASSERT_TRUE(
                    producer.Send(std::move(message), [this](const SendReceipt&) { ++called; })
                        .ok());
            } else {
                producer.Send(std::move(message)).Detach();
            }
        }
        broker().SetHoldSends(false);
        while (broker().AnswerHeld()) {
            Settle();
        }
        Advance(seconds(40));
        callbacks.RunAll();
        EXPECT_EQ(producer.stats().pending_count, 0U) << subjects;
        EXPECT_LE(producer.stats().pending_bytes, 64U << 10) << "the open piece of the stage";
    }
    EXPECT_EQ(called, 7'500);
}

// Batches that expire behind one with a long deadline stayed in its lane's queue for as long.
TEST_F(SendBudgetTest, WhatExpiresBehindALongDeadlineIsGoneAtOnce) {
    Producer producer = MakeProducer(client);
    broker().SetHoldSends(true);
    for (int i = 0; i < 20; ++i) {
        producer.Send(Message("s").SetBody("x"), std::chrono::hours(1)).Detach();
        Advance(milliseconds(2));
    }
    std::weak_ptr<int> watched;
    for (int i = 0; i < 20; ++i) {
        auto captured = std::make_shared<int>(i);
        watched = captured;
        ASSERT_TRUE(producer
                        .Send(Message("s"),
                              seconds(1),
                              [captured = std::move(captured)](const SendReceipt&) {})
                        .ok());
        Advance(milliseconds(2));
    }
    const std::uint64_t before = producer.stats().pending_bytes;
    Advance(seconds(2));
    callbacks.RunAll();
    EXPECT_TRUE(watched.expired());
    EXPECT_EQ(producer.stats().pending_count, 20U);
    EXPECT_LT(producer.stats().pending_bytes, before);
}

// Its memory was kept, and counted with each small batch that it was given to.
TEST_F(SendBudgetTest, ALargeMessageThatIsGoneTakesNoRoom) {
    ProducerOptions options;
    options.max_pending_bytes = 64U << 10;
    Producer producer = MakeProducer(client, options);
    const SendFuture large = producer.Send(Message("s").SetBody(std::string(1U << 20, 'x')));
    Settle();
    ASSERT_TRUE(large.ready() && large.Get().ok());
    ASSERT_EQ(producer.stats().pending_count, 0U);
    broker().SetHoldSends(true);
    int taken = 0;
    for (int i = 0; i < 10; ++i) {
        Message message("s");
        message.SetBody("small");
        taken += producer.TrySend(std::move(message), SendCallback()).ok() ? 1 : 0;
    }
    EXPECT_EQ(taken, 10) << producer.stats().pending_bytes << " bytes pending for " << taken;
    broker().SetHoldSends(false);
    while (broker().AnswerHeld()) {
        Settle();
    }
}

// It is the difference of two counters, and was 2^64 - 1 when both rose between the two looks.
TEST(OwedTest, IsNeverLessThanNone) {
    internal::Budget::Owed owed;
    std::atomic<bool> over{false};
    std::thread other([&] {
        while (!over) {
            owed.HandOut(1);
            owed.Ran();
        }
    });
    std::uint64_t most = 0;
    for (int i = 0; i < 1'000'000; ++i) {
        most = std::max(most, owed.callbacks());
    }
    over = true;
    other.join();
    EXPECT_LT(most, std::uint64_t{1} << 63);
}

}  // namespace
}  // namespace qmq
