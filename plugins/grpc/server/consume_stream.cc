#include "plugins/grpc/server/consume_stream.h"

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include "plugins/grpc/codec/channel_tuning.h"

namespace qmq::rpc {
namespace {

/// What a subscription may have waiting to be written: a few frames.
constexpr std::int64_t kOutBytes = 4 << 20;

}  // namespace

/// Where the broker hands out. Keeps no stream alive: the broker may hold it for a while after the
/// client has gone.
class ConsumeStream::Sink final : public broker::DeliverySink,
                                  public std::enable_shared_from_this<Sink> {
public:
    Sink(std::weak_ptr<ConsumeStream> stream, std::uint64_t subscription)
        : stream_(std::move(stream)), subscription_(subscription) {}

    void OnSubscribed(const SubscribeReply& reply) override {
        if (const auto stream = stream_.lock()) {
            std::string text;
            AppendSubscribed(subscription_, reply, &text);
            stream->Answer({text.size(), 1 + reply.warnings.size()},
                           [&](MessageGatherer* out) { out->text()->append(text); });
        }
    }
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        if (const auto stream = stream_.lock()) {
            stream->Deliver(subscription_, shared_from_this(), batches);
        }
    }
    void OnClosed(const Status& status) override {
        closed_ = true;
        if (const auto stream = stream_.lock()) {
            std::string text;
            AppendClosed(subscription_, status, &text);
            stream->Answer({text.size(), 1},
                           [&](MessageGatherer* out) { out->text()->append(text); });
        }
    }
    bool closed() const { return closed_; }

private:
    const std::weak_ptr<ConsumeStream> stream_;
    const std::uint64_t subscription_;
    std::atomic<bool> closed_{false};
};

/// Of answers only so much may wait. What is delivered is bounded by credit, and holds up no acks.
/// (Added, not subtracted: what has gone out is told after it counts as written.)
bool ConsumeStream::HasRoom() const {
    return unanswered_acks_ < limits_.max_unanswered &&
           unwritten_bytes() < kMostUnwrittenBytes + unwritten_delivery_bytes_;
}

