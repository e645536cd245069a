#include "plugins/grpc/server/poller_rest.h"

#include <grpc/support/cpu.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/channel_arguments.h>

#include <chrono>
#include <utility>

namespace qmq::rpc {
namespace {

/// A window of frames within this time, more than 3,000 a second, sends a thread to rest.
constexpr std::chrono::milliseconds kFastWindow{80};
/// With fewer frames than this in one look, 2,000 a second, it goes back to work.
constexpr std::chrono::milliseconds kLook{100};
constexpr std::uint64_t kLookFrames = 200;
/// With more processors gRPC has more threads than two.
constexpr unsigned kMostProcessors = 5;

}  // namespace

struct PollerRest::SelfCall {
    explicit SelfCall(const std::shared_ptr<grpc::Channel>& channel) : stub(channel) {}
    grpc::GenericStub stub;
    grpc::ClientContext context;
    grpc::Slice nothing;
    grpc::ByteBuffer request{&nothing, 1};
    grpc::ByteBuffer reply;
};

bool PollerRest::IsPossible() {
    return gpr_cpu_num_cores() <= kMostProcessors;
}

void PollerRest::Start(grpc::Server& server) {
    if (IsPossible()) {
        const std::lock_guard lock(mutex_);
        server_ = &server;
    }
}

void PollerRest::Stop() {
    std::unique_lock lock(mutex_);
    server_ = nullptr;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !resting_; });
}

bool PollerRest::resting() const {
    const std::lock_guard lock(mutex_);
    return resting_;
}

void PollerRest::OnWindow() {
    const TimePoint now = SystemClock().Now();
    std::shared_ptr<SelfCall> call;
    {
        const std::lock_guard lock(mutex_);
        const bool fast = now - std::exchange(window_begin_, now) <= kFastWindow;
        if (!fast || resting_ || server_ == nullptr) {
            return;
        }
        resting_ = true;
        call = std::make_shared<SelfCall>(server_->InProcessChannel(grpc::ChannelArguments()));
    }
    // Any method does, and so does a refusal: what counts is the callback.
    call->stub.UnaryCall(&call->context,
                         "/qmq.v1.Broker/Discover",
                         {},
                         &call->request,
                         &call->reply,
                         [this, call](const grpc::Status&) { Rest(); });
}

void PollerRest::Rest() {
    std::unique_lock lock(mutex_);
    std::uint64_t seen = frame_count_.load(std::memory_order_relaxed);
    while (!changed_.wait_for(lock, kLook, [this] { return server_ == nullptr; })) {
        const std::uint64_t now = frame_count_.load(std::memory_order_relaxed);
        if (now - seen < kLookFrames) {
            break;
        }
        seen = now;
    }
    resting_ = false;
    changed_.notify_all();
}

}  // namespace qmq::rpc
