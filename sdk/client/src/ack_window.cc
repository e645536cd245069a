#include "sdk/client/src/ack_window.h"

#include <algorithm>
#include <utility>

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
           a.error == b.error;
}

}  // namespace

Status AckWindow::NotOurs() {
    return Status::NotFound(
        "the message was no longer held by this consumer (its lease was lost, or it was ended "
        "before): it was or will be delivered again");
}

void AckWindow::OnDelivered(SequenceRange range, TimePoint now) {
    undecided_count_ += range.count();
    if (!undecided_.empty()) {
        // What came in the same instant is one range, so that a backlog costs one entry.
        auto& [first, held] = *std::prev(undecided_.end());
        if (held.last + 1 == range.first && held.since == now) {
            held.last = range.last;
            return;
        }
    }
    undecided_[range.first] = {range.last, now};
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
            undecided_.emplace(first, Held{cut.first - 1, held.since});
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
        pending_waiters_.push_back({RangeOf(item), std::move(done), false});
    }
    for (const SequenceRange& part : taken) {
        AckItem one = item;
        one.first = part.first;
        one.last = part.last;
        AddPending(std::move(one));
    }
    return count;
}

void AckWindow::AddPending(AckItem item) {
    if (item.verdict == AckVerdict::kAck) {
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
    std::uint64_t count = pending_acks_.count();
    for (const AckItem& item : pending_other_) {
        count += RangeOf(item).count();
    }
    for (const auto& [token, sent] : sent_) {
        for (const AckItem& item : sent.items) {
            count += RangeOf(item).count();
        }
    }
    return count;
}

std::optional<AckWindow::Request> AckWindow::Take() {
    if (!has_pending()) {
        return std::nullopt;
    }
    Request request;
    request.token = next_token_++;
    request.items.reserve(pending_other_.size() + 4);
    for (const SequenceRange& range : pending_acks_.TakeAll()) {
        request.items.push_back({AckVerdict::kAck, range.first, range.last, std::nullopt, {}});
    }
    for (AckItem& item : pending_other_) {
        request.items.push_back(std::move(item));
    }
    pending_other_.clear();
    sent_[request.token] = {request.items, std::exchange(pending_waiters_, {})};
    return request;
}

void AckWindow::AnswerAll(std::vector<Waiter> waiters,
                          const Status& status,
                          std::vector<Answer>* answers) {
    for (Waiter& waiter : waiters) {
        answers->push_back({std::move(waiter.done), status});
    }
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
    // The broker says how many were not held, not which: when it was not all of them, nobody who
    // waits may be told that his was recorded.
    for (Waiter& waiter : sent.waiters) {
        Status status;
        if (reply->not_held_count > 0) {
            status = waiter.resent ? MaybeRecorded() : NotOurs();
        }
        answers->push_back({std::move(waiter.done), std::move(status)});
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
            waiting.push_back(std::move(waiter));
        } else {
            answers->push_back(
                {std::move(waiter.done), waiter.resent ? MaybeRecorded() : NotOurs()});
        }
    }
    pending_waiters_ = std::move(waiting);
}

void AckWindow::Abandon(const Status& status, std::vector<Answer>* answers) {
    OnLost();
    AnswerAll(std::exchange(pending_waiters_, {}), status, answers);
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
        if (held.since < give_up_before) {
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