void ConsumeStream::Deliver(std::uint64_t subscription,
                            const std::shared_ptr<const Sink>& sink,
                            const std::vector<DeliveredBatch>& batches) {
    const std::span<const DeliveredBatch> all(batches);
    std::size_t begin = 0;
    while (begin < all.size()) {
        std::size_t end = begin;
        std::size_t bytes = 0;
        PieceSize size{0, 1};
        for (; end < all.size(); ++end) {
            const PieceSize next = DeliveredSize(all[end]);
            // Cut, so that no frame grows with what a client has given credit for.
            if (end > begin && size.bytes + next.bytes > kFrameTargetBytes) {
                break;
            }
            bytes += all[end].header.size() + all[end].body.size();
            size = {size.bytes + next.bytes, size.items + next.items};
        }
        Answer(size, [&](MessageGatherer* out) {
            const std::size_t before = out->bytes();
            AppendDelivery(subscription, all.subspan(begin, end - begin), out);
            const std::size_t appended = out->bytes() - before;
            unwritten_.push_back({appended_bytes_ + appended, appended, subscription, sink, bytes});
            unwritten_delivery_bytes_ += appended;
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
    if (const auto* credit = std::get_if<Credit>(&command.command)) {
        Grant(subscription, *credit);
    } else if (std::holds_alternative<CloseCommand>(command.command)) {
        if (const auto session = Find(subscription)) {
            session->Close();
        }
    }
    return Status::Ok();
}

std::shared_ptr<broker::Session> ConsumeStream::Find(std::uint64_t subscription) {
    const std::lock_guard lock(mutex_);
    const auto found = subscriptions_.find(subscription);
    return found == subscriptions_.end() ? nullptr : found->second.session;
}

std::uint64_t ConsumeStream::TakeCredit(Subscription* subscription) {
    const std::int64_t room = std::max<std::int64_t>(0, kOutBytes - subscription->out_bytes);
    const std::uint64_t bytes =
        std::min(static_cast<std::uint64_t>(room), subscription->waiting_bytes);
    subscription->waiting_bytes -= bytes;
    subscription->out_bytes += static_cast<std::int64_t>(bytes);
    return bytes;
}

void ConsumeStream::Grant(std::uint64_t subscription, const Credit& credit) {
    std::shared_ptr<broker::Session> session;
    Credit passed{credit.messages, 0};
    {
        const std::lock_guard lock(mutex_);
        const auto found = subscriptions_.find(subscription);
        if (found == subscriptions_.end()) {
            return;  // Closed meanwhile; the client is about to learn it.
        }
        std::uint64_t& waiting = found->second.waiting_bytes;
        waiting += std::min(credit.bytes, std::numeric_limits<std::uint64_t>::max() - waiting);
        passed.bytes = TakeCredit(&found->second);
        session = found->second.session;
    }
    if (session != nullptr && (passed.messages != 0 || passed.bytes != 0)) {
        session->Grant(passed);
    }
}

void ConsumeStream::OnWritten(std::uint64_t bytes) {
    std::map<std::uint64_t, std::pair<std::shared_ptr<broker::Session>, std::uint64_t>> grants;
    {
        const std::lock_guard lock(mutex_);
        for (; !unwritten_.empty() && unwritten_.front().end <= bytes; unwritten_.pop_front()) {
            const Unwritten& gone_out = unwritten_.front();
            unwritten_delivery_bytes_ -= gone_out.appended;
            const auto found = subscriptions_.find(gone_out.subscription);
            if (found == subscriptions_.end() || found->second.sink != gone_out.sink) {
                continue;
            }
            found->second.out_bytes -= static_cast<std::int64_t>(gone_out.bytes);
            auto& grant = grants[gone_out.subscription];
            grant.first = found->second.session;
            grant.second += TakeCredit(&found->second);
        }
    }
    for (const auto& [id, grant] : grants) {
        if (grant.first != nullptr && grant.second != 0) {
            grant.first->Grant({0, grant.second});
        }
    }
}

void ConsumeStream::ForgetClosed() {
    std::vector<std::shared_ptr<broker::Session>> forgotten;  // Destroyed without the lock.
    const std::lock_guard lock(mutex_);
    std::erase_if(subscriptions_, [&](const auto& entry) {
        if (entry.second.sink->closed()) {
            forgotten.push_back(entry.second.session);
        }
        return entry.second.sink->closed();
    });
}

Status ConsumeStream::Subscribe(std::uint64_t subscription, SubscribeRequest request) {
    ForgetClosed();
    const auto self = std::static_pointer_cast<ConsumeStream>(shared_from_this());
    auto sink = std::make_shared<Sink>(self, subscription);
    std::size_t count = 0;
    {
        const std::lock_guard lock(mutex_);
        count = subscriptions_.size();
        if (subscriptions_.contains(subscription)) {
            return Status::InvalidArgument("subscription " + std::to_string(subscription) +
                                           " is in use on this stream");
        }
        if (count < limits_.max_subscriptions) {
            subscriptions_.emplace(subscription, Subscription{sink, nullptr});
        }
    }
    if (count >= limits_.max_subscriptions) {
        sink->OnClosed(
            Status::ResourceExhausted("this connection has " + std::to_string(count) +
                                      " subscriptions already, the most that the server takes"));
        return Status::Ok();
    }
    std::shared_ptr<broker::Session> session = broker_.Subscribe(std::move(request), sink);
    const std::lock_guard lock(mutex_);
    subscriptions_.at(subscription).session = std::move(session);
    return Status::Ok();
}

void ConsumeStream::Ack(std::uint64_t subscription, AckCommand command) {
    {
        const std::lock_guard lock(mutex_);
        ++unanswered_acks_;
    }
    const auto session = Find(subscription);
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
    Answer(AckResultSize(subscription, ack_id, reply), [&](MessageGatherer* out) {
        --unanswered_acks_;
        AppendAckResult(subscription, ack_id, reply, out->text());
    });
}

void ConsumeStream::OnStreamEnded() {
    std::map<std::uint64_t, Subscription> subscriptions;
    {
        const std::lock_guard lock(mutex_);
        subscriptions.swap(subscriptions_);
        unwritten_.clear();
    }
    // What these consumers hold stays theirs for a while: they may come back.
    for (auto& [id, subscription] : subscriptions) {
        if (subscription.session != nullptr) {
            subscription.session->Detach();
        }
    }
}

}  // namespace qmq::rpc
