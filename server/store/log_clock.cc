#include "server/store/log_clock.h"

#include <algorithm>
#include <utility>

#include "server/env/planted_bug.h"

namespace qmq::store {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;

namespace {

/// While it draws near to the wall clock, the date is faster or slower by this part.
constexpr std::int64_t kSlewPart = 8;

/// What no clock reads, nor a record of ours says: so that sums of times stay in range.
constexpr std::chrono::hours kLongest{24 * 365 * 8000LL};

WallTime InRange(WallTime time) {
    return std::clamp(time, WallTime{}, WallTime(kLongest));
}

milliseconds InRange(milliseconds time) {
    return std::clamp<milliseconds>(time, -kLongest, kLongest);
}

}  // namespace

LogClock::LogClock(milliseconds retention)
    : tolerance_(std::min<milliseconds>(std::chrono::seconds(1), retention / 8)) {}

bool LogClock::Agree(microseconds a, microseconds b) const {
    return std::chrono::abs(a - b) <= tolerance_;
}

void LogClock::Start(TimePoint now, WallTime wall, const ClockState& last) {
    read_at_ = now;
    running_ = std::max(InRange(last.running), milliseconds(0));
    date_ = std::max(InRange(last.date), InRange(wall));
    known_ = last.known ? microseconds(InRange(*last.known))
                        : InRange(wall).time_since_epoch() - running_;
    pending_from_ = last.pending_from;
    credits_ = last.credits;
    for (ClockCredit& credit : credits_) {
        credit.time = std::clamp<microseconds>(credit.time, microseconds(0), kLongest / 80);
    }
    is_crediting_ = is_settled_ = false;
    jump_.reset();
    absence_.reset();
}

std::optional<milliseconds> LogClock::Read(TimePoint now, WallTime wall, LogOffset end) {
    wall = InRange(wall);
    const microseconds elapsed =
        std::max(microseconds(0), duration_cast<microseconds>(now - read_at_));
    // What is less than a microsecond counts the next time.
    read_at_ += elapsed;
    running_ += elapsed;
    date_ += elapsed;
    const microseconds offset = wall.time_since_epoch() - running_;
    const microseconds ahead = offset - known_;
    if (env::Planted(env::PlantedBug::kTrustWallClock)) {
        date_ = wall;
        pending_from_ = UINT64_MAX;
        Credit(std::max(ahead, microseconds(0)));
        return std::nullopt;
    }
    absence_ = absence_.value_or(ahead);
    const microseconds seen = std::min<microseconds>(elapsed, kMostBetweenReadings);
    const bool is_jump = Judge(offset, seen);
    const bool is_ahead = ahead > tolerance_;
    if (is_ahead && pending_from_ == 0) {
        pending_from_ = end;
    }
    if (is_ahead && jump_->stood >= kStandsFor) {
        is_crediting_ = true;
        const bool at_once = env::Planted(env::PlantedBug::kAbsenceAtOnce);
        Credit(at_once ? ahead : std::min<microseconds>(ahead, seen * (kCatchUpRate - 1)));
    } else if (!is_ahead && is_crediting_) {
        is_crediting_ = false;
        is_settled_ = true;
        pending_from_ = 0;
    }
    FollowDate(wall, elapsed);
    if (!is_jump || !IsToTell(now, ahead)) {
        return std::nullopt;
    }
    return duration_cast<milliseconds>(ahead);
}

/// Whether the wall clock is where it was not seen before.
bool LogClock::Judge(microseconds offset, microseconds seen) {
    if (Agree(offset, known_)) {
        jump_.reset();
        return false;
    }
    if (jump_ && Agree(offset, jump_->offset)) {
        jump_->stood += seen;
        return false;
    }
    jump_ = Jump{offset};
    return true;
}

void LogClock::Credit(microseconds time) {
    known_ += time;
    if (!credits_.empty() && credits_.back().below >= pending_from_) {
        // What it says of what lies between the two is not more than before.
        credits_.back().below = pending_from_;
        credits_.back().time += time;
        return;
    }
    credits_.push_back({pending_from_, time});
    if (credits_.size() > kMostCredits) {
        // What lies between the two is taken for younger.
        credits_[0].time += credits_[1].time;
        credits_.erase(credits_.begin() + 1);
    }
}

void LogClock::FollowDate(WallTime wall, microseconds elapsed) {
    const microseconds ahead = Time(wall) - date_;
    if (ahead <= tolerance_) {
        date_ += std::clamp(ahead, -elapsed / kSlewPart, elapsed / kSlewPart);
    } else if (!jump_ || jump_->stood >= kStandsFor) {
        date_ = wall;
    }
}

bool LogClock::IsToTell(TimePoint now, microseconds ahead) {
    const bool is_absence = ahead > tolerance_ && ahead <= *absence_ + tolerance_;
    if ((is_absence && ahead < kToldAbsence) || (told_at_ && now - *told_at_ < kTellsEvery)) {
        return false;
    }
    told_at_ = now;
    return true;
}

ClockState LogClock::state() const {
    return {running(), date(), std::chrono::ceil<milliseconds>(known_), pending_from_, credits_};
}

microseconds LogClock::AgeOf(RunningTime written, LogOffset end) const {
    microseconds age = running_ - written;
    for (const ClockCredit& credit : credits_) {
        age += end <= credit.below ? credit.time : microseconds(0);
    }
    return age;
}

void LogClock::TakeBack(LogOffset end) {
    pending_from_ = std::min(pending_from_, end);
    for (ClockCredit& credit : credits_) {
        credit.below = std::min(credit.below, end);
    }
}

void LogClock::Forget(LogOffset end) {
    std::erase_if(credits_, [end](const ClockCredit& credit) { return credit.below < end; });
}

bool LogClock::TakeSettled() {
    return std::exchange(is_settled_, false);
}

}  // namespace qmq::store
