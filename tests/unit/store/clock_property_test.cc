// The promise of retention over chains of processes, with the true time known.
#include <algorithm>
#include <utility>

#include "qmq/random.h"

#include "server/env/planted_bug.h"
#include "server/env/simulated_file_system.h"
#include "server/store/log_clock.h"
#include "tests/unit/store/store_fixture.h"

namespace qmq::store {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

/// Days of a log: processes that stop or crash, a machine that is off or suspended, a wall clock
/// that is wrong now and then. The steady clock, and the wall clock without the wrong, are true.
class ClockChain {
public:
    explicit ClockChain(std::uint64_t seed) : random_(seed), disk_(seed), test_(disk_) {
        test_.options.retention = seconds(Between(hours(1), hours(72)));
    }

    void Run() {
        const std::uint64_t processes = 5 + random_.Below(26);
        for (std::uint64_t i = 0; i < processes && !testing::Test::HasFailure(); ++i) {
            OneProcess();
            test_.clock.elapsed +=
                random_.Below(3) == 0 ? hours(0) : Between(seconds(0), hours(100));
        }
    }
    std::uint64_t dropped() const { return dropped_; }

private:
    struct Written {
        milliseconds at{};       // True time, what the machine slept included.
        milliseconds running{};  // Of the log.
    };
    /// The wall clock was set ahead, wrongly or back to what is right.
    struct SetAhead {
        milliseconds at{};
        milliseconds by{};
    };

    seconds Between(seconds least, seconds most) {
        return least +
               seconds(random_.Below(static_cast<std::uint64_t>((most - least).count()) + 1));
    }
    milliseconds TrueNow() const {
        return std::chrono::duration_cast<milliseconds>(test_.clock.elapsed) + slept_;
    }
    void SetWrong(milliseconds wrong) {
        if (wrong > wrong_) {
            ahead_.push_back({TrueNow(), wrong - wrong_});
        }
        wrong_ = wrong;
        test_.clock.wall_jump = slept_ + wrong_;
    }

    void OneProcess() {
        ASSERT_TRUE(test_.Open().ok());
        seconds left = random_.Below(3) == 0 ? Between(minutes(1), minutes(20))
                                             : Between(minutes(1), hours(30));
        while (left > seconds(0)) {
            const seconds step = std::min(left, Between(seconds(5), minutes(3)));
            left -= step;
            test_.clock.elapsed += step;
            running_ += step;
            Disturb();
            Put();
            ASSERT_TRUE(test_.store->Retain().ok());
            test_.SyncAll();
            Check();
        }
        End();
    }
    void Disturb() {
        if (wrong_ != milliseconds(0) && TrueNow() >= wrong_until_) {
            SetWrong({});
        }
        const std::uint64_t what = random_.Below(400);
        if (what == 0) {
            slept_ += Between(seconds(2), hours(100));
            test_.clock.wall_jump = slept_ + wrong_;
        } else if (what == 1) {
            const milliseconds by =
                random_.Below(2) == 0 ? seconds(2) : Between(seconds(2), hours(100));
            SetWrong(random_.Below(2) == 0 ? by : -by);
            wrong_until_ = TrueNow() + Between(seconds(12), hours(3));
        }
    }
    void Put() {
        if (random_.Below(3) == 0) {
            ASSERT_TRUE(test_.Put("orders", {std::string(6'000, 'x')}).ok());
            written_.push_back({TrueNow(), running_});
            said_ = running_;
        }
    }
    void End() {
        if (random_.Below(2) == 0) {
            ASSERT_TRUE(test_.Close().ok());
        }
        test_.Kill();
        running_ = said_;  // What no record says is not known any more; it counts as downtime.
        std::string newest;
        int count = 0;
        const std::vector<std::string> names = disk_.List("/data").value();
        for (const std::string& name : names) {
            count += name.ends_with(".snapshot") ? 1 : 0;
            newest = name.ends_with(".snapshot") ? std::max(newest, name) : newest;
        }
        if (count == 2 && random_.Below(8) == 0) {
            ASSERT_TRUE(disk_.FlipBit("/data/" + newest, 20, 0).ok());
        }
    }
    void Check() {
        const SubjectLog* const log = test_.store->FindSubject("orders", false);
        if (log == nullptr) {
            return;
        }
        const std::uint64_t first = log->first_sequence();
        ASSERT_EQ(log->next_sequence(), written_.size());
        for (; dropped_ < first; ++dropped_) {
            const Written& gone = written_[dropped_];
            milliseconds lied{};
            for (const SetAhead& set : ahead_) {
                lied += set.at >= gone.at ? set.by : milliseconds(0);
            }
            ASSERT_GE(TrueNow() - gone.at + lied + seconds(5), test_.options.retention)
                << "message " << dropped_ << " went too early";
        }
        // Ten messages fill a segment; what is open stays until nothing in it is young.
        if (first + 12 < written_.size()) {
            const milliseconds lives = running_ - written_[first + 12].running;
            ASSERT_LE(lives, test_.options.retention + minutes(10)) << "message " << first;
        }
    }

    Random random_;
    env::SimulatedFileSystem disk_;
    TestStore test_;
    milliseconds slept_{};
    milliseconds running_{};
    milliseconds said_{};  // By the newest record.
    milliseconds wrong_{};
    milliseconds wrong_until_{};
    std::vector<Written> written_;
    std::vector<SetAhead> ahead_;
    std::uint64_t dropped_ = 0;
};

TEST(ClockPropertyTest, EveryMessageLivesItsRetentionOverAnyChainOfProcesses) {
    std::uint64_t dropped = 0;
    for (std::uint64_t seed = 1; seed <= 200 && !testing::Test::HasFailure(); ++seed) {
        SCOPED_TRACE(seed);
        ClockChain chain(seed);
        chain.Run();
        dropped += chain.dropped();
    }
    EXPECT_GT(dropped, 1'000U) << "else it proves nothing";
}

}  // namespace
}  // namespace qmq::store
