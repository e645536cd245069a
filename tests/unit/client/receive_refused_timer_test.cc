// A timer that the executor refuses once is asked for again at whatever a consumer is called for
// next.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/decisions.h"
#include "tests/unit/client/refusing_executor.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::DecisionsAt;
using ::testing::SizeIs;

// What a refused timer was to do was never done: the flag that it was armed stayed, or only the
// timer itself armed the next.
class ReceiveRefusedTimerTest : public testing::ClientFixture {
protected:
    ReceiveRefusedTimerTest() {
        ClientOptions options = Options();
        options.runtime.executor = &executor;
        client.emplace(MakeClient(std::move(options)));
    }
    Subscription Keep(SubscriptionOptions options = Consumer()) {
        return MakeSubscription(*client, std::move(options), [this](Delivery delivery) {
            kept.push_back(std::move(delivery));
        });
    }
    std::size_t CountOf(AckVerdict verdict) {
        std::size_t count = 0;
        for (const AckItem& item : broker().acks()) {
            count += item.verdict == verdict ? 1U : 0U;
        }
        return count;
    }
    testing::RefusingExecutor executor{time.executor};
    std::optional<Client> client;
    std::vector<Delivery> kept;
};

TEST_F(ReceiveRefusedTimerTest, AcksLeaveWithTheNextOne) {
    const Subscription subscription = Keep();
    Append(2);
    Advance(seconds(1));
    ASSERT_THAT(kept, SizeIs(2));
    executor.refuses_timers = true;
    kept[0].Ack();
    executor.refuses_timers = false;
    kept[1].Ack();
    Advance(seconds(1));
    EXPECT_EQ(broker().acked_count(), 2U);
}

TEST_F(ReceiveRefusedTimerTest, TheLastAckLeavesWhenSomebodyLooks) {
    const Subscription subscription = Keep();
    Append(1);
    Advance(seconds(1));
    ASSERT_THAT(kept, SizeIs(1));
    executor.refuses_timers = true;
    kept[0].Ack();
    executor.refuses_timers = false;
    (void)subscription.stats();
    Advance(seconds(1));
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(ReceiveRefusedTimerTest, WhatHandlersBeginIsTold) {
    std::size_t told = 0;
    const Subscription subscription =
        MakeSubscription(*client, Consumer(), [&](const Message& message) {
            if (Body(message) == "1") {
                Advance(seconds(1));
                told = CountOf(AckVerdict::kBegin);
            }
        });
    executor.refuses_timers = true;
    Append(1);
    Settle();
    executor.refuses_timers = false;
    Append(1);
    Settle();
    EXPECT_EQ(told, 1U);
}

TEST_F(ReceiveRefusedTimerTest, LeasesAreRenewedOn) {
    const Subscription subscription = Keep();
    Append(1);
    Advance(milliseconds(19'900));
    executor.refuses_timers = true;
    Advance(milliseconds(200));  // The first renewal: the next could not be armed.
    ASSERT_EQ(CountOf(AckVerdict::kRenew), 1U);
    executor.refuses_timers = false;
    (void)subscription.stats();
    Advance(minutes(2));
    EXPECT_GE(CountOf(AckVerdict::kRenew), 5U);
}

TEST_F(ReceiveRefusedTimerTest, AStreamIsOpenedAgain) {
    const Subscription subscription = Keep();
    executor.refuses_timers = true;
    broker().CloseStreams(Status::Unavailable("busy"));  // Its connection stays.
    Settle();
    executor.refuses_timers = false;
    (void)subscription.stats();
    Append(1);
    Advance(minutes(1));
    EXPECT_THAT(kept, SizeIs(1));
}

TEST_F(ReceiveRefusedTimerTest, WhatIsPutOffIsGivenBack) {
    const Subscription subscription = Keep();
    Append(2);
    Settle();
    ASSERT_THAT(kept, SizeIs(2));
    executor.refuses_timers = true;
    kept[0].Later(seconds(5), "busy");
    executor.refuses_timers = false;
    kept[1].Ack();
    Advance(seconds(6));
    EXPECT_THAT(DecisionsAt(broker(), AckVerdict::kRelease), SizeIs(1));
    EXPECT_THAT(kept, SizeIs(3));
}

/// Takes no task while the test says so.
class FullExecutor final : public Executor {
public:
    explicit FullExecutor(Executor& inner) : inner_(inner) {}
    bool Post(Task task) override { return !full && inner_.Post(std::move(task)); }
    TimerId PostAt(TimePoint when, Task task) override {
        return inner_.PostAt(when, std::move(task));
    }
    bool Cancel(TimerId timer) override { return inner_.Cancel(timer); }
    bool full = false;

private:
    Executor& inner_;
};

TEST_F(ReceiveRefusedTimerTest, RunnersAreOfferedAgain) {
    FullExecutor handlers(time.executor);
    SubscriptionOptions options = Consumer();
    options.executor = &handlers;
    Subscription subscription = Keep(options);
    handlers.full = true;
    executor.refuses_timers = true;
    Append(1);
    Settle();
    handlers.full = false;
    executor.refuses_timers = false;
    (void)subscription.stats();
    Advance(seconds(1));
    EXPECT_THAT(kept, SizeIs(1));
    kept.clear();
    client->Shutdown(milliseconds(0));
}

TEST_F(ReceiveRefusedTimerTest, WhatNobodyPullsGoesBack) {
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "g";
    options.start = StartPosition::kEarliest;
    Result<PullConsumer> puller = client->MakePullConsumer(options);
    ASSERT_TRUE(puller.ok()) << puller.status();
    Settle();
    const auto pull = [&](std::uint32_t count) {
        (void)puller->PullAsync({.max_messages = count, .max_wait = milliseconds(0)},
                                [this](Result<std::vector<Delivery>> batch) {
                                    for (Delivery& one : *batch) {
                                        kept.push_back(std::move(one));
                                    }
                                });
        Settle();
    };
    pull(3);
    executor.refuses_timers = true;
    Append(3);
    Settle();
    executor.refuses_timers = false;
    pull(1);
    ASSERT_THAT(kept, SizeIs(1));
    Advance(minutes(1));
    EXPECT_EQ(CountOf(AckVerdict::kRelease), 1U);
    kept.clear();
    client->Shutdown(milliseconds(0));
}

}  // namespace
}  // namespace qmq
