#include "tests/crash/judges.h"

#include "tests/crash/common.h"
#include "tests/crash/member.h"

namespace qmq::testing {

namespace {

/// Zero: the clock's own time.
thread_local std::int64_t event_us = 0;

TimePoint AtUs(std::int64_t us) {
    return TimePoint(std::chrono::microseconds(us));
}

std::string BodySeen(const MemberEvent& event) {
    return event.detail == 1 ? BodyOf(event.id) : "another one";
}

}  // namespace

TimePoint EventClock::Now() const {
    return event_us == 0 ? SystemClock().Now() : AtUs(event_us);
}

EventClock::At::At(std::int64_t at_us) {
    event_us = at_us;
}

EventClock::At::~At() {
    event_us = 0;
}

Judges::Judges() {
    for (const GroupPlan& plan : GroupPlans()) {
        if (plan.group != kAuditor) {
            Audit::GroupRules rules;
            rules.name = plan.group;
            rules.max_attempts = plan.has_hopeless ? plan.max_attempts : 0;
            audit_.AddGroup(rules);
        }
    }
}

void Judges::OnTrouble() {
    const std::lock_guard lock(mutex_);
    calm_from_ = SystemClock().Now() + kGrace + kComeBack;
    audit_.OnTrouble(calm_from_);
}

void Judges::OnStall(TimePoint from, TimePoint until) {
    audit_.OnTrouble(from, until + kCatchUp);
}

std::uint64_t Judges::unaudited_count() const {
    const std::lock_guard lock(mutex_);
    return unaudited_.size();
}

void Judges::On(const MemberEvent& event) {
    const EventClock::At at(event.at_us);
    if (event.kind == MemberEvent::kDied) {
        // What it had fetched and not begun comes as late as what it held.
        const TimePoint due = AtUs(event.at_us) + kGrace;
        audit_.OnConsumerGone(event.member, due);
        audit_.OnTrouble(due);
    } else if (event.group == kAuditor) {
        OnAuditor(event);
    } else if (event.group == kInventory) {
        OnInventory(event);
    } else {
        OnMembers(event);
    }
}

void Judges::OnMembers(const MemberEvent& event) {
    const Hold hold{event.member, event.serial};
    if (event.kind == MemberEvent::kHandled) {
        const std::string body = BodySeen(event);
        deliveries_[hold] = audit_.OnHandled({.group = event.group,
                                              .id = event.id,
                                              .body = body,
                                              .attempt = event.attempt,
                                              .consumer = event.member,
                                              .copy = event.copy});
        const std::lock_guard lock(mutex_);
        timed_ += event.attempt > 1 && clock_.Now() > calm_from_ ? 1U : 0U;
        return;
    }
    const auto found = deliveries_.find(hold);
    if (found == deliveries_.end()) {
        Die("a member asks for what it never had: " + event.id);
    }
    if (event.kind == MemberEvent::kAsked) {
        audit_.OnAsked(found->second, AskingOf(event));
    } else {
        audit_.OnAnswered(found->second, Status(static_cast<StatusCode>(event.detail), event.text));
    }
}

Audit::Asking Judges::AskingOf(const MemberEvent& event) {
    Audit::Asking asking;
    asking.error = event.text;
    switch (event.verdict) {
        case MemberEvent::kNone:
        case MemberEvent::kAck:
            break;
        case MemberEvent::kFailed:
        case MemberEvent::kRetry:
        case MemberEvent::kForgotten:
            asking.verdict = AckVerdict::kRetry;
            asking.due = AtUs(event.at_us + event.detail * 1'000);
            break;
        case MemberEvent::kReject:
            asking.verdict = AckVerdict::kDeadLetter;
            asking.due = AtUs(event.at_us);
            break;
    }
    return asking;
}

/// Of the dead letters, this group has to ack each.
void Judges::OnAuditor(const MemberEvent& event) {
    if (event.kind == MemberEvent::kAsked && event.verdict == MemberEvent::kAck) {
        const std::lock_guard lock(mutex_);
        audited_.insert(event.id);
        unaudited_.erase(event.id);
    }
}

/// Nothing is broken while it reads, so it sees each stored one once.
void Judges::OnInventory(const MemberEvent& event) {
    if (event.kind != MemberEvent::kHandled) {
        return;
    }
    const std::string body = BodySeen(event);
    audit_.OnDeadLetter({.group = kFewAttempts,
                         .id = event.id,
                         .body = body,
                         .attempt = event.attempt,
                         .error = event.text,
                         .copy = event.copy});
    const std::lock_guard lock(mutex_);
    if (!audited_.contains(event.id)) {
        unaudited_.insert(event.id);
    }
}

}  // namespace qmq::testing
