// How long a send takes at most, and how long its batch waits between attempts.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using std::chrono::duration;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::IdsOf;
using testing::ReceiptOf;
using testing::Refuse;
using ::testing::SizeIs;

class SendTimeTest : public testing::ClientFixture {
protected:
    SendTimeTest() : client(MakeClient()) {}

    Producer WithTimeout(milliseconds timeout) {
        ProducerOptions options;
        options.timeout = timeout;
        return MakeProducer(client, options);
    }

    Client client;
};

TEST_F(SendTimeTest, TheTimeoutOfTheProducerIsTheDeadlineOfEachSendWithoutOne) {
    broker().SetConnectable(false);
    for (const milliseconds timeout : {milliseconds(1'500), milliseconds(90'000)}) {
        SCOPED_TRACE(timeout.count());
        Producer producer = WithTimeout(timeout);
        int called = 0;
        const auto count = [&called](const SendReceipt&) { ++called; };
        const SendFuture sent = producer.Send(Message("s"));
        const SendFuture tried = producer.TrySend(Message("s"));
        EXPECT_TRUE(producer.Send(Message("s"), count).ok());
        EXPECT_TRUE(producer.TrySend(Message("s"), count).ok());
        Advance(timeout - milliseconds(1));
        EXPECT_FALSE(sent.ready());
        EXPECT_FALSE(tried.ready());
        EXPECT_EQ(called, 0);
        Advance(milliseconds(1));
        EXPECT_EQ(ReceiptOf(sent).outcome, SendOutcome::kRefused);
        EXPECT_EQ(ReceiptOf(tried).outcome, SendOutcome::kRefused);
        EXPECT_EQ(called, 2);
    }
}

