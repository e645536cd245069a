#include "plugins/grpc/client/stream_call.h"

#include <charconv>
#include <optional>

#include "plugins/grpc/codec/channel_tuning.h"
#include "plugins/grpc/codec/status_map.h"

namespace qmq::rpc {
namespace {

/// What only our server says. Without it whoever answers is somebody else, or refused the call.
std::optional<std::size_t> ServerLimit(const grpc::ClientContext& context) {
    const auto& metadata = context.GetServerInitialMetadata();
    const auto found = metadata.find(kMaxMessageBytesKey);
    if (found == metadata.end()) {
        return std::nullopt;
    }
    std::size_t limit = 0;
    const auto [end, error] = std::from_chars(found->second.begin(), found->second.end(), limit);
    return error == std::errc() && end == found->second.end() ? std::optional(limit) : std::nullopt;
}

}  // namespace

void StreamCall::Start(const Wire& wire, const char* method) {
    self_ = shared_from_this();
    if (!wire.authorization.empty()) {
        context_.AddMetadata(kAuthorizationKey, wire.authorization);
    }
    stub_ = std::make_unique<grpc::GenericStub>(wire.channel);
    stub_->PrepareBidiStreamingCall(&context_, method, {}, this);
    // Writes begin outside of gRPC's callbacks; the hold keeps the call from being done under them.
    AddHold();
    StartCall();
}

void StreamCall::Cancel() {
    context_.TryCancel();
}

void StreamCall::WriteIfIdle(std::unique_lock<std::mutex> lock) {
    if (!open_ || writing_ || ended_) {
        return;
    }
    FillFrame(&gatherer_);
    if (gatherer_.empty()) {
        return;
    }
    writing_ = true;
    // Swapped, for assignment takes another reference on everything.
    grpc::ByteBuffer frame = gatherer_.Finish();
    write_buffer_.Swap(&frame);
    lock.unlock();
    StartWrite(&write_buffer_);
}

void StreamCall::OnWriteDone(bool ok) {
    std::unique_lock lock(mutex_);
    writing_ = false;
    write_buffer_.Clear();
    if (ended_) {
        lock.unlock();
        RemoveHold();
        return;
    }
    if (!ok) {
        return;  // The stream is broken; the reading side is about to learn it.
    }
    WriteIfIdle(std::move(lock));
}

void StreamCall::OnReadInitialMetadataDone(bool ok) {
    if (!ok) {
        return StopReading();
    }
    const auto limit = ServerLimit(context_);
    if (limit && *limit < kLeastMaxMessageBytes) {
        // Nearly every send would be refused for good; another connection may be better.
        local_error_ = Status::Unavailable("the server says that it takes frames of " +
                                           std::to_string(*limit) + " bytes; every server takes " +
                                           std::to_string(kLeastMaxMessageBytes));
        Cancel();
    } else if (limit) {
        OnOpened(*limit);
        std::unique_lock lock(mutex_);
        open_ = true;
        WriteIfIdle(std::move(lock));
    }
    // The first read comes after this, so that the two never run at once. When the server refused
    // the call, it ends it.
    ReadNext();
}

void StreamCall::ReadNext() {
    read_buffer_.Clear();
    StartRead(&read_buffer_);
}

void StreamCall::OnReadDone(bool ok) {
    if (!ok) {
        return StopReading();
    }
    auto frame = ToContiguous(read_buffer_);
    Status handled = frame.ok() ? OnFrame(std::move(frame).value()) : frame.status();
    if (!handled.ok()) {
        local_error_ = handled.WithContext("the server sent what cannot be understood");
        Cancel();
    }
    ReadNext();
}

/// No more reads: the call is over but for a write that may still be under way.
void StreamCall::StopReading() {
    bool idle = false;
    {
        const std::lock_guard lock(mutex_);
        ended_ = true;
        idle = !writing_;
    }
    if (idle) {
        RemoveHold();
    }
}

void StreamCall::OnDone(const grpc::Status& status) {
    const auto self = std::move(self_);  // Until the end of this function.
    if (!local_error_.ok()) {
        OnEnded(ToGrpc(local_error_));
    } else if (status.ok()) {
        OnEnded({grpc::StatusCode::UNAVAILABLE, "the server ended the stream"});
    } else {
        OnEnded(status);
    }
}

}  // namespace qmq::rpc
