// Messages into a consumer's stream, decisions out of it.

#include <algorithm>
#include <utility>

#include "sdk/client/src/consumer_stream.h"

namespace qmq::internal {

namespace {

/// A consumer takes whatever a broker has stored: the limits are those of a whole message.
constexpr BatchLimits kLimits{(64U << 20) + (1U << 20), 1'000'000};
/// Before decisions that the broker would not take are offered again.
constexpr std::chrono::milliseconds kRepeatPause{100};

/// As the broker counts.
std::uint64_t BytesOf(const DeliveredBatch& batch) {
    return batch.header.size() + batch.body.size();
}

}  // namespace

void ConsumerStream::Answer(AckCallback done, Status status) {
    if (done) {
        runtime_->callbacks().Post(
            [done = std::move(done), status = std::move(status)]() mutable { done(status); });
    }
}

void ConsumerStream::RunAnswers(Answers answers) {
    for (AckWindow::Answer& answer : answers) {
        Answer(std::move(answer.done), std::move(answer.status));
    }
}

void ConsumerStream::TellRoom() {
    if (!config_.on_demand) {
        return;  // Credit of the others is given back by `Flush`.
    }
    if (auto owner = owner_.lock()) {
        owner->OnRoom();
    }
}

void ConsumerStream::EndMessages(DeliveryRun& run, std::uint64_t count) {
    if (count > 0) {
        credit_.OnEnded(count, run.End(count));
    }
}

void ConsumerStream::OnDelivery(std::uint64_t generation, std::vector<DeliveredBatch> batches) {
    Runs runs;
    std::vector<std::string> lines;
    std::shared_ptr<DeliveryStream> stream;
    bool flush = false;
    for (const DeliveredBatch& batch : batches) {
        // Outside the lock: this walks every byte.
        Result<MessageReader> reader =
            MessageReader::Make(subject_, batch.header, batch.body, batch.attempt, kLimits);
        std::string line;
        Lock lock(mutex_);
        if (generation != generation_) {
            return;
        }
        stream = stream_;
        if (auto run = Receive(batch, std::move(reader), &line)) {
            runs.push_back(std::move(run));
        } else {
            flush = true;
        }
        if (!line.empty()) {
            lines.push_back(std::move(line));
        }
    }
    for (const std::string& line : lines) {
        runtime_->log().Error(line);
    }
    if (flush) {
        Flush();
    }
    if (runs.empty()) {
        return;
    }
    if (config_.at_most_once) {
        AckOnReceipt(stream, generation, std::move(runs));
        return;
    }
    if (auto owner = owner_.lock()) {
        owner->OnRuns(std::move(runs));
    }
}

/// Takes one delivered batch into the books. Null when there is nothing to handle in it.
std::shared_ptr<DeliveryRun> ConsumerStream::Receive(const DeliveredBatch& batch,
                                                     Result<MessageReader> reader,
                                                     std::string* line) {
    const SequenceRange range{batch.first_pull_sequence,
                              batch.first_pull_sequence + batch.count - 1};
    if (batch.count == 0) {
        *line = "broker group " + broker_group() + " delivered a batch of no messages";
        return nullptr;
    }
    const std::uint64_t bytes = BytesOf(batch);
    if (resume_.has_value()) {
        resume_->next_pull_sequence = range.last + 1;
    }
    credit_.OnDelivered(batch.count, bytes);
    if (!accepting_) {
        window_.Requeue({AckVerdict::kRelease, range.first, range.last, std::nullopt, {}});
        credit_.OnEnded(batch.count, bytes);
        return nullptr;
    }
    if (reader.ok() && reader->count() != batch.count) {
        reader =
            Status::InvalidArgument("the batch has " + std::to_string(reader->count()) +
                                    " messages, the delivery says " + std::to_string(batch.count));
    }
    if (!reader.ok()) {
        // Delivered again it would be the same: it goes where people look, with the reason.
        const std::string why = "cannot be decoded: " + reader.status().ToString();
        *line = "subject " + subject_ + ", " + std::to_string(batch.count) + " messages from " +
                std::to_string(batch.first_sequence) + ": " + why + "; to the dead letters";
        window_.Requeue({AckVerdict::kDeadLetter, range.first, range.last, std::nullopt, why});
        credit_.OnEnded(batch.count, bytes);
        failed_count_.fetch_add(batch.count, std::memory_order_relaxed);
        return nullptr;
    }
    auto run =
        std::make_shared<DeliveryRun>(shared_from_this(), std::move(reader).value(), range, bytes);
    runs_[range.first] = run;
    if (!config_.at_most_once) {
        window_.OnDelivered(range, runtime_->Now());
        ArmRenewal();
    }
    return run;
}

/// At most once: handlers see a message only when the broker has recorded that it is done with.
void ConsumerStream::AckOnReceipt(const std::shared_ptr<DeliveryStream>& stream,
                                  std::uint64_t generation,
                                  Runs runs) {
    std::vector<AckItem> items;
    for (const auto& run : runs) {
        items.push_back(
            {AckVerdict::kAck, run->range().first, run->range().last, std::nullopt, {}});
    }
    {
        Lock lock(mutex_);
        ++receipt_acks_;
    }
    stream->Ack(std::move(items),
                [self = shared_from_this(), generation, runs = std::move(runs)](
                    Result<AckReply> reply) mutable {
                    self->OnReceiptAcked(generation, std::move(runs), reply);
                });
}

void ConsumerStream::OnReceiptAcked(std::uint64_t generation,
                                    Runs runs,
                                    const Result<AckReply>& reply) {
    const bool recorded = reply.ok() && reply->not_held_count == 0;
    {
        Lock lock(mutex_);
        --receipt_acks_;
        for (const auto& run : runs) {
            const SequenceRange range = run->range();
            if (recorded) {
                acked_count_.fetch_add(range.count(), std::memory_order_relaxed);
                continue;
            }
            // Whether it was recorded is unknown, so it may not be handled here. If it was not, the
            // release lets somebody have it; a number of an older stream could by now be another
            // message's.
            if (generation == generation_ || !live_) {
                window_.Requeue({AckVerdict::kRelease, range.first, range.last, std::nullopt, {}});
            }
            EndMessages(*run, range.count());
            runs_.erase(range.first);
        }
    }
    auto owner = owner_.lock();
    if (recorded && owner != nullptr) {
        owner->OnRuns(std::move(runs));
    }
    Flush();
    CheckClosed();
}

/// Brings what runners have finished into the window.
void ConsumerStream::Collect() {
    for (auto it = runs_.begin(); it != runs_.end();) {
        DeliveryRun& run = *it->second;
        std::uint64_t ended = 0;
        for (const SequenceRange& range : run.TakeAcked()) {
            ended += range.count();
            window_.Ack(range);
        }
        if (!config_.at_most_once) {
            acked_count_.fetch_add(ended, std::memory_order_relaxed);
        }
        EndMessages(run, ended);
        it = run.finished() ? runs_.erase(it) : std::next(it);
    }
}

void ConsumerStream::Decide(DeliveryRun& run, AckItem item, AckCallback done) {
    Answers answers;
    {
        Lock lock(mutex_);
        const bool is_ack = item.verdict == AckVerdict::kAck;
        if (config_.at_most_once) {
            if (done) {
                answers.push_back(
                    {std::move(done),
                     is_ack ? Status::Ok()
                            : Status::FailedPrecondition("at_most_once: it was acked on receipt")});
            }
            EndMessages(run, 1);
        } else if (!run.Owns(item.first)) {
            if (done) {
                answers.push_back({std::move(done),
                                   closed_ ? Status::Cancelled("the subscription was closed")
                                           : AckWindow::NotOurs()});
            }
        } else if (window_.Decide(std::move(item), std::move(done), &answers) > 0) {
            EndMessages(run, 1);
            auto& count = is_ack ? acked_count_ : failed_count_;
            count.fetch_add(1, std::memory_order_relaxed);
        }
        if (run.finished()) {
            runs_.erase(run.range().first);
        }
    }
    RunAnswers(std::move(answers));
    NoteAcked();
    TellRoom();
}

std::uint64_t ConsumerStream::ReleaseUnclaimed() {
    std::uint64_t released = 0;
    {
        Lock lock(mutex_);
        Collect();
        for (auto it = runs_.begin(); it != runs_.end();) {
            DeliveryRun& run = *it->second;
            if (const auto range = run.TakeUnclaimed()) {
                if (!config_.at_most_once) {
                    window_.Decide(
                        {AckVerdict::kRelease, range->first, range->last, std::nullopt, {}},
                        nullptr,
                        nullptr);
                    released += range->count();
                }
                EndMessages(run, range->count());
            }
            it = run.finished() ? runs_.erase(it) : std::next(it);
        }
    }
    Flush();
    return released;
}

void ConsumerStream::RequestMessages(std::uint64_t count, std::uint64_t bytes) {
    std::shared_ptr<DeliveryStream> stream;
    {
        Lock lock(mutex_);
        credit_.Grant(count, bytes);
        stream = stream_;
    }
    if (stream != nullptr) {
        stream->Grant({static_cast<std::uint32_t>(count), bytes});
    }
}

void ConsumerStream::Flush() {
    std::shared_ptr<DeliveryStream> stream;
    std::optional<AckWindow::Request> request;
    Credit credit;
    std::uint64_t generation = 0;
    linger_armed_.store(false, std::memory_order_relaxed);
    handled_.store(0, std::memory_order_relaxed);
    {
        Lock lock(mutex_);
        Collect();
        stream = stream_;
        generation = generation_;
        if (stream != nullptr && accepting_ && !config_.on_demand) {
            credit = credit_.Take();
        }
        if (stream != nullptr && live_) {
            request = window_.Take();
        }
    }
    if (request.has_value()) {
        stream->Ack(std::move(request->items),
                    [self = shared_from_this(), generation, token = request->token](
                        Result<AckReply> reply) { self->OnAckReply(generation, token, reply); });
    }
    if (credit.messages > 0 || credit.bytes > 0) {
        stream->Grant(credit);
    }
    CheckClosed();
}

void ConsumerStream::OnAckReply(std::uint64_t generation,
                                std::uint64_t token,
                                const Result<AckReply>& reply) {
    Answers answers;
    bool repeat = false;
    {
        Lock lock(mutex_);
        repeat = window_.OnReply(token, reply, &answers) && generation == generation_;
    }
    RunAnswers(std::move(answers));
    if (!reply.ok() && !reply.status().IsRetryable()) {
        runtime_->log().Error("subject " + subject_ + ", broker group " + broker_group() +
                              ": acks were refused: " + reply.status().ToString() +
                              "; the messages will be delivered again");
    }
    if (repeat) {
        ArmLinger(kRepeatPause);
    }
    if (auto owner = owner_.lock()) {
        owner->OnAcksConfirmed();
    }
    CheckClosed();
}

void ConsumerStream::ArmLinger(std::chrono::microseconds delay) {
    if (linger_armed_.exchange(true, std::memory_order_relaxed)) {
        return;
    }
    Lock lock(mutex_);
    if (closed_) {
        return;
    }
    linger_timer_.ArmBy(runtime_->Now() + delay, [this] {
        return [self = weak_from_this()] {
            if (auto stream = self.lock()) {
                {
                    Lock fired(stream->mutex_);
                    stream->linger_timer_.OnFired();
                }
                stream->Flush();
            }
        };
    });
}

void ConsumerStream::ArmRenewal() {
    if (renew_timer_.armed() || closed_) {
        return;
    }
    renew_timer_.ArmBy(runtime_->Now() + config_.request.ack_timeout / 3, [this] {
        return [self = weak_from_this()] {
            if (auto stream = self.lock()) {
                stream->Renew();
            }
        };
    });
}

void ConsumerStream::Renew() {
    std::shared_ptr<DeliveryStream> stream;
    std::vector<AckItem> items;
    std::vector<SequenceRange> given_up;
    {
        Lock lock(mutex_);
        renew_timer_.OnFired();
        Collect();
        items = window_.Renewals(runtime_->Now() - config_.max_processing_time,
                                 "not finished within max_processing_time (" +
                                     std::to_string(config_.max_processing_time.count()) + " ms)",
                                 &given_up);
        for (const SequenceRange& range : given_up) {
            GiveUp(range);
        }
        if (window_.undecided_count() > 0) {
            ArmRenewal();
        }
        stream = live_ ? stream_ : nullptr;
    }
    if (stream != nullptr && !items.empty()) {
        // Nobody waits for the answer: a lease that is gone shows when the ack comes.
        stream->Ack(std::move(items), [](const Result<AckReply>&) {});
    }
    if (!given_up.empty()) {
        runtime_->log().Warning("subject " + subject_ +
                                ": messages were not finished within max_processing_time and are "
                                "delivered again");
        Flush();
        TellRoom();
    }
}

/// What is given up is not ours any more: what its handler says later goes nowhere.
void ConsumerStream::GiveUp(const SequenceRange& range) {
    for (auto it = runs_.begin(); it != runs_.end();) {
        DeliveryRun& run = *it->second;
        const std::uint64_t first = std::max(range.first, run.range().first);
        const std::uint64_t last = std::min(range.last, run.range().last);
        if (first <= last) {
            run.Disown(0);  // All that is left of a run came at the same time.
            EndMessages(run, last - first + 1);
        }
        it = run.finished() ? runs_.erase(it) : std::next(it);
    }
}

}  // namespace qmq::internal
