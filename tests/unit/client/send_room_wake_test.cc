#include <gtest/gtest.h>

#include <memory>

#include "sdk/client/src/base/callback_queue.h"
#include "sdk/client/src/send/budget.h"
#include "sdk/client/src/send/send_state.h"
#include "tests/support/manual_executor.h"

namespace qmq {
namespace {

using internal::Budget;
using State = ProducerAccess::State;

class RoomWakeTest : public ::testing::Test {
protected:
    std::shared_ptr<State> StateOf(Budget& budget, std::uint32_t callbacks, std::size_t charged) {
        auto state = std::make_shared<State>();
        state->queue = queue;
        for (std::uint32_t i = 0; i < callbacks; ++i) {
            state->callbacks.emplace_back(i, SendCallback([](const SendReceipt&) {}));
            state->AddId("0123456789ABCDEFGHJKMNPQRS");
            budget.AddMessage();
        }
        budget.Charge(&state->charged, charged);
        budget.owed()->HandOut(callbacks);
        return state;
    }

    testing::ManualTime time;
    std::shared_ptr<internal::Logger> logger =
        std::make_shared<internal::Logger>([](LogLevel, std::string_view) {}, &time.executor);
    int client = 0;
    std::shared_ptr<internal::CallbackQueue> queue = std::make_shared<internal::CallbackQueue>(
        &client, time.executor, time.executor, time.clock, *logger, false);
};

// Bytes came back behind the last look at whether somebody waits: who had begun to wait meanwhile,
// or waited for what is left of the division by callbacks, slept on beside free room.
TEST_F(RoomWakeTest, WhoWaitsIsWokenBehindTheLastByte) {
    Budget budget(10, 1'000);
    const auto state = StateOf(budget, 3, 1'000);
    const Budget::Waiting waiting(budget);
    std::uint64_t seen = 1'000;
    state->RunCallbacks(*budget.owed(), [&] { seen = budget.bytes(); });
    EXPECT_EQ(budget.bytes(), 0U);
    EXPECT_EQ(seen, 0U) << "bytes came back, and nobody was woken any more";
}

}  // namespace
}  // namespace qmq
