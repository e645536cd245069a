// What each decision about a delivery says to the broker, and what is told of it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/support/owned_coroutine.h"
#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/decisions.h"
#include "tests/unit/client/signal.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using testing::Meeting;
using testing::Owned;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

using Done = UniqueFunction<void(const Status&)>;

constexpr milliseconds kOdd{1'234'567};
constexpr milliseconds kSevenDays = hours(24 * 7);

/// A way to decide, and what the broker is to hear of it.
struct Way {
    const char* name;
    std::function<void(Delivery&, Done)> call;
    std::function<Awaitable<Status>(Delivery&)> call_async;
    AckVerdict verdict;
    std::optional<milliseconds> delay;
    std::string error;
};

Way RetryInWay(const char* name, milliseconds delay, std::optional<milliseconds> heard) {
    return {name,
            [delay](Delivery& one, Done done) { one.RetryIn(delay, "not yet", std::move(done)); },
            [delay](Delivery& one) { return one.RetryInAsync(delay, "not yet"); },
            AckVerdict::kRetry,
            heard,
            "not yet"};
}

const std::vector<Way>& Ways() {
    static const std::vector<Way> ways = {
        {"Ack",
         [](Delivery& one, Done done) { one.Ack(std::move(done)); },
         [](Delivery& one) { return one.AckAsync(); },
         AckVerdict::kAck,
         std::nullopt,
         ""},
        {"Nack",
         [](Delivery& one, Done done) { one.Nack("no stock", std::move(done)); },
         [](Delivery& one) { return one.NackAsync("no stock"); },
         AckVerdict::kRetry,
         std::nullopt,
         "no stock"},
        RetryInWay("RetryIn", kOdd, kOdd),
        RetryInWay("RetryInNoTime", milliseconds(0), milliseconds(0)),
        RetryInWay("RetryInSevenDays", kSevenDays, kSevenDays),
        RetryInWay("RetryInLessThanNoTime", milliseconds(-1), std::nullopt),
        {"Reject",
         [](Delivery& one, Done done) { one.Reject("no such order", std::move(done)); },
         [](Delivery& one) { return one.RejectAsync("no such order"); },
         AckVerdict::kDeadLetter,
         std::nullopt,
         "no such order"},
        {"Later",
         [](Delivery& one, Done done) { one.Later(milliseconds(0), "busy", std::move(done)); },
         [](Delivery& one) { return one.LaterAsync(milliseconds(0), "busy"); },
         AckVerdict::kRelease,
         std::nullopt,
         ""},
    };
    return ways;
}

class DecisionTest : public testing::ClientFixture {
protected:
    DecisionTest() : client(MakeClient()) {
        PullConsumerOptions options;
        options.subject = "s";
        options.group = "g";
        options.start = StartPosition::kEarliest;
        consumer = client.MakePullConsumer(options).value();
        Settle();
    }

    /// Pulls so many new messages. Nothing else comes, whatever becomes of them.
    void Take(std::uint32_t count) {
        Append(static_cast<int>(count));
        const Status begun = consumer.PullAsync(
            {count, seconds(1)},
            [this](Result<std::vector<Delivery>> batch) { taken = std::move(batch).value(); });
        ASSERT_TRUE(begun.ok()) << begun;
        Settle();
        ASSERT_THAT(taken, SizeIs(count));
    }
    static Owned Note(Awaitable<Status> answer, std::optional<Status>* told) {
        *told = co_await std::move(answer);
    }
    std::vector<AckItem> Heard() { return testing::DecisionsAt(broker()); }
    std::vector<AckItem> Retries() { return testing::DecisionsAt(broker(), AckVerdict::kRetry); }

    Client client;
    PullConsumer consumer;
    std::vector<Delivery> taken;
};

/// Each way to decide, with a callback and awaited.
class DecisionWayTest : public DecisionTest,
                        public ::testing::WithParamInterface<std::tuple<std::size_t, bool>> {
protected:
    static const Way& way() { return Ways()[std::get<0>(GetParam())]; }
    void Decide(Delivery& delivery) {
        if (std::get<1>(GetParam())) {
            waiting.emplace(Note(way().call_async(delivery), &told));
            return;
        }
        way().call(delivery, [this](const Status& status) {
            EXPECT_FALSE(told.has_value());
            told = status;
        });
    }
    StatusCode told_code() const { return told.has_value() ? told->code() : StatusCode::kInternal; }

    std::optional<Status> told;
    std::optional<Owned> waiting;
};

