// Idempotency at the border: claims that follow the work, stores that are away, throw or are late.

#include "qmq/idempotency.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using State = IdempotencyClaim::State;

/// Passes on to a store in memory, unless the test says what to do instead.
class ScriptedStore final : public IdempotencyStore {
public:
    explicit ScriptedStore(const Clock& clock)
        : memory_(MakeMemoryIdempotencyStore({.clock = &clock})) {}

    Result<Claim> Start(std::string_view key, milliseconds lease) override {
        ++starts;
        const Status status = on_start ? on_start() : Status::Ok();
        return status.ok() ? memory_->Start(key, lease) : Result<Claim>(status);
    }
    Status Renew(const Claim& claim) override {
        ++renewals;
        const Status status = on_renew ? on_renew() : Status::Ok();
        return status.ok() ? memory_->Renew(claim) : status;
    }
    Status Finish(const Claim& claim) override {
        const Status status = on_finish ? on_finish() : Status::Ok();
        return status.ok() ? memory_->Finish(claim) : status;
    }
    Status Abandon(const Claim& claim) override {
        ++abandons;
        return memory_->Abandon(claim);
    }

    int starts = 0;
    int renewals = 0;
    int abandons = 0;
    std::function<Status()> on_start;
    std::function<Status()> on_renew;
    std::function<Status()> on_finish;

private:
    const std::shared_ptr<IdempotencyStore> memory_;
};

class IdempotencyTest : public testing::ClientFixture {
protected:
    IdempotencyTest() : client(MakeClient()) {}

    SubscriptionOptions Idempotent() {
        SubscriptionOptions options = Consumer();
        options.idempotency = store;
        options.ack_timeout = seconds(3);
        options.parallelism = 2;
        options.retry = {.max_attempts = 1, .initial_backoff = milliseconds(500)};
        return options;
    }
    Subscription Subscribe(SubscriptionOptions options, Handler handler) {
        return MakeSubscription(client, std::move(options), std::move(handler));
    }
    /// Counts what is handled, and takes `work` for it.
    Handler Counting(std::function<void()> work = [] {}) {
        return [this, work = std::move(work)](const Message&) {
            ++handled;
            most_at_once = std::max(most_at_once, ++at_once);
            work();
            --at_once;
        };
    }
    /// A message as a producer stores it again whose first answer was lost.
    void AppendCopy() { broker().Append(Message("s").SetId("same").SetBody("x")); }

    std::shared_ptr<ScriptedStore> store = std::make_shared<ScriptedStore>(time.clock);
    Client client;
    int handled = 0;
    int at_once = 0;
    int most_at_once = 0;
};

TEST_F(IdempotencyTest, TheStoreLetsEachMessageThroughOnce) {
    Subscription subscription = Subscribe(Idempotent(), Counting());
    for (int i = 0; i < 3; ++i) {
        AppendCopy();
    }
    Advance(seconds(1));
    EXPECT_EQ(handled, 1);
    EXPECT_EQ(broker().acked_count(), 3U);
}

// The record ran out after ack_timeout, whatever the handler was still doing: a copy that was
// stored meanwhile was handled beside the first.
TEST_F(IdempotencyTest, AClaimIsRenewedWhileItsHandlerRuns) {
    Subscription subscription = Subscribe(Idempotent(), Counting([this] {
                                              Advance(seconds(10));
                                              AppendCopy();
                                              Advance(seconds(10));
                                          }));
    AppendCopy();
    Advance(minutes(1));
    EXPECT_EQ(handled, 1);
    EXPECT_EQ(most_at_once, 1);
    EXPECT_EQ(broker().acked_count(), 2U);
    EXPECT_GE(store->renewals, 19);  // Each second of 20.
    EXPECT_LE(store->renewals, 20);
}

// "Busy" was a failure: the copy of a long job used up its attempts, and became the dead letter of
// a message that was handled well.
TEST_F(IdempotencyTest, ACopyThatFindsTheFirstBusyLosesNoAttempt) {
    Subscription subscription = Subscribe(Idempotent(), Counting([this] { Advance(seconds(20)); }));
    AppendCopy();
    AppendCopy();
    Advance(minutes(1));
    EXPECT_EQ(handled, 1);
    EXPECT_THAT(broker().dead_letters(), IsEmpty());
    EXPECT_EQ(broker().acked_count(), 2U);
    EXPECT_EQ(subscription.stats().failed_count, 0U);
    EXPECT_GE(subscription.stats().later_count, 10U);
}

