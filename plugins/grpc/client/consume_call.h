#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "qmq/protocol.h"
#include "qmq/status.h"
#include "qmq/transport.h"

#include "plugins/grpc/client/stream_call.h"
#include "plugins/grpc/codec/consume_frames.h"

namespace qmq::rpc {

class ConnectionCore;

/// The Consume stream: the subscriptions of one connection, told apart by number.
class ConsumeCall final : public StreamCall {
public:
    explicit ConsumeCall(std::shared_ptr<ConnectionCore> connection)
        : connection_(std::move(connection)) {}

    /// The number of the new subscription. When the stream has ended, `listener` was told when this
    /// returns, and the number is of none.
    std::uint64_t Subscribe(const SubscribeRequest& request,
                            std::shared_ptr<DeliveryListener> listener);
    void Grant(std::uint64_t subscription, Credit credit);
    void Ack(std::uint64_t subscription, std::vector<AckItem> items, AckDone done);
    void Close(std::uint64_t subscription);

private:
    struct Subscription {
        std::shared_ptr<DeliveryListener> listener;
        Credit granted;  // Not sent yet.
        bool closing = false;
    };
    struct PendingAck {
        std::uint64_t subscription = 0;
        AckDone done;
    };

    std::string* Room(std::size_t bytes);  // with mutex_ held
    void AckPart(std::uint64_t subscription,
                 std::span<const AckItem> items,
                 std::size_t bytes,
                 AckDone done);
    void FillFrame(MessageGatherer* frame) override;
    void OnOpened(std::size_t) override {}
    Status OnFrame(Slice frame) override;
    void OnEnded(const grpc::Status& status) override;
    void Dispatch(ConsumeEvent event);
    void EndSubscription(std::uint64_t subscription, const Status& status);

    const std::shared_ptr<ConnectionCore> connection_;
    std::uint64_t last_subscription_ = 0;                  // guarded by mutex_
    std::uint64_t last_ack_ = 0;                           // guarded by mutex_
    std::map<std::uint64_t, Subscription> subscriptions_;  // guarded by mutex_
    std::map<std::uint64_t, PendingAck> acks_;             // guarded by mutex_
    std::vector<std::uint64_t> granted_;  // guarded by mutex_; those with credit to send.
    std::deque<std::string> commands_;    // guarded by mutex_; encoded, each a frame at most.
    bool gone_ = false;                   // guarded by mutex_
    Status gone_reason_;                  // guarded by mutex_
};

/// One subscription as the application's side of the connection holds it.
class GrpcDeliveryStream final : public DeliveryStream {
public:
    GrpcDeliveryStream(std::shared_ptr<ConsumeCall> call, std::uint64_t subscription)
        : call_(std::move(call)), subscription_(subscription) {}
    ~GrpcDeliveryStream() override { call_->Close(subscription_); }

    void Grant(Credit credit) override { call_->Grant(subscription_, credit); }
    void Ack(std::vector<AckItem> items, AckDone done) override {
        call_->Ack(subscription_, std::move(items), std::move(done));
    }
    void Close() override { call_->Close(subscription_); }

private:
    const std::shared_ptr<ConsumeCall> call_;
    const std::uint64_t subscription_;
};

}  // namespace qmq::rpc
