#include "tests/support/audit_tree.h"

#include <algorithm>
#include <utility>

namespace qmq::testing {

namespace {

/// Nothing fits behind what is acked.
constexpr unsigned kAckedMisfit = 8;
/// From here on something is wrong.
constexpr unsigned kLeastMisfit = 4;

}  // namespace

StoryTree::StoryTree(const Story& story,
                     const StoryRules& rules,
                     const History& history,
                     Reading reading,
                     std::vector<std::size_t> choices)
    : story_(story),
      rules_(rules),
      history_(history),
      reading_(reading),
      choices_(std::move(choices)) {
    for (const Step& step : story_.steps) {
        Place(step);
    }
}

bool StoryTree::NextChoices(std::vector<std::size_t>& choices) const {
    choices = choices_;
    choices.resize(choice_counts_.size());
    while (!choices.empty() && choices.back() + 1 >= choice_counts_[choices.size() - 1]) {
        choices.pop_back();
    }
    if (choices.empty()) {
        return false;
    }
    ++choices.back();
    return true;
}

bool StoryTree::IsForgiven(const Node& node,
                           std::size_t cut_count,
                           TimePoint when,
                           const Step* follower) const {
    const Step& step = *node.step;
    follower = node.follower != kNone ? nodes_[node.follower].step : follower;
    std::size_t begin = step.cut_count;
    std::uint64_t point = step.point;
    if (step.answer == Step::Answer::kRecorded && step.answered_at <= when) {
        begin = step.answered_cut_count;
        point = step.answered_point;
    } else if (follower != nullptr) {
        point = follower->point;  // It had ended by then.
    }
    // An ack says nothing where the record of the hand-out is damaged, also when it came later.
    return history_.MayForget(point, begin, cut_count) ||
           history_.HasDamage(step.cut_count, cut_count);
}

bool StoryTree::IsForgiven(const Node& node, const Step& now) const {
    return IsForgiven(node, now.cut_count, now.at);
}

/// Whether `node`, which has led to another copy, has led to that of `now` as well when it was
/// failed once more: a power cut had taken the first retry before its consumer had an answer.
bool StoryTree::IsEndedAgain(const Node& node, const Step& now) const {
    const Step& step = *node.step;
    if (node.follower == kNone || step.asked != AckVerdict::kRetry ||
        step.answer != Step::Answer::kRecorded || step.answered_at > now.at) {
        return false;
    }
    const Step& first = *nodes_[node.follower].step;
    const auto index = static_cast<std::size_t>(&node - nodes_.data());
    const bool has_led_to_more = std::any_of(nodes_.begin(), nodes_.end(), [&](const Node& each) {
        return each.parent == index && each.step < &now && each.step->at >= step.answered_at;
    });
    return first.at < step.answered_at && !has_led_to_more &&
           history_.MayForget(first.point, first.cut_count, step.answered_cut_count);
}

bool StoryTree::MayFork(const Node& node, const Step& now) const {
    return IsForgiven(node, now) || IsEndedAgain(node, now);
}

/// Finds the delivery that `step` follows, if any.
void StoryTree::Place(const Step& step) {
    std::size_t parent = LastOfSameCopy(step);
    if (parent == kNone && (!step.copy.has_value() || step.copy->from_retry)) {
        parent = BestParent(step);
    } else if (parent != kNone && step.copy->from_retry) {
        parent = Choose(OthersOfSameSequence(parent, step));
    }
    const bool is_fork = parent != kNone && nodes_[parent].follower != kNone;
    if (parent != kNone && !is_fork) {
        nodes_[parent].follower = nodes_.size();
    }
    nodes_.push_back({&step, parent, kNone, is_fork});
}

std::size_t StoryTree::LastOfSameCopy(const Step& step) const {
    for (std::size_t i = nodes_.size(); step.copy.has_value() && i > 0; --i) {
        if (nodes_[i - 1].step->copy == step.copy) {
            return i - 1;
        }
    }
    return kNone;
}

/// `same`, and what `now` may follow as well: a power cut took the retry that had made the copy of
/// `same`, so that its sequence was used again, for a retry of what failed after the cut.
std::vector<std::size_t> StoryTree::OthersOfSameSequence(std::size_t same, const Step& now) const {
    std::vector<std::size_t> others{same};
    std::size_t made = same;
    while (made != kNone && nodes_[made].step->copy == now.copy) {
        made = nodes_[made].parent;
    }
    for (std::size_t i = 0; i < nodes_.size() && made != kNone; ++i) {
        const Step& step = *nodes_[i].step;
        const bool is_answered = step.answer == Step::Answer::kRecorded;
        const bool has_failed = step.asked == AckVerdict::kRetry && step.copy != now.copy &&
                                nodes_[i].follower == kNone;
        if (has_failed && Misfit(nodes_[i], now) < kLeastMisfit &&
            IsForgiven(nodes_[made],
                       is_answered ? step.answered_cut_count : now.cut_count,
                       is_answered ? step.answered_at : now.at)) {
            others.push_back(i);
        }
    }
    return others;
}

/// For a copy that a retry has made, or one that is not known.
std::size_t StoryTree::BestParent(const Step& step) {
    // A power cut may have taken a copy that was handed out, and another one has its sequence now.
    const auto handed_out = std::find_if(
        story_.hand_outs.rbegin(), story_.hand_outs.rend(), [&](const Story::HandOut& each) {
            return each.copy == step.copy && each.at <= step.at;
        });
    const TimePoint made = handed_out == story_.hand_outs.rend() ? step.at : handed_out->at;
    std::size_t best = kNone;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        const bool may_be = step.copy.has_value() || nodes_[i].follower == kNone;
        if (may_be && nodes_[i].step->at <= made &&
            (best == kNone || FitsBetter(nodes_[i], nodes_[best], step))) {
            best = i;
        }
    }
    if (best != kNone && step.copy.has_value()) {
        return Choose(OthersThatFit(best, made, step));
    }
    if (best == kNone || !HasRoom()) {
        return best;
    }
    // What was stored twice may have come to a consumer that died and then, as the other copy,
    // to one that acked it; then the first copy comes again with whatever attempt.
    const unsigned misfit = Misfit(nodes_[best], step);
    return misfit >= kAckedMisfit || (misfit > 0 && step.attempt == 1) ? kNone : best;
}

