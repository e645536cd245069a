#include "plugins/grpc/client/publish_call.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <string>
#include <utility>

#include "plugins/grpc/client/connection.h"
#include "plugins/grpc/codec/channel_tuning.h"
#include "plugins/grpc/codec/publish_frames.h"

namespace qmq::rpc {
namespace {

/// For sizes before the id is known.
constexpr std::uint64_t kLongestId = std::numeric_limits<std::uint64_t>::max();

std::vector<BatchReceipt> Receipts(std::size_t count, SendOutcome outcome, const Status& status) {
    BatchReceipt receipt;
    receipt.outcome = outcome;
    receipt.status = status;
    return std::vector<BatchReceipt>(count, receipt);
}

/// The answers to the parts of one send, put together again.
class PartsOfOneSend {
public:
    PartsOfOneSend(std::size_t batch_count, SendDone done)
        : receipts_(batch_count), left_(batch_count), done_(std::move(done)) {}

    void Answer(std::size_t position, BatchReceipt receipt) {
        {
            const std::lock_guard lock(mutex_);
            receipts_[position] = std::move(receipt);
            if (--left_ > 0) {
                return;
            }
        }
        done_(std::move(receipts_));
    }

private:
    std::mutex mutex_;
    std::vector<BatchReceipt> receipts_;  // guarded by mutex_
    std::size_t left_;                    // guarded by mutex_
    SendDone done_;
};

}  // namespace

void PublishCall::Send(std::vector<SendBatch> batches, SendDone done) {
    Status gone;
    const bool taken = ChangeAndWrite([&] {
        if (gone_) {
            gone = gone_reason_;
            return false;
        }
        if (!FitsAFrame(batches)) {
            return false;
        }
        waiting_.push_back({std::move(batches), std::move(done)});
        return true;
    });
    if (taken) {
        return;
    }
    const LiveCalls::CallbackScope scope(connection_->calls());
    if (!gone.ok()) {
        done(Receipts(batches.size(), SendOutcome::kRefused, gone));
    } else if (batches.size() == 1) {
        done(Receipts(1, SendOutcome::kRefused, TooLarge(batches.front())));
    } else {
        SendInParts(std::move(batches), std::move(done));
    }
}

bool PublishCall::FitsAFrame(std::span<const SendBatch> batches) const {
    const PieceSize size = RequestSize(kLongestId, batches);
    return size.bytes <= max_message_bytes_ && size.items <= FrameLimits().max_item_count;
}

Status PublishCall::TooLarge(const SendBatch& batch) {
    const std::lock_guard lock(mutex_);
    return Status::InvalidArgument(
        "a batch of " + std::to_string(batch.batch.size()) + " bytes for subject " + batch.subject +
        " does not fit into a frame of " + std::to_string(max_message_bytes_) +
        " bytes, the lower of max_message_bytes here and at broker " + connection_->address());
}

void PublishCall::SendInParts(std::vector<SendBatch> batches, SendDone done) {
    auto parts = std::make_shared<PartsOfOneSend>(batches.size(), std::move(done));
    for (std::size_t i = 0; i < batches.size(); ++i) {
        std::vector<SendBatch> part;
        part.push_back(std::move(batches[i]));
        Send(std::move(part), [parts, i](std::vector<BatchReceipt> receipts) {
            parts->Answer(i, std::move(receipts.front()));
        });
    }
}

void PublishCall::FillFrame(MessageGatherer* frame) {
    const std::size_t target = std::min(kFrameTargetBytes, max_message_bytes_);
    std::size_t items = 0;
    while (!waiting_.empty()) {
        Waiting& next = waiting_.front();
        const std::uint64_t id = first_in_flight_ + in_flight_.size();
        const PieceSize size = RequestSize(id, next.batches);
        items += size.items;
        if (!frame->empty() &&
            (frame->bytes() + size.bytes > target || items > FrameLimits().max_item_count)) {
            return;
        }
        AppendRequest(id, next.batches, frame);
        in_flight_.push_back({next.batches.size(), std::move(next.done)});
        waiting_.pop_front();
    }
}

void PublishCall::OnOpened(std::size_t server_max_message_bytes) {
    std::vector<Waiting> too_large;
    {
        const std::lock_guard lock(mutex_);
        max_message_bytes_ = std::min(max_message_bytes_, server_max_message_bytes);
        const auto fits = [this](const Waiting& send) { return FitsAFrame(send.batches); };
        const auto split = std::stable_partition(waiting_.begin(), waiting_.end(), fits);
        too_large.assign(std::move_iterator(split), std::move_iterator(waiting_.end()));
        waiting_.erase(split, waiting_.end());
    }
    for (Waiting& send : too_large) {
        Send(std::move(send.batches), std::move(send.done));  // Splits or refuses.
    }
    connection_->StreamOpened();
}

Status PublishCall::TakeAnswer(PublishResult result, Answer* answer) {
    const std::uint64_t place = result.id - first_in_flight_;
    if (place >= in_flight_.size() || !in_flight_[place].done) {
        return Status::Internal("a receipt for request " + std::to_string(result.id) +
                                ", which is not under way");
    }
    InFlight& request = in_flight_[place];
    if (result.receipts.size() != request.batch_count) {
        return Status::Internal(std::to_string(result.receipts.size()) + " receipts for the " +
                                std::to_string(request.batch_count) + " batches of request " +
                                std::to_string(result.id));
    }
    *answer = {std::move(result.receipts), std::move(request.done)};
    request.done = nullptr;
    while (!in_flight_.empty() && !in_flight_.front().done) {
        in_flight_.pop_front();
        ++first_in_flight_;
    }
    return Status::Ok();
}

Status PublishCall::OnFrame(Slice frame) {
    auto results = DecodePublishReply(frame.bytes(), {});
    if (!results.ok()) {
        return results.status();
    }
    std::vector<Answer> answers(results->size());
    std::size_t count = 0;
    Status wrong;
    {
        const std::lock_guard lock(mutex_);
        for (PublishResult& result : *results) {
            wrong = TakeAnswer(std::move(result), &answers[count]);
            if (!wrong.ok()) {
                break;
            }
            ++count;
        }
    }
    answers.resize(count);
    const LiveCalls::CallbackScope scope(connection_->calls());
    for (Answer& answer : answers) {
        answer.done(std::move(answer.receipts));
    }
    return wrong;
}

void PublishCall::OnEnded(const grpc::Status& status) {
    const Status reason = connection_->StreamEnding(status);
    // To those who sent, any loss of the connection is one: it may work again with the next.
    const Status lost = Status::Unavailable(std::string(reason.message()));
    std::deque<Waiting> waiting;
    std::deque<InFlight> in_flight;
    {
        const std::lock_guard lock(mutex_);
        gone_ = true;
        gone_reason_ = lost;
        waiting.swap(waiting_);
        in_flight.swap(in_flight_);
    }
    {
        const LiveCalls::CallbackScope scope(connection_->calls());
        for (InFlight& request : in_flight) {
            if (request.done) {
                request.done(Receipts(request.batch_count, SendOutcome::kUnknown, lost));
            }
        }
        for (Waiting& send : waiting) {
            send.done(Receipts(send.batches.size(), SendOutcome::kRefused, lost));
        }
    }
    in_flight.clear();
    waiting.clear();
    connection_->StreamEnded();
}

}  // namespace qmq::rpc
