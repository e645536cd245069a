#pragma once

#include <atomic>
#include <coroutine>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace qmq::border {

/// What is known of a coroutine from outside of its frame.
struct Life {
    explicit Life(bool resumed_by_callbacks) : on_callback_thread(resumed_by_callbacks) {}

    std::coroutine_handle<> handle;
    /// It is resumed on the thread of callbacks, and nowhere else.
    const bool on_callback_thread;
    std::atomic<bool> suspended{false};  ///< Wholly: whoever suspended it has left.
    std::atomic<bool> resumed{false};
    std::atomic<bool> ended{false};  ///< Ran to its end, or was destroyed.
};

/// A coroutine that begins at once and destroys itself at its end.
class Task0 {
public:
    struct promise_type {
        Task0 get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        /// What it throws has nobody to go to.
        void unhandled_exception() {}
    };
};

/// Whether coroutines are resumed on the calling thread, one of the client's: those that wait may
/// be destroyed there.
inline thread_local bool t_resumes = false;

/// Waits on `inner`, and tells `life` when the coroutine may be destroyed.
template <typename Inner>
struct Watched {
    Inner inner;
    std::shared_ptr<Life> life;
    bool waited = false;  ///< It was suspended: whoever goes on with it called it.

    bool await_ready() { return inner.await_ready(); }
    auto await_suspend(std::coroutine_handle<> handle) {
        const std::shared_ptr<Life> kept = life;  // We may be gone before this returns.
        kept->handle = handle;
        kept->resumed = false;
        waited = true;
        const bool suspended = inner.await_suspend(handle);
        if (!suspended) {
            waited = false;
        }
        kept->suspended = suspended;
        return suspended;
    }
    auto await_resume() {
        life->resumed = true;
        t_resumes = t_resumes || (waited && life->on_callback_thread);
        return inner.await_resume();
    }
};

/// Coroutines under way. Thread-safe.
class Lives {
public:
    std::shared_ptr<Life> Add(bool on_callback_thread) {
        auto life = std::make_shared<Life>(on_callback_thread);
        const std::lock_guard lock(mutex_);
        std::erase_if(lives_, [](const auto& one) { return one->ended.load(); });
        lives_.push_back(life);
        return life;
    }
    /// Destroys one that waits. From the thread that resumes them, so that none is resumed
    /// meanwhile. False: none waits.
    bool DestroyOne() {
        std::shared_ptr<Life> found;
        {
            const std::lock_guard lock(mutex_);
            for (const auto& life : lives_) {
                if (life->on_callback_thread && life->suspended && !life->resumed &&
                    !life->ended.exchange(true)) {
                    found = life;
                    break;
                }
            }
        }
        if (found == nullptr) {
            return false;
        }
        found->handle.destroy();
        return true;
    }
    std::size_t waiting_count() {
        std::size_t count = 0;
        const std::lock_guard lock(mutex_);
        for (const auto& life : lives_) {
            count += static_cast<std::size_t>(!life->ended);
        }
        return count;
    }

private:
    std::mutex mutex_;
    std::vector<std::shared_ptr<Life>> lives_;  // guarded by mutex_
};

}  // namespace qmq::border
