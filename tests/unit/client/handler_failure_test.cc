// What a subscription says of handlers that fail.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class HandlerFailureTest : public testing::ClientFixture {
protected:
    HandlerFailureTest() : client(MakeClient()) {}

    Subscription Subscribe(SubscriptionOptions options, Handler handler) {
        return MakeSubscription(client, std::move(options), std::move(handler));
    }

    Client client;
};

// A handler that threw was silent: the first line anybody saw was none at all.
TEST_F(HandlerFailureTest, TheFirstSecondFourthAndEighthExceptionIsLoggedWithItsText) {
    SubscriptionOptions options = Consumer();
    options.retry.max_attempts = 100;
    int tries = 0;
    Subscription subscription = Subscribe(options, [&](const Message&) {
        if (++tries <= 10) {
            throw std::runtime_error("database is away");
        }
    });
    broker().Append(Message("s").SetId("m1"));
    Advance(seconds(1));
    EXPECT_EQ(tries, 11);
    ASSERT_THAT(log, SizeIs(4));
    EXPECT_THAT(log[0],
                AllOf(HasSubstr("subject s, group g, message m1, attempt 1"),
                      HasSubstr("database is away"),
                      HasSubstr("failure 1 ")));
    EXPECT_THAT(log[3], HasSubstr("failure 8 "));
    EXPECT_EQ(subscription.stats().failed_count, 10U);
}

TEST_F(HandlerFailureTest, EachDeadLetterIsLogged) {
    SubscriptionOptions options = Consumer();
    options.retry.max_attempts = 1;
    Subscription subscription = Subscribe(options, [](const Message& message) {
        if (message.body() == "0") {
            throw Reject("no such order");
        }
        throw RetryLater("not yet");
    });
    Append(3);
    Advance(seconds(1));
    EXPECT_THAT(log,
                ElementsAre(HasSubstr("message stored-0: to the dead letters: no such order"),
                            HasSubstr("dead letters: attempt 1 was the last: not yet"),
                            HasSubstr("dead letters: attempt 1 was the last: not yet")));
}

// The log said "to the dead letters" of one that stays where it is, whatever became of it.
TEST_F(HandlerFailureTest, OfADeadLetterTheLogSaysWhatBecomesOfIt) {
    SubscriptionOptions options = Consumer();
    options.subject = DeadLetterSubject("orders", "billing");
    options.retry.max_attempts = 1;
    Subscription subscription = Subscribe(options, [](const Message& message) {
        if (message.body() == "0") {
            throw Reject("no such order");
        }
        throw RetryLater("not yet");
    });
    Append(2, options.subject);
    Advance(seconds(1));
    EXPECT_THAT(log,
                ElementsAre(HasSubstr(
                    "message stored-0: given up, and not delivered again: no such order")));
}

