#include "plugins/grpc/server/server_stream.h"

#include <utility>
#include <vector>

#include "plugins/grpc/codec/channel_tuning.h"
#include "plugins/grpc/codec/status_map.h"

namespace qmq::rpc {
namespace {

grpc::Status GoingAway() {
    return {grpc::StatusCode::UNAVAILABLE, "the server is shutting down"};
}

}  // namespace

void StreamRegistry::Add(ServerStream* stream) {
    bool draining = false;
    {
        const std::lock_guard lock(mutex_);
        streams_.insert(stream);
        draining = draining_;
    }
    if (draining) {
        stream->Drain();
    }
}

void StreamRegistry::Remove(ServerStream* stream) {
    const std::lock_guard lock(mutex_);
    streams_.erase(stream);
}

void StreamRegistry::DrainAll() {
    std::vector<std::shared_ptr<ServerStream>> streams;
    {
        const std::lock_guard lock(mutex_);
        draining_ = true;
        for (ServerStream* stream : streams_) {
            if (auto alive = stream->weak_from_this().lock()) {
                streams.push_back(std::move(alive));
            }
        }
    }
    for (const auto& stream : streams) {
        stream->Drain();
    }
}

void ServerStream::Start(grpc::CallbackServerContext* context, std::size_t max_message_bytes) {
    self_ = shared_from_this();
    context->AddInitialMetadata(kMaxMessageBytesKey, std::to_string(max_message_bytes));
    StartSendInitialMetadata();
    StartRead(&read_buffer_);
    registry_->Add(this);
}

void ServerStream::Drain() {
    End(GoingAway());
}

void ServerStream::End(const grpc::Status& status) {
    std::unique_lock lock(mutex_);
    if (!ending_) {
        ending_ = true;
        end_status_ = status;
    }
    Advance(std::move(lock));
}

MessageGatherer* ServerStream::Room(PieceSize size) {
    if (frames_.empty() || (!frames_.back().empty() &&
                            (frames_.back().bytes() + size.bytes > kFrameTargetBytes ||
                             last_frame_items_ + size.items > FrameLimits().max_item_count))) {
        frames_.emplace_back();
    }
    last_frame_items_ = size.items + (frames_.back().empty() ? 0 : last_frame_items_);
    return &frames_.back();
}

void ServerStream::Advance(std::unique_lock<std::mutex> lock) {
    if (finished_) {
        return;
    }
    bool write = false;
    bool read = false;
    bool finish = false;
    grpc::Status status;
    if (broken_) {
        frames_.clear();
    }
    if (!writing_ && !frames_.empty() && !frames_.front().empty()) {
        writing_ = write = true;
        // Swapped, for assignment takes another reference on everything.
        grpc::ByteBuffer frame = frames_.front().Finish();
        write_buffer_.Swap(&frame);
        if (frames_.size() > 1) {
            frames_.pop_front();  // The last one is kept, with its memory.
        }
    }
    if (reading_ == Reading::kIdle && !handling_ && !ending_ && !broken_ && HasRoom()) {
        reading_ = Reading::kUnderWay;
        ++starting_reads_;
        read = true;
    }
    if (!writing_ && !handling_ && starting_reads_ == 0 &&
        (broken_ || (ending_ && !OwesAnswers()))) {
        finished_ = finish = true;
        status = end_status_;
    }
    // What gRPC is told comes after the lock is released: it may take long, and it may call back on
    // another thread at once. By the flags none of the three is told twice, and nothing after
    // Finish, with which the stream may be gone.
    lock.unlock();
    if (write) {
        StartWrite(&write_buffer_);
    }
    if (read) {
        read_buffer_.Clear();
        StartRead(&read_buffer_);
        lock.lock();
        --starting_reads_;
        if (ending_ || broken_) {
            return Advance(std::move(lock));
        }
    }
    if (finish) {
        Finish(status);
    }
}

void ServerStream::OnReadDone(bool ok) {
    registry_->poller_rest().OnFrame();
    {
        std::unique_lock lock(mutex_);
        if (!ok) {
            reading_ = Reading::kEnded;
            ending_ = true;  // With OK, unless there is another reason already.
            return Advance(std::move(lock));
        }
        reading_ = Reading::kIdle;
        if (ending_ || broken_) {
            return Advance(std::move(lock));
        }
        handling_ = true;
    }
    auto frame = ToContiguous(read_buffer_);
    Status handled = frame.ok() ? OnFrame(std::move(frame).value()) : frame.status();
    std::unique_lock lock(mutex_);
    handling_ = false;
    if (!handled.ok() && !ending_) {
        ending_ = true;
        end_status_ = ToGrpc(handled);
    }
    Advance(std::move(lock));
}

void ServerStream::OnWriteDone(bool ok) {
    std::uint64_t written = 0;
    {
        std::unique_lock lock(mutex_);
        writing_ = false;
        written_bytes_ += write_buffer_.Length();
        written = written_bytes_;
        write_buffer_.Clear();
        broken_ = broken_ || !ok;
        Advance(std::move(lock));
    }
    if (ok) {
        OnWritten(written);
    }
}

void ServerStream::OnCancel() {
    std::unique_lock lock(mutex_);
    broken_ = true;
    Advance(std::move(lock));
}

void ServerStream::OnDone() {
    registry_->Remove(this);
    OnStreamEnded();
    const auto self = std::move(self_);  // Destroys it, unless an answer is still to come.
}

}  // namespace qmq::rpc
