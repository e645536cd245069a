#include "plugins/grpc/server/poller_rest.h"

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/integration/grpc/grpc_fixture.h"

namespace qmq::rpc {
namespace {

/// A server that serves nothing, but whose polling threads are those of the whole process.
class PollerRestTest : public GrpcTest {
protected:
    void SetUp() override {
        if (!PollerRest::IsPossible()) {
            GTEST_SKIP() << "gRPC has more than two polling threads here: none of them rests";
        }
        grpc::ServerBuilder builder;
        builder.RegisterCallbackGenericService(&refuses_all_);
        bare_ = builder.BuildAndStart();
        ASSERT_NE(bare_, nullptr);
        rest_.Start(*bare_);
    }
    void TearDown() override {
        rest_.Stop();
        if (bare_ != nullptr) {
            bare_->Shutdown();
        }
    }

    /// Frames as fast as they can come, until somebody rests.
    bool SendToRest() {
        const TimePoint patience = SystemClock().Now() + std::chrono::seconds(20);
        while (!rest_.resting() && SystemClock().Now() < patience) {
            rest_.OnFrame();
        }
        return rest_.resting();
    }
    bool WaitUntilAwake() {
        const TimePoint patience = SystemClock().Now() + std::chrono::seconds(20);
        while (rest_.resting() && SystemClock().Now() < patience) {
            std::this_thread::yield();
        }
        return !rest_.resting();
    }

    grpc::CallbackGenericService refuses_all_;
    std::unique_ptr<grpc::Server> bare_;
    PollerRest rest_;
};

TEST_F(PollerRestTest, AThreadRestsWhileFramesComeFastAndWakesWhenTheyDoNot) {
    for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(SendToRest());
        EXPECT_TRUE(WaitUntilAwake());
    }
}

TEST_F(PollerRestTest, CallsAreServedWhileOneRests) {
    StartServer();
    Connect();
    std::atomic<bool> stop{false};
    std::thread frames([&] {
        while (!stop) {
            rest_.OnFrame();
        }
    });
    while (!rest_.resting()) {
        std::this_thread::yield();
    }

    for (int i = 0; i < 200; ++i) {
        EXPECT_EQ(Await(Send({{"s", MakeBatch(1)}})).front().outcome, SendOutcome::kPersisted);
    }

    EXPECT_TRUE(rest_.resting());
    rest_.Stop();  // Does not wait for the frames to end.
    EXPECT_FALSE(rest_.resting());
    stop = true;
    frames.join();
}

TEST_F(PollerRestTest, NobodyRestsAfterTheStop) {
    rest_.Stop();
    for (int i = 0; i < 10'000; ++i) {
        rest_.OnFrame();
    }
    EXPECT_FALSE(rest_.resting());
}

}  // namespace
}  // namespace qmq::rpc
