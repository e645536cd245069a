#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "plugins/grpc/codec/consume_frames.h"
#include "plugins/grpc/server/publish_stream.h"
#include "plugins/grpc/server/server_stream.h"
#include "server/broker/broker.h"

namespace qmq::rpc {

/// Consume: each subscription is a session of the broker. What the broker hands out is written as
/// it comes. Clients may grant as much credit as they like; the broker is given no more of it than
/// keeps a subscription's line busy, and more as deliveries have gone out, so that what waits here
/// to be written is bounded.
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
        std::shared_ptr<broker::Session> session;
        std::uint64_t waiting_bytes = 0;  // Granted by the client, and not to the broker yet.
        // Granted to the broker, and not yet gone out. Below zero once a message larger than what
        // was left has gone out: the broker remembers that overdraft, so it is granted again.
        std::int64_t out_bytes = 0;
    };
    struct Unwritten {
        std::uint64_t end = 0;  // In bytes appended to the stream.
        std::uint64_t appended = 0;
        std::uint64_t subscription = 0;
        // Its number alone may be that of a newer subscription when this has gone out.
        std::shared_ptr<const Sink> sink;
        std::uint64_t bytes = 0;  // Of its batches.
    };

    Status OnFrame(Slice frame) override;
    bool HasRoom() const override;
    bool OwesAnswers() const override { return unanswered_acks_ > 0; }
    void OnStreamEnded() override;

    Status Run(ConsumeCommand command);
    Status Subscribe(std::uint64_t subscription, SubscribeRequest request);
    void Ack(std::uint64_t subscription, AckCommand command);
    void Acked(std::uint64_t subscription, std::uint64_t ack_id, const Result<AckReply>& reply);
    void ForgetClosed();
    void Grant(std::uint64_t subscription, const Credit& credit);
    void OnWritten(std::uint64_t bytes) override;
    std::uint64_t TakeCredit(Subscription* subscription);  // with mutex_ held
    std::shared_ptr<broker::Session> Find(std::uint64_t subscription);

    void Deliver(std::uint64_t subscription,
                 const std::shared_ptr<const Sink>& sink,
                 const std::vector<DeliveredBatch>& batches);

    broker::Broker& broker_;
    const StreamLimits limits_;
    std::map<std::uint64_t, Subscription> subscriptions_;  // guarded by mutex_
    std::deque<Unwritten> unwritten_;             // guarded by mutex_; deliveries, in their order.
    std::uint64_t unwritten_delivery_bytes_ = 0;  // guarded by mutex_
    std::size_t unanswered_acks_ = 0;             // guarded by mutex_
};

}  // namespace qmq::rpc
