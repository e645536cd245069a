#include "tests/support/audit_story.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "tests/support/audit_tree.h"

namespace qmq::testing {

namespace {

/// After its due time a delivery may take this long.
constexpr std::chrono::nanoseconds kSoon = std::chrono::seconds(1);
/// Of one story that can be read in many ways.
constexpr int kMostReadings = 100;

std::string Millis(std::chrono::nanoseconds time) {
    return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(time).count()) +
           " ms";
}

/// Whether one way to read a story is right.
class StoryJudge {
public:
    StoryJudge(const StoryTree& tree,
               const Story& story,
               const StoryRules& rules,
               const History& history)
        : tree_(tree), nodes_(tree.nodes()), story_(story), rules_(rules), history_(history) {}

    StoryVerdict Judge() {
        std::size_t open = 0;
        for (const Node& node : nodes_) {
            if (node.parent == kNone) {
                CheckFirst(*node.step);
            } else {
                CheckPair(node);
            }
            const bool is_end = node.follower == kNone;
            ends_ += is_end ? 1U : 0U;
            open += is_end && !IsDone(node) ? 1U : 0U;
        }
        CheckCopies();
        CheckDeadLetters();
        verdict_.is_done = open <= story_.dead_letters.size();
        return std::move(verdict_);
    }

private:
    static constexpr std::size_t kNone = StoryTree::kNone;
    using Node = StoryTree::Node;

    void Problem(std::string text) { verdict_.problems.push_back(std::move(text)); }

    /// Whether a power cut may have taken the hand-out of `now`, and its ack with it, so that the
    /// same copy was held by the consumer of `before` again, whose ack was confirmed after that.
    bool IsUndone(const Step& before, const Step& now) const {
        return history_.MayForget(now.point, now.answered_cut_count, before.answered_cut_count);
    }

    void CheckCopies() {
        const std::size_t count = tree_.CountCopies();
        if (rules_.most_copies != 0 && count > rules_.most_copies) {
            Problem("has " + std::to_string(count) + " copies, and travelled in " +
                    std::to_string(rules_.most_copies) + " frames");
        }
        std::set<std::uint64_t> originals;
        for (const Node& node : nodes_) {
            const std::optional<Copy>& copy = node.step->copy;
            if (node.parent != kNone || !copy.has_value()) {
                continue;
            }
            if (copy->from_retry) {
                ++verdict_.moved_count;
                continue;
            }
            originals.insert(copy->sequence);
            if (rules_.most_copies == 1 && rules_.sequence.has_value() &&
                copy->sequence != *rules_.sequence) {
                Problem("came with sequence " + std::to_string(copy->sequence) +
                        "; its receipt says " + std::to_string(*rules_.sequence));
            }
        }
        if (!originals.empty() || verdict_.moved_count > 0) {  // Else nobody knows which ones came.
            NoteUnseen(originals);
        }
    }

    void NoteUnseen(const std::set<std::uint64_t>& originals) {
        std::vector<std::uint64_t>& unseen = verdict_.unseen;
        std::set_difference(rules_.copies.begin(),
                            rules_.copies.end(),
                            originals.begin(),
                            originals.end(),
                            std::back_inserter(unseen));
        unseen.resize(unseen.size() - std::min<std::size_t>(unseen.size(), verdict_.moved_count));
    }

    void CheckFirst(const Step& first) {
        if (rules_.hand_outs_are_known && first.attempt > 1 + Counted(first.unseen)) {
            Problem("came for the first time with attempt " + std::to_string(first.attempt));
        }
        if (rules_.since.has_value() && &first == nodes_.front().step) {
            CheckTime(*rules_.since, first.at, "came");
        }
    }

