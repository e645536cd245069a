#include "server/broker/send_queue.h"

#include <utility>

#include "server/broker/mover.h"
#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

Status CheckDelay(const SendBatch& batch, const BatchView& view, WallTime now) {
    if (!view.may_have_due_times() || ParseSubject(batch.subject).kind == SubjectKind::kRetry) {
        return {};
    }
    BatchView::Iterator heads = view.begin_heads();
    while (const std::optional<MessageHead> head = heads.Next()) {
        if (head->deliver_at && *head->deliver_at > now) {
            return Status::Unimplemented(
                "message " + std::string(head->id) + " of subject " + batch.subject + " is due " +
                std::to_string((*head->deliver_at - now).count()) +
                " ms from now: this broker has no delay server yet; send it without a delay");
        }
    }
    return {};
}

Status CheckDurability(const SendBatch& batch, Durability best) {
    if (batch.durability <= best) {
        return {};
    }
    return Status::Unimplemented(
        "subject " + batch.subject + ": durability " + std::string(ToString(batch.durability)) +
        " was asked for, this broker has " + std::string(ToString(best)) + " at most");
}

}  // namespace

Result<CheckedBatch> CheckBatch(SendBatch batch,
                                std::uint32_t index,
                                const BrokerOptions& options,
                                Durability promise,
                                WallTime now) {
    if (Status status = ValidateStoredSubject(batch.subject); !status.ok()) {
        return status;
    }
    if (Status status = CheckDurability(batch, options.best_durability); !status.ok()) {
        return status;
    }
    Result<BatchView> view = BatchView::Parse(batch.batch.bytes(), options.store.limits);
    if (!view.ok()) {
        return view.status().WithContext("batch " + std::to_string(index) + " of subject " +
                                         batch.subject);
    }
    if (view->count() == 0) {
        return Status::InvalidArgument("batch " + std::to_string(index) + " of subject " +
                                       batch.subject + " has no message");
    }
    if (Status status = CheckDelay(batch, *view, now); !status.ok()) {
        return status;
    }
    return CheckedBatch{index,
                        std::move(batch.subject),
                        std::move(batch.batch),
                        *view,
                        std::max(promise, batch.durability)};
}

void SendQueue::Add(std::unique_ptr<SendPart> part) {
    if (core_.stopped.ok()) {
        // All are looked up before the first is appended to: so the memory of many is on its way
        // at once, where there are thousands of subjects.
        subjects_.clear();
        for (const CheckedBatch& batch : part->batches) {
            subjects_.push_back(&core_.OpenSubject(batch.subject));
            __builtin_prefetch(subjects_.back()->log);
        }
        for (const Subject* subject : subjects_) {
            core_.store->Prefetch(*subject->log);
        }
        for (std::size_t i = 0; i < subjects_.size(); ++i) {
            AppendBatch(*part, part->batches[i], *subjects_[i]);
        }
    } else {
        for (const CheckedBatch& batch : part->batches) {
            part->frame->receipts[batch.index] =
                BatchReceipt{core_.stopped, SendOutcome::kRefused, Durability::kDefault, 0};
        }
    }
    round_.push_back(std::move(part));
}

/// Whatever is taken, its retry and its dead letter fit into a segment, too.
Status SendQueue::CheckRoomForRetry(const CheckedBatch& batch) const {
    const std::uint64_t most = core_.store->most_record_bytes() - kRetryReserveBytes;
    if (batch.batch.size() <= most || env::Planted(env::PlantedBug::kStuckBurial)) {
        return {};
    }
    return Status::InvalidArgument(
        "subject " + batch.subject + ": a batch of " + std::to_string(batch.batch.size()) +
        " bytes and what its retry may add do not fit into a segment; at most " +
        std::to_string(most) + ": send smaller batches, or make the store with larger segments");
}

void SendQueue::AppendBatch(SendPart& part, CheckedBatch& batch, Subject& subject) {
    BatchReceipt& receipt = part.frame->receipts[batch.index];
    if (Status status = CheckRoomForRetry(batch); !status.ok()) {
        receipt.status = std::move(status);
        receipt.outcome = SendOutcome::kRefused;
        return;
    }
    Result<store::ShardStore::Appended> appended =
        core_.store->AppendMessages(*subject.log, std::move(batch.batch), batch.view);
    if (!appended.ok()) {
        receipt.status = appended.status();
        receipt.outcome = SendOutcome::kRefused;
        return;
    }
    receipt.first_sequence = appended->first_sequence;
    receipt.durability = batch.durability;
    receipt.outcome = SendOutcome::kPersisted;
    if (batch.durability >= Durability::kFsync) {
        part.sync_end = appended->end;
    }
    if (subject.kind == SubjectKind::kRetry) {
        core_.state.AddRetries(
            subject, appended->first_sequence, batch.view, core_.LogTime(), core_.LogMs());
    }
    core_.Appended(subject, appended->first_sequence + batch.view.count(), appended->end);
}

void SendQueue::OnWritten(const Status& status) {
    const bool early = env::Planted(env::PlantedBug::kAckBeforeSync);
    std::vector<std::unique_ptr<SendPart>> round;
    round.swap(round_);
    for (std::unique_ptr<SendPart>& part : round) {
        if (!status.ok()) {
            const bool gone = status.code() == StatusCode::kResourceExhausted;
            FailPart(std::move(part),
                     gone ? SendOutcome::kRefused : SendOutcome::kUnknown,
                     gone ? status : Status::Unavailable(std::string(status.message())));
        } else if (part->sync_end == 0 || early) {
            Finish(std::move(part));
        } else {
            core_.sync_wanted = true;
            syncing_.push_back(std::move(part));
        }
    }
}

void SendQueue::OnSynced(store::LogOffset synced) {
    while (!syncing_.empty() && syncing_.front()->sync_end <= synced) {
        std::unique_ptr<SendPart> part = std::move(syncing_.front());
        syncing_.pop_front();
        Finish(std::move(part));
    }
}

void SendQueue::Fail(const Status& status) {
    OnWritten(Status::Unavailable(std::string(status.message())));
    while (!syncing_.empty()) {
        std::unique_ptr<SendPart> part = std::move(syncing_.front());
        syncing_.pop_front();
        FailPart(std::move(part), SendOutcome::kUnknown, status);
    }
}

void SendQueue::Finish(std::unique_ptr<SendPart> part) {
    ++answered_.requests;
    answered_.bytes += part->bytes;
    part->frame->FinishPart();
}

void SendQueue::FailPart(std::unique_ptr<SendPart> part,
                         SendOutcome outcome,
                         const Status& status) {
    for (const CheckedBatch& batch : part->batches) {
        BatchReceipt& receipt = part->frame->receipts[batch.index];
        if (receipt.outcome == SendOutcome::kPersisted) {
            receipt = BatchReceipt{status, outcome, Durability::kDefault, 0};
        }
    }
    Finish(std::move(part));
}

}  // namespace qmq::broker
