#include "qmq/awaitable.h"

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/resumption.h"

namespace qmq::internal {

bool AwaitState::Suspend(std::coroutine_handle<> coroutine, Executor* executor) {
    executor_ = executor;
    if (executor != nullptr) {
        posted_.store(coroutine.address());
    }
    void* nobody = nullptr;
    // From here on another thread may resume the coroutine: nothing is touched any more.
    return coroutine_.compare_exchange_strong(nobody, coroutine.address());
}

void AwaitState::Settle(const std::shared_ptr<AwaitState>& state) {
    CheckNoLockHeld("a coroutine");
    void* const coroutine = state->coroutine_.exchange(state.get());
    if (coroutine == nullptr) {
        return;
    }
    if (state->executor_ == nullptr) {
        std::coroutine_handle<>::from_address(coroutine).resume();
        return;
    }
    // Refused, the task is dropped there, and resumes the coroutine on this thread.
    (void)state->executor_->Post(
        Resumption(std::shared_ptr<std::atomic<void*>>(state, &state->posted_)));
}

void AwaitState::Leave() {
    void* waiting = coroutine_.load();
    if (waiting != this && waiting != nullptr) {
        coroutine_.compare_exchange_strong(waiting, nullptr);
    }
    posted_.store(nullptr);
}

}  // namespace qmq::internal