INSTANTIATE_TEST_SUITE_P(Ways,
                         DecisionWayTest,
                         ::testing::Combine(::testing::Range<std::size_t>(0, Ways().size()),
                                            ::testing::Bool()),
                         [](const auto& param) {
                             return Ways()[std::get<0>(param.param)].name +
                                    std::string(std::get<1>(param.param) ? "Async" : "");
                         });

TEST_P(DecisionWayTest, TheBrokerHearsItsVerdictItsDelayAndItsText) {
    Take(1);
    Decide(taken[0]);
    EXPECT_FALSE(told.has_value());
    Advance(milliseconds(10));
    const std::vector<AckItem> heard = Heard();
    ASSERT_THAT(heard, SizeIs(1));
    EXPECT_EQ(heard[0].verdict, way().verdict);
    EXPECT_EQ(heard[0].delay, way().delay);
    EXPECT_EQ(heard[0].error, way().error);
    EXPECT_EQ(told, Status::Ok());
}

TEST_P(DecisionWayTest, ItIsAnsweredByTheBrokerAndNotBefore) {
    Take(1);
    broker().SetHoldAcks(true);
    Decide(taken[0]);
    Advance(seconds(1));
    ASSERT_THAT(Heard(), SizeIs(1));
    EXPECT_FALSE(told.has_value());
    broker().SetHoldAcks(false);
    broker().Cut();
    Advance(seconds(10));
    EXPECT_EQ(told_code(), StatusCode::kUnavailable);
}

TEST_P(DecisionWayTest, WhenTheLeaseWasLostTheAnswerSaysSo) {
    Take(1);
    broker().EndLeases(0, 0);
    Decide(taken[0]);
    Advance(milliseconds(10));
    EXPECT_EQ(told_code(), StatusCode::kNotFound);
}

TEST_P(DecisionWayTest, AShutdownAnswersWhatTheBrokerHasNotAnswered) {
    Take(1);
    broker().SetHoldAcks(true);
    Decide(taken[0]);
    Advance(milliseconds(10));
    client.Shutdown(milliseconds(0));
    EXPECT_EQ(told_code(), StatusCode::kCancelled);
}

TEST_P(DecisionWayTest, AsTheSecondOneItIsToldSoAndTheBrokerIsNot) {
    Take(1);
    taken[0].Nack("the first");
    Decide(taken[0]);
    Advance(milliseconds(10));
    EXPECT_EQ(told_code(), StatusCode::kNotFound);
    const std::vector<AckItem> heard = Heard();
    ASSERT_THAT(heard, SizeIs(1));
    EXPECT_EQ(heard[0].error, "the first");
}

TEST_F(DecisionTest, ADecisionWhoseAnswerNobodyAwaitsIsMadeWhenItsCallReturns) {
    for (const Way& way : Ways()) {
        Take(1);
        (void)way.call_async(taken[0]);
        std::optional<Status> second;
        taken[0].Ack([&second](const Status& status) { second = status; });
        Advance(milliseconds(10));
        ASSERT_TRUE(second.has_value()) << way.name;
        EXPECT_EQ(second->code(), StatusCode::kNotFound) << way.name;
        EXPECT_EQ(Heard().back().verdict, way.verdict) << way.name;
    }
    EXPECT_THAT(Heard(), SizeIs(Ways().size()));
}