    void CheckPair(const Node& node) {
        const Node& parent = nodes_[node.parent];
        const Step& before = *parent.step;
        const Step& now = *node.step;
        const bool is_forgiven = tree_.IsForgiven(parent, now);
        const bool is_answered =
            before.answer == Step::Answer::kRecorded && before.answered_at <= now.at;
        if (node.is_fork && !tree_.MayFork(parent, now)) {
            Problem("came again as what it was before its retry");
            return;
        }
        if (is_answered && before.asked == AckVerdict::kAck && !is_forgiven) {
            Problem("came again after its ack was confirmed");
            return;
        }
        // One answer may be about both: it does not say which of them was not held any more.
        if (before.is_acked() && now.is_acked() && now.copy.has_value() &&
            before.copy == now.copy && before.answered_at != now.answered_at && !is_forgiven &&
            !IsUndone(before, now)) {
            Problem("was acked twice, and both acks were confirmed");
        }
        if (is_answered && before.asked == AckVerdict::kDeadLetter && !is_forgiven) {
            Problem("came again after it was rejected");
        }
        CheckAttempt(node);
        if (before.due.has_value()) {
            CheckTime(std::max(*before.due, before.at), now.at, "came again");
        }
    }

    void CheckTime(TimePoint due, TimePoint at, const std::string& what) {
        const TimePoint latest = std::max(due, history_.BrokenUntil(at)) + kSoon;
        if (at > latest) {
            Problem(what + " " + Millis(at - due) + " after it was due, though nothing was broken");
        }
    }

    void CheckAttempt(const Node& node) {
        const Step& before = *nodes_[node.parent].step;
        const Step& now = *node.step;
        const bool is_calm = history_.BrokenUntil(now.at) <= before.at && !before.is_gone;
        const bool has_decided =
            before.asked == AckVerdict::kRetry &&
            (is_calm || (before.answer == Step::Answer::kRecorded && before.answered_at <= now.at));
        const std::uint32_t least = before.cut_count != now.cut_count
                                        ? LeastAfterCut(node)
                                        : before.attempt + (has_decided ? 1U : 0U);
        // Those that handled it may have died without a word of it, and so for nothing.
        const std::uint64_t silent = SilentBefore(node);
        const std::uint64_t after = Counted(now.unseen + silent);
        const std::uint64_t deaths = after - std::min(after, Counted(before.unseen + silent));
        const std::uint64_t most = before.attempt + 1 + deaths;
        if (now.attempt < least || (rules_.hand_outs_are_known && now.attempt > most)) {
            Problem("came with attempt " + std::to_string(now.attempt) + " after attempt " +
                    std::to_string(before.attempt) +
                    (has_decided ? ", which its handler had failed" : ""));
        }
        if (rules_.max_attempts != 0 && now.attempt > rules_.max_attempts) {
            Problem("came with attempt " + std::to_string(now.attempt) + " of " +
                    std::to_string(rules_.max_attempts));
        }
    }

    /// Deliveries before `node` of which the broker may know no more than that they were held.
    std::uint64_t SilentBefore(const Node& node) const {
        std::uint64_t count = 0;
        for (std::size_t at = node.parent; at != kNone; at = nodes_[at].parent) {
            const Step& step = *nodes_[at].step;
            const bool is_told = step.answer == Step::Answer::kRecorded &&
                                 step.answered_at <= node.step->at &&
                                 step.cut_count == node.step->cut_count;
            count += static_cast<std::uint64_t>(!is_told);
        }
        return count;
    }

    /// What no power cut can have taken of the attempts before `node`.
    std::uint32_t LeastAfterCut(const Node& node) const {
        std::uint32_t least = 1;
        for (std::size_t at = node.parent; at != kNone; at = nodes_[at].parent) {
            const Step& step = *nodes_[at].step;
            if (!history_.MayForget(step.point, step.cut_count, node.step->cut_count)) {
                least = std::max(least, step.attempt);
            }
        }
        return least;
    }

    /// Whether what ends with `end` was asked to be acked at last.
    bool IsDone(const Node& end) {
        if (MayBeGone(end) || WasAckedByHolderBefore(end) ||
            (rules_.may_be_passed_over && !StaysHandedOut(end))) {
            return true;
        }
        for (const Node* node = &end; node != nullptr;
             node = node->parent == kNone ? nullptr : &nodes_[node->parent]) {
            if (node->step->asked == AckVerdict::kAck) {
                return true;
            }
            if (node->step->answer != Step::Answer::kNotHeld) {
                break;
            }
            // It was another's by then; what that one asked for counts.
        }
        const Step& last = *end.step;
        verdict_.open = "attempt " + std::to_string(last.attempt);
        if (!last.asked.has_value()) {
            verdict_.open += last.is_gone ? " was with a consumer that died" : " is undecided";
        } else {
            verdict_.open += *last.asked == AckVerdict::kRetry ? " failed" : " was rejected";
        }
        return false;
    }

