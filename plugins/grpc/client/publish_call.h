#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "qmq/protocol.h"
#include "qmq/status.h"

#include "plugins/grpc/client/stream_call.h"
#include "plugins/grpc/codec/publish_frames.h"

namespace qmq::rpc {

class ConnectionCore;

/// The Publish stream: frames of many sends out, receipts back in any order.
class PublishCall final : public StreamCall {
public:
    PublishCall(std::shared_ptr<ConnectionCore> connection, std::size_t max_message_bytes)
        : connection_(std::move(connection)), max_message_bytes_(max_message_bytes) {}

    void Send(std::vector<SendBatch> batches, SendDone done);

private:
    struct Waiting {
        std::vector<SendBatch> batches;
        SendDone done;
    };
    struct InFlight {
        std::size_t batch_count = 0;
        SendDone done;  // Empty once answered.
    };
    struct Answer {
        std::vector<BatchReceipt> receipts;
        SendDone done;
    };

    bool FitsAFrame(std::span<const SendBatch> batches) const;  // with mutex_ held
    Status TooLarge(const SendBatch& batch);
    void SendInParts(std::vector<SendBatch> batches, SendDone done);
    void FillFrame(MessageGatherer* frame) override;
    void OnOpened(std::size_t server_max_message_bytes) override;
    Status OnFrame(Slice frame) override;
    void OnEnded(const grpc::Status& status) override;
    Status TakeAnswer(PublishResult result, Answer* answer);  // with mutex_ held

    const std::shared_ptr<ConnectionCore> connection_;
    std::size_t max_message_bytes_;  // guarded by mutex_
    std::deque<Waiting> waiting_;    // guarded by mutex_
    // Ids are dense, so that the one that is answered is found by its distance from the oldest.
    std::deque<InFlight> in_flight_;     // guarded by mutex_
    std::uint64_t first_in_flight_ = 1;  // guarded by mutex_
    bool gone_ = false;                  // guarded by mutex_; OnEnded was called.
    Status gone_reason_;                 // guarded by mutex_
};

}  // namespace qmq::rpc