// A store that is away was a failure of the handler: minutes of it made dead letters.
TEST_F(IdempotencyTest, AStoreThatIsAwayCostsNoAttempt) {
    store->on_start = [this]() -> Status {
        if (store->starts == 3) {
            throw std::runtime_error("connection reset");
        }
        return store->starts < 5 ? Status::Unavailable("store is away") : Status::Ok();
    };
    Subscription subscription = Subscribe(Idempotent(), Counting());
    AppendCopy();
    Advance(seconds(1));
    EXPECT_EQ(handled, 0);
    Advance(seconds(10));
    EXPECT_EQ(handled, 1);
    EXPECT_THAT(broker().dead_letters(), IsEmpty());
    EXPECT_TRUE(Logged("store is away"));
}

TEST_F(IdempotencyTest, AnErrorOfTheStoreThatARepeatCannotCureCountsAsAFailure) {
    store->on_start = [] { return Status::InvalidArgument("key too long"); };
    Subscription subscription = Subscribe(Idempotent(), Counting());
    AppendCopy();
    Advance(seconds(1));
    ASSERT_THAT(broker().dead_letters(), SizeIs(1));
    EXPECT_THAT(broker().dead_letters()[0].second, HasSubstr("key too long"));
}

// What Finish threw counted as thrown by the handler: the work that was done was done again.
TEST_F(IdempotencyTest, AFinishThatFailsOrThrowsDoesNotRepeatTheWork) {
    store->on_finish = [this]() -> Status {
        if (handled == 1) {
            throw std::runtime_error("commit failed");
        }
        return Status::Unavailable("finish failed");
    };
    Subscription subscription = Subscribe(Idempotent(), Counting());
    Append(2);
    Advance(seconds(1));
    EXPECT_EQ(handled, 2);
    EXPECT_EQ(broker().acked_count(), 2U);
    EXPECT_TRUE(Logged("commit failed"));
    EXPECT_TRUE(Logged("finish failed"));
}

