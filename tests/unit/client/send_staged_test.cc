#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/core/batch_samples.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

// A message whose delay is too short to matter was counted with the eight bytes of its due time,
// which it then lost, and staged with the old count: its batch had eight bytes of stale memory
// behind it. The broker refused the batch, the split found only the messages in front of these, and
// the others were never answered, not even at their deadline.
class SendStagedTest : public testing::ClientFixture {
protected:
    SendStagedTest() : client(MakeClient()), producer(MakeProducer(client)) {
        broker().SetSendHook([this](const SendBatch& batch) -> std::optional<BatchReceipt> {
            const auto view = BatchView::Parse(
                batch.batch.bytes(), BatchLimits{.max_batch_bytes = Message::kMaxMessageBytes});
            if (!view.ok()) {
                bad.push_back(view.status().ToString());
            }
            return std::nullopt;  // As it does: stored, or refused with kInvalidArgument.
        });
        broker().SetConnectable(false);
        for (int i = 0; i < 6;
             ++i) {  // More than kFewOpen = 4 open batches: from now on it stages.
            futures.push_back(producer.Send(Message("s-" + std::to_string(i))));
        }
    }
    void ExpectAllStored(std::size_t count) {
        broker().SetConnectable(true);
        Advance(seconds(10));
        EXPECT_THAT(bad, ::testing::IsEmpty());
        Advance(minutes(5));  // Far beyond every deadline.
        for (std::size_t i = 0; i < futures.size(); ++i) {
            EXPECT_TRUE(futures[i].ready()) << "message " << i << " was never answered";
            if (futures[i].ready()) {
                EXPECT_TRUE(futures[i].Get().ok()) << i << ": " << futures[i].Get();
            }
        }
        EXPECT_EQ(broker().stored().size(), count);
        EXPECT_EQ(producer.stats().pending_count, 0U);
    }

    Client client;
    Producer producer;
    std::vector<SendFuture> futures;
    std::vector<std::string> bad;
};

TEST_F(SendStagedTest, AShortDelayAmongManySubjectsHarmsNobody) {
    Message delayed("s-0");
    delayed.SetDelay(milliseconds(100), time.clock);
    futures.push_back(producer.Send(std::move(delayed)));
    futures.push_back(producer.Send(Message("s-0").SetBody("behind it")));
    ExpectAllStored(8);
}

// Likewise what came with an attempt and an error.
TEST_F(SendStagedTest, AMessageThatCameAndIsSentAgainHarmsNobody) {
    const std::string batch = testing::MakeBatch({Message("s-0").SetId("again")});
    const BatchView view = BatchView::Trusted(batch);
    const MessageHead head = ReadHead(view.body(), 0).value();
    const std::string retry = EncodeRetry(view.body(), head, 7, std::nullopt, "no stock");
    futures.push_back(producer.Send(DecodeMessages("s-0", Slice::Own(retry), 7, {})->at(0)));
    futures.push_back(producer.Send(Message("s-0").SetBody("behind it")));
    ExpectAllStored(8);
    for (const auto& stored : broker().stored()) {
        EXPECT_EQ(ReadHead(BatchView::Trusted(stored.batch).body(), 0)->attempt, 1U) << stored.id;
    }
}

TEST_F(SendStagedTest, ADueTimeThatHasPassedIsNoReasonToRefuse) {
    Message late("s-9");  // Alone in its batch: refused, "8 bytes follow the last of 1 messages".
    late.SetDeliverAt(time.clock.WallNow() - minutes(1));
    futures.push_back(producer.Send(std::move(late)));
    ExpectAllStored(7);
}

TEST_F(SendStagedTest, CallbacksComeOnceEach) {
    int called = 0;
    const auto count = [&called](const SendReceipt& receipt) {
        EXPECT_TRUE(receipt.ok()) << receipt;
        ++called;
    };
    for (int i = 0; i < 10; ++i) {
        Message message("s-0");
        if (i == 3) {
            message.SetDelay(milliseconds(0), time.clock);
        }
        ASSERT_TRUE(producer.Send(std::move(message), count).ok());
    }
    ExpectAllStored(16);
    EXPECT_EQ(called, 10);
    EXPECT_EQ(producer.stats().callbacks_owed, 0U);
}

}  // namespace
}  // namespace qmq
