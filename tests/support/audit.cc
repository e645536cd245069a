#include "tests/support/audit.h"

#include <algorithm>
#include <sstream>
#include <utility>

namespace qmq::testing {

void Audit::OnSend(const std::string& id, std::string_view body, const std::string& not_for) {
    const std::lock_guard lock(mutex_);
    Sent& sent = sent_[id];
    sent.body = body;
    sent.not_for = not_for;
}

std::uint64_t Audit::MissingGroups(const Sent& sent) const {
    std::uint64_t missing = 0;
    for (const std::string& group : groups_) {
        missing += group != sent.not_for && !sent.deliveries.contains(group) ? 1U : 0U;
    }
    return missing;
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
    if (outcome != SendOutcome::kPersisted) {
        return;
    }
    ++persisted_;
    missing_ += MissingGroups(sent);
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
    std::vector<Delivery>& deliveries = sent.deliveries[group];
    if (group == sent.not_for) {
        immediate_.push_back("group " + group + " was given message " + id +
                             ", which its filter does not let through");
    } else if (deliveries.empty() && sent.told && sent.outcome == SendOutcome::kPersisted) {
        --missing_;
    }
    deliveries.push_back({attempt, power_cuts_, false});
}

void Audit::OnAckConfirmed(const std::string& group, const std::string& id) {
    const std::lock_guard lock(mutex_);
    std::vector<Delivery>& deliveries = sent_[id].deliveries[group];
    if (deliveries.empty()) {
        immediate_.push_back("group " + group + ": the ack of message " + id +
                             ", which it never had, was confirmed");
        return;
    }
    deliveries.back().ack_confirmed = true;
}

void Audit::OnPowerCut() {
    const std::lock_guard lock(mutex_);
    ++power_cuts_;
    for (auto& [id, sent] : sent_) {
        if (!sent.told || sent.outcome != SendOutcome::kPersisted ||
            sent.reached >= Durability::kFsync) {
            continue;
        }
        sent.outcome = SendOutcome::kUnknown;
        missing_ -= MissingGroups(sent);
    }
}

void Audit::AddGroup(const std::string& group) {
    const std::lock_guard lock(mutex_);
    groups_.push_back(group);
}

std::uint64_t Audit::missing_count() const {
    const std::lock_guard lock(mutex_);
    return missing_;
}

std::uint64_t Audit::persisted_count() const {
    const std::lock_guard lock(mutex_);
    return persisted_;
}

std::uint64_t Audit::told_count() const {
    const std::lock_guard lock(mutex_);
    return told_;
}

void Audit::Problem(Verdict& verdict, std::string text) const {
    constexpr std::size_t kShown = 20;
    ++verdict.problem_count;
    if (verdict.problems.size() < kShown) {
        verdict.problems.push_back(std::move(text));
    }
}

void Audit::JudgeDeliveries(const std::string& id,
                            const Sent& sent,
                            const std::string& group,
                            Verdict& verdict) const {
    const auto found = sent.deliveries.find(group);
    const std::size_t times = found == sent.deliveries.end() ? 0 : found->second.size();
    verdict.handled += times;
    if (times == 0) {
        if (group != sent.not_for && sent.told && sent.outcome == SendOutcome::kPersisted) {
            ++verdict.lost;
            Problem(verdict,
                    "message " + id + " was told persisted and never reached group " + group);
        }
        return;
    }
    if (sent.told && sent.outcome == SendOutcome::kRefused) {
        Problem(verdict, "message " + id + " was told refused and reached group " + group);
    }
    verdict.duplicates += times - 1;
    if (sent.frames > 1 || !sent.told) {
        return;  // It may be stored more than once: each copy has attempts of its own.
    }
    for (std::size_t i = 1; i < times; ++i) {
        const Delivery& before = found->second[i - 1];
        const Delivery& now = found->second[i];
        const bool cut = now.power_cuts != before.power_cuts;
        if (before.ack_confirmed && !cut) {
            Problem(verdict,
                    "message " + id + " was delivered to group " + group +
                        " again after its ack was confirmed");
        } else if (now.attempt <= before.attempt && !cut) {
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