    /// Whether a power cut may have taken the hand-out of `end` with all that came of it, so that
    /// who held the same copy before held it again, and acked it then.
    bool WasAckedByHolderBefore(const Node& end) const {
        std::vector<const Step*> later{end.step};
        for (std::size_t at = end.parent; at != kNone; at = nodes_[at].parent) {
            const Step& before = *nodes_[at].step;
            if (!before.copy.has_value() || before.copy != end.step->copy) {
                return false;
            }
            const bool may_hold = std::all_of(later.begin(), later.end(), [&](const Step* step) {
                return history_.MayForget(step->point, step->cut_count, before.answered_cut_count);
            });
            if (before.is_acked() && may_hold) {
                return true;
            }
            later.push_back(&before);
        }
        return false;
    }

    /// Whether a power cut may have taken the record that made the copy of `end`, or one before it,
    /// or that of its hand-out: after that the copy which it was made of, or which was handed out,
    /// came again, and goes on instead.
    bool MayBeGone(const Node& end) const {
        for (const Node* node = &end; node->parent != kNone; node = &nodes_[node->parent]) {
            const Node& parent = nodes_[node->parent];
            const Step& step = *node->step;
            for (const Node& other : nodes_) {
                if (other.is_fork && other.parent == node->parent && &other != node &&
                    other.step->at > end.step->at &&
                    (step.copy != parent.step->copy ||
                     history_.MayForget(step.point, step.cut_count, other.step->cut_count)) &&
                    tree_.MayFork(parent, *other.step)) {
                    return true;
                }
            }
        }
        return false;
    }

    /// Whether a hand-out of the copy of `end`, or of one before it, outlives all power cuts: what
    /// was handed out once is never passed over.
    bool StaysHandedOut(const Node& end) const {
        if (!rules_.hand_outs_are_known) {
            return true;
        }
        for (const Node* node = &end; node != nullptr;
             node = node->parent == kNone ? nullptr : &nodes_[node->parent]) {
            const std::optional<Copy>& copy = node->step->copy;
            const bool stays = !copy.has_value() ||
                               std::any_of(story_.hand_outs.begin(),
                                           story_.hand_outs.end(),
                                           [&](const Story::HandOut& each) {
                                               return each.copy == copy && history_.Keeps(each);
                                           });
            if (stays) {
                return true;
            }
        }
        return false;
    }

    void CheckDeadLetters() {
        const std::vector<StoryDeadLetter>& letters = story_.dead_letters;
        if (letters.empty()) {
            return;
        }
        // A power cut may forget that a letter was written, and it is written again.
        const std::size_t before =
            nodes_.empty() ? letters.front().cut_count : nodes_.front().step->cut_count;
        const std::size_t cuts = history_.cuts.size() - before;
        if (letters.size() > std::max<std::size_t>(ends_, 1) + cuts) {
            Problem("is " + std::to_string(letters.size()) + " dead letters");
        }
        for (const StoryDeadLetter& letter : letters) {
            CheckDeadLetter(letter);
        }
    }

    /// A letter fits when some copy may have ended so.
    void CheckDeadLetter(const StoryDeadLetter& letter) {
        std::string misfit = "and was never handed to a handler";
        for (const Node& node : nodes_) {
            const Step& last = *node.step;
            if (node.follower != kNone && !tree_.IsForgiven(node, letter.cut_count, letter.at) &&
                !HasEndedBefore(node, letter)) {
                continue;
            }
            if (!MayEnd(last, letter)) {
                misfit = "after attempt " + std::to_string(last.attempt) + " of " +
                         std::to_string(rules_.max_attempts);
                continue;
            }
            // Of a higher attempt: those that no handler saw used up the rest, with their own
            // reason.
            if (last.answer == Step::Answer::kRecorded && last.asked != AckVerdict::kAck &&
                letter.attempt <= last.attempt &&
                !tree_.IsForgiven(node, letter.cut_count, letter.at) &&
                letter.error != last.error) {
                misfit =
                    "with the error \"" + letter.error + "\" instead of \"" + last.error + "\"";
                continue;
            }
            if (last.due.has_value()) {
                CheckTime(*last.due, letter.at, "became a dead letter");
            }
            return;
        }
        Problem("is a dead letter " + misfit);
    }