TEST_F(IdempotencyTest, AFailedMessageMayStartAgain) {
    SubscriptionOptions options = Idempotent();
    options.retry.max_attempts = 2;
    Subscription subscription = Subscribe(options, [&](const Message&) {
        if (++handled == 1) {
            throw std::runtime_error("once");
        }
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_EQ(handled, 2);
    EXPECT_EQ(store->abandons, 1);
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(IdempotencyTest, AMessageThatIsPutOffGivesItsClaimBack) {
    Subscription subscription = Subscribe(Idempotent(), [&](const Message&) {
        return ++handled == 1 ? HandlerOutcome::Later(seconds(2), "producer full")
                              : HandlerOutcome::Ack();
    });
    Append(1);
    Advance(seconds(5));
    EXPECT_EQ(handled, 2);
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(IdempotencyTest, ARenewalThatFailsIsTriedAgainBeforeTheLeaseIsOver) {
    store->on_renew = [this]() -> Status {
        if (store->renewals % 3 == 1) {
            return Status::Unavailable("store is away");
        }
        if (store->renewals % 3 == 2) {
            throw std::runtime_error("still away");
        }
        return Status::Ok();
    };
    Subscription subscription = Subscribe(Idempotent(), Counting([this] {
                                              Advance(seconds(10));
                                              AppendCopy();
                                              Advance(seconds(10));
                                          }));
    AppendCopy();
    Advance(minutes(1));
    EXPECT_EQ(most_at_once, 1);
    EXPECT_EQ(handled, 1);
    EXPECT_TRUE(Logged("still away"));
}

TEST_F(IdempotencyTest, AClaimThatIsLostIsLoggedOnceAndNotRenewedAnyMore) {
    store->on_renew = [] { return Status::FailedPrecondition("somebody deleted it"); };
    Subscription subscription = Subscribe(Idempotent(), Counting([this] { Advance(seconds(20)); }));
    AppendCopy();
    Advance(minutes(1));
    EXPECT_EQ(store->renewals, 1);
    EXPECT_TRUE(Logged("somebody deleted it"));
    EXPECT_EQ(handled, 1);
}

TEST_F(IdempotencyTest, AHandlerBeyondItsProcessingTimeKeepsNoClaim) {
    SubscriptionOptions options = Idempotent();
    options.max_processing_time = seconds(5);
    Subscription subscription = Subscribe(options, Counting([this] { Advance(seconds(30)); }));
    AppendCopy();
    Advance(seconds(1));
    EXPECT_EQ(store->renewals, 4);
    EXPECT_TRUE(Logged("max_processing_time"));
}

TEST_F(IdempotencyTest, NothingIsRenewedForQuickHandlersOrAfterShutdown) {
    Subscription subscription = Subscribe(Idempotent(), Counting());
    Append(10);
    Advance(minutes(1));
    EXPECT_EQ(handled, 10);
    EXPECT_EQ(store->renewals, 0);

    store->on_renew = [this] {
        client.ShutdownAsync(milliseconds(0), [](const ShutdownReport&) {});
        return Status::Ok();
    };
    SubscriptionOptions options = Idempotent();
    options.subject = "long";
    Subscription second = Subscribe(options, Counting([this] { Advance(seconds(20)); }));
    Append(1, "long");
    Advance(minutes(1));
    EXPECT_EQ(store->renewals, 1);
}

TEST_F(IdempotencyTest, TheKeyIsTheApplications) {
    std::vector<std::string> seen;
    SubscriptionOptions options = Idempotent();
    options.idempotency_key = [](const Message& message) {
        return message.Get<std::string>("order");
    };
    Subscription subscription =
        Subscribe(options, [&](const Message& message) { seen.push_back(Body(message)); });
    broker().Append(Message("s").SetBody("a").Set("order", "7"));
    broker().Append(Message("s").SetBody("b").Set("order", "7"));
    broker().Append(Message("s").SetBody("c").Set("order", "8"));
    Advance(seconds(1));
    EXPECT_THAT(seen, ElementsAre("a", "c"));
}

TEST_F(IdempotencyTest, AManualHandlerCannotHaveAStore) {
    EXPECT_EQ(client.Subscribe(Idempotent(), [](Delivery) {}).status().code(),
              StatusCode::kInvalidArgument);
}

class MemoryStoreTest : public ::testing::Test {
protected:
    IdempotencyClaim Start(const std::string& key = "k") {
        return store->Start(key, seconds(10)).value();
    }

    testing::ManualClock clock;
    std::shared_ptr<IdempotencyStore> store =
        MakeMemoryIdempotencyStore({.retention = minutes(16), .max_keys = 4, .clock = &clock});
};

TEST_F(MemoryStoreTest, AKeyIsClaimedThenBusyThenDone) {
    const IdempotencyClaim claim = Start();
    EXPECT_EQ(claim.state, State::kStarted);
    EXPECT_EQ(claim.key, "k");
    EXPECT_EQ(claim.lease, seconds(10));
    EXPECT_EQ(Start().state, State::kBusy);
    EXPECT_TRUE(store->Finish(claim).ok());
    EXPECT_EQ(Start().state, State::kDone);
    EXPECT_TRUE(store->Finish(claim).ok());  // It may say so again.
}

// Finish and Abandon took a key and nothing else: whoever was late erased the record of the next.
TEST_F(MemoryStoreTest, OfTwoClaimsTheLaterOneCounts) {
    const IdempotencyClaim late = Start();
    clock.Advance(seconds(10));
    const IdempotencyClaim next = Start();
    ASSERT_EQ(next.state, State::kStarted);
    EXPECT_GT(next.token, late.token);

    EXPECT_EQ(store->Renew(late).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(store->Abandon(late).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(store->Finish(late).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(Start().state, State::kBusy);

    EXPECT_TRUE(store->Finish(next).ok());
    EXPECT_EQ(store->Abandon(late).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(store->Finish(late).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(Start().state, State::kDone);
}

TEST_F(MemoryStoreTest, AClaimWhoseLeaseIsOverCountsUntilSomebodyElseHasTheKey) {
    const IdempotencyClaim claim = Start();
    clock.Advance(minutes(5));
    EXPECT_TRUE(store->Finish(claim).ok());
    EXPECT_EQ(Start().state, State::kDone);
}

TEST_F(MemoryStoreTest, ARenewalBeginsTheLeaseAnew) {
    const IdempotencyClaim claim = Start();
    clock.Advance(seconds(9));
    EXPECT_TRUE(store->Renew(claim).ok());
    clock.Advance(seconds(9));
    EXPECT_EQ(Start().state, State::kBusy);
    clock.Advance(seconds(1));
    EXPECT_EQ(Start().state, State::kStarted);
}

TEST_F(MemoryStoreTest, ARenewalThatIsLateDoesNotUndoTheEnd) {
    const IdempotencyClaim done = Start();
    EXPECT_TRUE(store->Finish(done).ok());
    EXPECT_EQ(store->Renew(done).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(store->Abandon(done).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(Start().state, State::kDone);

    const IdempotencyClaim abandoned = Start("other");
    EXPECT_TRUE(store->Abandon(abandoned).ok());
    EXPECT_EQ(store->Renew(abandoned).code(), StatusCode::kNotFound);
    EXPECT_EQ(store->Finish(abandoned).code(), StatusCode::kNotFound);
    EXPECT_GT(Start("other").token, abandoned.token);
}

// The store asked the system's clock.
TEST_F(MemoryStoreTest, WhatIsDoneIsRememberedForTheRetention) {
    EXPECT_TRUE(store->Finish(Start()).ok());
    clock.Advance(minutes(16));
    EXPECT_EQ(Start().state, State::kDone);
    clock.Advance(minutes(2));
    EXPECT_EQ(Start().state, State::kStarted);
}

TEST_F(MemoryStoreTest, WhenItIsFullTheOldestThatAreDoneGoAndNoClaimDoes) {
    const IdempotencyClaim held = Start("held");
    for (const char* key : {"1", "2", "3", "4"}) {
        clock.Advance(minutes(2));
        ASSERT_TRUE(store->Renew(held).ok());
        EXPECT_TRUE(store->Finish(Start(key)).ok());
    }
    EXPECT_EQ(Start("held").state, State::kBusy);
    EXPECT_EQ(Start("4").state, State::kDone);
    EXPECT_EQ(Start("1").state, State::kStarted);
}

// All keys that were done within a sixteenth of the retention went at once: with the defaults a
// store that had a million keys of the last hour forgot the one of a moment ago.
TEST_F(MemoryStoreTest, WhenItIsFullWhatWasDoneLastIsRemembered) {
    store = MakeMemoryIdempotencyStore({.max_keys = 1'000, .clock = &clock});
    for (int i = 0; i < 5'000; ++i) {
        ASSERT_TRUE(store->Finish(Start(std::to_string(i))).ok());
        const int remembered = std::max(i - 900, 0);
        EXPECT_EQ(Start(std::to_string(remembered)).state, State::kDone) << i;
    }
    EXPECT_EQ(Start("3000").state, State::kStarted);
}

// The end of the lease lay before its beginning, so the next one had the key as well.
TEST_F(MemoryStoreTest, ALeaseMayBeForEver) {
    const IdempotencyClaim claim = store->Start("k", milliseconds::max()).value();
    EXPECT_EQ(Start().state, State::kBusy);
    EXPECT_TRUE(store->Renew(claim).ok());
    clock.Advance(hours(24 * 365));
    EXPECT_EQ(Start().state, State::kBusy);
    for (int i = 0; i < 3'000; ++i) {
        (void)Start(std::to_string(i));  // What is swept out now and then is something else.
    }
    EXPECT_EQ(Start().state, State::kBusy);
    EXPECT_TRUE(store->Finish(claim).ok());
    const IdempotencyClaim none = store->Start("zero", milliseconds::min()).value();
    EXPECT_EQ(none.state, State::kStarted);
    EXPECT_EQ(Start("zero").state, State::kStarted);
}

}  // namespace
}  // namespace qmq