bool StoryTree::HasRoom() const {
    return rules_.most_copies == 0 || CountCopies() < rules_.most_copies;
}

std::size_t StoryTree::Choose(const std::vector<std::size_t>& fitting) {
    if (fitting.size() == 1) {
        return fitting.front();
    }
    choice_counts_.push_back(fitting.size());
    return choice_counts_.size() > choices_.size() ? fitting.front()
                                                   : fitting[choices_[choice_counts_.size() - 1]];
}

/// `best`, and what the copy of `now` may follow as well: a consumer that died had begun, or
/// had not, and so its message comes with one attempt more, or with as many.
std::vector<std::size_t> StoryTree::OthersThatFit(std::size_t best,
                                                  TimePoint made,
                                                  const Step& now) const {
    std::vector<std::size_t> fitting{best};
    const unsigned least = Misfit(nodes_[best], now);
    for (std::size_t i = 0; i < nodes_.size() && least < kLeastMisfit; ++i) {
        const bool may_lead = nodes_[i].follower == kNone || MayFork(nodes_[i], now);
        if (i != best && may_lead && nodes_[i].step->at <= made &&
            Misfit(nodes_[i], now) <= least + 1) {
            fitting.push_back(i);
        }
    }
    if (MayBeMoved(now)) {
        fitting.insert(least >= kAckedMisfit ? fitting.begin() : fitting.end(), kNone);
    }
    return fitting;
}

