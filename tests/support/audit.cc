#include "tests/support/audit.h"

#include <algorithm>
#include <sstream>
#include <utility>

namespace qmq::testing {

void Audit::OnSend(const Sending& sending) {
    const std::lock_guard lock(mutex_);
    Sent& sent = sent_[sending.id];
    sent.body = sending.body;
    sent.not_for = sending.not_for;
    sent.promised = sending.promised;
}

void Audit::OnTold(const std::string& id,
                   SendOutcome outcome,
                   std::uint32_t frames,
                   Durability reached) {
    const std::lock_guard lock(mutex_);
    Sent& sent = sent_[id];
    if (sent.told) {
        immediate_.push_back("message " + id + ": its sender was answered twice");
        return;
    }
    sent.told = true;
    sent.outcome = outcome;
    sent.frames = frames;
    sent.reached = reached;
    ++told_;
}

void Audit::OnHandled(const std::string& group,
                      const std::string& id,
                      std::string_view body,
                      std::uint32_t attempt) {
    const std::lock_guard lock(mutex_);
    const auto found = sent_.find(id);
    if (found == sent_.end()) {
        ++never_sent_;
        immediate_.push_back("group " + group + " was given message " + id + ", which nobody sent");
        return;
    }
    Sent& sent = found->second;
    if (sent.body != body) {
        immediate_.push_back("group " + group + " was given message " + id +
                             " with another body than it was sent with");
    }
    if (group == sent.not_for) {
        immediate_.push_back("group " + group + " was given message " + id +
                             ", which its filter does not let through");
    }
    sent.groups[group].deliveries.push_back({attempt});
}

void Audit::OnAckConfirmed(const std::string& group, const std::string& id) {
    const std::lock_guard lock(mutex_);
    std::vector<Delivery>& deliveries = sent_[id].groups[group].deliveries;
    if (deliveries.empty()) {
        immediate_.push_back("group " + group + ": the ack of message " + id +
                             ", which it never had, was confirmed");
        return;
    }
    deliveries.back().ack_confirmed = true;
    deliveries.back().confirmed_at = durable_points_;
}

void Audit::OnDurablePoint() {
    const std::lock_guard lock(mutex_);
    ++durable_points_;
}

void Audit::OnPowerCut() {
    const std::lock_guard lock(mutex_);
    for (auto& [id, sent] : sent_) {
        if (sent.told && sent.outcome == SendOutcome::kPersisted &&
            sent.reached < Durability::kFsync) {
            sent.outcome = SendOutcome::kUnknown;
        }
        sent.may_be_gone = sent.may_be_gone || sent.promised < Durability::kFsync;
        for (auto& [group, seen] : sent.groups) {
            const bool settled = !seen.deliveries.empty() && seen.deliveries.back().ack_confirmed &&
                                 seen.deliveries.back().confirmed_at + 1 < durable_points_;
            seen.forgiven = seen.forgiven || !settled;
        }
    }
}

void Audit::OnDamaged(const std::string& id) {
    const std::lock_guard lock(mutex_);
    sent_[id].damaged = true;
}

void Audit::AddGroup(const std::string& group) {
    const std::lock_guard lock(mutex_);
    groups_.push_back(group);
}

bool Audit::MustCome(const Sent& sent) {
    if (sent.damaged) {
        return false;
    }
    return (sent.told && sent.outcome == SendOutcome::kPersisted) ||
           (!sent.groups.empty() && !sent.may_be_gone);
}

std::uint64_t Audit::missing_count() const {
    const std::lock_guard lock(mutex_);
    std::uint64_t missing = 0;
    for (const auto& [id, sent] : sent_) {
        if (!MustCome(sent)) {
            continue;
        }
        for (const std::string& group : groups_) {
            missing += group != sent.not_for && !sent.groups.contains(group) ? 1U : 0U;
        }
    }
    return missing;
}

std::uint64_t Audit::told_count() const {
    const std::lock_guard lock(mutex_);
    return told_;
}

void Audit::Problem(Verdict& verdict, std::string text) {
    constexpr std::size_t kShown = 20;
    ++verdict.problem_count;
    if (verdict.problems.size() < kShown) {
        verdict.problems.push_back(std::move(text));
    }
}

void Audit::JudgeDeliveries(const std::string& id,
                            const Sent& sent,
                            const std::string& group,
                            Verdict& verdict) {
    const auto found = sent.groups.find(group);
    if (found == sent.groups.end()) {
        if (MustCome(sent) && group != sent.not_for) {
            ++verdict.lost;
            const bool told = sent.told && sent.outcome == SendOutcome::kPersisted;
            Problem(verdict,
                    "message " + id +
                        (told ? " was told persisted" : " was seen by another group") +
                        " and never reached group " + group);
        }
        return;
    }
    const std::vector<Delivery>& deliveries = found->second.deliveries;
    verdict.handled += deliveries.size();
    verdict.duplicates += deliveries.size() - 1;
    if (sent.told && sent.outcome == SendOutcome::kRefused) {
        Problem(verdict, "message " + id + " was told refused and reached group " + group);
    }
    if (sent.frames > 1 || !sent.told || found->second.forgiven) {
        return;  // It may be stored more than once, and each copy has attempts of its own; or see
                 // OnPowerCut.
    }
    for (std::size_t i = 1; i < deliveries.size(); ++i) {
        const Delivery& before = deliveries[i - 1];
        const Delivery& now = deliveries[i];
        if (before.ack_confirmed) {
            Problem(verdict,
                    "message " + id + " was delivered to group " + group +
                        " again after its ack was confirmed");
        } else if (now.attempt <= before.attempt) {
            Problem(verdict,
                    "message " + id + " was delivered to group " + group + " with attempt " +
                        std::to_string(now.attempt) + " after attempt " +
                        std::to_string(before.attempt));
        }
    }
}

Audit::Verdict Audit::Judge() const {
    const std::lock_guard lock(mutex_);
    Verdict verdict;
    verdict.never_sent = never_sent_;
    for (const std::string& problem : immediate_) {
        Problem(verdict, problem);
    }
    for (const auto& [id, sent] : sent_) {
        ++verdict.sent;
        verdict.persisted += sent.told && sent.outcome == SendOutcome::kPersisted ? 1U : 0U;
        verdict.refused += sent.told && sent.outcome == SendOutcome::kRefused ? 1U : 0U;
        verdict.unknown += !sent.told || sent.outcome == SendOutcome::kUnknown ? 1U : 0U;
        for (const std::string& group : groups_) {
            JudgeDeliveries(id, sent, group, verdict);
        }
    }
    return verdict;
}

std::string Audit::Verdict::ToString() const {
    std::ostringstream text;
    text << "sent " << sent << ", persisted " << persisted << ", unknown " << unknown
         << ", refused " << refused << ", handled " << handled << ", duplicates " << duplicates
         << ", lost " << lost << ", never sent " << never_sent << ", unexplained " << problem_count;
    for (const std::string& problem : problems) {
        text << "\n  " << problem;
    }
    return text.str();
}

}  // namespace qmq::testing
