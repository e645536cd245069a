// What filters and handlers are told of a delivery, and what they may put in.

#include "qmq/delivery_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/unit/client/decisions.h"
#include "tests/unit/client/filter_fixture.h"

namespace qmq {
namespace {

using std::chrono::duration_cast;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::DecisionsAt;
using ::testing::SizeIs;

using Span = std::shared_ptr<std::string>;

class DeliveryContextTest : public testing::FilterFixture {
protected:
    /// A filter that puts a span in, and one that finds it at the end.
    void AddSpan() {
        Add(
            [this](DeliveryContext& context, Filter::Next& next) {
                auto made = std::make_shared<std::string>("span");
                span = made;
                context.Put(std::move(made));
                return next();
            },
            [this](DeliveryContext& context, const HandlerOutcome&) {
                ASSERT_NE(context.Find<Span>(), nullptr);
                ends.push_back(**context.Find<Span>());
            });
    }

    std::weak_ptr<std::string> span;
};

// It would refer to a message that is gone.
static_assert(!std::is_constructible_v<DeliveryContext, Message>);
static_assert(!std::is_constructible_v<DeliveryContext, Message, DeliveryContext::Facts>);
static_assert(std::is_constructible_v<DeliveryContext, const Message&>);

TEST_F(DeliveryContextTest, EachDeliveryHasOneOfItsOwn) {
    Add([this](DeliveryContext& context, Filter::Next& next) {
        EXPECT_EQ(context.Find<int>(), nullptr);
        context.Put(7);
        notes.push_back(Body(context.message()));
        return next();
    });
    const Subscription subscription = Subscribe([](const Message& message) {
        if (message.attempt() == 1) {
            throw std::runtime_error("once");
        }
    });
    Append(2);
    Advance(seconds(1));
    EXPECT_THAT(notes, ::testing::UnorderedElementsAre("0", "1", "0", "1"));
}

TEST_F(DeliveryContextTest, WhatWasPutInGoesWhenItsHandlerAndTheFiltersHaveEnded) {
    AddSpan();
    const Subscription subscription =
        Subscribe([this](const Message&) { EXPECT_FALSE(span.expired()); });
    Append(1);
    Settle();
    EXPECT_THAT(ends, ::testing::ElementsAre("span"));
    EXPECT_TRUE(span.expired());
}

TEST_F(DeliveryContextTest, WhatWasPutInIsKeptUntilAManualDeliveryIsDecided) {
    AddSpan();
    const Subscription subscription =
        Subscribe([this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(1);
    Advance(hours(1));
    ASSERT_THAT(kept, SizeIs(1));
    EXPECT_FALSE(span.expired());
    kept[0].Ack();
    EXPECT_THAT(ends, ::testing::ElementsAre("span"));
    EXPECT_TRUE(span.expired());
}

TEST_F(DeliveryContextTest, ItsSequenceIsThatOfTheReceipt) {
    std::vector<std::uint64_t> sent;
    std::vector<std::uint64_t> handled;
    const Subscription subscription =
        Subscribe([&](const Message& message, DeliveryContext& context) {
            EXPECT_EQ(context.attempt(), message.attempt());
            if (message.attempt() > 1) {
                return;
            }
            handled.push_back(context.sequence());
            if (handled.size() == 1) {
                throw std::runtime_error("once");  // From here on the consumer counts otherwise.
            }
        });
    Producer producer = MakeProducer(client);
    for (int i = 0; i < 3; ++i) {
        const Status taken = producer.Send(Message("s"), [&sent](const SendReceipt& receipt) {
            sent.push_back(receipt.sequence);
        });
        ASSERT_TRUE(taken.ok()) << taken;
        Advance(seconds(1));
    }
    EXPECT_THAT(sent, SizeIs(3));
    EXPECT_EQ(handled, sent);
}

TEST_F(DeliveryContextTest, SoonAfterItsDeadlineAMessageIsGivenUp) {
    options.ack_timeout = seconds(30);
    options.max_processing_time = minutes(2);
    TimePoint deadline{};
    Add([&deadline](DeliveryContext& context, Filter::Next& next) {
        if (context.attempt() == 1) {
            deadline = context.deadline();
        }
        return next();
    });
    const Subscription subscription =
        Subscribe([this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(1);
    Settle();
    Advance(duration_cast<milliseconds>(deadline - time.clock.Now()));
    EXPECT_THAT(DecisionsAt(broker()), SizeIs(0));
    Advance(options.ack_timeout / 3);
    EXPECT_THAT(DecisionsAt(broker(), AckVerdict::kRetry), SizeIs(1));
    client.Shutdown(milliseconds(0));
    kept.clear();
}

TEST_F(DeliveryContextTest, OfAMessageThatWasGivenUpFiltersHearWhatWasDecidedHere) {
    options.ack_timeout = seconds(30);
    options.max_processing_time = minutes(2);
    Add([](DeliveryContext&, Filter::Next& next) { return next(); },
        [this](DeliveryContext&, const HandlerOutcome& verdict) {
            ends.push_back(verdict.kind == HandlerOutcome::Kind::kAck ? "acked" : "not acked");
        });
    const Subscription subscription =
        Subscribe([this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(1);
    Advance(seconds(131));
    ASSERT_FALSE(kept.empty());
    EXPECT_THAT(ends, SizeIs(0));
    kept[0].Ack();
    Advance(seconds(1));
    EXPECT_THAT(ends, ::testing::ElementsAre("acked"));
    EXPECT_EQ(broker().acked_count(), 0U);
    client.Shutdown(milliseconds(0));
    kept.clear();
}

TEST_F(DeliveryContextTest, AHandlerIsAskedToStopWhenTheClientShutsDown) {
    std::stop_token token;
    bool asked_before = true;
    const Subscription subscription = Subscribe([&](const Message&, DeliveryContext& context) {
        token = context.stop_token();
        asked_before = token.stop_requested();
        client.ShutdownAsync(seconds(10), nullptr);
        EXPECT_TRUE(token.stop_requested());
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_TRUE(token.stop_possible());
    EXPECT_FALSE(asked_before);
}

TEST_F(DeliveryContextTest, AtMostOnceAHandlerIsAskedToStopWhenTheTimeOfTheShutdownIsOver) {
    options.at_most_once = true;
    bool early = true;
    bool late = false;
    const Subscription subscription = Subscribe([&](const Message&, DeliveryContext& context) {
        client.ShutdownAsync(seconds(10), nullptr);
        Advance(seconds(9));
        early = context.stop_token().stop_requested();
        Advance(seconds(2));
        late = context.stop_token().stop_requested();
    });
    Append(1);
    Settle();
    EXPECT_FALSE(early);
    EXPECT_TRUE(late);
}

/// One that a test makes by itself.
class OwnContextTest : public ::testing::Test {
protected:
    const Message message{"s"};
};

TEST_F(OwnContextTest, ItSaysWhatItWasMadeWith) {
    std::stop_source stop;
    const std::stop_token token = stop.get_token();
    const TimePoint deadline(hours(7));
    const DeliveryContext context(message,
                                  {.group = "g",
                                   .broker_group = "a",
                                   .sequence = 5,
                                   .deadline = deadline,
                                   .stop_token = &token});
    EXPECT_EQ(&context.message(), &message);
    EXPECT_EQ(context.group(), "g");
    EXPECT_EQ(context.broker_group(), "a");
    EXPECT_EQ(context.sequence(), 5U);
    EXPECT_EQ(context.attempt(), message.attempt());
    EXPECT_EQ(context.deadline(), deadline);
    EXPECT_FALSE(context.stop_token().stop_requested());
    stop.request_stop();
    EXPECT_TRUE(context.stop_token().stop_requested());
}

TEST_F(OwnContextTest, OfNothingButAMessageItIsEnoughToCallAFilter) {
    DeliveryContext context(message);
    EXPECT_FALSE(context.stop_token().stop_possible());
    EXPECT_EQ(context.deadline(), TimePoint::max());
    testing::ScriptFilter filter([](DeliveryContext& given, Filter::Next& next) {
        given.Put(std::string("put in"));
        return next();
    });
    Filter::Next next = [] { return HandlerOutcome::DeadLetter("bad"); };
    EXPECT_EQ(filter.Handle(context, next).error, "bad");
    ASSERT_NE(context.Find<std::string>(), nullptr);
    EXPECT_EQ(*context.Find<std::string>(), "put in");
}

TEST_F(OwnContextTest, AnotherValueOfATypeTakesThePlaceOfTheFirst) {
    DeliveryContext context(message);
    auto first = std::make_shared<std::string>("first");
    const std::weak_ptr<std::string> before = first;
    context.Put(7);
    context.Put(std::move(first));
    EXPECT_FALSE(before.expired());
    const Span& put = context.Put(std::make_shared<std::string>("second"));
    EXPECT_TRUE(before.expired());
    EXPECT_EQ(context.Find<Span>(), &put);
    EXPECT_EQ(**context.Find<Span>(), "second");
    EXPECT_EQ(*context.Find<int>(), 7);
    EXPECT_EQ(context.Find<long>(), nullptr);
}

}  // namespace
}  // namespace qmq
