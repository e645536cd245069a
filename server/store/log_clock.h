#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "qmq/clock.h"

#include "server/store/shard_store.h"

namespace qmq::store {

/// Time in which no process of the log ran, or the machine was suspended, by which all that lies
/// below a place of the log is older than its running time says.
struct ClockCredit {
    LogOffset below = 0;
    std::chrono::microseconds time{};
};

/// What of a log's clock outlives its process.
struct ClockState {
    RunningTime running{};
    WallTime date{};  ///< At `running`.
    /// What the wall clock is known to be ahead of the running time. It rises by what is credited
    /// and in no other way, so nothing is credited twice. None: what it says first.
    std::optional<std::chrono::milliseconds> known;
    /// The log's end when the wall clock was first seen ahead of what is known; zero: it was not.
    /// What lies behind is not made older by it.
    LogOffset pending_from = 0;
    std::vector<ClockCredit> credits;  ///< The oldest first.
};

/// The two times of a log. It touches no clock: its owner says what the clocks read. Docs:
/// docs/design/store.md.
///
/// The *running time* counts while a process of the log runs, by the steady clock alone; ages are
/// told by it. A wall clock that is ahead of it by more than before has jumped, or nobody ran: that
/// is told, and once it has stood for `kStandsFor` it makes what was written before older, at a
/// bounded rate, for as long as the wall clock says so. What was written since it is not touched.
///
/// The *date* is for people: it never goes back while a process runs, advances as the steady clock
/// does, draws near to the wall clock, and steps to one that has stood ahead. No age comes from it.
class LogClock {
public:
    /// How long the wall clock must be ahead by the same amount before it is believed.
    static constexpr std::chrono::minutes kStandsFor{10};
    /// Standing is counted by readings that are at most this far apart: a process that was stopped
    /// has seen nothing meanwhile.
    static constexpr std::chrono::minutes kMostBetweenReadings{1};
    /// By how much what is old grows older in each unit of time while it is made older.
    static constexpr std::int64_t kCatchUpRate = 60;
    /// A shorter absence of the process is not told: it is only a start like others.
    static constexpr std::chrono::hours kToldAbsence{1};
    /// The least time between two jumps that are told.
    static constexpr std::chrono::minutes kTellsEvery{1};
    static constexpr std::size_t kMostCredits = 64;

    /// Clocks that differ by less than an eighth of `retention`, and by less than a second, agree.
    explicit LogClock(std::chrono::milliseconds retention);

    /// Goes on where `last` ends.
    void Start(TimePoint now, WallTime wall, const ClockState& last);

    /// What the clocks read now, when the log ends at `end`. A jump that ought to be told: by how
    /// much the wall clock is ahead of what is known, or behind it.
    std::optional<std::chrono::milliseconds> Read(TimePoint now, WallTime wall, LogOffset end);

    RunningTime running() const { return std::chrono::floor<RunningTime>(running_); }
    WallTime date() const { return std::chrono::floor<std::chrono::milliseconds>(date_); }
    LogOffset pending_from() const { return pending_from_; }
    ClockState state() const;

    /// How old that is which was written at `written` and lies below `end`.
    std::chrono::microseconds AgeOf(RunningTime written, LogOffset end) const;

    /// The log ends at `end` again.
    void TakeBack(LogOffset end);
    /// Nothing that ends below `end` is left.
    void Forget(LogOffset end);
    /// True once after all that the wall clock was ahead has been believed: worth a snapshot.
    bool TakeSettled();

private:
    using Time = std::chrono::sys_time<std::chrono::microseconds>;
    struct Jump {
        std::chrono::microseconds offset;  ///< Of the wall clock to the running time.
        std::chrono::microseconds stood{};
    };
    bool Agree(std::chrono::microseconds a, std::chrono::microseconds b) const;
    bool Judge(std::chrono::microseconds offset, std::chrono::microseconds seen);
    void Credit(std::chrono::microseconds time);
    void FollowDate(WallTime wall, std::chrono::microseconds elapsed);
    bool IsToTell(TimePoint now, std::chrono::microseconds ahead);

    const std::chrono::microseconds tolerance_;
    TimePoint read_at_{};
    std::chrono::microseconds running_{};
    Time date_{};
    std::chrono::microseconds known_{};
    LogOffset pending_from_ = 0;
    std::vector<ClockCredit> credits_;
    bool is_crediting_ = false;
    bool is_settled_ = false;
    std::optional<Jump> jump_;
    std::optional<std::chrono::microseconds> absence_;  ///< What the first reading said.
    std::optional<TimePoint> told_at_;
};

}  // namespace qmq::store
