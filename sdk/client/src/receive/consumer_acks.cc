// Messages into a consumer's stream, decisions out of it.

#include <algorithm>
#include <utility>

#include "sdk/client/src/receive/consumer_stream.h"

namespace qmq::internal {

namespace {

/// A consumer takes whatever a broker has stored: the limits are those of a whole message.
constexpr BatchLimits kLimits{(64U << 20) + (1U << 20), 1'000'000};
/// Before decisions that the broker would not take are offered again.
constexpr std::chrono::milliseconds kRepeatPause{100};

}  // namespace

void ConsumerStream::Answer(AckCallback done, Status status) {
    if (done) {
        runtime_->callbacks().Post(
            [done = std::move(done), status = std::move(status)]() mutable { done(status); });
    }
}

/// Passes on what the books had to tell. Without the lock.
void ConsumerStream::Tell(News news) {
    for (AckWindow::Answer& answer : news.answers) {
        Answer(std::move(answer.done), std::move(answer.status));
    }
    if (news.ready.empty()) {
        return;
    }
    if (auto owner = owner_.lock()) {
        owner->OnRuns(std::move(news.ready));
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

void ConsumerStream::TellConfirmed() {
    if (auto owner = owner_.lock()) {
        owner->OnAcksConfirmed();
    }
}

void ConsumerStream::OnDelivery(std::uint64_t generation, std::vector<DeliveredBatch> batches) {
    News news;
    std::vector<std::string> lines;
    const TimePoint now = runtime_->Now();
    for (const DeliveredBatch& batch : batches) {
        // Outside the lock: this walks every byte.
        Result<MessageReader> reader =
            MessageReader::Make(subject_, batch.header, batch.body, batch.attempt, kLimits);
        MutexLock lock(mutex_);
        if (generation != generation_) {
            break;  // What came before has been taken.
        }
        if (std::string line = Receive(batch, std::move(reader), now, &news); !line.empty()) {
            lines.push_back(std::move(line));
        }
    }
    for (const std::string& line : lines) {
        runtime_->log().Error(line);
    }
    if (news.ready.size() < batches.size()) {
        Flush();  // Some go back at once, or are acked before they are handled.
    }
    Tell(std::move(news));
}

/// Takes one delivered batch into the books. Returns what the log is to say.
std::string ConsumerStream::Receive(const DeliveredBatch& batch,
                                    Result<MessageReader> reader,
                                    TimePoint now,
                                    News* news) {
    if (batch.count == 0) {
        return "broker group " + broker_group() + " delivered a batch of no messages";
    }
    const SequenceRange range{batch.first_pull_sequence,
                              batch.first_pull_sequence + batch.count - 1};
    const std::uint64_t bytes = batch.header.size() + batch.body.size();  // As the broker counts.
    if (resume_.has_value()) {
        resume_->next_pull_sequence = range.last + 1;
    }
    if (!TakesMore()) {
        books_.TurnAway({AckVerdict::kRelease, range.first, range.last, std::nullopt, {}}, bytes);
        return {};
    }
    if (reader.ok() && reader->count() != batch.count) {
        reader =
            Status::InvalidArgument("the batch has " + std::to_string(reader->count()) +
                                    " messages, the delivery says " + std::to_string(batch.count));
    }
    if (!reader.ok()) {
        // Delivered again it would be the same: it goes where people look, with the reason.
        const std::string why = "cannot be decoded: " + reader.status().ToString();
        books_.TurnAway({AckVerdict::kDeadLetter, range.first, range.last, std::nullopt, why},
                        bytes);
        return "subject " + subject_ + ", " + std::to_string(batch.count) + " messages from " +
               std::to_string(batch.first_sequence) + ": " + why + "; to the dead letters";
    }
    const bool first = !books_.any_leased();
    books_.Enter(
        std::make_shared<DeliveryRun>(
            shared_from_this(), std::move(reader).value(), range, batch.first_sequence, bytes, now),
        news);
    ArmRenewal(now, first);
    return {};
}

/// Brings what runners have done into the books.
void ConsumerStream::Collect() {
    if (!books_.Collect()) {
        return;
    }
    // The clock is read for handlers that take longer than a flush, not for others. Once the client
    // is stopped, what is claimed is no longer handled.
    if (runtime_->stopped()) {
        books_.ForgetBegun();
    } else {
        books_.NoteBegun(runtime_->Now());
    }
}

void ConsumerStream::Decide(DeliveryRun& run, AckItem item, AckCallback done) {
    News news;
    {
        MutexLock lock(mutex_);
        if (PutOff(run, item, done)) {
            return;
        }
        books_.Decide(run, std::move(item), std::move(done), &news);
    }
    Tell(std::move(news));
    NoteAcked();
    TellRoom();
}

std::uint64_t ConsumerStream::ReleaseUnclaimed() {
    std::uint64_t released = 0;
    {
        MutexLock lock(mutex_);
        Collect();
        released = books_.ReleaseUnclaimed();
    }
    Flush();
    return released;
}

std::uint64_t ConsumerStream::GiveBack(TimePoint arrived_before, std::uint64_t keep) {
    std::uint64_t given_back = 0;
    {
        MutexLock lock(mutex_);
        Collect();
        given_back = books_.GiveBack(arrived_before, keep);
    }
    if (given_back > 0) {
        Flush();
    }
    return given_back;
}

void ConsumerStream::RequestMessages(std::uint64_t count,
                                     std::uint64_t bytes_per_message,
                                     std::uint64_t least_bytes) {
    std::shared_ptr<DeliveryStream> stream;
    Credit credit;
    {
        MutexLock lock(mutex_);
        RearmRefused();
        const std::int64_t missing =
            static_cast<std::int64_t>(count) - books_.credit().granted_messages();
        if (missing <= 0) {
            return;
        }
        credit.messages = static_cast<std::uint32_t>(missing);
        credit.bytes = std::max(credit.messages * bytes_per_message, least_bytes);
        books_.credit().Grant(credit.messages, credit.bytes);
        stream = stream_;
    }
    if (stream != nullptr) {
        stream->Grant(credit);
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
        MutexLock lock(mutex_);
        Collect();
        RearmRefused();
        stream = stream_;
        generation = generation_;
        if (stream != nullptr && TakesMore() && !config_.on_demand) {
            books_.credit().OnWaited(
                std::chrono::nanoseconds(longest_wait_.exchange(-1, std::memory_order_relaxed)));
            half_window_.store(std::max<std::uint64_t>(books_.credit().window() / 2, 1),
                               std::memory_order_relaxed);
            credit = books_.credit().Take();
        }
        if (stream != nullptr && live_) {
            request = books_.TakeRequest();
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
    News news;
    bool repeat = false;
    bool ended = false;
    {
        MutexLock lock(mutex_);
        const std::int64_t held = books_.credit().held_messages();
        repeat = books_.OnReply(token, reply, &news) && generation == generation_;
        // What had waited for a receipt and is not handled here ends with the answer.
        ended = books_.credit().held_messages() < held;
    }
    Tell(std::move(news));
    if (!reply.ok() && !reply.status().IsRetryable()) {
        runtime_->log().Error("subject " + subject_ + ", broker group " + broker_group() +
                              ": acks were refused: " + reply.status().ToString() +
                              "; the messages will be delivered again");
    }
    if (repeat) {
        ArmLinger(kRepeatPause);
    }
    if (ended) {
        Flush();
        TellRoom();
    }
    TellConfirmed();
    CheckClosed();
}

void ConsumerStream::ArmLinger(std::chrono::microseconds delay) {
    if (linger_armed_.exchange(true, std::memory_order_relaxed)) {
        return;
    }
    MutexLock lock(mutex_);
    if (!closed_) {
        Arm(&ConsumerStream::linger_timer_, runtime_->Now() + delay, &ConsumerStream::Flush);
        if (linger_timer_.refused()) {
            linger_armed_.store(false, std::memory_order_relaxed);  // The next ack tries again.
        }
    }
}

}  // namespace qmq::internal
