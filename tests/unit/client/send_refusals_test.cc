// What is not taken: each refusal, in each of the six forms of a send.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::ReceiptOf;

enum class Form : std::uint8_t {
    kFuture,
    kFutureWithTimeout,
    kCallback,
    kCallbackWithTimeout,
    kTryFuture,
    kTryCallback
};

std::string NameOf(Form form) {
    switch (form) {
        case Form::kFuture:
            return "Future";
        case Form::kFutureWithTimeout:
            return "FutureWithTimeout";
        case Form::kCallback:
            return "Callback";
        case Form::kCallbackWithTimeout:
            return "CallbackWithTimeout";
        case Form::kTryFuture:
            return "TryFuture";
        case Form::kTryCallback:
            return "TryCallback";
    }
    return {};
}

bool IsSame(const Property& a, const Property& b) {
    return a.name == b.name && a.kind == b.kind && a.text == b.text;
}

void ExpectSame(const Message& message, const Message& before) {
    EXPECT_EQ(message.subject(), before.subject());
    EXPECT_EQ(message.id(), before.id());
    EXPECT_EQ(message.body(), before.body());
    EXPECT_EQ(message.tags(), before.tags());
    EXPECT_EQ(message.ordering_key(), before.ordering_key());
    EXPECT_EQ(message.deliver_at(), before.deliver_at());
    EXPECT_EQ(message.created_time(), before.created_time());
    EXPECT_EQ(message.Validate(), before.Validate());
    const std::vector<Property> now = message.properties();
    const std::vector<Property> then = before.properties();
    EXPECT_TRUE(std::equal(now.begin(), now.end(), then.begin(), then.end(), IsSame));
}

class SendRefusalTest : public testing::ClientFixture, public ::testing::WithParamInterface<Form> {
protected:
    static bool is_try() {
        return GetParam() == Form::kTryFuture || GetParam() == Form::kTryCallback;
    }
    /// `TrySend` is refused at once also where other forms would wait for room.
    static ProducerOptions OptionsOfForm() {
        ProducerOptions options;
        options.when_full = is_try() ? WhenFull::kBlock : WhenFull::kFail;
        options.timeout = hours(1);
        return options;
    }
    /// A producer that knows the route of "s".
    Producer Ready(const ProducerOptions& options = OptionsOfForm()) {
        Producer producer = MakeProducer(client, options);
        const SendFuture first = producer.Send(Message("s"));
        Settle();
        EXPECT_TRUE(ReceiptOf(first).ok());
        return producer;
    }
    /// With something of everything that a message can have.
    static Message Full() {
        Message message("s");
        message.SetId("mine").SetBody("body").SetOrderingKey("k").AddTag("t").Set("n", 7);
        message.SetCreatedTime(WallTime(hours(1)));
        return message;
    }
    /// The form under test refuses `message` at once, leaves it alone and calls nobody.
    void ExpectRefused(Producer& producer,
                       Message message,
                       StatusCode code,
                       milliseconds timeout = seconds(30)) {
        const Message before = message;
        const std::size_t stored = broker().stored().size();
        const std::uint64_t refused = producer.stats().refused_count;
        switch (GetParam()) {
            case Form::kFuture:
                ExpectRefusal(producer.Send(before), before, code);
                break;
            case Form::kFutureWithTimeout:
                ExpectRefusal(producer.Send(before, timeout), before, code);
                break;
            case Form::kTryFuture:
                ExpectRefusal(producer.TrySend(before), before, code);
                break;
            case Form::kCallback:
                EXPECT_EQ(producer.Send(std::move(message), Count()).code(), code);
                break;
            case Form::kCallbackWithTimeout:
                EXPECT_EQ(producer.Send(std::move(message), timeout, Count()).code(), code);
                break;
            case Form::kTryCallback:
                EXPECT_EQ(producer.TrySend(std::move(message), Count()).code(), code);
                break;
        }
        ExpectSame(message, before);  // NOLINT(bugprone-use-after-move): not taken.
        Advance(minutes(2));
        EXPECT_EQ(called, 0);
        EXPECT_EQ(broker().stored().size(), stored);
        EXPECT_EQ(producer.stats().refused_count, refused + 1);
    }

    Client client = MakeClient();

private:
    SendCallback Count() {
        return [this](const SendReceipt&) { ++called; };
    }
    static void ExpectRefusal(const SendFuture& future, const Message& message, StatusCode code) {
        ASSERT_TRUE(future.ready());
        const SendReceipt receipt = future.Get();
        EXPECT_EQ(receipt.outcome, SendOutcome::kRefused);
        EXPECT_EQ(receipt.status.code(), code) << receipt.status;
        EXPECT_EQ(receipt.message_id, message.id());
        EXPECT_EQ(receipt.attempts, 0U);
    }

