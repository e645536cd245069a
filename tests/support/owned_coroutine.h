#pragma once

#include <coroutine>
#include <exception>
#include <utility>

namespace qmq::testing {

/// A coroutine that its owner may destroy wherever it is.
class Owned {
public:
    struct promise_type {
        Owned get_return_object() {
            return Owned(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_never initial_suspend() { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
    Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Owned& operator=(Owned&&) = delete;
    ~Owned() { Destroy(); }
    bool done() const { return handle_.done(); }
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
