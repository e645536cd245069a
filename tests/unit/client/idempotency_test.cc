// Idempotency at the border: claims that follow the work, stores that are away, throw or are late.

#include "qmq/idempotency.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/decisions.h"
#include "tests/unit/client/filter_fixture.h"

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
        const Status status = on_abandon ? on_abandon() : Status::Ok();
        return status.ok() ? memory_->Abandon(claim) : status;
    }

    int starts = 0;
    int renewals = 0;
    int abandons = 0;
    std::function<Status()> on_start;
    std::function<Status()> on_renew;
    std::function<Status()> on_finish;
    std::function<Status()> on_abandon;

private:
    const std::shared_ptr<IdempotencyStore> memory_;
};

/// Notes its calls, and fills in nothing of a claim but what it must.
class NotingStore final : public IdempotencyStore {
public:
    explicit NotingStore(std::vector<std::string>* notes) : notes_(notes) {}
    Result<Claim> Start(std::string_view key, milliseconds lease) override {
        notes_->emplace_back("start");
        EXPECT_TRUE(key.starts_with("s%g%")) << key;
        key_ = key;
        lease_ = lease;
        Claim claim;
        claim.token = 7;
        return claim;
    }
    Status Renew(const Claim& claim) override { return Note("renew", claim); }
    Status Finish(const Claim& claim) override { return Note("finish", claim); }
    Status Abandon(const Claim& claim) override { return Note("abandon", claim); }

private:
    Status Note(const char* what, const Claim& claim) {
        notes_->emplace_back(what);
        EXPECT_FALSE(claim.key.empty());
        EXPECT_EQ(claim.key, key_);
        EXPECT_EQ(claim.lease, lease_);
        EXPECT_EQ(claim.token, 7U);
        return Status::Ok();
    }

