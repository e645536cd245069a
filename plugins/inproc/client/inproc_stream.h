#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "qmq/transport.h"

#include "plugins/inproc/codec/inproc_broker.h"

namespace qmq::inproc {

class ConnectionCore;

/// A subscription: passes on what the broker hands out, and sees to it that the listener is told of
/// the end once, last, and never beside another call, whoever ends it: the broker, the consumer, or
/// the connection on another thread.
class StreamCore final : public Sink, public std::enable_shared_from_this<StreamCore> {
public:
    StreamCore(std::shared_ptr<ConnectionCore> connection,
               std::shared_ptr<DeliveryListener> listener);

    void Start(SubscribeRequest request);
    void Grant(Credit credit);
    void Ack(std::vector<AckItem> items, AckDone done);
    void Leave();
    /// The connection is gone: as if it had been lost.
    void Lose(const Status& reason);

private:
    void OnSubscribed(const SubscribeReply& reply) override;
    void OnDelivery(std::vector<DeliveredBatch> batches) override;
    void OnClosed(const Status& status) override { End(status); }

    template <typename Call>
    void Pass(Call call);
    void End(const Status& status);
    void Report();

    const std::shared_ptr<ConnectionCore> connection_;
    std::shared_ptr<DeliveryListener> listener_;  // Null once it was told of the end.
    std::unique_ptr<Session> session_;            // Set once, by Start.

    std::mutex mutex_;
    bool busy_ = false;   // guarded by mutex_; inside the listener.
    bool ended_ = false;  // guarded by mutex_
    Status end_status_;   // guarded by mutex_
};

/// The application's side of it.
class InprocDeliveryStream final : public DeliveryStream {
public:
    explicit InprocDeliveryStream(std::shared_ptr<StreamCore> core) : core_(std::move(core)) {}
    ~InprocDeliveryStream() override { core_->Leave(); }
    void Grant(Credit credit) override { core_->Grant(credit); }
    void Ack(std::vector<AckItem> items, AckDone done) override {
        core_->Ack(std::move(items), std::move(done));
    }
    void Close() override { core_->Leave(); }

private:
    const std::shared_ptr<StreamCore> core_;
};

}  // namespace qmq::inproc
