#include "plugins/grpc/client/live_calls.h"

#include <gtest/gtest.h>

#include <future>

namespace qmq::rpc {
namespace {

class CountedCall final : public Cancelable {
public:
    void Cancel() override { cancelled.set_value(); }
    std::promise<void> cancelled;
};

TEST(LiveCallsTest, WaitingCancelsWhatIsUnderWayAndEndsWithIt) {
    LiveCalls calls;
    auto call = std::make_shared<CountedCall>();
    std::uint64_t id = 0;
    ASSERT_TRUE(calls.Begin(call, &id));
    auto waiting = std::async(std::launch::async, [&] { calls.CancelAndWait(); });
    call->cancelled.get_future().wait();

    calls.End(id);

    waiting.wait();
    EXPECT_FALSE(calls.Begin(call, &id));
}

TEST(LiveCallsTest, InsideACallbackNobodyWaits) {
    LiveCalls calls;
    LiveCalls others;
    auto call = std::make_shared<CountedCall>();
    std::uint64_t id = 0;
    ASSERT_TRUE(calls.Begin(call, &id));
    const LiveCalls::CallbackScope outer(calls);
    const LiveCalls::CallbackScope inner(others);

    calls.CancelAndWait();  // Returns: nothing ends this call but what this thread does next.

    EXPECT_EQ(call->cancelled.get_future().wait_for(std::chrono::seconds(0)),
              std::future_status::ready);
    calls.End(id);
}

}  // namespace
}  // namespace qmq::rpc
