#pragma once

#include <atomic>
#include <coroutine>
#include <memory>
#include <utility>

namespace qmq::internal {

/// A task that resumes a coroutine when it runs, and also when it is dropped: whoever waits in a
/// coroutine is not left waiting. `coroutine` is its address, and null once it is not to be resumed
/// any more.
class Resumption {
public:
    explicit Resumption(std::shared_ptr<std::atomic<void*>> coroutine)
        : coroutine_(std::move(coroutine)) {}
    Resumption(Resumption&&) noexcept = default;
    Resumption& operator=(Resumption&&) = delete;
    ~Resumption() {
        if (coroutine_ != nullptr) {
            try {
                (*this)();
            } catch (...) {
                // Whose it was has ended; nobody is left to tell.
            }
        }
    }
    void operator()() {
        const auto coroutine = std::exchange(coroutine_, nullptr);
        if (void* const address = coroutine->exchange(nullptr); address != nullptr) {
            std::coroutine_handle<>::from_address(address).resume();
        }
    }

private:
    std::shared_ptr<std::atomic<void*>> coroutine_;
};

}  // namespace qmq::internal