    /// Whether the letter was there before the copy of `node` came again, as its end was forgotten.
    bool HasEndedBefore(const Node& node, const StoryDeadLetter& letter) const {
        const Step& again = *nodes_[node.follower].step;
        return letter.at < again.at && tree_.IsForgiven(node, again);
    }

    bool MayEnd(const Step& last, const StoryDeadLetter& letter) const {
        if (last.asked == AckVerdict::kDeadLetter) {
            return true;
        }
        // A consumer that dies may have told the broker of a handler that has begun, and nobody
        // else.
        const std::uint64_t deaths = rules_.hand_outs_are_known
                                         ? Counted(story_.handed_out_count)
                                         : history_.DeathsBetween(last.at, letter.at);
        return rules_.max_attempts != 0 && letter.attempt >= rules_.max_attempts &&
               last.attempt + deaths >= rules_.max_attempts;
    }

    const StoryTree& tree_;
    const std::vector<Node>& nodes_;
    const Story& story_;
    const StoryRules& rules_;
    const History& history_;
    std::size_t ends_ = 0;
    StoryVerdict verdict_;
};

}  // namespace

TimePoint History::BrokenUntil(TimePoint when) const {
    const auto after = std::upper_bound(
        troubles.begin(), troubles.end(), when, [](TimePoint time, const Trouble& trouble) {
            return time < trouble.at;
        });
    return after == troubles.begin() ? TimePoint() : std::prev(after)->until;
}

bool History::MayForget(std::uint64_t point, std::size_t begin, std::size_t end) const {
    for (std::size_t i = begin; i < end; ++i) {
        if (cuts[i].forgets_all || point + 1 >= cuts[i].point) {
            return true;
        }
    }
    return false;
}

bool History::HasDamage(std::size_t begin, std::size_t end) const {
    return std::any_of(cuts.begin() + static_cast<std::ptrdiff_t>(begin),
                       cuts.begin() + static_cast<std::ptrdiff_t>(std::max(begin, end)),
                       [](const Cut& cut) { return cut.forgets_all; });
}

bool History::Keeps(const Story::HandOut& hand_out) const {
    return !MayForget(hand_out.point, hand_out.cut_count, cuts.size());
}

std::uint64_t History::DeathsBetween(TimePoint from, TimePoint until) const {
    return static_cast<std::uint64_t>(
        std::count_if(deaths.begin(), deaths.end(), [&](TimePoint death) {
            return from <= death && death <= until;
        }));
}

StoryVerdict JudgeStory(const Story& story, const StoryRules& rules, const History& history) {
    // What was stored twice is right when there is a way to read it in which it is.
    std::optional<StoryVerdict> best;
    const auto wrongs = [&rules](const StoryVerdict& verdict) {
        return verdict.problems.size() + (verdict.is_done ? 0 : 1) +
               (rules.all_must_come ? verdict.unseen.size() : 0);
    };
    const auto is_right = [&](StoryVerdict verdict) {
        if (!best.has_value() || wrongs(verdict) < wrongs(*best)) {
            best = std::move(verdict);
        }
        return wrongs(*best) == 0;
    };
    const auto judge = [&](const StoryTree& tree) {
        return StoryJudge(tree, story, rules, history).Judge();
    };
    for (const StoryTree::Reading reading : StoryTree::kReadings) {
        if (is_right(judge(StoryTree(story, rules, history, reading)))) {
            return *std::move(best);
        }
    }
    std::vector<std::size_t> choices;
    for (int i = 0; i < kMostReadings; ++i) {
        const StoryTree tree(story, rules, history, StoryTree::Reading::kNewest, choices);
        if (is_right(judge(tree)) || !tree.NextChoices(choices)) {
            break;
        }
    }
    return *std::move(best);
}

}  // namespace qmq::testing
