#pragma once

#include <atomic>
#include <coroutine>
#include <exception>
#include <thread>
#include <utility>

namespace qmq::testing {

/// A coroutine that its owner may destroy wherever it is.
class Owned {
public:
    struct promise_type;
    /// Says so as the last thing, so that another thread may ask and then destroy the coroutine.
    struct End {
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<promise_type> handle) const noexcept {
            handle.promise().ended.store(true, std::memory_order_release);
        }
        void await_resume() const noexcept {}
    };
    struct promise_type {
        Owned get_return_object() {
            return Owned(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_never initial_suspend() { return {}; }
        End final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }

        std::atomic<bool> ended{false};
    };
    Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Owned& operator=(Owned&&) = delete;
    ~Owned() { Destroy(); }
    bool done() const { return handle_.promise().ended.load(std::memory_order_acquire); }
    /// Where it ends on another thread.
    void AwaitEnd() const {
        while (!done()) {
            std::this_thread::yield();
        }
    }
    void Destroy() {
        if (handle_ != nullptr) {
            std::exchange(handle_, nullptr).destroy();
        }
    }

private:
    explicit Owned(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
    std::coroutine_handle<promise_type> handle_;
};

}  // namespace qmq::testing
