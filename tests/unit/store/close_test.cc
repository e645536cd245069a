// A store that is closed in the midst of whatever its disk does.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "qmq/random.h"

#include "server/env/simulated_file_system.h"
#include "tests/unit/store/store_fixture.h"

namespace qmq::store {
namespace {

/// Runs one of the tasks that wait, wherever it stands; false when there is none.
bool RunAny(TestStore& store, Random& random) {
    TestExecutor& either = random.Below(2) == 0 ? store.io : store.executor;
    TestExecutor& from = !either.tasks.empty()  ? either
                         : &either == &store.io ? store.executor
                                                : store.io;
    if (from.tasks.empty()) {
        return false;
    }
    const auto task =
        from.tasks.begin() + static_cast<std::ptrdiff_t>(random.Below(from.tasks.size()));
    std::swap(*task, from.tasks.front());
    return from.RunOne();
}

// Where a snapshot was being saved when the store was closed, and a sync ran that covered nothing
// more, the mark behind them was never synced, and the close waited for that.
TEST(CloseTest, ACloseEndsInWhateverOrderItsWorkIsDone) {
    for (std::uint64_t seed = 1; seed <= 500; ++seed) {
        SCOPED_TRACE(seed);
        Random random(seed);
        env::SimulatedFileSystem disk(seed);
        TestStore store(disk);
        ASSERT_TRUE(store.Open().ok());
        for (std::uint64_t left = random.Below(20); left > 0; --left) {
            ASSERT_TRUE(store.Put("s", {std::string(random.Below(30'000), 'x')}).ok());
            if (random.Below(2) == 0) {
                store.store->Sync();
            }
            for (std::uint64_t some = random.Below(4); some > 0; --some) {
                (void)RunAny(store, random);
            }
        }
        std::optional<Status> closed;
        store.store->Close([&](Status status) { closed = std::move(status); });
        while (RunAny(store, random)) {
        }
        ASSERT_TRUE(closed.has_value()) << "it waits, and nothing is under way";
        EXPECT_TRUE(closed->ok()) << *closed;
        ASSERT_TRUE(store.Reopen().ok());
        EXPECT_EQ(store.store->recovery().replayed_record_count, 0U);
    }
}

}  // namespace
}  // namespace qmq::store
