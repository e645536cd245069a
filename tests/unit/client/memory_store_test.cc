// The store of idempotency in memory: who has a key, and for how long it is remembered.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "qmq/idempotency.h"

#include "tests/support/manual_executor.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using State = IdempotencyClaim::State;

/// Runs `work` on so many threads at once.
void OnThreads(int count, const std::function<void(int thread)>& work) {
    std::atomic<int> ready{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i) {
        threads.emplace_back([&, i] {
            ++ready;
            while (ready < count) {
                std::this_thread::yield();
            }
            work(i);
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

class MemoryStoreTest : public ::testing::Test {
protected:
    IdempotencyClaim Start(const std::string& key = "k") {
        return store->Start(key, seconds(10)).value();
    }

    testing::ManualClock clock;
    std::shared_ptr<IdempotencyStore> store =
        MakeMemoryIdempotencyStore({.retention = minutes(16), .max_keys = 4, .clock = &clock});
};

TEST_F(MemoryStoreTest, AKeyIsClaimedThenBusyThenDone) {
    const IdempotencyClaim claim = Start();
    EXPECT_EQ(claim.state, State::kStarted);
    EXPECT_EQ(claim.key, "k");
    EXPECT_EQ(claim.lease, seconds(10));
    EXPECT_EQ(Start().state, State::kBusy);
    EXPECT_TRUE(store->Finish(claim).ok());
    EXPECT_EQ(Start().state, State::kDone);
    EXPECT_TRUE(store->Finish(claim).ok());  // It may say so again.
}

// Finish and Abandon took a key and nothing else: whoever was late erased the record of the next.
TEST_F(MemoryStoreTest, OfTwoClaimsTheLaterOneCounts) {
    const IdempotencyClaim late = Start();
    clock.Advance(seconds(10) - milliseconds(1));
    EXPECT_EQ(Start().state, State::kBusy);
    clock.Advance(milliseconds(1));
    const IdempotencyClaim next = Start();
    ASSERT_EQ(next.state, State::kStarted);
    EXPECT_GT(next.token, late.token);

    EXPECT_EQ(store->Renew(late).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(store->Abandon(late).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(store->Finish(late).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(Start().state, State::kBusy);

    EXPECT_TRUE(store->Finish(next).ok());
    EXPECT_EQ(store->Abandon(late).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(store->Finish(late).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(Start().state, State::kDone);
}

TEST_F(MemoryStoreTest, AClaimWhoseLeaseIsOverCountsUntilSomebodyElseHasTheKey) {
    const IdempotencyClaim claim = Start();
    clock.Advance(minutes(5));
    EXPECT_TRUE(store->Finish(claim).ok());
    EXPECT_EQ(Start().state, State::kDone);
}

TEST_F(MemoryStoreTest, ARenewalBeginsTheLeaseAnew) {
    const IdempotencyClaim claim = Start();
    clock.Advance(seconds(9));
    EXPECT_TRUE(store->Renew(claim).ok());
    clock.Advance(seconds(9));
    EXPECT_EQ(Start().state, State::kBusy);
    clock.Advance(seconds(1));
    EXPECT_EQ(Start().state, State::kStarted);
}

TEST_F(MemoryStoreTest, ARenewalThatIsLateDoesNotUndoTheEnd) {
    const IdempotencyClaim done = Start();
    EXPECT_TRUE(store->Finish(done).ok());
    EXPECT_EQ(store->Renew(done).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(store->Abandon(done).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(Start().state, State::kDone);

    const IdempotencyClaim abandoned = Start("other");
    EXPECT_TRUE(store->Abandon(abandoned).ok());
    EXPECT_EQ(store->Renew(abandoned).code(), StatusCode::kNotFound);
    EXPECT_EQ(store->Finish(abandoned).code(), StatusCode::kNotFound);
    EXPECT_GT(Start("other").token, abandoned.token);
}

// The store asked the system's clock.
TEST_F(MemoryStoreTest, WhatIsDoneIsRememberedForTheRetention) {
    EXPECT_TRUE(store->Finish(Start()).ok());
    clock.Advance(minutes(16));
    EXPECT_EQ(Start().state, State::kDone);
    clock.Advance(minutes(2));
    EXPECT_EQ(Start().state, State::kStarted);
}

TEST_F(MemoryStoreTest, WhenItIsFullTheOldestThatAreDoneGoAndNoClaimDoes) {
    const IdempotencyClaim held = Start("held");
    for (const char* key : {"1", "2", "3", "4"}) {
        clock.Advance(minutes(2));
        ASSERT_TRUE(store->Renew(held).ok());
        EXPECT_TRUE(store->Finish(Start(key)).ok());
    }
    EXPECT_EQ(Start("held").state, State::kBusy);
    EXPECT_EQ(Start("4").state, State::kDone);
    EXPECT_EQ(Start("1").state, State::kStarted);
}

// All keys that were done within a sixteenth of the retention went at once: with the defaults a
// store that had a million keys of the last hour forgot the one of a moment ago.
TEST_F(MemoryStoreTest, WhenItIsFullWhatWasDoneLastIsRemembered) {
    store = MakeMemoryIdempotencyStore({.max_keys = 1'000, .clock = &clock});
    for (int i = 0; i < 5'000; ++i) {
        ASSERT_TRUE(store->Finish(Start(std::to_string(i))).ok());
        const int remembered = std::max(i - 900, 0);
        EXPECT_EQ(Start(std::to_string(remembered)).state, State::kDone) << i;
    }
    EXPECT_EQ(Start("3000").state, State::kStarted);
}

// The end of the lease lay before its beginning, so the next one had the key as well.
TEST_F(MemoryStoreTest, ALeaseMayBeForEver) {
    const IdempotencyClaim claim = store->Start("k", milliseconds::max()).value();
    EXPECT_EQ(Start().state, State::kBusy);
    EXPECT_TRUE(store->Renew(claim).ok());
    clock.Advance(hours(24 * 365));
    EXPECT_EQ(Start().state, State::kBusy);
    for (int i = 0; i < 3'000; ++i) {
        (void)Start(std::to_string(i));  // What is swept out now and then is something else.
    }
    EXPECT_EQ(Start().state, State::kBusy);
    EXPECT_TRUE(store->Finish(claim).ok());
    const IdempotencyClaim none = store->Start("zero", milliseconds::min()).value();
    EXPECT_EQ(none.state, State::kStarted);
    EXPECT_EQ(Start("zero").state, State::kStarted);
}

TEST_F(MemoryStoreTest, WhenItIsFullASixteenthIsForgotten) {
    store = MakeMemoryIdempotencyStore({.max_keys = 160, .clock = &clock});
    for (int i = 0; i < 160; ++i) {
        ASSERT_TRUE(store->Finish(Start(std::to_string(i))).ok());
    }
    EXPECT_EQ(Start("0").state, State::kDone);
    EXPECT_EQ(Start("one more").state, State::kStarted);
    EXPECT_EQ(Start("10").state, State::kDone);
    EXPECT_EQ(Start("159").state, State::kDone);
    EXPECT_EQ(Start("0").state, State::kStarted);
    EXPECT_EQ(Start("9").state, State::kStarted);
}

TEST_F(MemoryStoreTest, WhatWasDoneInOneSixteenthOfTheRetentionIsForgottenTogether) {
    EXPECT_TRUE(store->Finish(Start("first")).ok());
    clock.Advance(seconds(30));
    EXPECT_TRUE(store->Finish(Start("soon after")).ok());
    clock.Advance(seconds(30));
    EXPECT_TRUE(store->Finish(Start("later")).ok());
    clock.Advance(minutes(16) - seconds(1));
    for (const char* key : {"first", "soon after", "later"}) {
        EXPECT_EQ(Start(key).state, State::kDone) << key;
    }
    clock.Advance(seconds(1));
    EXPECT_EQ(Start("first").state, State::kStarted);
    EXPECT_EQ(Start("soon after").state, State::kStarted);
    EXPECT_EQ(Start("later").state, State::kDone);
}

TEST_F(MemoryStoreTest, ARetentionOutOfRangeIsTheNearestThatIsInIt) {
    for (const minutes few : {minutes(0), minutes(-5), minutes::min()}) {
        store = MakeMemoryIdempotencyStore({.retention = few, .clock = &clock});
        ASSERT_TRUE(store->Finish(Start()).ok());
        clock.Advance(seconds(59));
        EXPECT_EQ(Start().state, State::kDone) << few.count();
        clock.Advance(seconds(6));  // A sixteenth more than a minute.
        EXPECT_EQ(Start().state, State::kStarted) << few.count();
    }
    for (const minutes many : {minutes(hours(24 * 300)), minutes::max()}) {
        store = MakeMemoryIdempotencyStore({.retention = many, .clock = &clock});
        ASSERT_TRUE(store->Finish(Start()).ok());
        clock.Advance(hours(24 * 30) - minutes(1));
        EXPECT_EQ(Start().state, State::kDone) << many.count();
        clock.Advance(hours(48));  // A sixteenth more than 30 days.
        EXPECT_EQ(Start().state, State::kStarted) << many.count();
    }
}

TEST_F(MemoryStoreTest, ANumberOfKeysOutOfRangeIsTheNearestThatIsInIt) {
    store = MakeMemoryIdempotencyStore({.max_keys = 0, .clock = &clock});
    EXPECT_TRUE(store->Finish(Start("1")).ok());
    EXPECT_EQ(Start("1").state, State::kDone);
    EXPECT_EQ(Start("2").state, State::kStarted);
    EXPECT_EQ(Start("1").state, State::kStarted);
    store = MakeMemoryIdempotencyStore(
        {.max_keys = std::numeric_limits<std::size_t>::max(), .clock = &clock});
    for (int i = 0; i < 1'000; ++i) {
        ASSERT_TRUE(store->Finish(Start(std::to_string(i))).ok());
    }
    for (int i = 0; i < 1'000; ++i) {
        EXPECT_EQ(Start(std::to_string(i)).state, State::kDone) << i;
    }
}

TEST_F(MemoryStoreTest, WithoutAClockItAsksTheSystems) {
    store = MakeMemoryIdempotencyStore();
    ASSERT_EQ(store->Start("long", hours(1)).value().state, State::kStarted);
    ASSERT_EQ(store->Start("short", milliseconds(1)).value().state, State::kStarted);
    while (store->Start("short", milliseconds(1)).value().state == State::kBusy) {
        std::this_thread::yield();  // The millisecond passes by itself.
    }
    EXPECT_EQ(store->Start("long", hours(1)).value().state, State::kBusy);
}

/// One store, and threads that want the same keys at the same time.
class MemoryStoreThreadsTest : public ::testing::Test {
protected:
    static constexpr int kThreads = 8;
    static constexpr std::size_t kKeys = 500;

    IdempotencyClaim Start(std::size_t key) {
        return store->Start(std::to_string(key), hours(1)).value();
    }

    const std::shared_ptr<IdempotencyStore> store = MakeMemoryIdempotencyStore();
};

TEST_F(MemoryStoreThreadsTest, OneOfThemHasEachKey) {
    std::vector<std::atomic<int>> started(kKeys);
    std::atomic<std::size_t> busy{0};
    std::mutex mutex;
    std::set<std::uint64_t> tokens;
    OnThreads(kThreads, [&](int) {
        for (std::size_t key = 0; key < kKeys; ++key) {
            const IdempotencyClaim claim = Start(key);
            if (claim.state == State::kStarted) {
                ++started[key];
                const std::lock_guard lock(mutex);
                tokens.insert(claim.token);
            }
            busy += claim.state == State::kBusy ? 1U : 0U;
        }
    });
    for (const std::atomic<int>& one : started) {
        EXPECT_EQ(one, 1);
    }
    EXPECT_EQ(busy, kKeys * (kThreads - 1));
    EXPECT_EQ(tokens.size(), kKeys);
}

TEST_F(MemoryStoreThreadsTest, AClaimIsFinishedOrAbandonedAndNotBoth) {
    std::vector<IdempotencyClaim> claims;
    for (std::size_t key = 0; key < kKeys; ++key) {
        claims.push_back(Start(key));
    }
    std::vector<std::atomic<int>> finished(kKeys);
    std::vector<std::atomic<int>> abandoned(kKeys);
    OnThreads(kThreads, [&](int thread) {
        for (std::size_t key = 0; key < kKeys; ++key) {
            if (thread % 2 == 0) {
                finished[key] += store->Finish(claims[key]).ok() ? 1 : 0;
            } else {
                abandoned[key] += store->Abandon(claims[key]).ok() ? 1 : 0;
            }
        }
    });
    for (std::size_t key = 0; key < kKeys; ++key) {
        const bool done = finished[key] > 0;
        EXPECT_EQ(finished[key], done ? kThreads / 2 : 0) << key;  // It may be said again.
        EXPECT_EQ(abandoned[key], done ? 0 : 1) << key;
        EXPECT_EQ(Start(key).state, done ? State::kDone : State::kStarted) << key;
    }
}

TEST_F(MemoryStoreThreadsTest, WorkThatFailsOnceIsDoneTwiceAndByOneAtATime) {
    std::vector<int> tries(kKeys);  // Guarded by the claims alone.
    OnThreads(kThreads, [&](int) {
        for (std::size_t key = 0; key < kKeys;) {
            const IdempotencyClaim claim = Start(key);
            if (claim.state == State::kDone) {
                ++key;
            } else if (claim.state == State::kBusy) {
                std::this_thread::yield();
            } else if (++tries[key] == 1) {
                EXPECT_TRUE(store->Abandon(claim).ok());
            } else {
                EXPECT_TRUE(store->Finish(claim).ok());
            }
        }
    });
    EXPECT_THAT(tries, ::testing::Each(2));
}

}  // namespace
}  // namespace qmq
