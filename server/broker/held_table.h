#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>

#include "qmq/check.h"

#include "server/broker/actions.h"
#include "server/broker/ring.h"

namespace qmq::broker {

/// Milliseconds since the shard was opened, by the clock that never jumps. "Ms" in names; wall
/// times are `std::int64_t` milliseconds since 1970.
using ShardMs = std::int64_t;

/// More attempts than this are not told apart.
inline constexpr std::uint32_t kMostAttempts = (1U << 20U) - 1;

/// A message that a consumer was handed: 24 bytes, because a consumer may hold 65,536 of them.
class Held {
public:
    Held() = default;
    Held(Origin origin,
         std::uint64_t sequence,
         std::uint32_t attempt,
         std::int64_t since_ms,
         std::uint8_t deaths = 0)
        : place_(sequence << 2U | static_cast<std::uint64_t>(origin)),
          bits_(static_cast<std::uint64_t>(std::min(attempt, kMostAttempts)) << kAttemptShift |
                (static_cast<std::uint64_t>(deaths) & kDeathsMask) << kDeathsShift | kHeldBit),
          since_ms_(since_ms) {}

    Origin origin() const { return static_cast<Origin>(place_ & 3U); }
    std::uint64_t sequence() const { return place_ >> 2U; }
    std::uint32_t attempt() const {
        return static_cast<std::uint32_t>(bits_ >> kAttemptShift & kAttemptMask);
    }
    /// As in `HandOutRun`.
    std::uint8_t deaths() const {
        return static_cast<std::uint8_t>(bits_ >> kDeathsShift & kDeathsMask);
    }
    /// It was handed out alone, because it is suspected to kill its consumers.
    bool suspect() const { return deaths() >= kSuspectDeaths; }
    /// A handler has it, as the consumer has told: known to this process only.
    bool begun() const { return (bits_ & kBegunBit) != 0; }
    void set_begun() { bits_ |= kBegunBit; }
    /// Neither acked nor given up.
    bool held() const { return (bits_ & kHeldBit) != 0; }
    ShardMs deadline_ms() const { return static_cast<ShardMs>(bits_ >> kDeadlineShift); }
    void set_deadline_ms(ShardMs deadline) {
        bits_ = (bits_ & ((1ULL << kDeadlineShift) - 1)) | static_cast<std::uint64_t>(deadline)
                                                               << kDeadlineShift;
    }
    /// Wall clock of its first hand-out.
    std::int64_t since_ms() const { return since_ms_; }

    /// A copy has taken its place; all else stays.
    void Relocate(Origin origin, std::uint64_t sequence) {
        place_ = sequence << 2U | static_cast<std::uint64_t>(origin);
    }

    /// Whether `next` follows in the same log, and was handed out as often: then one run has both.
    bool Continues(const Held& next) const {
        return next.place_ == place_ + 4 && next.attempt() == attempt() &&
               next.deaths() == deaths();
    }

private:
    friend class HeldTable;
    void set_held(bool held) { bits_ = held ? bits_ | kHeldBit : bits_ & ~kHeldBit; }

    static constexpr std::uint64_t kHeldBit = 1;
    static constexpr unsigned kAttemptShift = 1;
    static constexpr std::uint64_t kAttemptMask = kMostAttempts;
    static constexpr unsigned kDeathsShift = 21;
    static constexpr std::uint64_t kDeathsMask = 3;
    static_assert(kMostDeaths <= kDeathsMask);
    static constexpr std::uint64_t kBegunBit = 1U << 23U;
    static constexpr unsigned kDeadlineShift = 24;  // 40 bits of milliseconds: 34 years.

    std::uint64_t place_ = 0;
    std::uint64_t bits_ = 0;
    std::int64_t since_ms_ = 0;
};
static_assert(sizeof(Held) == 24);

/// What a consumer holds, by pull sequence.
///
/// Pull sequences are dense within a process and most messages are done soon, so a ring from
/// `base_` on has them, and its done front is cut off. A handler may work on one message for hours
/// while thousands are done behind it: when little of the ring is still held, its oldest become
/// stragglers, kept one by one, so that memory follows what is held and not what has passed.
class HeldTable {
public:
    /// The first pull sequence will be `first`. Only on an empty table.
    void Begin(std::uint64_t first) { base_ = first; }

