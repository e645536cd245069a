#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "plugins/grpc/codec/consume_frames.h"
#include "plugins/grpc/server/publish_stream.h"
#include "plugins/grpc/server/server_stream.h"
#include "server/broker/broker.h"

namespace qmq::rpc {

/// Consume: each subscription is a session of the broker. What the broker hands out is written as
/// it comes; the credit that the client granted, which the broker keeps, bounds how much that is.
class ConsumeStream final : public ServerStream {
public:
    ConsumeStream(std::shared_ptr<StreamRegistry> registry,
                  broker::Broker& broker,
                  const StreamLimits& limits)
        : ServerStream(std::move(registry)), broker_(broker), limits_(limits) {}

private:
    class Sink;
    struct Subscription {
        std::shared_ptr<Sink> sink;
        std::unique_ptr<broker::Session> session;
    };

    Status OnFrame(Slice frame) override;
    bool HasRoom() const override { return unanswered_acks_ < limits_.max_unanswered; }
    bool OwesAnswers() const override { return unanswered_acks_ > 0; }
    void OnStreamEnded() override;

    Status Run(ConsumeCommand command);
    Status Subscribe(std::uint64_t subscription, SubscribeRequest request);
    void Ack(std::uint64_t subscription, AckCommand command);
    void Acked(std::uint64_t subscription, std::uint64_t ack_id, const Result<AckReply>& reply);
    void ForgetClosed();
    broker::Session* Find(std::uint64_t subscription);

    void Deliver(std::uint64_t subscription, const std::vector<DeliveredBatch>& batches);

    broker::Broker& broker_;
    const StreamLimits limits_;
    /// Only in OnFrame and OnStreamEnded, which never run at once.
    std::map<std::uint64_t, Subscription> subscriptions_;
    std::size_t unanswered_acks_ = 0;  // guarded by mutex_
};

}  // namespace qmq::rpc
