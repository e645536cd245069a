#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/client/client_fixture.h"

// A process that stands still (stopped, swapped out, without a processor) for longer than its
// leases.

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class StoodStillTest : public testing::ClientFixture {
protected:
    StoodStillTest() : client(MakeClient()) {}

    static SubscriptionOptions Many() {
        SubscriptionOptions options = Consumer();
        options.parallelism = 1;
        options.prefetch_count = 1'000;
        options.ack_timeout = seconds(60);
        return options;
    }
    Subscription Subscribe(SubscriptionOptions options, Handler handler) {
        return MakeSubscription(client, std::move(options), std::move(handler));
    }
    /// Nothing of the process runs; the broker's clock goes on.
    void StandStill(std::chrono::nanoseconds time_span) { time.clock.Advance(time_span); }
    std::uint64_t CountOf(AckVerdict verdict) {
        std::uint64_t count = 0;
        for (const AckItem& item : broker().acks()) {
            count += item.verdict == verdict ? item.last - item.first + 1 : 0;
        }
        return count;
    }

    Client client;
    std::vector<std::string> seen;
};

// It went on with what it had: 152 of 200 messages were handled by others as well.
TEST_F(StoodStillTest, WhatWaitedIsNotHandledButReleased) {
    Subscription subscription = Subscribe(Many(), [&](const Message& message) {
        seen.push_back(Body(message));
        if (seen.size() == 5) {
            broker().SetHoldAcks(true);  // The broker is asked nothing by this process meanwhile.
            StandStill(seconds(61));
            broker().EndLeases(0, 999);
        }
    });
    Append(200);
    Settle();
    // The five that it had begun, and then what comes to it anew.
    const std::vector<std::string> first(seen.begin(), seen.begin() + 5);
    EXPECT_THAT(first, ElementsAre("0", "1", "2", "3", "4"));
    EXPECT_EQ(CountOf(AckVerdict::kRelease), 195U);
    broker().SetHoldAcks(false);
    Advance(seconds(1));
    EXPECT_EQ(broker().held_count(), 0U);
}

TEST_F(StoodStillTest, WithinItsLeasesItGoesOn) {
    Subscription subscription = Subscribe(Many(), [&](const Message& message) {
        seen.push_back(Body(message));
        if (seen.size() == 5) {
            StandStill(seconds(59));
        }
    });
    Append(200);
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(200));
    EXPECT_EQ(CountOf(AckVerdict::kRelease), 0U);
    EXPECT_EQ(broker().acked_count(), 200U);
}

// That the broker was back counted like a renewal that it had answered: what waited was handled,
// though its leases had ended while the broker was away.
TEST_F(StoodStillTest, WhatALostConnectionHasOutlastedIsReleased) {
    Subscription subscription = Subscribe(Many(), [&](const Message& message) {
        seen.push_back(Body(message));
        Advance(seconds(15));
    });
    const TimePoint begun = time.clock.Now();
    time.executor.PostAt(begun + seconds(41), [this] {  // The renewal of second 40 was answered.
        broker().SetConnectable(false);
        broker().Cut();
    });
    time.executor.PostAt(begun + seconds(102), [this] {
        broker().EndLeases(0, 999);
        broker().SetHoldAcks(true);
        broker().SetConnectable(true);
    });
    Append(20);
    Advance(minutes(10));
    ASSERT_THAT(seen, SizeIs(25));
    EXPECT_EQ(seen[6], "6") << "it began in second 90";
    EXPECT_EQ(seen[7], "2") << "the first that is handed out anew";
}

TEST_F(StoodStillTest, RenewalsThatAreAnsweredKeepWhatWaits) {
    Subscription subscription = Subscribe(Many(), [&](const Message& message) {
        seen.push_back(Body(message));
        Advance(seconds(15));
    });
    Append(20);
    Advance(minutes(10));
    EXPECT_THAT(seen, SizeIs(20));
    EXPECT_EQ(CountOf(AckVerdict::kRelease), 0U);
}

TEST_F(StoodStillTest, WhatWaitsForAPullIsReleasedToo) {
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "g";
    options.start = StartPosition::kEarliest;
    auto consumer = client.MakePullConsumer(options);
    ASSERT_TRUE(consumer.ok());
    Settle();
    std::vector<Delivery> pulled;
    const auto pull = [&](milliseconds wait) {
        (void)consumer->PullAsync({.max_messages = 10, .max_wait = wait},
                                  [&](Result<std::vector<Delivery>> result) {
                                      ASSERT_TRUE(result.ok()) << result.status();
                                      for (Delivery& delivery : *result) {
                                          pulled.push_back(std::move(delivery));
                                      }
                                  });
        Settle();
    };
    pull(milliseconds(0));
    Append(10);  // They wait for the next pull.
    Settle();
    StandStill(seconds(61));
    broker().EndLeases(0, 9);
    pull(milliseconds(0));
    EXPECT_THAT(pulled, IsEmpty());
    EXPECT_EQ(CountOf(AckVerdict::kRelease), 10U);
}

// The answer to a renewal was thrown away.
TEST_F(StoodStillTest, WhatARenewalSaysIsLostIsNotHandledAndItsAckGoesNowhere) {
    SubscriptionOptions options = Many();
    options.parallelism = 2;
    std::vector<Delivery> kept;
    testing::ManualExecutor late(time.clock);
    options.executor = &late;
    auto made =
        client.Subscribe(options, [&](Delivery delivery) { kept.push_back(std::move(delivery)); });
    ASSERT_TRUE(made.ok());
    Settle();
    Append(2);
    Settle();
    late.RunAll();
    ASSERT_THAT(kept, SizeIs(2));
    Append(4);  // They wait for an executor that takes its time.
    Settle();
    broker().EndLeases(1, 1);
    broker().EndLeases(3, 4);
    broker().SetAckError(Status::Ok());
    Advance(seconds(20) - milliseconds(1));
    EXPECT_FALSE(Logged("leases"));
    Advance(milliseconds(1));
    EXPECT_TRUE(Logged("the leases of 3 messages were lost"));
    std::vector<std::string> told;
    for (Delivery& delivery : kept) {
        delivery.Ack([&](const Status& status) { told.emplace_back(ToString(status.code())); });
    }
    Advance(milliseconds(1));
    EXPECT_THAT(told, ElementsAre("not found", "ok"));
    kept.clear();
    late.RunAll();
    for (const Delivery& delivery : kept) {
        seen.push_back(Body(delivery.message()));
    }
    // What others have is not handled here, unless it came here again.
    for (const char* body : {"3", "4"}) {
        EXPECT_LE(std::count(seen.begin(), seen.end(), body), 1);
    }
    client.Shutdown(milliseconds(0));
    kept.clear();
}

TEST_F(StoodStillTest, AtMostOnceHandlesWhatItHas) {
    SubscriptionOptions options = Many();
    options.at_most_once = true;
    Subscription subscription = Subscribe(options, [&](const Message& message) {
        seen.push_back(Body(message));
        if (seen.size() == 5) {
            StandStill(minutes(5));
        }
    });
    Append(50);
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(50));
    EXPECT_EQ(CountOf(AckVerdict::kRelease), 0U);
}

}  // namespace
}  // namespace qmq