    std::vector<std::string>* const notes_;
    std::string key_;
    milliseconds lease_{};
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

// The outcome stands, and as nobody has given the claim back its lease has to run out.
TEST_F(IdempotencyTest, AnAbandonThatFailsOrThrowsChangesNoOutcome) {
    store->on_abandon = [this]() -> Status {
        if (store->abandons == 1) {
            throw std::runtime_error("connection reset");
        }
        return Status::Unavailable("store is away");
    };
    SubscriptionOptions options = Idempotent();
    options.retry.max_attempts = 3;
    Subscription subscription = Subscribe(options, [this](const Message& message) {
        EXPECT_EQ(message.attempt(), static_cast<std::uint32_t>(++handled));
        if (handled < 3) {
            throw std::runtime_error("broken");
        }
    });
    Append(1);
    Advance(seconds(2));
    EXPECT_EQ(handled, 1);
    Advance(seconds(2));
    EXPECT_EQ(handled, 2);
    Advance(seconds(4));
    EXPECT_EQ(handled, 3);
    EXPECT_EQ(store->abandons, 2);
    EXPECT_TRUE(Logged("connection reset"));
    EXPECT_TRUE(Logged("store is away"));
    for (const AckItem& retry : testing::DecisionsAt(broker(), AckVerdict::kRetry)) {
        EXPECT_EQ(retry.error, "broken");
    }
    EXPECT_EQ(subscription.stats().failed_count, 2U);
    EXPECT_THAT(broker().dead_letters(), IsEmpty());
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(IdempotencyTest, ForAHandlerThatTakesItsDeliveryItIsRefused) {
    const Result<Subscription> refused =
        client.Subscribe(Idempotent(), [](Delivery delivery) { delivery.Ack(); });
    EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
}

TEST_F(IdempotencyTest, TheStoreIsCalledAroundTheHandlerWithTheKeyAndTheLeaseOfTheStart) {
    std::vector<std::string> notes;
    SubscriptionOptions options = Idempotent();
    options.idempotency = std::make_shared<NotingStore>(&notes);
    std::optional<HandlerOutcome> outcome;
    Subscription subscription = Subscribe(options, [&](const Message&) {
        notes.emplace_back("handler");
        Advance(milliseconds(2'500));
        notes.emplace_back("end");
        return *outcome;
    });
    for (const HandlerOutcome& one : {HandlerOutcome::Ack(),
                                      HandlerOutcome::DeadLetter("bad"),
                                      HandlerOutcome::Later(hours(1), "busy")}) {
        outcome = one;
        notes.clear();
        Append(1);
        Advance(seconds(10));
        const bool done = one.kind == HandlerOutcome::Kind::kAck;
        EXPECT_THAT(
            notes,
            ElementsAre("start", "handler", "renew", "renew", "end", done ? "finish" : "abandon"));
    }
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

// All messages whose function found no key had one: the first was handled, the others only acked.
TEST_F(IdempotencyTest, AMessageWithoutAKeyIsKnownByItsId) {
    std::vector<std::string> seen;
    SubscriptionOptions options = Idempotent();
    options.idempotency_key = [](const Message& message) {
        return message.GetOr<std::string>("order", "");
    };
    Subscription subscription =
        Subscribe(options, [&](const Message& message) { seen.push_back(Body(message)); });
    broker().Append(Message("s").SetId("1").SetBody("a"));
    broker().Append(Message("s").SetId("2").SetBody("b"));
    broker().Append(Message("s").SetId("1").SetBody("a"));
    Advance(seconds(1));
    EXPECT_EQ(broker().acked_count(), 3U);
    EXPECT_THAT(seen, ElementsAre("a", "b"));
}

TEST_F(IdempotencyTest, AManualHandlerCannotHaveAStore) {
    EXPECT_EQ(client.Subscribe(Idempotent(), [](Delivery) {}).status().code(),
              StatusCode::kInvalidArgument);
}

class IdempotencyFilterTest : public testing::FilterFixture {
protected:
    IdempotencyFilterTest() {
        options.idempotency = store;
        options.ack_timeout = seconds(3);
    }
    std::shared_ptr<ScriptedStore> store = std::make_shared<ScriptedStore>(time.clock);
    int handled = 0;
};

// The work was recorded as done before the filter around it had committed it: what was rolled back
// was delivered again, found done, and acked.
TEST_F(IdempotencyFilterTest, WorkThatAFilterCouldNotCommitIsNotDone) {
    int open = 0;
    int committed = 0;
    Add([&](DeliveryContext&, Filter::Next& next) {
        HandlerOutcome outcome = next();
        const int work = std::exchange(open, 0);
        if (handled == 1) {
            throw std::runtime_error("commit failed");
        }
        committed += work;
        return outcome;
    });
    const Subscription subscription = Subscribe([&](const Message&) {
        ++handled;
        ++open;
    });
    Append(1);
    Advance(minutes(1));
    EXPECT_EQ(handled, 2);
    EXPECT_EQ(committed, 1);
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(IdempotencyFilterTest, NorIsWorkThatAFilterWantsAgain) {
    Add([&](DeliveryContext&, Filter::Next& next) {
        HandlerOutcome outcome = next();
        return handled == 1 ? HandlerOutcome::Retry("conflict") : outcome;
    });
    const Subscription subscription = Subscribe([&](const Message&) { ++handled; });
    Append(1);
    Advance(minutes(1));
    EXPECT_EQ(handled, 2);
    EXPECT_EQ(store->abandons, 1);
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(IdempotencyFilterTest, AClaimIsRenewedUntilTheFiltersHaveReturned) {
    Add([&](DeliveryContext&, Filter::Next& next) {
        HandlerOutcome outcome = next();
        Advance(milliseconds(2'500));
        return outcome;
    });
    const Subscription subscription = Subscribe([&](const Message&) { ++handled; });
    Append(1);
    Advance(seconds(10));
    EXPECT_EQ(handled, 1);
    EXPECT_EQ(store->renewals, 2);
}

TEST_F(IdempotencyFilterTest, AFailureThatAFilterAcksIsDone) {
    Add([](DeliveryContext&, Filter::Next& next) {
        try {
            return next();
        } catch (const std::runtime_error&) {
            return HandlerOutcome::Ack();
        }
    });
    const Subscription subscription = Subscribe([&](const Message&) {
        ++handled;
        throw std::runtime_error("not wanted any more");
    });
    broker().Append(Message("s").SetId("same").SetBody("x"));
    broker().Append(Message("s").SetId("same").SetBody("x"));
    Advance(seconds(10));
    EXPECT_EQ(handled, 1);
    EXPECT_EQ(broker().acked_count(), 2U);
}

}  // namespace
}  // namespace qmq
