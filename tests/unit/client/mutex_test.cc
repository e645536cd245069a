#include "sdk/client/src/base/mutex.h"

#include <gtest/gtest.h>

#include <thread>

#include "qmq/deadline.h"

namespace qmq::internal {
namespace {

class Box {
public:
    void Put(int value) {
        MutexLock lock(mutex_);
        value_ = value;
        full_ = true;
        changed_.NotifyAll();
    }
    bool Take(std::chrono::milliseconds timeout, int* value) {
        MutexLock lock(mutex_);
        const TimePoint deadline = DeadlineAfter(std::chrono::steady_clock::now(), timeout);
        const bool came =
            changed_.WaitUntil(mutex_, deadline, [this]() QMQ_REQUIRES(mutex_) { return full_; });
        *value = value_;
        return came;
    }

private:
    Mutex mutex_;
    CondVar changed_;
    int value_ QMQ_GUARDED_BY(mutex_) = 0;
    bool full_ QMQ_GUARDED_BY(mutex_) = false;
};

TEST(MutexTest, AWaitEndsWithWhatItWaitsForHoweverLongItMayTake) {
    Box box;
    std::thread other([&box] { box.Put(7); });
    int value = 0;
    EXPECT_TRUE(box.Take(std::chrono::milliseconds::max(), &value));
    EXPECT_EQ(value, 7);
    other.join();
}

TEST(MutexTest, AWaitEndsAtItsDeadline) {
    Box box;
    int value = 0;
    EXPECT_FALSE(box.Take(std::chrono::milliseconds(0), &value));
    EXPECT_FALSE(box.Take(std::chrono::milliseconds::min(), &value));
    EXPECT_FALSE(box.Take(std::chrono::milliseconds(1), &value));
}

/// Whether another thread could take it now.
bool IsFree(Mutex& mutex) {
    bool taken = false;
    std::thread other([&] {
        if (mutex.try_lock()) {
            taken = true;
            mutex.unlock();
        }
    });
    other.join();
    return taken;
}

TEST(MutexTest, ALockMayBeLetGoOnTheWay) {
    Mutex mutex;
    MutexLock lock(mutex);
    EXPECT_FALSE(IsFree(mutex));
    lock.Unlock();
    EXPECT_TRUE(IsFree(mutex));
    lock.Lock();
    EXPECT_FALSE(IsFree(mutex));
}

#ifdef QMQ_COUNT_LOCKS
TEST(MutexTest, EachThreadCountsWhatItHolds) {
    Mutex first;
    Mutex second;
    EXPECT_EQ(HeldLocks::count(), 0);
    {
        MutexLock one(first);
        MutexLock two(second);
        EXPECT_EQ(HeldLocks::count(), 2);
        std::thread other([] { EXPECT_EQ(HeldLocks::count(), 0); });
        other.join();
        two.Unlock();
        EXPECT_EQ(HeldLocks::count(), 1);
    }
    EXPECT_EQ(HeldLocks::count(), 0);
}
#endif

}  // namespace
}  // namespace qmq::internal
