#include "tests/support/audit.h"

#include <algorithm>
#include <utility>

namespace qmq::testing {

void Audit::AddGroup(const GroupRules& rules) {
    const std::lock_guard lock(mutex_);
    groups_[rules.name].rules = rules;
}

void Audit::Changed(Sent& sent) const {
    changed_.push_back(&sent);
}

void Audit::OnSend(const Sending& sending) {
    const std::lock_guard lock(mutex_);
    Sent& sent = sent_[sending.id];
    sent.id = sending.id;
    sent.sending = sending;
    sent.at = clock_.Now();
}

void Audit::OnTold(const std::string& id,
                   SendOutcome outcome,
                   std::uint32_t frames,
                   Durability reached,
                   std::optional<std::uint64_t> sequence) {
    const std::lock_guard lock(mutex_);
    Sent& sent = sent_[id];
    if (sent.told) {
        Problem("message " + id + ": its sender was answered twice");
        return;
    }
    sent.told = true;
    sent.outcome = outcome;
    sent.frames = frames;
    sent.reached = reached;
    sent.told_point = history_.points;
    sent.told_at = clock_.Now();
    ++told_;
    if (outcome == SendOutcome::kPersisted && sequence.has_value()) {
        sent.sequence = sequence;
        CheckReceipt(sent);
    }
    Changed(sent);
}

void Audit::CheckReceipt(const Sent& sent) {
    const auto [place, is_new] =
        receipts_.try_emplace({sent.sending.subject, *sent.sequence},
                              Receipt{sent.id, sent.reached, history_.cuts.size()});
    Receipt& other = place->second;
    if (is_new) {
        return;
    }
    // A power cut may take what was not synced, and its sequence is used again.
    const bool may_be_cut =
        other.reached < Durability::kFsync && other.cut_count != history_.cuts.size();
    if (!may_be_cut && !MayLookTorn(sent_[other.id])) {
        Problem("messages " + other.id + " and " + sent.id + " were both told sequence " +
                std::to_string(*sent.sequence) + " of subject " + sent.sending.subject);
    }
    other = {sent.id, sent.reached, history_.cuts.size()};
}

bool Audit::MayLookTorn(const Sent& sent) {
    return sent.tail_damaged.has_value() &&
           (sent.reached < Durability::kFsync || *sent.tail_damaged >= sent.at);
}

void Audit::OnArrived(const std::string& id) {
    const std::lock_guard lock(mutex_);
    if (const auto found = sent_.find(id); found != sent_.end()) {
        ++found->second.unanswered_frames;
    }
}

void Audit::OnStored(const std::string& id, SendOutcome outcome, std::uint64_t sequence) {
    const std::lock_guard lock(mutex_);
    const auto found = sent_.find(id);
    if (found == sent_.end()) {
        return;
    }
    Sent& sent = found->second;
    if (outcome != SendOutcome::kUnknown) {
        sent.unanswered_frames -= std::min<std::uint64_t>(sent.unanswered_frames, 1);
    }
    if (outcome == SendOutcome::kPersisted) {
        sent.stored.insert(sequence);
    }
}

void Audit::OnHandedOut(const std::string& group, const std::string& id, Copy copy) {
    const std::lock_guard lock(mutex_);
    hand_outs_are_known_ = true;
    const auto found = sent_.find(id);
    if (found == sent_.end() || !groups_.contains(group)) {
        return;
    }
    Story& story = found->second.groups[group];
    ++story.handed_out_count;
    Changed(found->second);
    const std::size_t cut_count = history_.cuts.size();
    const bool is_new = std::none_of(
        story.hand_outs.begin(), story.hand_outs.end(), [&](const Story::HandOut& each) {
            return each.copy == copy && each.cut_count == cut_count;
        });
    if (is_new) {
        story.hand_outs.push_back({copy, clock_.Now(), history_.points, cut_count});
    }
}

Audit::DeliveryId Audit::OnHandled(const Handling& handling) {
    const std::lock_guard lock(mutex_);
    const DeliveryId delivery = deliveries_.size();
    const auto found = sent_.find(handling.id);
    const auto group = groups_.find(handling.group);
    const std::string what = "group " + handling.group + " was given message " + handling.id;
    if (found == sent_.end() || group == groups_.end()) {
        ++never_sent_;
        Problem(what + ", which nobody sent");
        deliveries_.push_back({});
        return delivery;
    }
    Sent& sent = found->second;
    if (sent.sending.body != handling.body) {
        Problem(what + " with another body than it was sent with");
    }
    if (handling.group == sent.sending.not_for) {
        Problem(what + ", which its filter does not let through");
    }
    CheckMember(group->second, sent, handling);
    Story& story = sent.groups[handling.group];
    if (handling.copy.has_value()) {
        CheckOrder(group->second, sent, story, *handling.copy);
        CheckOnce(group->second, story, handling);
    }
    Step step;
    step.attempt = handling.attempt;
    step.consumer = handling.consumer;
    step.copy = handling.copy;
    step.at = clock_.Now();
    step.point = history_.points;
    step.cut_count = history_.cuts.size();
    const std::uint64_t seen = story.steps.size() + 1;
    step.unseen = story.handed_out_count > seen ? story.handed_out_count - seen : 0;
    story.steps.push_back(std::move(step));
    sent.seen_point = sent.seen_point.value_or(history_.points);
    deliveries_.push_back({&sent, &group->second, &story, story.steps.size() - 1});
    if (!handling.consumer.empty()) {
        by_consumer_[handling.consumer].push_back(delivery);
    }
    Changed(sent);
    return delivery;
}

void Audit::CheckOrder(Group& group, const Sent& sent, const Story& story, const Copy& copy) {
    const bool is_again = std::any_of(story.steps.begin(),
                                      story.steps.end(),
                                      [&](const Step& step) { return step.copy == copy; });
    if (!group.rules.is_ordered || copy.from_retry || is_again) {
        return;
    }
    const auto [newest, is_first] = group.newest.try_emplace(sent.sending.subject, copy.sequence);
    if (!is_first && copy.sequence <= newest->second && history_.cuts.empty()) {
        Problem("group " + group.rules.name + " was given message " + sent.id + " with sequence " +
                std::to_string(copy.sequence) + " after sequence " +
                std::to_string(newest->second));
    }
    newest->second = copy.sequence;
}

void Audit::CheckOnce(const Group& group, const Story& story, const Handling& handling) {
    const bool is_again = std::any_of(story.steps.begin(),
                                      story.steps.end(),
                                      [&](const Step& step) { return step.copy == handling.copy; });
    const bool is_forgiven = std::any_of(history_.cuts.begin(),
                                         history_.cuts.end(),
                                         [](const History::Cut& cut) { return cut.forgets_all; });
    if (group.rules.is_at_most_once && is_again && !is_forgiven) {
        Problem("group " + handling.group + ", which is acked on receipt, was given message " +
                handling.id + " again");
    }
}

void Audit::CheckMember(const Group& group, const Sent& sent, const Handling& handling) {
    for (const Span& span : group.members) {
        if (span.member.consumer == handling.consumer &&
            span.member.subject == sent.sending.subject &&
            !LetsThrough(span.member.filter, sent.sending.tags)) {
            Problem("consumer " + handling.consumer + " of group " + handling.group +
                    " was given message " + handling.id +
                    ", which its own filter does not let through");
        }
    }
}

bool Audit::LetsThrough(const TagFilter& filter, const std::vector<std::string>& tags) {
    const auto has = [&](const std::string& tag) {
        return std::find(tags.begin(), tags.end(), tag) != tags.end();
    };
    switch (filter.mode) {
        case TagMode::kNone:
            return true;
        case TagMode::kAny:
            return std::any_of(filter.tags.begin(), filter.tags.end(), has);
        case TagMode::kAll:
            return std::all_of(filter.tags.begin(), filter.tags.end(), has);
    }
    return true;
}

void Audit::OnAsked(DeliveryId delivery, const Asking& asking) {
    const std::lock_guard lock(mutex_);
    const Place& place = deliveries_.at(delivery);
    if (place.story == nullptr) {
        return;
    }
    Step& step = place.story->steps[place.step];
    if (asking.verdict == AckVerdict::kRenew || asking.verdict == AckVerdict::kBegin) {
        return;  // It says nothing about the end.
    }
    step.asked = asking.verdict;
    step.due = asking.due;
    step.error = asking.error;
    Changed(*place.sent);
}

void Audit::OnAnswered(DeliveryId delivery, const Status& status) {
    const std::lock_guard lock(mutex_);
    const Place& place = deliveries_.at(delivery);
    if (place.story == nullptr) {
        return;
    }
    Step& step = place.story->steps[place.step];
    step.answered_at = clock_.Now();
    step.answered_point = history_.points;
    step.answered_cut_count = history_.cuts.size();
    step.answer = Step::Answer::kUnknown;
    if (status.ok()) {
        step.answer = Step::Answer::kRecorded;
    } else if (status.code() == StatusCode::kNotFound) {
        step.answer = Step::Answer::kNotHeld;
        if (history_.BrokenUntil(step.answered_at) <= step.at && !step.is_gone) {
            Problem("message " + place.sent->id + ": group " + place.group->rules.name +
                    " was told that it held it no more, though nothing was broken");
        }
    }
    Changed(*place.sent);
}

void Audit::OnConsumerGone(const std::string& consumer, std::optional<TimePoint> due) {
    const std::lock_guard lock(mutex_);
    history_.deaths.push_back(clock_.Now());
    for (const DeliveryId delivery : by_consumer_[consumer]) {
        const Place& place = deliveries_[delivery];
        Step& step = place.story->steps[place.step];
        if (step.answer == Step::Answer::kRecorded || step.is_gone) {
            continue;
        }
        step.is_gone = true;
        step.due = due.has_value() && step.due.has_value() ? std::max(*due, *step.due) : due;
        Changed(*place.sent);
    }
}

void Audit::OnDeadLetter(const DeadLetter& letter) {
    const std::lock_guard lock(mutex_);
    const auto found = sent_.find(letter.id);
    if (found == sent_.end()) {
        ++never_sent_;
        Problem("group " + letter.group + " has dead letter " + letter.id + ", which nobody sent");
        return;
    }
    Sent& sent = found->second;
    if (sent.sending.body != letter.body) {
        Problem("group " + letter.group + " has dead letter " + letter.id +
                " with another body than it was sent with");
    }
    std::vector<StoryDeadLetter>& letters = sent.groups[letter.group].dead_letters;
    const bool is_known = std::any_of(letters.begin(), letters.end(), [&](const auto& each) {
        return each.copy == letter.copy && each.attempt == letter.attempt &&
               each.error == letter.error;
    });
    if (!is_known) {
        letters.push_back(
            {letter.copy, letter.attempt, letter.error, clock_.Now(), history_.cuts.size()});
    }
    Changed(sent);
}

void Audit::OnMember(const Member& member) {
    const std::lock_guard lock(mutex_);
    groups_[member.group].members.push_back({member, clock_.Now(), std::nullopt});
}

void Audit::OnMemberGone(const std::string& consumer, TimePoint when) {
    const std::lock_guard lock(mutex_);
    for (auto& [name, group] : groups_) {
        for (Span& span : group.members) {
            if (span.member.consumer == consumer && !span.until.has_value()) {
                span.until = when;
            }
        }
    }
    for (auto& [id, sent] : sent_) {
        Changed(sent);
    }
}

void Audit::OnDurablePoint() {
    const std::lock_guard lock(mutex_);
    ++history_.points;
}

void Audit::OnPowerCut() {
    const std::lock_guard lock(mutex_);
    const auto is_synced = [&](std::uint64_t point) { return point + 1 < history_.points; };
    history_.cuts.push_back({clock_.Now(), history_.points, false});
    for (auto& [id, sent] : sent_) {
        const bool was_told = sent.told && sent.outcome == SendOutcome::kPersisted;
        if (was_told && sent.reached < Durability::kFsync && !is_synced(sent.told_point)) {
            sent.outcome = SendOutcome::kUnknown;
        }
        const bool is_safe = (was_told && is_synced(sent.told_point)) ||
                             (sent.seen_point.has_value() && is_synced(*sent.seen_point));
        if (sent.sending.promised < Durability::kFsync && !is_safe) {
            sent.may_be_gone = true;
        }
        Changed(sent);
    }
}

void Audit::OnBrokerDied() {
    const std::lock_guard lock(mutex_);
    if (!history_.broker_died.has_value()) {
        history_.broker_died = clock_.Now();
    }
}

void Audit::OnDamaged(const std::string& id) {
    const std::lock_guard lock(mutex_);
    Sent& sent = sent_[id];
    sent.damaged = true;
    Changed(sent);
}

void Audit::OnTailDamaged(const std::string& id, TimePoint last_refusal) {
    OnDamaged(id);
    const std::lock_guard lock(mutex_);
    sent_[id].tail_damaged = last_refusal;
}

void Audit::OnRecordsDamaged() {
    const std::lock_guard lock(mutex_);
    history_.cuts.push_back({clock_.Now(), history_.points, true});
}

void Audit::OnTrouble(TimePoint since, TimePoint until) {
    const std::lock_guard lock(mutex_);
    std::vector<History::Trouble>& troubles = history_.troubles;
    auto place = std::upper_bound(
        troubles.begin(), troubles.end(), since, [](TimePoint time, const History::Trouble& each) {
            return time < each.at;
        });
    const TimePoint longest =
        place == troubles.begin() ? until : std::max(until, std::prev(place)->until);
    place = troubles.insert(place, {since, longest});
    for (; place != troubles.end(); ++place) {
        place->until = std::max(place->until, longest);
    }
}

void Audit::OnLossCounted(const std::string& group, const Losses& losses) {
    const std::lock_guard lock(mutex_);
    const auto found = groups_.find(group);
    if (found != groups_.end()) {
        found->second.losses = losses;
    }
}

std::uint64_t Audit::told_count() const {
    const std::lock_guard lock(mutex_);
    return told_;
}

}  // namespace qmq::testing
