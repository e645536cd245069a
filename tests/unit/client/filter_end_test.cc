// What filters make of a handler that throws, and when and where they hear how a delivery ended.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/unit/client/decisions.h"
#include "tests/unit/client/filter_fixture.h"
#include "tests/unit/client/signal.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::_;
using testing::DecisionsAt;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Meeting;
using testing::MessagesIn;
using ::testing::Pair;
using ::testing::SizeIs;

class FilterEndTest : public testing::FilterFixture {
protected:
    /// A filter that answers in this way when the handler throws.
    void AddCatching(std::function<HandlerOutcome(const std::exception&)> answer) {
        Add([answer = std::move(answer)](DeliveryContext&, Filter::Next& next) {
            try {
                return next();
            } catch (const std::exception& error) {
                return answer(error);
            }
        });
    }
    Subscription SubscribeThrowing() {
        return Subscribe([this](const Message& message) {
            if (message.attempt() == 1) {
                throw std::runtime_error("no such order");
            }
            notes.push_back("again");
        });
    }
    Subscription Keep() {
        return Subscribe([this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    }
};

TEST_F(FilterEndTest, WhatAFilterMakesOfAnExceptionCounts) {
    NoteEnds();
    AddCatching([](const std::exception& error) {
        return HandlerOutcome::DeadLetter(std::string("refused: ") + error.what());
    });
    const Subscription subscription = SubscribeThrowing();
    Append(1);
    Advance(seconds(1));
    ASSERT_THAT(broker().dead_letters(), SizeIs(1));
    EXPECT_EQ(broker().dead_letters()[0].second, "refused: no such order");
    EXPECT_THAT(ends, ElementsAre("2 refused: no such order"));
    EXPECT_THAT(notes, SizeIs(0));
    EXPECT_FALSE(Logged("the handler threw"));
}

TEST_F(FilterEndTest, AFilterMayAckWhatFailed) {
    NoteEnds();
    AddCatching([](const std::exception&) { return HandlerOutcome::Ack(); });
    const Subscription subscription = SubscribeThrowing();
    Append(1);
    Advance(seconds(1));
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_THAT(ends, ElementsAre("0 "));
    EXPECT_EQ(subscription.stats().failed_count, 0U);
}

TEST_F(FilterEndTest, AFilterMayNameTheDelayOfARetry) {
    AddCatching([](const std::exception& error) {
        return HandlerOutcome::Retry(milliseconds(4'321), error.what());
    });
    const Subscription subscription = SubscribeThrowing();
    Append(1);
    Advance(seconds(1));
    const std::vector<AckItem> retries = DecisionsAt(broker(), AckVerdict::kRetry);
    ASSERT_THAT(retries, SizeIs(1));
    EXPECT_EQ(retries[0].delay, milliseconds(4'321));
    EXPECT_EQ(retries[0].error, "no such order");
    EXPECT_THAT(notes, ElementsAre("again"));
}

TEST_F(FilterEndTest, AFilterMayThrowSomethingElse) {
    NoteEnds();
    AddCatching([](const std::exception& error) -> HandlerOutcome {
        throw Reject(std::string("for good: ") + error.what());
    });
    const Subscription subscription = SubscribeThrowing();
    Append(1);
    Advance(seconds(1));
    ASSERT_THAT(broker().dead_letters(), SizeIs(1));
    EXPECT_EQ(broker().dead_letters()[0].second, "for good: no such order");
    EXPECT_THAT(ends, ElementsAre("2 for good: no such order"));
}

TEST_F(FilterEndTest, WhatAHandlerThrowsPassesThroughEachFilterAsItIs) {
    NoteEnds();
    const auto note = [this](DeliveryContext&, Filter::Next& next) {
        try {
            return next();
        } catch (const RetryLater& retry) {
            notes.push_back("RetryLater in " + std::to_string(retry.delay().count()));
            throw;
        } catch (const Later& later) {
            notes.push_back("Later in " + std::to_string(later.delay().count()));
            throw;
        } catch (const Reject& reject) {
            notes.push_back(std::string("Reject ") + reject.what());
            throw;
        } catch (int number) {
            notes.push_back("int " + std::to_string(number));
            throw;
        }
    };
    Add(note);
    Add(note);
    std::set<std::string> seen;
    const Subscription subscription = Subscribe([&](const Message& message) {
        if (!seen.insert(Body(message)).second) {
            return;
        }
        switch (seen.size()) {
            case 1:
                throw RetryLater(milliseconds(5), "locked");
            case 2:
                throw Later(milliseconds(6), "busy");
            case 3:
                throw Reject("bad");
            default:
                throw 42;
        }
    });
    for (int i = 0; i < 4; ++i) {
        Append(1);
        Advance(seconds(1));
    }
    EXPECT_THAT(notes,
                ElementsAre("RetryLater in 5",
                            "RetryLater in 5",
                            "Later in 6",
                            "Later in 6",
                            "Reject bad",
                            "Reject bad",
                            "int 42",
                            "int 42"));
    EXPECT_THAT(
        ends,
        ElementsAre(
            "1 locked", "0 ", "3 busy", "0 ", "2 bad", HasSubstr("no std::exception"), "0 "));
}

// The delivery was destroyed without a decision, and nobody knows any more what for.
TEST_F(FilterEndTest, ADeliveryLostInAnExceptionThatAFilterCaughtIsRetriedAtOnce) {
    NoteEnds();
    AddCatching([](const std::exception&) { return HandlerOutcome::Ack(); });
    const Subscription subscription = Subscribe([](Delivery delivery) {
        if (delivery.message().attempt() == 1) {
            throw std::runtime_error("no such order");
        }
        delivery.Ack();
    });
    Append(1);
    Advance(seconds(1));
    const std::vector<AckItem> retries = DecisionsAt(broker(), AckVerdict::kRetry);
    ASSERT_THAT(retries, SizeIs(1));
    EXPECT_EQ(retries[0].delay, milliseconds(0));
    EXPECT_THAT(ends, ElementsAre("1 forgotten", "0 "));
    EXPECT_EQ(broker().acked_count(), 1U);
}

// It was counted as a failure of the handler, which was not called, and not among the losses.
TEST_F(FilterEndTest, AtMostOnceWhatNoHandlerGotSinceTheClientStoppedHasNotFailed) {
    options.at_most_once = true;
    Add([this](DeliveryContext&, Filter::Next& next) {
        client.Shutdown(milliseconds(0));
        return next();
    });
    const Subscription subscription = Subscribe(Note("handled"));
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(notes, SizeIs(0));
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_EQ(subscription.stats().failed_count, 0U);
}

TEST_F(FilterEndTest, FiltersHearOfTheEndBeforeTheBroker) {
    std::vector<std::uint64_t> heard;
    Add(nullptr, [&](DeliveryContext&, const HandlerOutcome&) {
        Advance(seconds(1));  // Whatever is on its way to the broker arrives.
        heard.push_back(MessagesIn(DecisionsAt(broker())));
    });
    int calls = 0;
    const Subscription subscription = Subscribe([&](const Message&) {
        switch (++calls) {
            case 2:
                throw std::runtime_error("broken");
            case 4:
                return HandlerOutcome::Later(milliseconds(5), "busy");
            case 6:
                return HandlerOutcome::DeadLetter("bad");
            default:
                return HandlerOutcome::Ack();
        }
    });
    for (int i = 0; i < 4; ++i) {
        Append(1);
        Advance(seconds(10));
    }
    EXPECT_EQ(calls, 6);
    EXPECT_THAT(heard, ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST_F(FilterEndTest, TheEndOfAManualDeliveryIsToldWhereItIsDecidedBeforeTheBrokerHears) {
    std::vector<std::thread::id> told_on;
    std::vector<std::uint64_t> heard;
    Add(nullptr, [&](DeliveryContext&, const HandlerOutcome&) {
        told_on.push_back(std::this_thread::get_id());
        Advance(seconds(1));
        heard.push_back(MessagesIn(DecisionsAt(broker())));
    });
    const Subscription subscription = Keep();
    const std::vector<std::function<void(Delivery)>> decisions = {
        [](Delivery one) { one.Ack(); },
        [](Delivery one) { one.Reject("bad"); },
        [](Delivery one) { one.Nack("failed"); },
        [](Delivery one) { one.RetryIn(seconds(9), "not yet"); },
        [](const Delivery&) {},  // Forgotten.
        [](Delivery one) { one.Later(milliseconds(5), "busy"); },
    };
    std::vector<std::thread::id> decided_on;
    for (const auto& decide : decisions) {
        Append(1);
        Settle();
        Delivery one = std::move(kept.back());
        kept.pop_back();
        std::thread worker([&] {
            decided_on.push_back(std::this_thread::get_id());
            decide(std::move(one));
        });
        worker.join();
    }
    EXPECT_EQ(told_on, decided_on);
    EXPECT_THAT(heard, ElementsAre(0, 1, 2, 3, 4, 5));
    client.Shutdown(milliseconds(0));
    kept.clear();
}

TEST_F(FilterEndTest, WhatIsDecidedInItsHandlerIsToldBeforeHandleReturnsTheInnermostFirst) {
    options.filters = {Around("1", &notes), Around("2", &notes)};
    const Subscription subscription = Subscribe([this](Delivery delivery) {
        notes.push_back("h");
        delivery.Ack();
        notes.push_back("acked");
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(notes, ElementsAre("1(", "2(", "h", "2", "1", "acked", "2)", "1)"));
}

TEST_F(FilterEndTest, OfAManualHandlerNextSaysAckWhenItHasReturned) {
    std::vector<HandlerOutcome::Kind> said;
    Add([&said](DeliveryContext&, Filter::Next& next) {
        HandlerOutcome outcome = next();
        said.push_back(outcome.kind);
        return outcome;
    });
    NoteEnds();
    Subscription subscription = Keep();
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(said, ElementsAre(HandlerOutcome::Kind::kAck));
    EXPECT_THAT(ends, ::testing::IsEmpty());
    ASSERT_THAT(kept, SizeIs(1));
    kept.front().Nack("no such order");
    EXPECT_THAT(ends, ElementsAre("1 no such order"));
}

TEST_F(FilterEndTest, AFilterToWhichAnOuterOneDidNotLetItComeHearsOfTheEnd) {
    Add([](DeliveryContext&, Filter::Next&) { return HandlerOutcome::Ack(); });
    bool reached = false;
    Add(
        [&reached](DeliveryContext&, Filter::Next& next) {
            reached = true;
            return next();
        },
        [this](DeliveryContext&, const HandlerOutcome&) { ends.push_back("inner"); });
    Subscription subscription = Subscribe(Note("handled"));
    Append(1);
    Advance(seconds(1));
    EXPECT_FALSE(reached);
    EXPECT_THAT(notes, ::testing::IsEmpty());
    EXPECT_THAT(ends, ElementsAre("inner"));
}

TEST_F(FilterEndTest, OfTwoThreadsThatDecideFiltersHearOnce) {
    constexpr std::size_t kCount = 200;
    options.prefetch_count = kCount;
    std::mutex mutex;
    std::map<std::string, int> told;
    Add(nullptr, [&](DeliveryContext& context, const HandlerOutcome&) {
        const std::lock_guard lock(mutex);
        ++told[Body(context.message())];
    });
    const Subscription subscription = Keep();
    Append(static_cast<int>(kCount));
    Settle();
    ASSERT_THAT(kept, SizeIs(kCount));
    Meeting meeting;
    std::thread other([&] {
        for (Delivery& delivery : kept) {
            meeting.Arrive();
            delivery.Nack("no");
        }
    });
    for (Delivery& delivery : kept) {
        meeting.Arrive();
        delivery.Ack();
    }
    other.join();
    EXPECT_THAT(told, SizeIs(kCount));
    EXPECT_THAT(told, Each(Pair(_, 1)));
    Advance(seconds(1));
    EXPECT_EQ(MessagesIn(DecisionsAt(broker())), kCount);
    client.Shutdown(milliseconds(0));
    kept.clear();
}

}  // namespace
}  // namespace qmq
