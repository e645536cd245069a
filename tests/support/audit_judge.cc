#include <algorithm>
#include <sstream>
#include <utility>

#include "tests/support/audit.h"

namespace qmq::testing {

namespace {

void Add(Audit::Verdict& verdict, std::string text) {
    constexpr std::size_t kShown = 20;
    ++verdict.problem_count;
    if (verdict.problems.size() < kShown) {
        verdict.problems.push_back(std::move(text));
    }
}

}  // namespace

StoryRules Audit::RulesOf(const Sent& sent, const Group& group) const {
    StoryRules rules;
    rules.max_attempts = group.rules.max_attempts;
    // Its producer died before it heard, and may have sent it again: then nobody knows.
    rules.most_copies = sent.told ? sent.frames : 0;
    rules.sequence = sent.sequence;
    rules.copies = CopiesOf(sent);
    rules.all_must_come = MustCome(sent) && MustReach(sent, group);
    const bool is_dated = sent.told && sent.outcome == SendOutcome::kPersisted &&
                          !group.rules.is_mixed && !group.rules.may_be_away;
    rules.since = is_dated ? std::optional(sent.told_at) : std::nullopt;
    rules.hand_outs_are_known = hand_outs_are_known_;
    rules.may_be_passed_over = group.rules.is_mixed && !MustReach(sent, group);
    return rules;
}

bool Audit::MustCome(const Sent& sent) {
    if (sent.damaged) {
        return false;
    }
    const bool is_seen = std::any_of(sent.groups.begin(), sent.groups.end(), [](const auto& each) {
        return !each.second.steps.empty();
    });
    return (sent.told && sent.outcome == SendOutcome::kPersisted) || (is_seen && !sent.may_be_gone);
}

/// Whether a member was handed some copy, and no power cut since may have taken the record of it:
/// what was handed out once is never passed over.
bool Audit::StaysHandedOut(const Sent& sent, const Group& group) const {
    const auto story = sent.groups.find(group.rules.name);
    return story != sent.groups.end() &&
           std::any_of(story->second.hand_outs.begin(),
                       story->second.hand_outs.end(),
                       [&](const Story::HandOut& each) { return history_.Keeps(each); });
}

/// Whether that is so of the copy with this sequence.
bool Audit::StaysHandedOut(const Story& story, std::uint64_t sequence) const {
    return std::any_of(
        story.hand_outs.begin(), story.hand_outs.end(), [&](const Story::HandOut& each) {
            return each.copy == Copy{false, sequence} && history_.Keeps(each);
        });
}

bool Audit::Reads(const Group& group, const Sent& sent) {
    const std::vector<std::string>& subjects = group.rules.subjects;
    return subjects.empty() ||
           std::find(subjects.begin(), subjects.end(), sent.sending.subject) != subjects.end();
}

/// Whether some member that wants it was there all the time since it was sent.
bool Audit::MustReach(const Sent& sent, const Group& group) const {
    if (group.rules.name == sent.sending.not_for || group.rules.is_at_most_once ||
        !Reads(group, sent)) {
        return false;
    }
    if (!group.rules.is_mixed) {
        return true;
    }
    TimePoint covered = sent.at;
    bool is_open = false;
    bool is_longer = true;
    while (is_longer && !is_open) {
        is_longer = false;
        for (const Span& span : group.members) {
            if (span.member.subject != sent.sending.subject || span.from > covered ||
                !LetsThrough(span.member.filter, sent.sending.tags)) {
                continue;
            }
            is_open = is_open || !span.until.has_value();
            if (span.until.has_value() && *span.until > covered) {
                covered = *span.until;
                is_longer = true;
            }
        }
    }
    return is_open;
}

bool Audit::IsOpen(const Sent& sent, const Group& group) const {
    if (sent.damaged || group.rules.is_at_most_once) {
        return false;
    }
    const auto found = sent.groups.find(group.rules.name);
    const bool is_seen = found != sent.groups.end() && !found->second.steps.empty();
    if (!is_seen) {
        const bool is_buried = found != sent.groups.end() && !found->second.dead_letters.empty();
        return MustCome(sent) && !is_buried &&
               (MustReach(sent, group) || StaysHandedOut(sent, group));
    }
    if (sent.may_be_gone) {
        return false;
    }
    return !JudgeStory(found->second, RulesOf(sent, group), history_).is_done;
}

bool Audit::HasMissingCopies(const Sent& sent, const Group& group) const {
    const auto found = sent.groups.find(group.rules.name);
    if (found == sent.groups.end() || found->second.steps.empty() || sent.frames == 1) {
        return false;
    }
    const StoryRules rules = RulesOf(sent, group);
    return rules.all_must_come && !JudgeStory(found->second, rules, history_).unseen.empty();
}

std::uint64_t Audit::missing_count() const {
    const std::lock_guard lock(mutex_);
    for (const Sent* sent : std::exchange(changed_, {})) {
        std::uint64_t open = 0;
        for (const auto& [name, group] : groups_) {
            open += IsOpen(*sent, group) || HasMissingCopies(*sent, group) ? 1U : 0U;
        }
        std::uint64_t& before = open_[sent];
        open_count_ += open - before;
        before = open;
    }
    return open_count_;
}

void Audit::JudgeOne(const Sent& sent,
                     const Group& group,
                     Verdict& verdict,
                     Missing* missing) const {
    const std::string& name = group.rules.name;
    const std::string message = "message " + sent.id;
    const auto found = sent.groups.find(name);
    const bool is_seen = found != sent.groups.end() && !found->second.steps.empty();
    if (!is_seen) {
        if (IsOpen(sent, group)) {
            const bool told = sent.told && sent.outcome == SendOutcome::kPersisted;
            // A resend may have stored it twice: the group has lost each copy.
            const std::set<std::uint64_t> known = CopiesOf(sent);
            const std::size_t copies = std::max<std::size_t>(known.size(), 1);
            for (const std::uint64_t sequence : known) {
                const bool was_held =
                    found != sent.groups.end() && StaysHandedOut(found->second, sequence);
                missing->seen_count += was_held ? 1U : 0U;
            }
            missing->unread_count += MostCopiesOf(sent) - std::min(MostCopiesOf(sent), copies);
            missing->texts.insert(
                missing->texts.end(),
                copies,
                message + (told ? " was told persisted" : " was seen by another group") +
                    " and never reached group " + name);
        } else if (found != sent.groups.end() && !found->second.dead_letters.empty()) {
            Add(verdict, message + ", which group " + name + " never saw, is its dead letter");
        } else if (Reads(group, sent) && sent.outcome != SendOutcome::kRefused) {
            missing->unread_count += std::max<std::size_t>(MostCopiesOf(sent), 1);
        }
        return;
    }
    verdict.handled += found->second.steps.size();
    verdict.duplicates += found->second.steps.size() - 1;
    verdict.dead_letters += found->second.dead_letters.size();
    if (sent.told && sent.outcome == SendOutcome::kRefused) {
        Add(verdict, message + " was told refused and reached group " + name);
    }
    const StoryRules rules = RulesOf(sent, group);
    const StoryVerdict story = JudgeStory(found->second, rules, history_);
    missing->unread_count += MustReach(sent, group) ? 0 : story.unseen.size();
    missing->unread_count += MostCopiesOf(sent) - CopiesOf(sent).size();
    if (group.rules.is_at_most_once) {
        return;  // What it may not see was noticed when it did.
    }
    const auto history = [&] {
        return " (" + std::to_string(sent.frames) + " frames; " + Describe(found->second) + ")";
    };
    for (const std::string& problem : story.problems) {
        if (sent.damaged) {
            break;  // A copy, or what was recorded of it, is gone.
        }
        Add(verdict, message + " in group " + name + " " + problem + history());
    }
    if (IsOpen(sent, group)) {
        missing->seen_count += IsForgotten(found->second) ? 0U : 1U;
        missing->texts.push_back(message + " never came again to group " + name + ": " +
                                 story.open + history());
        return;
    }
    for (std::size_t i = 0; rules.all_must_come && i < story.unseen.size(); ++i) {
        // Where the broker has moved some, nobody knows which ones.
        const bool was_held =
            story.moved_count == 0 && StaysHandedOut(found->second, story.unseen[i]);
        missing->seen_count += was_held ? 1U : 0U;
        missing->texts.push_back(message + ": its copy with sequence " +
                                 std::to_string(story.unseen[i]) + " never reached group " + name +
                                 history());
    }
}

/// Whether a power cut may have made the system forget that it ever handed out what this tells of.
bool Audit::IsForgotten(const Story& story) const {
    const Step& first = story.steps.front();
    return history_.MayForget(first.point, first.cut_count, history_.cuts.size());
}

/// The copies that are known to be stored: that of the receipt, and what any group has seen.
std::set<std::uint64_t> Audit::CopiesOf(const Sent& sent) {
    std::set<std::uint64_t> copies;
    if (sent.outcome == SendOutcome::kPersisted && sent.sequence.has_value()) {
        copies.insert(*sent.sequence);
    }
    if (sent.may_be_gone) {
        return copies;
    }
    for (const auto& [name, story] : sent.groups) {
        for (const Step& step : story.steps) {
            if (step.copy.has_value() && !step.copy->from_retry) {
                copies.insert(step.copy->sequence);
            }
        }
    }
    return copies;
}

/// With those that nobody was told of and no group has seen: the answer to their frame was lost, or
/// the system ended, or failed, before it could say whether it had stored them.
std::size_t Audit::MostCopiesOf(const Sent& sent) const {
    std::set<std::uint64_t> copies = CopiesOf(sent);
    const std::size_t known_count = copies.size();
    copies.insert(sent.stored.begin(), sent.stored.end());
    const std::size_t most = copies.size() + sent.unanswered_frames;
    return most > known_count && HasSeenAll(sent) ? known_count : most;
}

/// Whether some group has seen each copy, since it must, and counts nothing as lost.
bool Audit::HasSeenAll(const Sent& sent) const {
    return std::any_of(groups_.begin(), groups_.end(), [&](const auto& each) {
        const Group& group = each.second;
        if (group.losses.count != 0 || !MustReach(sent, group)) {
            return false;
        }
        const auto story = sent.groups.find(group.rules.name);
        // What it had moved, or buried, may be a copy that nobody else has seen.
        return story == sent.groups.end() ||
               (story->second.dead_letters.empty() &&
                JudgeStory(story->second, RulesOf(sent, group), history_).moved_count == 0);
    });
}

void Audit::JudgeLosses(const Group& group, const Missing& missing, Verdict& verdict) {
    const Losses& losses = group.losses;
    const std::uint64_t count = missing.texts.size();
    if (missing.seen_count > losses.seen_count) {
        Add(verdict,
            "group " + group.rules.name + " lost " + std::to_string(missing.seen_count) +
                " messages that it had been handed; it counts " +
                std::to_string(losses.seen_count) + " that may be such");
    }
    // What a member held when it was lost may have been handled all the same.
    std::uint64_t least =
        losses.is_exact ? losses.count - std::min(losses.count, losses.seen_count) : 0;
    least -= std::min(least, missing.unread_count);
    if (losses.count != 0 && (count > losses.count || count < least)) {
        Add(verdict,
            "group " + group.rules.name + " counts " + std::to_string(losses.count) +
                " lost messages; " + std::to_string(count) + " are missing");
    }
    const bool is_excused = count <= losses.count && missing.seen_count <= losses.seen_count;
    (is_excused ? verdict.counted_lost : verdict.lost) += count;
    for (const std::string& each : missing.texts) {
        if (!is_excused) {
            Add(verdict, each);
        }
    }
}

Audit::Verdict Audit::Judge() const {
    const std::lock_guard lock(mutex_);
    Verdict verdict;
    verdict.never_sent = never_sent_;
    for (const std::string& problem : immediate_) {
        Add(verdict, problem);
    }
    for (const auto& [id, sent] : sent_) {
        ++verdict.sent;
        verdict.persisted += sent.told && sent.outcome == SendOutcome::kPersisted ? 1U : 0U;
        verdict.refused += sent.told && sent.outcome == SendOutcome::kRefused ? 1U : 0U;
        verdict.unknown += !sent.told || sent.outcome == SendOutcome::kUnknown ? 1U : 0U;
    }
    for (const auto& [name, group] : groups_) {
        Missing missing;
        for (const auto& [id, sent] : sent_) {
            JudgeOne(sent, group, verdict, &missing);
        }
        JudgeLosses(group, missing, verdict);
    }
    return verdict;
}

std::string Audit::Verdict::ToString() const {
    std::ostringstream text;
    text << "sent " << sent << ", persisted " << persisted << ", unknown " << unknown
         << ", refused " << refused << ", handled " << handled << ", duplicates " << duplicates
         << ", dead letters " << dead_letters << ", lost " << lost << ", lost and counted "
         << counted_lost << ", never sent " << never_sent << ", unexplained " << problem_count;
    for (const std::string& problem : problems) {
        text << "\n  " << problem;
    }
    return text.str();
}

}  // namespace qmq::testing
