// What routes say of sizes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <numeric>
#include <string>
#include <vector>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::HasSubstr;
using testing::ReceiptOf;

class SendLimitsTest : public testing::ClientFixture {
protected:
    SendLimitsTest() : client(MakeClient()) {}
    /// Sends two, and fifty while these are on their way. Tells how many batches that made.
    std::size_t BatchesOfMany(Producer& producer) {
        const std::size_t before = broker().frame_count();
        broker().SetHoldSends(true);
        for (int i = 0; i < 52; ++i) {
            producer.Send(Message("s")).Detach();
        }
        Advance(milliseconds(5));
        broker().SetHoldSends(false);
        while (broker().AnswerHeld()) {
            Settle();
        }
        const std::vector<std::size_t> sizes = broker().frame_sizes();
        return std::accumulate(
            sizes.begin() + static_cast<std::ptrdiff_t>(before), sizes.end(), std::size_t{0});
    }
    Client client;
};

// The smallest limit that any route had ever told held for every subject, for ever.
TEST_F(SendLimitsTest, ALimitHoldsAsLongAsARouteSaysIt) {
    cluster.SetLimits("a", {.max_batch_bytes = 400});
    Producer producer = MakeProducer(client);
    producer.Send(Message("s")).Detach();
    producer.Send(Message("t")).Detach();
    Settle();
    EXPECT_GT(BatchesOfMany(producer), 3U);
    cluster.SetLimits("a", BrokerLimits());
    Advance(minutes(5));
    EXPECT_EQ(BatchesOfMany(producer), 3U);
}

// Every message was refused, because it was larger than 18446744073709551608 bytes.
TEST_F(SendLimitsTest, ALimitThatNoMessageFitsIsAWrongAnswer) {
    cluster.SetLimits("a", {.max_batch_bytes = 8});
    Producer producer = MakeProducer(client);
    const SendFuture first = producer.Send(Message("s"), seconds(1));
    Advance(seconds(2));
    EXPECT_EQ(ReceiptOf(first).outcome, SendOutcome::kRefused);
    EXPECT_THAT(std::string(ReceiptOf(first).status.message()),
                HasSubstr("broker group a takes batches of 8 bytes"));
    cluster.SetLimits("a", BrokerLimits());
    Advance(minutes(2));
    cluster.SetLimits("a", {.max_batch_bytes = 0});
    Advance(minutes(2));
    const SendFuture second = producer.Send(Message("s"));
    Settle();
    EXPECT_TRUE(ReceiptOf(second).ok()) << ReceiptOf(second);
    EXPECT_TRUE(Logged("takes batches of 0 bytes"));
}

}  // namespace
}  // namespace qmq