TEST_F(HandlerFailureTest, WhatAHandlerAsksForIsNoError) {
    int calls = 0;
    Subscription subscription = Subscribe(Consumer(), [&](const Message&) {
        if (++calls == 1) {
            throw RetryLater(milliseconds(1));
        }
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_EQ(calls, 2);
    EXPECT_THAT(log, IsEmpty());
}

TEST_F(HandlerFailureTest, ADeadLetterOfAManualHandlerIsLoggedToo) {
    Subscription subscription =
        Subscribe(Consumer(), [](Delivery delivery) { delivery.Reject("no such order"); });
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(log,
                ElementsAre(HasSubstr("message stored-0: to the dead letters: no such order")));
}

// With at_most_once such a message is gone for good, and was in no log and in no counter.
TEST_F(HandlerFailureTest, AFailureIsCountedAndLoggedAlsoAtMostOnce) {
    SubscriptionOptions options = Consumer();
    options.at_most_once = true;
    Subscription subscription =
        Subscribe(options, [](const Message&) { throw std::runtime_error("lost"); });
    Append(1);
    Advance(seconds(1));
    EXPECT_EQ(subscription.stats().failed_count, 1U);
    EXPECT_THAT(log, ElementsAre(HasSubstr("lost")));
}

// It became a dead letter, as everything that is no other kind.
TEST_F(HandlerFailureTest, AnOutcomeOfAnUnknownKindIsARetry) {
    int calls = 0;
    Subscription subscription = Subscribe(Consumer(), [&](const Message&) -> HandlerOutcome {
        return ++calls > 1 ? HandlerOutcome::Ack()
                           : HandlerOutcome{static_cast<HandlerOutcome::Kind>(77), {}, "odd"};
    });
    Append(1);
    Advance(seconds(60));
    EXPECT_EQ(calls, 2);
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_EQ(subscription.stats().failed_count, 1U);
    EXPECT_EQ(subscription.stats().later_count, 0U);
}

/// Copied by whoever keeps the options; that throws when the test says so.
struct ThrowingCopy {
    explicit ThrowingCopy(bool* of) : throws(of) {}
    ThrowingCopy(const ThrowingCopy& other) : throws(other.throws) {
        if (*throws) {
            throw std::bad_alloc();
        }
    }
    std::string operator()(const Message& message) const { return std::string(message.id()); }
    bool* throws;
};

// The subject and group stayed taken for the life of the client.
TEST_F(HandlerFailureTest, ASubscribeThatThrowsLeavesNothing) {
    bool throws = false;
    SubscriptionOptions options = Consumer();
    options.idempotency = MakeMemoryIdempotencyStore();
    options.idempotency_key = ThrowingCopy(&throws);
    const auto subscribe = [&] {
        SubscriptionOptions own = options;
        throws = true;
        auto made = client.Subscribe(std::move(own), [](const Message&) {});
        throws = false;
        return made;
    };
    try {
        (void)subscribe();
    } catch (const std::bad_alloc&) {
        throws = false;
    }
    (void)client.Subscribe(options, [](const Message&) {}).value();
}

/// `what` may answer null.
struct WithoutText : std::exception {
    const char* what() const noexcept override { return nullptr; }
};

/// Throws such a one wherever it is called.
struct ThrowingFilter : Filter {
    HandlerOutcome Handle(DeliveryContext&, Next& next) override { return next(); }
    void OnSettled(DeliveryContext&, const HandlerOutcome&) override { throw WithoutText(); }
};
struct ThrowingStore : IdempotencyStore {
    Result<Claim> Start(std::string_view, milliseconds) override { throw WithoutText(); }
    Status Renew(const Claim&) override { throw WithoutText(); }
    Status Finish(const Claim&) override { throw WithoutText(); }
    Status Abandon(const Claim&) override { throw WithoutText(); }
};

// A text was made of the null pointer: signal 11, wherever such an exception came from.
TEST_F(HandlerFailureTest, AnExceptionWithoutATextIsAFailureLikeAnother) {
    SubscriptionOptions options = Consumer();
    options.filters = {std::make_shared<ThrowingFilter>()};
    Subscription plain = Subscribe(options, [](const Message&) { throw WithoutText(); });
    options.group = "store";
    options.idempotency = std::make_shared<ThrowingStore>();
    Subscription stored = Subscribe(options, [](const Message&) {});
    Producer producer = MakeProducer(client);
    ASSERT_TRUE(producer.Send(Message("s"), [](const SendReceipt&) { throw WithoutText(); }).ok());
    Append(1);
    Advance(seconds(1));
    EXPECT_GE(plain.stats().failed_count, 1U);
    EXPECT_GE(stored.stats().later_count, 1U);
    EXPECT_TRUE(Logged("the handler threw: an exception without a text"));
    EXPECT_TRUE(Logged("a filter's OnSettled threw: an exception without a text"));
    EXPECT_TRUE(Logged("threw: an exception without a text"));
    EXPECT_TRUE(Logged("a callback threw: an exception without a text"));
}

}  // namespace
}  // namespace qmq
