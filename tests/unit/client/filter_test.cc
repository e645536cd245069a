// Filters: what they are told, what they hand on, and how they hear of the end.

#include "qmq/filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/unit/client/filter_fixture.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class FilterTest : public testing::FilterFixture {};

TEST_F(FilterTest, FiltersOfTheClientLieAroundThoseOfTheSubscription) {
    auto client_options = Options();
    client_options.client_id = "client-2";
    client_options.filters = {Around("1", &notes), Around("2", &notes)};
    Client other = MakeClient(std::move(client_options));
    options.filters = {Around("3", &notes)};
    auto made = other.Subscribe(options, Note("h"));
    Append(1);
    Settle();
    EXPECT_THAT(notes, ElementsAre("1(", "2(", "3(", "h", "3)", "2)", "1)", "3", "2", "1"));
}

TEST_F(FilterTest, AFilterMayAnswerInTheHandlersPlace) {
    Add([](auto&, auto&) { return HandlerOutcome::DeadLetter("not allowed"); });
    NoteEnds();
    Subscription subscription = Subscribe(Note("h"));
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(notes, IsEmpty());
    EXPECT_EQ(broker().dead_letters()[0].second, "not allowed");
    EXPECT_THAT(ends, ElementsAre("2 not allowed"));
}

TEST_F(FilterTest, AFilterMayAnswerInTheManualHandlersPlace) {
    Add([](auto&, auto&) { return HandlerOutcome::Ack(); });
    NoteEnds();
    Subscription subscription =
        Subscribe([this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(kept, IsEmpty());
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_THAT(ends, ElementsAre("0 "));
}

TEST_F(FilterTest, AFilterThatThrowsCountsAsTheHandler) {
    int tries = 0;
    Add([&](auto&, auto& next) {
        if (++tries == 1) {
            throw std::runtime_error("filter");
        }
        return next();
    });
    NoteEnds();
    Subscription subscription = Subscribe(Note("h"));
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(notes, SizeIs(1));
    EXPECT_THAT(ends, ElementsAre("1 filter", "0 "));
}

TEST_F(FilterTest, AFilterCannotRunTheHandlerTwice) {
    options.retry.max_attempts = 1;
    Add([&](auto&, auto& next) {
        (void)next();
        return next();
    });
    Subscription subscription = Subscribe(Note("h"));
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(notes, SizeIs(1));
    EXPECT_THAT(broker().dead_letters()[0].second, HasSubstr("twice"));
}

TEST_F(FilterTest, TheContextSaysWhatIsKnownOfADelivery) {
    options.max_processing_time = hours(2);
    std::vector<std::uint64_t> sequences;
    Subscription subscription = Subscribe([&](const Message& message, DeliveryContext& context) {
        EXPECT_EQ(&context.message(), &message);
        EXPECT_EQ(context.group(), "g");
        EXPECT_EQ(context.broker_group(), "a");
        EXPECT_EQ(context.attempt(), 1U);
        EXPECT_EQ(context.deadline(), time.clock.Now() + hours(2));
        EXPECT_FALSE(context.stop_token().stop_requested());
        sequences.push_back(context.sequence());
    });
    Append(3);
    Settle();
    EXPECT_THAT(sequences, ElementsAre(0, 1, 2));
}

TEST_F(FilterTest, AHandlerIsAskedToStopWhenItsSubscriptionCloses) {
    std::optional<std::stop_token> token;
    Subscription subscription = Subscribe([&](const Message&, DeliveryContext& context) {
        token = context.stop_token();
        (void)subscription.Close(milliseconds(0));
        return HandlerOutcome::Later(seconds(1), "closing");
    });
    EXPECT_FALSE(token.has_value());
    Append(1);
    Settle();
    ASSERT_TRUE(token.has_value());
    EXPECT_TRUE(token->stop_requested());
}

TEST_F(FilterTest, WhatAFilterPutsInTheHandlerFinds) {
    struct Span {
        std::unique_ptr<std::string> name;  // Cannot be copied.
    };
    Add([](DeliveryContext& context, Filter::Next& next) {
        EXPECT_EQ(context.Find<Span>(), nullptr);
        context.Put(Span{std::make_unique<std::string>("outer")});
        context.Put(7);
        return next();
    });
    Add([](DeliveryContext& context, Filter::Next& next) {
        context.Put(Span{std::make_unique<std::string>(*context.Find<Span>()->name + "+inner")});
        return next();
    });
    Add(nullptr, [this](DeliveryContext& context, const HandlerOutcome&) {
        ends.push_back(*context.Find<Span>()->name);
    });
    Subscription subscription = Subscribe([this](const Message&, DeliveryContext& context) {
        notes.push_back(*context.Find<Span>()->name);
        EXPECT_EQ(*context.Find<int>(), 7);
        EXPECT_EQ(context.Find<long>(), nullptr);
    });
    Append(1);
    Settle();
    EXPECT_THAT(notes, ElementsAre("outer+inner"));
    EXPECT_THAT(ends, ElementsAre("outer+inner"));
}

TEST_F(FilterTest, WhatWasPutInLastGoesFirst) {
    std::vector<std::string> gone;
    struct Noting {
        std::unique_ptr<std::string> name;
        std::vector<std::string>* gone;
        Noting(std::string text, std::vector<std::string>* to)
            : name(std::make_unique<std::string>(std::move(text))), gone(to) {}
        Noting(Noting&&) = default;
        ~Noting() {
            if (name != nullptr) {
                gone->push_back(*name);
            }
        }
    };
    struct First : Noting {
        using Noting::Noting;
    };
    struct Second : Noting {
        using Noting::Noting;
    };
    const Message message("s");
    {
        DeliveryContext context(message);
        context.Put(First("first", &gone));
        context.Put(Second("second", &gone));
    }
    EXPECT_THAT(gone, ElementsAre("second", "first"));
}

TEST_F(FilterTest, EachEndOfAHandlerIsTold) {
    options.retry.max_attempts = 100;
    NoteEnds();
    int calls = 0;
    Subscription subscription = Subscribe([&](const Message&) {
        switch (++calls) {
            case 1:
                throw std::runtime_error("broken");
            case 2:
                throw RetryLater("not yet");
            case 3:
                return HandlerOutcome::Later(milliseconds(5), "busy");
            case 4:
                return HandlerOutcome::Ack();
            default:
                return HandlerOutcome::DeadLetter("bad");
        }
    });
    Append(1);
    Advance(seconds(1));
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(ends, ElementsAre("1 broken", "1 not yet", "3 busy", "0 ", "2 bad"));
}

// A filter around a manual handler saw it return, and never how its message ended.
TEST_F(FilterTest, TheEndOfAManualDeliveryIsToldWhenItIsDecided) {
    NoteEnds();
    Subscription subscription =
        Subscribe([this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(5);
    Settle();
    ASSERT_THAT(kept, SizeIs(5));
    EXPECT_THAT(ends, IsEmpty());
    kept[0].Ack();
    kept[0].Nack("too late");
    kept[1].Nack("failed");
    kept[2].Reject("bad");
    kept[3].Later(seconds(1), "busy");
    EXPECT_THAT(ends, ElementsAre("0 ", "1 failed", "2 bad", "3 busy"));
    kept.pop_back();
    EXPECT_THAT(ends.back(), "1 forgotten");
    client.Shutdown(milliseconds(0));
    kept.clear();
}

// It waited for the delivery that it was told of, which is decided when it returns.
TEST_F(FilterTest, WhoIsToldOfAManualDeliveryMayClose) {
    Subscription subscription;
    Status closed = Status::Internal("not called");
    Add(nullptr, [&](DeliveryContext&, const HandlerOutcome&) {
        closed = subscription.Close(milliseconds::max());
    });
    subscription = Subscribe([this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(1);
    Settle();
    ASSERT_THAT(kept, SizeIs(1));
    kept[0].Ack();
    EXPECT_TRUE(closed.ok()) << closed;
    Advance(seconds(1));
    EXPECT_EQ(broker().subscriber_count(), 0U);
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(FilterTest, AManualHandlerThatThrowsIsToldOnce) {
    NoteEnds();
    options.retry.max_attempts = 1;
    Subscription subscription = Subscribe([](Delivery) { throw std::runtime_error("broken"); });
    Append(1);
    Settle();
    EXPECT_THAT(ends, ElementsAre("1 broken"));
}

TEST_F(FilterTest, AnOnSettledThatThrowsIsLoggedAndTheOthersAreTold) {
    NoteEnds();
    Add(nullptr, [](DeliveryContext&, const HandlerOutcome&) {
        throw std::runtime_error("metrics are away");
    });
    Subscription subscription = Subscribe(Note("h"));
    Append(1);
    Settle();
    EXPECT_THAT(ends, ElementsAre("0 "));
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_TRUE(Logged("metrics are away"));
}

TEST_F(FilterTest, AfterShutdownNoFilterIsTold) {
    NoteEnds();
    Subscription subscription =
        Subscribe([this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(1);
    Settle();
    client.Shutdown(milliseconds(0));
    kept.clear();
    EXPECT_THAT(ends, IsEmpty());
}

TEST_F(FilterTest, AFilterThatIsInsideDuringAShutdownBeginsNothingMore) {
    Add([this](auto&, auto& next) {
        (void)client.Shutdown(milliseconds(0));
        return next();
    });
    Add([this](auto&, auto& next) {
        notes.emplace_back("inner");
        return next();
    });
    NoteEnds();
    Subscription subscription = Subscribe(Note("h"));
    Append(1);
    Settle();
    EXPECT_THAT(notes, IsEmpty());
    EXPECT_THAT(ends, IsEmpty());
}

}  // namespace
}  // namespace qmq
