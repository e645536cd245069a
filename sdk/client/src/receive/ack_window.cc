#include "sdk/client/src/receive/ack_window.h"

#include <algorithm>
#include <utility>

#include "sdk/client/src/receive/delivery_run.h"

namespace qmq::internal {

namespace {

Status MaybeRecorded() {
    return Status::Unavailable(
        "the connection was lost before the answer: the acknowledgement may or may not have been "
        "recorded");
}

SequenceRange RangeOf(const AckItem& item) {
    return {item.first, item.last};
}

bool CanJoin(const AckItem& a, const AckItem& b) {
    return a.verdict == b.verdict && a.last + 1 == b.first && a.delay == b.delay &&
           a.error == b.error && a.durability == b.durability;
}

/// A begin is no decision: nobody waits for its answer.
std::uint64_t DecisionCount(const std::vector<AckItem>& items) {
    std::uint64_t count = 0;
    for (const AckItem& item : items) {
        if (item.verdict != AckVerdict::kBegin) {
            count += RangeOf(item).count();
        }
    }
    return count;
}

}  // namespace

Status AckWindow::NotOurs() {
    return Status::NotFound(
        "the message was no longer held by this consumer (its lease was lost, or it was ended "
        "before): it was or will be delivered again");
}

void AckWindow::OnDelivered(SequenceRange range) {
    undecided_count_ += range.count();
    if (!undecided_.empty()) {
        // What waits is one range, so that a backlog costs one entry.
        Held& held = std::prev(undecided_.end())->second;
        if (held.last + 1 == range.first && !held.begun.has_value()) {
            held.last = range.last;
            return;
        }
    }
    undecided_[range.first] = {range.last, std::nullopt};
}

bool AckWindow::AnyUndecided(SequenceRange range) const {
    auto it = undecided_.upper_bound(range.last);
    return it != undecided_.begin() && std::prev(it)->second.last >= range.first;
}

void AckWindow::OnBegun(SequenceRange range, TimePoint now) {
    pending_begun_.Add(range);
    auto it = undecided_.upper_bound(range.first);
    if (it != undecided_.begin()) {
        --it;
    }
    while (it != undecided_.end() && it->first <= range.last) {
        const std::uint64_t first = it->first;
        const Held held = it->second;
        if (held.last < range.first || held.begun.has_value()) {
            ++it;
            continue;
        }
        const SequenceRange cut{std::max(first, range.first), std::min(held.last, range.last)};
        it = undecided_.erase(it);
        if (first < cut.first) {
            undecided_.emplace(first, Held{cut.first - 1, std::nullopt});
        }
        if (cut.last < held.last) {
            it = undecided_.emplace(cut.last + 1, held).first;
        }
        AddBegun(cut, now);
    }
}

/// Into `undecided_`, as part of the range in front of it where that began at the same time.
void AckWindow::AddBegun(SequenceRange range, TimePoint now) {
    auto next = undecided_.upper_bound(range.first);
    if (next != undecided_.begin()) {
        Held& before = std::prev(next)->second;
        if (before.last + 1 == range.first && before.begun == now) {
            before.last = range.last;
            return;
        }
    }
    undecided_.emplace(range.first, Held{range.last, now});
}

void AckWindow::OnPutOff(SequenceRange range) {
    std::vector<SequenceRange> taken;
    undecided_count_ += TakeUndecided(range, &taken);
    for (const SequenceRange& part : taken) {
        undecided_.emplace(part.first, Held{part.last, std::nullopt});
    }
}

std::uint64_t AckWindow::TakeUndecided(SequenceRange range, std::vector<SequenceRange>* taken) {
    std::uint64_t count = 0;
    auto it = undecided_.upper_bound(range.first);
    if (it != undecided_.begin()) {
        --it;
    }
    while (it != undecided_.end() && it->first <= range.last) {
        const std::uint64_t first = it->first;
        const Held held = it->second;
        if (held.last < range.first) {
            ++it;
            continue;
        }
        const SequenceRange cut{std::max(first, range.first), std::min(held.last, range.last)};
        it = undecided_.erase(it);
        if (first < cut.first) {
            undecided_.emplace(first, Held{cut.first - 1, held.begun});
        }
        if (cut.last < held.last) {
            it = undecided_.emplace(cut.last + 1, held).first;
        }
        count += cut.count();
        taken->push_back(cut);
    }
    undecided_count_ -= count;
    return count;
}

std::uint64_t AckWindow::Forget(SequenceRange range) {
    std::vector<SequenceRange> ignored;
    return TakeUndecided(range, &ignored);
}

std::uint64_t AckWindow::Ack(SequenceRange range) {
    std::vector<SequenceRange> taken;
    const std::uint64_t count = TakeUndecided(range, &taken);
    for (const SequenceRange& part : taken) {
        pending_acks_.Add(part);
    }
    return count;
}

std::uint64_t AckWindow::Decide(AckItem item, AckCallback done, std::vector<Answer>* answers) {
    std::vector<SequenceRange> taken;
    const std::uint64_t count = TakeUndecided(RangeOf(item), &taken);
    if (count == 0) {
        if (done) {
            answers->push_back({std::move(done), NotOurs()});
        }
        return 0;
    }
    if (done) {
        pending_waiters_.push_back({RangeOf(item), std::move(done), nullptr, false});
    }
    for (const SequenceRange& part : taken) {
        AckItem one = item;
        one.first = part.first;
        one.last = part.last;
        AddPending(std::move(one));
    }
    return count;
}

void AckWindow::AckOnReceipt(const std::shared_ptr<DeliveryRun>& run) {
    const SequenceRange range = run->range();
    // As durable as the message itself: what is handled must not come again after a power cut.
    AddPending({AckVerdict::kAck, range.first, range.last, std::nullopt, {}, Durability::kDefault});
    pending_waiters_.push_back({range, nullptr, run, false});
}

void AckWindow::AddPending(AckItem item) {
    if (item.verdict == AckVerdict::kBegin) {
        pending_begun_.Add(RangeOf(item));
        return;
    }
    if (item.verdict == AckVerdict::kAck && item.durability == Durability::kMemory) {
        pending_acks_.Add(RangeOf(item));
        return;
    }
    if (!pending_other_.empty() && CanJoin(pending_other_.back(), item)) {
        pending_other_.back().last = item.last;
        return;
    }
    pending_other_.push_back(std::move(item));
}

std::uint64_t AckWindow::unconfirmed_count() const {
    std::uint64_t count = pending_acks_.count() + DecisionCount(pending_other_);
    for (const auto& [token, sent] : sent_) {
        count += DecisionCount(sent.items);
    }
    return count;
}

/// Appends the begun that are still undecided.
void AckWindow::TakeBegun(std::vector<AckItem>* items) {
    for (const SequenceRange& range : pending_begun_.TakeAll()) {
        auto it = undecided_.upper_bound(range.first);
        if (it != undecided_.begin()) {
            --it;
        }
        for (; it != undecided_.end() && it->first <= range.last; ++it) {
            const SequenceRange cut{std::max(it->first, range.first),
                                    std::min(it->second.last, range.last)};
            if (cut.first > cut.last) {
                continue;
            }
            AckItem item{AckVerdict::kBegin, cut.first, cut.last, std::nullopt, {}};
            if (!items->empty() && CanJoin(items->back(), item)) {
                items->back().last = item.last;
            } else {
                items->push_back(std::move(item));
            }
        }
    }
}

std::optional<AckWindow::Request> AckWindow::Take() {
    Request request;
    TakeBegun(&request.items);
    request.items.reserve(request.items.size() + pending_other_.size() + 4);
    for (const SequenceRange& range : pending_acks_.TakeAll()) {
        request.items.push_back({AckVerdict::kAck, range.first, range.last, std::nullopt, {}});
    }
    for (AckItem& item : pending_other_) {
        request.items.push_back(std::move(item));
    }
    pending_other_.clear();
    if (request.items.empty()) {
        return std::nullopt;
    }
    request.token = next_token_++;
    sent_[request.token] = {request.items, std::exchange(pending_waiters_, {})};
    return request;
}

void AckWindow::AnswerAll(std::vector<Waiter> waiters,
                          const Status& status,
                          std::vector<Answer>* answers) {
    for (Waiter& waiter : waiters) {
        answers->push_back({std::move(waiter.done), status, std::move(waiter.receipt)});
    }
}

/// The broker has recorded everything that was still ours but `not_held`.
AckWindow::Answer AckWindow::AnswerTo(Waiter waiter, const RangeSet& not_held) {
    Answer answer{std::move(waiter.done),
                  Status::Ok(),
                  std::move(waiter.receipt),
                  std::move(waiter.not_held)};
    if (!not_held.Intersects(waiter.range)) {
        return answer;
    }
    if (answer.receipt != nullptr) {
        RangeSet lost = not_held;
        std::uint64_t count = lost.Remove(waiter.range, &answer.not_held);
        if (count < waiter.range.count()) {
            return answer;
        }
    }
    answer.status = waiter.resent ? MaybeRecorded() : NotOurs();
    return answer;
}

void AckWindow::PutBack(Sent sent) {
    for (AckItem& item : sent.items) {
        AddPending(std::move(item));
    }
    for (Waiter& waiter : sent.waiters) {
        waiter.resent = true;
        pending_waiters_.push_back(std::move(waiter));
    }
}

bool AckWindow::OnReply(std::uint64_t token,
                        const Result<AckReply>& reply,
                        std::vector<Answer>* answers) {
    auto it = sent_.find(token);
    if (it == sent_.end()) {
        return false;  // Made pending again by OnLost, or dropped by OnResumed.
    }
    Sent sent = std::move(it->second);
    sent_.erase(it);
    if (!reply.ok()) {
        if (reply.status().IsRetryable()) {
            PutBack(std::move(sent));
            return true;
        }
        AnswerAll(std::move(sent.waiters), reply.status(), answers);
        return false;
    }
    RangeSet lost;
    for (const PullRange& range : reply->not_held) {
        lost.Add({range.first, range.last});
    }
    for (Waiter& waiter : sent.waiters) {
        answers->push_back(AnswerTo(std::move(waiter), lost));
    }
    return false;
}

void AckWindow::OnLost() {
    std::map<std::uint64_t, Sent> sent = std::exchange(sent_, {});
    for (auto& [token, request] : sent) {
        PutBack(std::move(request));
    }
}

void AckWindow::OnResumed(std::uint64_t held_below, std::vector<Answer>* answers) {
    const SequenceRange gone{held_below, UINT64_MAX};
    std::vector<SequenceRange> ignored;
    TakeUndecided(gone, &ignored);
    pending_begun_.TakeAll();  // Among them numbers that soon are another message's.
    pending_acks_.Remove(gone);
    std::vector<AckItem> kept;
    for (AckItem& item : pending_other_) {
        if (item.first < held_below) {
            item.last = std::min(item.last, held_below - 1);
            kept.push_back(std::move(item));
        }
    }
    pending_other_ = std::move(kept);
    std::vector<Waiter> waiting;
    for (Waiter& waiter : pending_waiters_) {
        if (waiter.range.first < held_below) {
            if (waiter.range.last >= held_below) {
                waiter.not_held.push_back({held_below, waiter.range.last});
                waiter.range.last = held_below - 1;
            }
            waiting.push_back(std::move(waiter));
        } else {
            answers->push_back({std::move(waiter.done),
                                waiter.resent ? MaybeRecorded() : NotOurs(),
                                std::move(waiter.receipt)});
        }
    }
    pending_waiters_ = std::move(waiting);
}

void AckWindow::Abandon(const Status& status, std::vector<Answer>* answers) {
    OnLost();
    AnswerAll(std::exchange(pending_waiters_, {}), status, answers);
    pending_begun_.TakeAll();
    pending_acks_.TakeAll();
    pending_other_.clear();
    undecided_.clear();
    undecided_count_ = 0;
}

std::vector<AckItem> AckWindow::Renewals(TimePoint give_up_before,
                                         const std::string& give_up_error,
                                         std::vector<SequenceRange>* given_up) {
    std::vector<AckItem> items;
    std::vector<SequenceRange> late;
    for (const auto& [first, held] : undecided_) {
        if (held.begun.has_value() && *held.begun < give_up_before) {
            late.push_back({first, held.last});
        } else if (!items.empty() && items.back().last + 1 == first) {
            items.back().last = held.last;
        } else {
            items.push_back({AckVerdict::kRenew, first, held.last, std::nullopt, {}});
        }
    }
    for (const SequenceRange& range : late) {
        Decide({AckVerdict::kRetry, range.first, range.last, std::nullopt, give_up_error},
               nullptr,
               nullptr);
        given_up->push_back(range);
    }
    return items;
}

}  // namespace qmq::internal