TEST_F(SendTimeTest, TheTimeoutOfTheProducerEndsTheWaitForAnAnswerThatDoesNotCome) {
    Producer producer = WithTimeout(milliseconds(1'500));
    broker().SetHoldSends(true);
    const SendFuture sent = producer.Send(Message("s"));
    Advance(milliseconds(1'499));
    EXPECT_EQ(broker().held_frame_count(), 1U);
    EXPECT_FALSE(sent.ready());
    Advance(milliseconds(1));
    EXPECT_EQ(ReceiptOf(sent).status.code(), StatusCode::kDeadlineExceeded);
}

TEST_F(SendTimeTest, TheTimeoutOfTheProducerIncludesRetries) {
    Producer producer = WithTimeout(milliseconds(1'500));
    broker().SetSendHook(
        [](const SendBatch&) { return Refuse(Status::ResourceExhausted("busy")); });
    const SendFuture sent = producer.Send(Message("s"));
    Advance(milliseconds(1'500));
    EXPECT_EQ(ReceiptOf(sent).status.code(), StatusCode::kResourceExhausted);
    EXPECT_GT(ReceiptOf(sent).attempts, 2U);
}

// A batch has one deadline, its first message's, and all that had joined it were answered then.
TEST_F(SendTimeTest, AShortDeadlineEndsNoOtherOneEarly) {
    broker().SetConnectable(false);
    ProducerOptions options;
    options.linger = seconds(1);
    for (const ProducerOptions& of_producer : {ProducerOptions{}, options}) {
        Producer producer = MakeProducer(client, of_producer);
        const SendFuture brief = producer.Send(Message("s"), milliseconds(1));
        const SendFuture longer = producer.Send(Message("s"), milliseconds(200));
        Advance(milliseconds(1));
        EXPECT_TRUE(brief.ready());
        EXPECT_FALSE(longer.ready()) << longer.Get();
        Advance(milliseconds(197));  // Who has 200 ms may be answered a hundredth of it early.
        EXPECT_FALSE(longer.ready());
        Advance(milliseconds(2));
        EXPECT_TRUE(longer.ready());
    }
}

class SendPausesTest : public SendTimeTest {
protected:
    static constexpr std::size_t kMessages = 300;
    static constexpr std::size_t kPauses = 9;

    /// Sends messages that are each refused as busy, again and again, and then stored.
    void SendToABusyBroker(ProducerOptions options) {
        options.max_batch_count = 1;  // Each pauses on its own.
        options.timeout = hours(1);
        broker().SetSendHook([this](const SendBatch& batch) -> std::optional<BatchReceipt> {
            std::vector<TimePoint>& times = attempts[IdsOf(batch).front()];
            times.push_back(time.clock.Now());
            if (times.size() <= kPauses) {
                return Refuse(Status::ResourceExhausted("busy"));
            }
            return std::nullopt;
        });
        Producer producer = MakeProducer(client, options);
        for (std::size_t i = 0; i < kMessages; ++i) {
            producer.Send(Message("s")).Detach();
        }
        Advance(minutes(1));
        EXPECT_THAT(broker().stored(), SizeIs(kMessages));
        EXPECT_THAT(attempts, SizeIs(kMessages));
    }
    /// Full jitter: anything from nothing to the exponential, each as likely.
    void ExpectFullJitter(milliseconds initial, milliseconds most) {
        for (std::size_t pause = 0; pause < kPauses; ++pause) {
            const milliseconds longest = std::min(initial * (1 << pause), most);
            SCOPED_TRACE("pause " + std::to_string(pause) + " of at most " +
                         std::to_string(longest.count()) + " ms");
            duration<double> sum{0};
            duration<double> least{longest};
            duration<double> greatest{0};
            for (const auto& [id, times] : attempts) {
                ASSERT_THAT(times, SizeIs(kPauses + 1)) << id;
                const duration<double> waited = times[pause + 1] - times[pause];
                sum += waited;
                least = std::min(least, waited);
                greatest = std::max(greatest, waited);
            }
            EXPECT_LE(greatest, duration<double>(longest));
            EXPECT_GT(least, duration<double>(0));
            EXPECT_NEAR(sum / duration<double>(longest) / kMessages, 0.5, 0.1);
            EXPECT_LT(least, duration<double>(longest) / 10);
            EXPECT_GT(greatest, duration<double>(longest) * 9 / 10);
        }
    }

    /// When each message came to the broker, by its id.
    std::map<std::string, std::vector<TimePoint>> attempts;
};

TEST_F(SendPausesTest, PausesFollowTheBackoffsOfTheProducerWithFullJitter) {
    ProducerOptions options;
    options.initial_backoff = milliseconds(100);
    options.max_backoff = milliseconds(1'600);
    SendToABusyBroker(options);
    ExpectFullJitter(milliseconds(100), milliseconds(1'600));
}

TEST_F(SendPausesTest, WithoutAWordOfTheApplicationPausesGrowFrom20MsTo2S) {
    SendToABusyBroker({});
    ExpectFullJitter(milliseconds(20), milliseconds(2'000));
}

TEST_F(SendTimeTest,
       ABusyBrokerRefusesOnceNoFurtherAttemptWouldBeginInTimeAndNotLaterThanAtTheDeadline) {
    ProducerOptions options;
    options.timeout = milliseconds(1'500);
    options.initial_backoff = minutes(1);
    options.max_backoff = minutes(1);
    options.max_batch_count = 1;
    Producer producer = MakeProducer(client, options);
    broker().SetSendHook(
        [](const SendBatch&) { return Refuse(Status::ResourceExhausted("busy")); });
    std::vector<SendFuture> sent;
    for (int i = 0; i < 20; ++i) {
        sent.push_back(producer.Send(Message("s")));
    }
    Settle();
    EXPECT_GT(
        std::count_if(sent.begin(), sent.end(), [](const SendFuture& one) { return one.ready(); }),
        0);
    Advance(milliseconds(1'500));
    for (const SendFuture& one : sent) {
        ASSERT_TRUE(one.ready());
        EXPECT_EQ(one.Get().status.code(), StatusCode::kResourceExhausted);
    }
}

}  // namespace
}  // namespace qmq