    std::uint32_t count() const { return count_; }
    /// Of `count`, those that were handed out alone.
    std::uint32_t suspect_count() const { return suspect_count_; }
    /// The pull sequence that the next message gets.
    std::uint64_t next() const { return base_ + ring_.size(); }
    /// Nothing below this is held.
    std::uint64_t first() const { return stragglers_.empty() ? base_ : stragglers_.begin()->first; }

    /// Null unless it is held.
    Held* Find(std::uint64_t pull) {
        if (pull >= base_) {
            Held* held = pull < next() ? &At(pull) : nullptr;
            return held != nullptr && held->held() ? held : nullptr;
        }
        const auto found = stragglers_.find(pull);
        return found != stragglers_.end() && found->second.held() ? &found->second : nullptr;
    }

    /// The first one that is held from `pull` on; nothing when there is none below `end`.
    std::optional<std::uint64_t> NextHeld(std::uint64_t pull, std::uint64_t end) const;

    /// `visit(pull, held)` for what is held of `range`, which may reach far beyond what there is.
    /// It may mark the one it is given as done.
    template <typename Visit>
    void ForEach(PullRange range, Visit visit) {
        for (auto at = stragglers_.lower_bound(range.first);
             at != stragglers_.end() && at->first <= range.last;
             ++at) {
            if (at->second.held()) {
                visit(at->first, at->second);
            }
        }
        const std::uint64_t end = range.last >= next() ? next() : range.last + 1;
        for (std::uint64_t pull = std::max(range.first, base_); pull < end; ++pull) {
            if (Held& held = At(pull); held.held()) {
                visit(pull, held);
            }
        }
    }
    template <typename Visit>
    void ForEach(Visit visit) {
        ForEach(PullRange{0, UINT64_MAX}, visit);
    }
    template <typename Visit>
    void ForEach(Visit visit) const {
        // The visitor gets it to read only.
        const_cast<HeldTable*>(this)->ForEach(  // NOLINT(cppcoreguidelines-pro-type-const-cast)
            [&visit](std::uint64_t pull, const Held& held) { visit(pull, held); });
    }

    void Push(const Held& held) {
        ring_.push_back(held);
        ++count_;
        suspect_count_ += held.suspect() ? 1U : 0U;
    }
    /// Takes back the newest, which is held.
    Held Pop() {
        const Held held = ring_.back();
        QMQ_CHECK(held.held(), "the newest is taken back before anything is done with it");
        ring_.pop_back();
        --count_;
        suspect_count_ -= held.suspect() ? 1U : 0U;
        return held;
    }
    /// The next one pushed gets `next`, or a later one.
    void SkipTo(std::uint64_t next);
    /// Takes `SkipTo` back, when `next` was the next one then and all that came since is popped.
    void SkipBack(std::uint64_t next);

    void MarkDone(std::uint64_t pull) { Set(pull, false); }
    /// Takes `MarkDone` back, while no `Trim` has come between.
    void MarkHeld(std::uint64_t pull) { Set(pull, true); }

    /// Entries of the ring, done ones included: what memory it takes.
    std::size_t ring_size() const { return ring_.size(); }

    /// Forgets what is done, where that gives memory back.
    void Trim();

private:
    /// A ring with less is not worth the trouble.
    static constexpr std::size_t kSmallRing = 1024;

    Held& At(std::uint64_t pull) { return ring_[static_cast<std::size_t>(pull - base_)]; }
    const Held& At(std::uint64_t pull) const {
        return ring_[static_cast<std::size_t>(pull - base_)];
    }
    void Set(std::uint64_t pull, bool held);
    void CutFront();

    std::uint64_t base_ = 0;
    Ring<Held> ring_;
    std::map<std::uint64_t, Held> stragglers_;  ///< All below `base_`.
    std::uint32_t count_ = 0;                   ///< Held, in both.
    std::uint32_t suspect_count_ = 0;
};

}  // namespace qmq::broker
