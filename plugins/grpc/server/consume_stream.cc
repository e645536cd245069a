#include "plugins/grpc/server/consume_stream.h"

#include <span>
#include <string>
#include <utility>

namespace qmq::rpc {
namespace {

/// Deliveries beyond this are cut into several events, so that no frame grows with what a client
/// has given credit for.
constexpr std::size_t kDeliveryBytes = 1U << 20;

}  // namespace

/// Where the broker hands out. Keeps no stream alive: the broker may hold it for a while after the
/// client has gone.
class ConsumeStream::Sink final : public broker::DeliverySink {
public:
    Sink(std::weak_ptr<ConsumeStream> stream, std::uint64_t subscription)
        : stream_(std::move(stream)), subscription_(subscription) {}

    void OnSubscribed(const SubscribeReply& reply) override {
        if (const auto stream = stream_.lock()) {
            stream->Answer(
                [&](MessageGatherer* out) { AppendSubscribed(subscription_, reply, out->text()); });
        }
    }
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        if (const auto stream = stream_.lock()) {
            stream->Deliver(subscription_, batches);
        }
    }
    void OnClosed(const Status& status) override {
        closed_ = true;
        if (const auto stream = stream_.lock()) {
            stream->Answer(
                [&](MessageGatherer* out) { AppendClosed(subscription_, status, out->text()); });
        }
    }
    bool closed() const { return closed_; }

private:
    const std::weak_ptr<ConsumeStream> stream_;
    const std::uint64_t subscription_;
    std::atomic<bool> closed_{false};
};

void ConsumeStream::Deliver(std::uint64_t subscription,
                            const std::vector<DeliveredBatch>& batches) {
    const std::span<const DeliveredBatch> all(batches);
    std::size_t begin = 0;
    while (begin < all.size()) {
        std::size_t end = begin;
        std::size_t bytes = 0;
        while (end < all.size() && (end == begin || bytes < kDeliveryBytes)) {
            bytes += all[end].header.size() + all[end].body.size();
            ++end;
        }
        Answer([&](MessageGatherer* out) {
            AppendDelivery(subscription, all.subspan(begin, end - begin), out);
        });
        begin = end;
    }
}

Status ConsumeStream::OnFrame(Slice frame) {
    auto commands = DecodeConsumeRequest(frame.bytes(), {});
    if (!commands.ok()) {
        return commands.status();
    }
    for (ConsumeCommand& command : *commands) {
        if (Status run = Run(std::move(command)); !run.ok()) {
            return run;
        }
    }
    return Status::Ok();
}

Status ConsumeStream::Run(ConsumeCommand command) {
    const std::uint64_t subscription = command.subscription;
    if (auto* request = std::get_if<SubscribeRequest>(&command.command)) {
        return Subscribe(subscription, std::move(*request));
    }
    if (auto* ack = std::get_if<AckCommand>(&command.command)) {
        Ack(subscription, std::move(*ack));
        return Status::Ok();
    }
    broker::Session* session = Find(subscription);
    if (session == nullptr) {
        return Status::Ok();  // Closed meanwhile; the client is about to learn it.
    }
    if (const auto* credit = std::get_if<Credit>(&command.command)) {
        session->Grant(*credit);
    } else if (std::holds_alternative<CloseCommand>(command.command)) {
        session->Close();
    }
    return Status::Ok();
}

broker::Session* ConsumeStream::Find(std::uint64_t subscription) {
    const auto found = subscriptions_.find(subscription);
    return found == subscriptions_.end() ? nullptr : found->second.session.get();
}

void ConsumeStream::ForgetClosed() {
    std::erase_if(subscriptions_, [](const auto& entry) { return entry.second.sink->closed(); });
}

Status ConsumeStream::Subscribe(std::uint64_t subscription, SubscribeRequest request) {
    ForgetClosed();
    if (subscriptions_.contains(subscription)) {
        return Status::InvalidArgument("subscription " + std::to_string(subscription) +
                                       " is in use on this stream");
    }
    const auto self = std::static_pointer_cast<ConsumeStream>(shared_from_this());
    auto sink = std::make_shared<Sink>(self, subscription);
    if (subscriptions_.size() >= limits_.max_subscriptions) {
        sink->OnClosed(Status::ResourceExhausted(
            "this connection has " + std::to_string(subscriptions_.size()) +
            " subscriptions already, the most that the server takes"));
        return Status::Ok();
    }
    auto session = broker_.Subscribe(std::move(request), sink);
    subscriptions_.emplace(subscription, Subscription{std::move(sink), std::move(session)});
    return Status::Ok();
}

void ConsumeStream::Ack(std::uint64_t subscription, AckCommand command) {
    {
        const std::lock_guard lock(mutex_);
        ++unanswered_acks_;
    }
    broker::Session* session = Find(subscription);
    if (session == nullptr) {
        return Acked(subscription, command.id, Status::Unavailable("the subscription is closed"));
    }
    const auto self = std::static_pointer_cast<ConsumeStream>(shared_from_this());
    session->Ack(std::move(command.items),
                 [self, subscription, id = command.id](const Result<AckReply>& reply) {
                     self->Acked(subscription, id, reply);
                 });
}

void ConsumeStream::Acked(std::uint64_t subscription,
                          std::uint64_t ack_id,
                          const Result<AckReply>& reply) {
    Answer([&](MessageGatherer* out) {
        --unanswered_acks_;
        AppendAckResult(subscription, ack_id, reply, out->text());
    });
}

void ConsumeStream::OnStreamEnded() {
    // What these consumers hold stays theirs for a while: they may come back.
    for (auto& [id, subscription] : subscriptions_) {
        if (subscription.session != nullptr) {
            subscription.session->Detach();
        }
    }
    subscriptions_.clear();
}

}  // namespace qmq::rpc
