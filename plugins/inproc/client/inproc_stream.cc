#include "plugins/inproc/client/inproc_stream.h"

#include <utility>

#include "plugins/inproc/client/inproc_connection.h"

namespace qmq::inproc {

StreamCore::StreamCore(std::shared_ptr<ConnectionCore> connection,
                       std::shared_ptr<DeliveryListener> listener)
    : connection_(std::move(connection)), listener_(std::move(listener)) {}

void StreamCore::Start(SubscribeRequest request) {
    session_ = connection_->broker().Subscribe(std::move(request), shared_from_this());
}

void StreamCore::Grant(Credit credit) {
    if (session_ != nullptr) {
        session_->Grant(credit);
    }
}

void StreamCore::Ack(std::vector<AckItem> items, AckDone done) {
    bool gone = session_ == nullptr;
    {
        const std::lock_guard lock(mutex_);
        gone = gone || ended_;
    }
    if (gone || !connection_->Begin()) {
        const TransportState::CallbackScope scope(connection_->state());
        return done(Status::Unavailable("the subscription is closed"));
    }
    session_->Ack(
        std::move(items),
        [connection = connection_, done = std::move(done)](Result<AckReply> reply) mutable {
            const TransportState::CallbackScope scope(connection->state());
            const auto kept = std::move(connection);
            done(std::move(reply));
            done = nullptr;
            kept->End();
        });
}

void StreamCore::Leave() {
    if (session_ != nullptr) {
        session_->Close();
    }
}

void StreamCore::Lose(const Status& reason) {
    if (session_ != nullptr) {
        session_->Detach();
    }
    End(reason);
}

template <typename Call>
void StreamCore::Pass(Call call) {
    {
        const std::lock_guard lock(mutex_);
        if (ended_) {
            return;
        }
        busy_ = true;
    }
    const TransportState::CallbackScope scope(connection_->state());
    call(*listener_);
    {
        const std::lock_guard lock(mutex_);
        busy_ = false;
        if (!ended_) {
            return;
        }
    }
    Report();  // It ended meanwhile.
}

void StreamCore::OnSubscribed(const SubscribeReply& reply) {
    Pass([&](DeliveryListener& listener) { listener.OnSubscribed(reply); });
}

void StreamCore::OnDelivery(std::vector<DeliveredBatch> batches) {
    Pass([&](DeliveryListener& listener) { listener.OnDelivery(std::move(batches)); });
}

void StreamCore::End(const Status& status) {
    {
        const std::lock_guard lock(mutex_);
        if (std::exchange(ended_, true)) {
            return;
        }
        end_status_ = status;
        if (busy_) {
            return;  // Whoever is inside the listener reports when it comes out.
        }
    }
    Report();
}

void StreamCore::Report() {
    const auto self = shared_from_this();
    const auto connection = connection_;
    const TransportState::CallbackScope scope(connection->state());
    listener_->OnClosed(end_status_);
    listener_.reset();
    connection->StreamEnded(this);
}

}  // namespace qmq::inproc
