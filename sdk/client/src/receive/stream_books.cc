#include "sdk/client/src/receive/stream_books.h"

#include <algorithm>
#include <utility>

namespace qmq::internal {

void StreamBooks::Keep(const RunPtr& run) {
    run->set_number(++last_number_);
    runs_.emplace(last_number_, run);
}

void StreamBooks::End(DeliveryRun& run, std::uint64_t count) {
    const DeliveryRun::Ended ended = run.End(count);
    if (ended.count > 0) {
        credit_.OnEnded(ended.count, ended.bytes);
    }
}

void StreamBooks::DropFinished() {
    std::erase_if(runs_, [](const auto& entry) { return entry.second->finished(); });
}

void StreamBooks::Enter(const RunPtr& run, News* news) {
    credit_.OnDelivered(run->range().count(), run->bytes());
    if (policy_.OnArrived(ledger_, run)) {
        Keep(run);
        news->ready.push_back(run);
    }
}

void StreamBooks::TurnAway(AckItem item, std::uint64_t bytes) {
    const std::uint64_t count = item.last - item.first + 1;
    ledger_.failed_count += item.verdict == AckVerdict::kDeadLetter ? count : 0;
    ledger_.window.Requeue(std::move(item));
    credit_.OnDelivered(count, bytes);
    credit_.OnEnded(count, bytes);
}

bool StreamBooks::Collect() {
    for (auto it = runs_.begin(); it != runs_.end();) {
        DeliveryRun& run = *it->second;
        const DeliveryRun::Progress progress = run.TakeProgress();
        std::uint64_t ended = 0;
        for (const SequenceRange& range : progress.acked) {
            ended += policy_.OnHandled(ledger_, range);
        }
        End(run, ended);
        if (run.finished()) {
            it = runs_.erase(it);
            continue;
        }
        if (progress.claimed.has_value() && ledger_.window.AnyUndecided(*progress.claimed)) {
            begun_.push_back(*progress.claimed);
        }
        ++it;
    }
    return !begun_.empty();
}

void StreamBooks::NoteBegun(TimePoint now) {
    for (const SequenceRange& range : begun_) {
        ledger_.window.OnBegun(range, now);
    }
    begun_.clear();
}

StreamBooks::RunPtr StreamBooks::Find(const DeliveryRun& run) const {
    const auto found = runs_.find(run.number());
    return found != runs_.end() && found->second.get() == &run ? found->second : nullptr;
}

void StreamBooks::Decide(DeliveryRun& run, AckItem item, AckCallback done, News* news) {
    End(run, policy_.OnDecided(ledger_, run, std::move(item), std::move(done), &news->answers));
    if (run.finished() && Find(run) != nullptr) {
        runs_.erase(run.number());
    }
}

bool StreamBooks::PutOff(DeliveryRun& run, TimePoint until, AckItem& item, AckCallback& done) {
    if (!policy_.has_leases()) {
        return false;  // There is nothing to give back.
    }
    RunPtr kept = run.Owns(item.first) ? Find(run) : nullptr;
    if (kept == nullptr) {
        return false;
    }
    ++later_count_;
    if (until == TimePoint()) {
        return false;
    }
    ledger_.window.OnPutOff({item.first, item.last});
    delayed_.Add(until, {std::move(kept), std::move(item), std::move(done)});
    return true;
}

std::uint64_t StreamBooks::ReleaseUnclaimed() {
    std::uint64_t released = 0;
    for (const auto& [number, run] : runs_) {
        if (const auto unclaimed = run->TakeUnclaimed(0)) {
            released += Release(*run, *unclaimed);
        }
    }
    DropFinished();
    return released;
}

std::uint64_t StreamBooks::Release(DeliveryRun& run, const DeliveryRun::Unclaimed& unclaimed) {
    const std::uint64_t count = policy_.OnReleased(ledger_, unclaimed);
    End(run, count);
    return count;
}

std::uint64_t StreamBooks::GiveBack(TimePoint arrived_before, std::uint64_t keep) {
    if (!policy_.has_leases()) {
        return 0;
    }
    std::uint64_t given_back = 0;
    for (const auto& [number, run] : runs_) {
        const std::uint64_t unclaimed = run->unclaimed_count();
        const std::uint64_t kept = std::min(keep, unclaimed);
        keep -= kept;
        if (unclaimed == kept || run->arrived() > arrived_before) {
            continue;
        }
        if (const auto rest = run->TakeUnclaimed(kept)) {
            given_back += Release(*run, *rest);
        }
    }
    DropFinished();
    return given_back;
}

StreamBooks::Renewals StreamBooks::TakeRenewals(TimePoint give_up_before,
                                                const std::string& error) {
    Renewals renewals;
    std::vector<SequenceRange> given_up;
    renewals.items = ledger_.window.Renewals(give_up_before, error, &given_up);
    for (const SequenceRange& range : given_up) {
        renewals.given_up_count += range.count();
        ledger_.failed_count += range.count();
        GiveUp(range);
    }
    DropFinished();
    return renewals;
}

void StreamBooks::GiveUp(const SequenceRange& range) {
    for (const auto& [number, run] : runs_) {
        if (const auto part = run->DisownRange(range)) {
            End(*run, part->count());
        }
    }
}

std::uint64_t StreamBooks::Lose(const std::vector<PullRange>& ranges) {
    std::uint64_t lost = 0;
    for (const PullRange& range : ranges) {
        for (const auto& [number, run] : runs_) {
            const auto part = run->DisownRange({range.first, range.last});
            const std::uint64_t count = part.has_value() ? ledger_.window.Forget(*part) : 0;
            End(*run, count);
            lost += count;
        }
    }
    DropFinished();
    return lost;
}

bool StreamBooks::OnReply(std::uint64_t token, const Result<AckReply>& reply, News* news) {
    const bool repeat = ledger_.window.OnReply(token, reply, &news->answers);
    TakeReceipts(news);
    return repeat;
}

void StreamBooks::OnResumed(std::uint64_t held_below, News* news) {
    for (const auto& [number, run] : runs_) {
        End(*run, policy_.OnResumed(ledger_, *run, held_below));
    }
    DropFinished();
    ledger_.window.OnResumed(held_below, &news->answers);
    TakeReceipts(news);
    for (const auto& [number, run] : runs_) {
        run->ReportClaimsAgain();  // A broker that has started anew knows nothing of them.
    }
}

/// Of runs that wait for the word that their receipt is recorded: with it they are handled, without
/// they are not. Whether such a receipt was recorded is then unknown; if not, others get the
/// messages once the lease ends.
void StreamBooks::TakeReceipts(News* news) {
    for (AckWindow::Answer& answer : news->answers) {
        if (answer.receipt == nullptr) {
            continue;
        }
        const RunPtr run = std::move(answer.receipt);
        if (!answer.status.ok()) {
            End(*run, run->range().count());
            continue;
        }
        Keep(run);
        std::uint64_t count = run->range().count();
        for (const SequenceRange& range : answer.not_held) {
            if (const auto part = run->DisownRange(range)) {
                End(*run, part->count());
                count -= part->count();
            }
        }
        ledger_.acked_count += count;
        news->ready.push_back(run);
    }
    std::erase_if(news->answers, [](const AckWindow::Answer& answer) { return !answer.done; });
}

std::uint64_t StreamBooks::Abandon(const Status& why, News* news) {
    const std::uint64_t unconfirmed = unconfirmed_count();
    ledger_.window.Abandon(why, &news->answers);
    for (DelayedReleases::Entry& entry : delayed_.Take()) {
        if (entry.done) {
            news->answers.push_back({std::move(entry.done), why});
        }
    }
    TakeReceipts(news);
    ledger_.ended = Status::Cancelled("the subscription was closed");
    for (const auto& [number, run] : runs_) {
        run->Disown(0);
    }
    runs_.clear();
    return unconfirmed;
}

}  // namespace qmq::internal