    int called = 0;
};

std::string NameOfParam(const ::testing::TestParamInfo<Form>& param) {
    return NameOf(param.param);
}

INSTANTIATE_TEST_SUITE_P(Form,
                         SendRefusalTest,
                         ::testing::Values(Form::kFuture,
                                           Form::kFutureWithTimeout,
                                           Form::kCallback,
                                           Form::kCallbackWithTimeout,
                                           Form::kTryFuture,
                                           Form::kTryCallback),
                         NameOfParam);

TEST_P(SendRefusalTest, AMessageThatIsInvalidIsNotTaken) {
    Producer producer = Ready();
    std::vector<Message> invalid{Message(), Message("a/b"), Full(), Full(), Full(), Full()};
    invalid[2].SetOrderingKey("");
    invalid[3].AddTag("");
    invalid[4].Set("", 1);
    invalid[5].SetDelay(milliseconds(-1), time.clock);
    for (const Message& message : invalid) {
        SCOPED_TRACE(message.Validate().ToString());
        ExpectRefused(producer, message, StatusCode::kInvalidArgument);
    }
}

TEST_P(SendRefusalTest, AMessageLargerThanTheBrokersOfItsSubjectTakeIsNotTaken) {
    cluster.SetLimits("a", {.max_batch_bytes = 100'000});
    Producer producer = Ready();
    ExpectRefused(
        producer, Full().SetBody(std::string(100'000, 'x')), StatusCode::kInvalidArgument);
}

TEST_P(SendRefusalTest, WithoutAWordOfTheBrokersAMessageOf4MiBIsNotTaken) {
    Producer producer = Ready();
    ExpectRefused(
        producer, Full().SetBody(std::string(4U << 20, 'x')), StatusCode::kInvalidArgument);
}

TEST_P(SendRefusalTest, AMessageBeyondThoseThatMayBePendingIsNotTaken) {
    ProducerOptions options = OptionsOfForm();
    options.max_pending_count = 1;
    Producer producer = Ready(options);
    broker().SetHoldSends(true);
    const SendFuture pending = producer.Send(Message("s"), hours(1));
    ExpectRefused(producer, Full(), StatusCode::kResourceExhausted);
    EXPECT_FALSE(pending.ready());
}

TEST_P(SendRefusalTest, AMessageBeyondTheBytesThatMayBePendingIsNotTaken) {
    ProducerOptions options = OptionsOfForm();
    options.max_pending_bytes = 64U << 10;
    Producer producer = Ready(options);
    broker().SetHoldSends(true);
    const SendFuture pending =
        producer.Send(Message("s").SetBody(std::string(60U << 10, 'x')), hours(1));
    ExpectRefused(
        producer, Full().SetBody(std::string(10U << 10, 'x')), StatusCode::kResourceExhausted);
    EXPECT_FALSE(pending.ready());
}

TEST_P(SendRefusalTest, AfterAShutdownNothingIsTaken) {
    Producer producer = Ready();
    EXPECT_TRUE(client.Shutdown(milliseconds(0)).drained);
    ExpectRefused(producer, Full(), StatusCode::kCancelled);
}

TEST_P(SendRefusalTest, AMessageWithADelayIsNotTaken) {
    Producer producer = Ready();
    for (const milliseconds delay : {milliseconds(500), milliseconds(hours(24))}) {
        ExpectRefused(producer, Full().SetDelay(delay, time.clock), StatusCode::kUnimplemented);
    }
}

/// The forms that are given a timeout.
class SendTimeoutRefusalTest : public SendRefusalTest {};

INSTANTIATE_TEST_SUITE_P(Form,
                         SendTimeoutRefusalTest,
                         ::testing::Values(Form::kFutureWithTimeout, Form::kCallbackWithTimeout),
                         NameOfParam);

TEST_P(SendTimeoutRefusalTest, ATimeoutOutOfRangeIsRefused) {
    Producer producer = Ready();
    for (const milliseconds timeout : {milliseconds(0),
                                       milliseconds(-1),
                                       milliseconds::min(),
                                       milliseconds(hours(1)) + milliseconds(1),
                                       milliseconds::max()}) {
        SCOPED_TRACE(timeout.count());
        ExpectRefused(producer, Full(), StatusCode::kInvalidArgument, timeout);
    }
}

}  // namespace
}  // namespace qmq