TEST_F(DecisionTest, AnAwaitedLaterIsAnsweredWhenItIsGivenBack) {
    Take(1);
    std::optional<Status> told;
    const Owned waits = Note(taken[0].LaterAsync(seconds(5), "busy"), &told);
    Advance(milliseconds(4'990));
    EXPECT_FALSE(told.has_value());
    EXPECT_THAT(Heard(), SizeIs(0));
    Advance(milliseconds(20));
    EXPECT_EQ(told, Status::Ok());
    ASSERT_THAT(Heard(), SizeIs(1));
    EXPECT_EQ(Heard()[0].verdict, AckVerdict::kRelease);
}

TEST_F(DecisionTest, ARetryInMoreThanSevenDaysIsANackAndTheAnswerSaysSo) {
    for (const milliseconds delay : {kSevenDays + milliseconds(1), milliseconds::max()}) {
        Take(2);
        std::optional<Status> called;
        std::optional<Status> awaited;
        taken[0].RetryIn(delay, "called", [&called](const Status& status) { called = status; });
        const Owned waits = Note(taken[1].RetryInAsync(delay, "awaited"), &awaited);
        Advance(milliseconds(10));
        for (const std::optional<Status>& told : {called, awaited}) {
            ASSERT_TRUE(told.has_value());
            EXPECT_EQ(told->code(), StatusCode::kInvalidArgument);
            EXPECT_THAT(std::string(told->message()), HasSubstr("7 days"));
        }
        const std::vector<AckItem> heard = Retries();
        ASSERT_GE(heard.size(), 2U);
        EXPECT_THAT(heard[heard.size() - 2].error, HasSubstr("called"));
        EXPECT_FALSE(heard[heard.size() - 2].delay.has_value());
        EXPECT_THAT(heard.back().error, HasSubstr("awaited"));
        EXPECT_FALSE(heard.back().delay.has_value());
    }
    EXPECT_THAT(Retries(), SizeIs(4));
}

/// A delay that a handler asks for, and the one that the broker hears: none is the group's
/// back-off.
struct Asked {
    milliseconds delay;
    std::optional<milliseconds> heard;
};
constexpr Asked kAsked[] = {
    {milliseconds(-1), std::nullopt},
    {milliseconds::min(), std::nullopt},
    {milliseconds(0), milliseconds(0)},
    {milliseconds(1), milliseconds(1)},
    {kOdd, kOdd},
    {kSevenDays, kSevenDays},
    {kSevenDays + milliseconds(1), std::nullopt},
    {milliseconds::max(), std::nullopt},
};

class AskedDelayTest : public DecisionTest {
protected:
    /// A handler that asks for each of them by `ask`, in its first attempt.
    void Expect(const std::function<HandlerOutcome(milliseconds)>& ask) {
        milliseconds delay{};
        const Subscription subscription =
            MakeSubscription(client, Consumer("handled"), [&](const Message& message) {
                return message.attempt() == 1 ? ask(delay) : HandlerOutcome::Ack();
            });
        for (const Asked& asked : kAsked) {
            const std::size_t before = Retries().size();
            delay = asked.delay;
            Append(1, "handled");
            Advance(seconds(1));
            const std::vector<AckItem> heard = Retries();
            ASSERT_THAT(heard, SizeIs(before + 1)) << asked.delay.count();
            EXPECT_EQ(heard.back().delay, asked.heard) << asked.delay.count();
            EXPECT_THAT(heard.back().error, HasSubstr("locked"));
        }
    }
};

TEST_F(AskedDelayTest, AThrownRetryLaterReachesTheBrokerToTheMillisecond) {
    Expect([](milliseconds delay) -> HandlerOutcome { throw RetryLater(delay, "locked"); });
}

TEST_F(AskedDelayTest, SoDoesAnOutcomeThatIsReturned) {
    Expect([](milliseconds delay) { return HandlerOutcome::Retry(delay, "locked"); });
}

TEST_F(AskedDelayTest, WithoutADelayTheGroupsBackoffCounts) {
    int calls = 0;
    const Subscription subscription =
        MakeSubscription(client, Consumer("handled"), [&](const Message&) {
            switch (++calls) {
                case 1:
                    throw RetryLater("thrown");
                case 2:
                    return HandlerOutcome::Retry("returned");
                default:
                    return HandlerOutcome::Ack();
            }
        });
    Append(1, "handled");
    Advance(seconds(1));
    const std::vector<AckItem> heard = Retries();
    ASSERT_THAT(heard, SizeIs(2));
    EXPECT_FALSE(heard[0].delay.has_value());
    EXPECT_EQ(heard[0].error, "thrown");
    EXPECT_FALSE(heard[1].delay.has_value());
    EXPECT_EQ(heard[1].error, "returned");
}

TEST_F(DecisionTest, OfTwoThreadsThatDecideOneCounts) {
    constexpr std::uint32_t kCount = 500;
    Take(kCount);
    std::vector<std::vector<StatusCode>> told(kCount);
    std::uint64_t acked = 0;
    std::uint64_t failed = 0;
    Meeting meeting;
    std::thread other([&] {
        for (std::size_t i = 0; i < kCount; ++i) {
            meeting.Arrive();
            taken[i].Nack("no", [&, i](const Status& status) {
                told[i].push_back(status.code());
                failed += status.ok() ? 1U : 0U;
            });
        }
    });
    for (std::size_t i = 0; i < kCount; ++i) {
        meeting.Arrive();
        taken[i].Ack([&, i](const Status& status) {
            told[i].push_back(status.code());
            acked += status.ok() ? 1U : 0U;
        });
    }
    other.join();
    Advance(seconds(1));
    for (const std::vector<StatusCode>& codes : told) {
        EXPECT_THAT(codes, UnorderedElementsAre(StatusCode::kOk, StatusCode::kNotFound));
    }
    EXPECT_EQ(acked + failed, kCount);
    EXPECT_EQ(broker().acked_count(), acked);
    EXPECT_EQ(testing::MessagesIn(Retries()), failed);
}

}  // namespace
}  // namespace qmq