/// Whether the copy of `now` may be what the broker made of one that it handed out and no
/// handler saw, for instance since the packet was lost; or since the broker died when it had
/// recorded the hand-out and told nobody.
bool StoryTree::MayBeMoved(const Step& now) const {
    if (!HasRoom() || now.attempt > 1 + Counted(now.unseen)) {
        return false;
    }
    std::set<std::uint64_t> unseen;
    if (history_.broker_died.has_value() && *history_.broker_died <= now.at) {
        unseen = rules_.copies;
    }
    for (const Story::HandOut& each : story_.hand_outs) {
        if (!each.copy.from_retry && each.at <= now.at) {
            unseen.insert(each.copy.sequence);
        }
    }
    std::erase_if(unseen, [this](std::uint64_t sequence) {
        return std::any_of(story_.steps.begin(), story_.steps.end(), [&](const Step& step) {
            return step.copy == Copy{false, sequence};
        });
    });
    const auto moved = std::count_if(nodes_.begin(), nodes_.end(), [](const Node& node) {
        return node.parent == kNone && node.step->copy.has_value() && node.step->copy->from_retry;
    });
    return static_cast<std::size_t>(moved) < unseen.size();
}

/// Whether `now` fits better behind `node` than behind `other`, an older one.
bool StoryTree::FitsBetter(const Node& node, const Node& other, const Step& now) const {
    const bool by_due = reading_ == Reading::kNewestDue || reading_ == Reading::kOldestDue;
    const auto misfit = [&](const Node& each) {
        const bool is_early = each.step->due.has_value() && now.at < *each.step->due;
        return 2 * Misfit(each, now) + (by_due && is_early ? 1U : 0U);
    };
    const bool is_newest = reading_ == Reading::kNewest || reading_ == Reading::kNewestDue;
    return misfit(node) < misfit(other) || (is_newest && misfit(node) == misfit(other));
}

/// How badly `now` fits behind `node`; zero is well.
unsigned StoryTree::Misfit(const Node& node, const Step& now) const {
    const Step& before = *node.step;
    unsigned misfit = before.is_acked() && !IsForgiven(node, now) ? kAckedMisfit : 0U;
    // What was not held any more when it was decided may come again, whatever was asked.
    const bool has_ended = before.asked.has_value() && before.answer != Step::Answer::kNotHeld;
    misfit += has_ended && before.asked != AckVerdict::kRetry ? 2U : 0U;
    if (node.follower != kNone) {
        misfit += MayFork(node, now) ? 1U : 6U;
    } else if (ComesAgainItself(node, now)) {
        misfit += 6U;
    }
    if (now.attempt != before.attempt + 1) {
        // A consumer that dies costs no attempt when it has told nothing of what it had begun.
        const bool may_stay = !now.copy.has_value() && before.answer != Step::Answer::kRecorded;
        const bool must_rise = before.answer == Step::Answer::kRecorded &&
                               before.asked == AckVerdict::kRetry && !IsForgiven(node, now);
        misfit += now.attempt != before.attempt || must_rise ? 4U : may_stay ? 0U : 1U;
    }
    return misfit;
}

/// Whether this delivery has not led to `now`, as the same copy comes later, which no power cut
/// explains: neither one after it had ended nor, where nobody knows when that was, after `now`.
bool StoryTree::ComesAgainItself(const Node& node, const Step& now) const {
    const auto begin = story_.steps.begin() + (node.step - story_.steps.data()) + 1;
    const auto again = std::find_if(begin, story_.steps.end(), [&](const Step& step) {
        return step.copy.has_value() && step.copy == node.step->copy;
    });
    return again != story_.steps.end() && !IsForgiven(node, again->cut_count, again->at, &now);
}

std::size_t StoryTree::CountCopies() const {
    return static_cast<std::size_t>(std::count_if(
        nodes_.begin(), nodes_.end(), [](const Node& each) { return each.parent == kNone; }));
}

}  // namespace qmq::testing
