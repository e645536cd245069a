#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>

#include "qmq/check.h"
#include "qmq/clock.h"

/// Locks that clang's thread-safety analysis knows (-Wthread-safety, on in the preset "clang"). For
/// other compilers the words are comments.
#if defined(__clang__)
#define QMQ_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define QMQ_THREAD_ATTRIBUTE(x)
#endif

/// A member that is read and written under `mutex` only.
#define QMQ_GUARDED_BY(mutex) QMQ_THREAD_ATTRIBUTE(guarded_by(mutex))
/// A pointer whose target is read and written under `mutex` only.
#define QMQ_PT_GUARDED_BY(mutex) QMQ_THREAD_ATTRIBUTE(pt_guarded_by(mutex))
/// A function that is called under the lock. Also of a lambda, after its parameters.
#define QMQ_REQUIRES(...) QMQ_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
/// A function that takes the lock itself, or calls the application: never called under it.
#define QMQ_EXCLUDES(...) QMQ_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define QMQ_ACQUIRE(...) QMQ_THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define QMQ_TRY_ACQUIRE(...) QMQ_THREAD_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))
#define QMQ_RELEASE(...) QMQ_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))
#define QMQ_CAPABILITY(name) QMQ_THREAD_ATTRIBUTE(capability(name))
#define QMQ_SCOPED_CAPABILITY QMQ_THREAD_ATTRIBUTE(scoped_lockable)
#define QMQ_RETURN_CAPABILITY(mutex) QMQ_THREAD_ATTRIBUTE(lock_returned(mutex))
#define QMQ_ASSERT_HELD(...) QMQ_THREAD_ATTRIBUTE(assert_capability(__VA_ARGS__))
/// For the few functions that the analysis cannot follow. Each says why.
#define QMQ_NO_THREAD_ANALYSIS QMQ_THREAD_ATTRIBUTE(no_thread_safety_analysis)

namespace qmq::internal {

/// How many locks of the SDK's the calling thread holds: so that a call into the application under
/// one of them is noticed where it happens (`CheckNoLockHeld`). Builds for work count them
/// (`QMQ_COUNT_LOCKS`); in a release there is nothing of it.
class HeldLocks {
public:
#ifdef QMQ_COUNT_LOCKS
    static void Add() {
        ++count_;
    }
    static void Remove() {
        --count_;
    }
    static int count() {
        return count_;
    }

private:
    inline static thread_local int count_ = 0;
#else
    static void Add() {}
    static void Remove() {}
    static constexpr int count() {
        return 0;
    }
#endif
};

/// Stands where code of the application's is about to run: a handler, filter, callback, coroutine
/// or log sink, an idempotency store, an executor. Under a lock of ours that code would wait for us
/// while we wait for it, as soon as it calls us. Builds for work end here with the place.
inline void CheckNoLockHeld(const char* what) {
    QMQ_CHECK(HeldLocks::count() == 0, std::string(what) + " is called under a lock of the SDK");
}

/// A mutex. `MutexLock` holds it; the names in lower case are for the standard's own locks.
class QMQ_CAPABILITY("mutex") Mutex {
public:
    Mutex() = default;
    Mutex(const Mutex&) = delete;
    Mutex& operator=(const Mutex&) = delete;

    void lock() QMQ_ACQUIRE() {
        mutex_.lock();
        HeldLocks::Add();
    }
    bool try_lock() QMQ_TRY_ACQUIRE(true) {
        const bool taken = mutex_.try_lock();
        if (taken) {
            HeldLocks::Add();
        }
        return taken;
    }
    void unlock() QMQ_RELEASE() {
        HeldLocks::Remove();
        mutex_.unlock();
    }
    /// Tells the analysis what it cannot see: the caller holds it.
    void AssertHeld() const QMQ_ASSERT_HELD(this) {}

private:
    friend class CondVar;
    std::mutex mutex_;
};

/// Holds a mutex for a scope. It may be let go and taken again on the way: `Unlock` before a call
/// that must not be made under the lock.
class QMQ_SCOPED_CAPABILITY MutexLock {
public:
    explicit MutexLock(Mutex& mutex) QMQ_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
    ~MutexLock() QMQ_RELEASE() {
        if (held_) {
            mutex_.unlock();
        }
    }
    MutexLock(const MutexLock&) = delete;
    MutexLock& operator=(const MutexLock&) = delete;

    void Lock() QMQ_ACQUIRE() {
        mutex_.lock();
        held_ = true;
    }
    void Unlock() QMQ_RELEASE() {
        held_ = false;
        mutex_.unlock();
    }

private:
    Mutex& mutex_;
    bool held_ = true;
};

/// Waits under a `Mutex`, whatever lock object holds that.
class CondVar {
public:
    void NotifyOne() { changed_.notify_one(); }
    void NotifyAll() { changed_.notify_all(); }

    void Wait(Mutex& mutex) QMQ_REQUIRES(mutex) {
        std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
        changed_.wait(lock);
        lock.release();
    }
    /// False when it is `deadline`, by the machine's clock. `TimePoint::max()` is no limit.
    bool WaitUntil(Mutex& mutex, TimePoint deadline) QMQ_REQUIRES(mutex) {
        if (deadline == TimePoint::max()) {
            Wait(mutex);
            return true;
        }
        std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
        const std::cv_status status = changed_.wait_until(lock, deadline);
        lock.release();
        return status == std::cv_status::no_timeout;
    }
    /// Waits until `is_true()` or until `deadline`; returns the last `is_true()`, which is asked
    /// under the lock: `[this]() QMQ_REQUIRES(mutex_) { return …; }`.
    template <typename Condition>
    bool WaitUntil(Mutex& mutex, TimePoint deadline, Condition is_true) QMQ_REQUIRES(mutex) {
        return WaitUntil(
            mutex, [deadline] { return deadline; }, std::move(is_true));
    }
    /// As above, where `deadline()` may come nearer meanwhile: whoever brings it nearer notifies.
    template <typename Deadline, typename Condition>
    requires std::is_invocable_r_v<TimePoint, Deadline&>
    bool WaitUntil(Mutex& mutex, Deadline deadline, Condition is_true)
        QMQ_REQUIRES(mutex) QMQ_NO_THREAD_ANALYSIS {  // The two name their own mutex.
        while (!is_true()) {
            if (!WaitUntil(mutex, deadline())) {
                return is_true();
            }
        }
        return true;
    }

private:
    std::condition_variable changed_;
};

}  // namespace qmq::internal
