// What the circuit breaker counts.

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

using testing::ReceiptOf;
using testing::Refuse;

class SendBreakerTest : public testing::ClientFixture {
protected:
    SendBreakerTest() : client(MakeClient()) {}
    Client client;
};

// One shard of the broker has stopped, and refuses one batch of each frame: all frames counted as
// not answered, and the other subjects' sends were kept back.
TEST_F(SendBreakerTest, AFrameOfWhichOneBatchIsRefusedIsAnAnswer) {
    broker().SetSendHook([](const SendBatch& batch) {
        return batch.subject == "bad"
                   ? std::optional(Refuse(Status::Unavailable("shard 1 has stopped writing")))
                   : std::nullopt;
    });
    ProducerOptions options;
    options.max_in_flight_frames = 1;
    options.initial_backoff = milliseconds(60'000);  // So that no frame has only the bad one.
    options.max_backoff = milliseconds(60'000);
    Producer producer = MakeProducer(client, options);
    std::vector<std::string> subjects = {"bad"};
    for (int i = 0; i < 9; ++i) {
        subjects.push_back("good" + std::to_string(i));
    }
    for (const std::string& subject : subjects) {
        producer.Send(Message(subject)).Detach();
    }
    Settle();
    broker().SetHoldSends(true);
    for (int round = 0; round < 15; ++round) {
        producer.Send(Message("good0")).Detach();  // A frame of its own.
        for (const std::string& subject : subjects) {
            producer.Send(Message(subject)).Detach();  // One frame of ten.
        }
        while (broker().AnswerHeld()) {
            Settle();
        }
    }
    broker().SetHoldSends(false);
    EXPECT_FALSE(Logged("giving it a rest"));
    const SendFuture good = producer.Send(Message("good1"), seconds(1));
    Advance(milliseconds(1'100));
    EXPECT_TRUE(ReceiptOf(good).ok()) << ReceiptOf(good);
}

// Three frames were counted as 25, which is enough for a rest.
TEST_F(SendBreakerTest, AFrameThatIsNotAnsweredCountsOnce) {
    Producer producer = MakeProducer(client);
    const auto subject = [](int number) { return "s" + std::to_string(number); };
    for (int i = 0; i < 25; ++i) {
        producer.Send(Message(subject(i))).Detach();
    }
    Settle();
    Advance(seconds(15));  // Those answers are old.
    broker().SetHoldSends(true);
    const std::size_t before = broker().frame_count();
    for (int i = 0; i < 25; ++i) {
        producer.Send(Message(subject(i)), seconds(1)).Detach();
    }
    Advance(milliseconds(10));
    ASSERT_LT(broker().frame_count() - before, 10U);
    Advance(milliseconds(1'100));
    EXPECT_FALSE(Logged("giving it a rest"));
}

}  // namespace
}  // namespace qmq
