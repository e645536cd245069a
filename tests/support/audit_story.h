#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "qmq/clock.h"
#include "qmq/protocol.h"

/// What one message went through in one group, and whether that may be so. A part of the audit.
namespace qmq::testing {

/// One stored copy of a message: its sequence in the subject, or in the group's retry subject.
struct Copy {
    bool from_retry = false;
    std::uint64_t sequence = 0;
    friend bool operator==(const Copy&, const Copy&) = default;
};

/// One delivery to a handler, and what became of it.
struct Step {
    enum class Answer : std::uint8_t { kNone, kRecorded, kNotHeld, kUnknown };

    std::uint32_t attempt = 1;
    std::string consumer;
    std::optional<Copy> copy;
    TimePoint at{};
    std::uint64_t point = 0;    // Durable points before it.
    std::size_t cut_count = 0;  // Power cuts before it.
    std::uint64_t unseen = 0;   // Hand-outs before it that no handler saw.
    std::optional<AckVerdict> asked;
    std::string error;
    std::optional<TimePoint> due;
    Answer answer = Answer::kNone;
    TimePoint answered_at{};
    std::uint64_t answered_point = 0;
    std::size_t answered_cut_count = 0;
    bool is_gone = false;  // Its consumer died before the end.

    bool is_acked() const { return asked == AckVerdict::kAck && answer == Answer::kRecorded; }
};

struct StoryDeadLetter {
    std::optional<Copy> copy;
    std::uint32_t attempt = 1;
    std::string error;
    TimePoint at{};
    std::size_t cut_count = 0;
};

struct Story {
    std::vector<Step> steps;
    std::vector<StoryDeadLetter> dead_letters;
    std::uint64_t handed_out_count = 0;
    struct HandOut {
        Copy copy;
        TimePoint at{};
        std::uint64_t point = 0;    // Durable points before it.
        std::size_t cut_count = 0;  // Power cuts before it.
    };
    /// The first one of each copy after each power cut, where that is known.
    std::vector<HandOut> hand_outs;
};

/// What was done to the system, and when.
struct History {
    struct Cut {
        TimePoint at{};
        std::uint64_t point = 0;
        bool forgets_all = false;  // Also what was synced.
    };
    struct Trouble {
        TimePoint at{};
        TimePoint until{};  // Of this and all before.
    };
    std::vector<Cut> cuts;
    std::vector<Trouble> troubles;
    std::vector<TimePoint> deaths;         // Of consumers.
    std::optional<TimePoint> broker_died;  // For the first time.
    std::uint64_t points = 0;

    /// Until when something was broken, as far as it had begun by `when`.
    TimePoint BrokenUntil(TimePoint when) const;
    /// Whether a power cut, from the one numbered `begin` on and before `end`, may have taken what
    /// was recorded after so many durable points.
    bool MayForget(std::uint64_t point, std::size_t begin, std::size_t end) const;
    /// Whether one of these was damage.
    bool HasDamage(std::size_t begin, std::size_t end) const;
    /// Whether the record of it outlives all power cuts.
    bool Keeps(const Story::HandOut& hand_out) const;
    std::uint64_t DeathsBetween(TimePoint from, TimePoint until) const;
};

struct StoryRules {
    std::uint32_t max_attempts = 0;  // Zero: none.
    /// Copies that may exist at most. Zero: no limit.
    std::uint64_t most_copies = 0;
    /// Of the copy that the receipt names.
    std::optional<std::uint64_t> sequence;
    /// The sequences of the copies that are known to be stored, whoever has seen them.
    std::set<std::uint64_t> copies;
    bool all_must_come = false;  ///< Each of these copies.
    /// When it was there to be handed out, if that is known.
    std::optional<TimePoint> since;
    bool hand_outs_are_known = false;
    /// No member wants it any more, or none did for a while: a copy comes again only where a
    /// hand-out of it is remembered.
    bool may_be_passed_over = false;
};

struct StoryVerdict {
    /// Every copy that was seen is acked or a dead letter.
    bool is_done = false;
    /// Of the copies that are known to be stored, what a group that has seen some has not, neither
    /// itself nor as what the broker made of it before any handler saw it.
    std::vector<std::uint64_t> unseen;
    /// Copies that no handler saw before the broker moved them, so that nobody knows of which
    /// original.
    std::uint64_t moved_count = 0;
    /// How the last delivery that is not done ended, for people.
    std::string open;
    std::vector<std::string> problems;
};
/// Its deliveries, for people.
std::string Describe(const Story& story);

StoryVerdict JudgeStory(const Story& story, const StoryRules& rules, const History& history);

}  // namespace qmq::testing
