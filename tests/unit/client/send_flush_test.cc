// Flush: what it sends, and what it waits for.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"
#include "tests/unit/client/send_threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Await;
using ::testing::HasSubstr;
using testing::kPatience;
using testing::ReceiptOf;
using testing::Refuse;

class SendFlushTest : public testing::ClientFixture {
protected:
    SendFlushTest() : client(MakeClient()) {
        ProducerOptions options;
        options.linger = seconds(1);
        producer = MakeProducer(client, options);
        cluster.SetEverySubject(true);
        for (const char* subject : {"s", "t", "u"}) {
            producer.Send(Message(subject)).Detach();
            Settle();
        }
        producer.Send(Message("s").SetOrderingKey("k")).Detach();
        Settle();
        EXPECT_EQ(broker().stored().size(), 4U);
    }
    /// The broker answers nothing any more, and has two frames: what is sent now gathers.
    std::vector<SendFuture> MakeBusy() {
        broker().SetHoldSends(true);
        std::vector<SendFuture> futures;
        futures.push_back(producer.Send(Message("s")));
        futures.push_back(producer.Send(Message("s")));
        EXPECT_EQ(broker().held_frame_count(), 2U);
        return futures;
    }

    Client client;
    Producer producer;
};

TEST_F(SendFlushTest, WhatGathersForAnySubjectOrKeyIsSentWithoutLingering) {
    (void)MakeBusy();
    producer.Send(Message("s")).Detach();
    producer.Send(Message("t")).Detach();
    producer.Send(Message("u")).Detach();
    producer.Send(Message("s").SetOrderingKey("k")).Detach();
    Settle();
    ASSERT_EQ(broker().held_frame_count(), 2U);
    const Status status = producer.Flush(milliseconds(0));
    EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), HasSubstr("6 messages"));
    EXPECT_EQ(broker().held_frame_count(), 3U);
    EXPECT_EQ(broker().frame_sizes().back(), 4U);
}

// Virtual time stands still, so nothing that gathers goes by itself.
TEST_F(SendFlushTest, SendsThatBeginAfterTheFlushAreNotWaitedFor) {
    std::vector<SendFuture> before = MakeBusy();
    before.push_back(producer.Send(Message("s")));
    Status flushed;
    std::size_t answered = 0;
    std::thread flusher([&] {
        flushed = producer.Flush(kPatience / 2);
        for (const SendFuture& future : before) {
            answered += future.ready() ? 1U : 0U;
        }
    });
    EXPECT_TRUE(Await([&] { return broker().held_frame_count() == 3; }))
        << "the flush has begun, and sent what had gathered";
    const SendFuture later = producer.Send(Message("s"));
    for (std::size_t i = 0; i < before.size(); ++i) {
        EXPECT_TRUE(broker().AnswerHeld());
        Settle();
    }
    flusher.join();
    EXPECT_TRUE(flushed.ok()) << flushed;
    EXPECT_EQ(answered, before.size());
    EXPECT_FALSE(later.ready());
    EXPECT_TRUE(broker().AnswerHeld());
    Settle();
    EXPECT_TRUE(ReceiptOf(later).ok());
}

// A message that waits for its next attempt, or for a broker, is one that was taken.
TEST_F(SendFlushTest, WhatIsTriedAgainIsWaitedFor) {
    broker().SetSendHook(
        [](const SendBatch&) { return Refuse(Status::ResourceExhausted("busy")); });
    producer.Send(Message("s")).Detach();
    Settle();
    EXPECT_EQ(producer.Flush(milliseconds(0)).code(), StatusCode::kDeadlineExceeded);
    broker().SetSendHook(nullptr);
    Advance(seconds(5));
    EXPECT_TRUE(producer.Flush(milliseconds(0)).ok());
}

}  // namespace
}  // namespace qmq
