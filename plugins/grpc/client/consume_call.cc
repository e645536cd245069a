#include "plugins/grpc/client/consume_call.h"

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "plugins/grpc/client/connection.h"

namespace qmq::rpc {
namespace {

/// A frame of commands grows no further than this, unless a subscription alone is larger: less than
/// every server takes, in bytes and in items, even the smallest.
constexpr std::size_t kFrameBytes = 60U << 10;
/// Of each ack a broker names this many ranges that it did not hold, so more items are parts, too.
constexpr std::size_t kMostAckItems = 1'024;
/// The most that a credit, a close, or an ack beside its items takes.
constexpr std::size_t kCommandBytes = 32;

/// Some of the items of an ack, and what they take in a frame.
struct AckPiece {
    std::span<const AckItem> items;
    std::size_t bytes = 0;
};

/// As many from the front as go into one part.
AckPiece FirstPiece(std::span<const AckItem> items) {
    std::size_t count = 0;
    std::size_t bytes = 0;
    for (; count < std::min(items.size(), kMostAckItems); ++count) {
        const std::size_t next = AckItemSize(items[count]).bytes;
        if (bytes + next > kFrameBytes - kCommandBytes) {
            break;
        }
        bytes += next;
    }
    return {items.first(count), bytes};
}

void AddCredit(Credit* sum, const Credit& more) {
    constexpr auto kMost = std::numeric_limits<std::uint32_t>::max();
    sum->messages += std::min(more.messages, kMost - sum->messages);
    sum->bytes += std::min(more.bytes, std::numeric_limits<std::uint64_t>::max() - sum->bytes);
}

/// The answers to the parts of one ack: their sum, or the first error.
class PartsOfOneAck {
public:
    PartsOfOneAck(std::size_t parts, AckDone done) : left_(parts), done_(std::move(done)) {}

    void Answer(const Result<AckReply>& reply) {
        {
            const std::lock_guard lock(mutex_);
            if (!reply.ok() && sum_.ok()) {
                sum_ = reply.status();
            } else if (reply.ok() && sum_.ok()) {
                sum_->not_held.insert(
                    sum_->not_held.end(), reply->not_held.begin(), reply->not_held.end());
            }
            if (--left_ > 0) {
                return;
            }
        }
        done_(std::move(sum_));
    }

private:
    std::mutex mutex_;
    Result<AckReply> sum_ = AckReply{};  // guarded by mutex_
    std::size_t left_;                   // guarded by mutex_
    AckDone done_;
};

}  // namespace

std::string* ConsumeCall::Room(std::size_t bytes) {
    if (commands_.empty() || commands_.back().size() + bytes > kFrameBytes) {
        commands_.emplace_back();
    }
    return &commands_.back();
}

std::uint64_t ConsumeCall::Subscribe(const SubscribeRequest& request,
                                     std::shared_ptr<DeliveryListener> listener) {
    std::uint64_t subscription = 0;
    Status gone;
    ChangeAndWrite([&] {
        if (gone_) {
            gone = gone_reason_;
            return false;
        }
        subscription = ++last_subscription_;
        subscriptions_.emplace(subscription, Subscription{listener, {}, false});
        std::string command;
        AppendSubscribe(subscription, request, &command);
        Room(command.size())->append(command);
        return true;
    });
    if (!gone.ok()) {
        const LiveCalls::CallbackScope scope(connection_->calls());
        listener->OnClosed(gone);
    }
    return subscription;
}

void ConsumeCall::Grant(std::uint64_t subscription, Credit credit) {
    ChangeAndWrite([&] {
        const auto found = subscriptions_.find(subscription);
        if (found == subscriptions_.end() || found->second.closing) {
            return false;
        }
        Credit& granted = found->second.granted;
        if (granted.messages == 0 && granted.bytes == 0) {
            granted_.push_back(subscription);
        }
        AddCredit(&granted, credit);
        return true;
    });
}

void ConsumeCall::Ack(std::uint64_t subscription, std::vector<AckItem> items, AckDone done) {
    std::span<const AckItem> rest(items);
    if (const AckPiece all = FirstPiece(rest); all.items.size() == rest.size()) {
        return AckPart(subscription, all.items, all.bytes, std::move(done));
    }
    std::vector<AckPiece> pieces;
    for (; !rest.empty(); rest = rest.subspan(pieces.back().items.size())) {
        pieces.push_back(FirstPiece(rest));
    }
    auto parts = std::make_shared<PartsOfOneAck>(pieces.size(), std::move(done));
    for (const AckPiece& piece : pieces) {
        AckPart(subscription, piece.items, piece.bytes, [parts](Result<AckReply> reply) {
            parts->Answer(reply);
        });
    }
}

void ConsumeCall::AckPart(std::uint64_t subscription,
                          std::span<const AckItem> items,
                          std::size_t bytes,
                          AckDone done) {
    Status refused;
    const bool taken = ChangeAndWrite([&] {
        if (gone_) {
            refused = gone_reason_;
            return false;
        }
        if (!subscriptions_.contains(subscription)) {
            return false;
        }
        const std::uint64_t id = ++last_ack_;
        AppendAck(subscription, id, items, Room(bytes + kCommandBytes));
        acks_.emplace(id, PendingAck{subscription, std::move(done)});
        return true;
    });
    if (!taken) {
        const LiveCalls::CallbackScope scope(connection_->calls());
        done(refused.ok() ? Status::Unavailable("the subscription is closed") : refused);
    }
}

void ConsumeCall::Close(std::uint64_t subscription) {
    ChangeAndWrite([&] {
        const auto found = subscriptions_.find(subscription);
        if (found == subscriptions_.end() || found->second.closing) {
            return false;
        }
        found->second.closing = true;
        found->second.granted = {};
        AppendClose(subscription, Room(kCommandBytes));
        return true;
    });
}

void ConsumeCall::FillFrame(MessageGatherer* frame) {
    for (const std::uint64_t subscription : granted_) {
        const auto found = subscriptions_.find(subscription);
        if (found == subscriptions_.end()) {
            continue;
        }
        const Credit granted = std::exchange(found->second.granted, {});
        if (granted.messages != 0 || granted.bytes != 0) {
            AppendCredit(subscription, granted, Room(kCommandBytes));
        }
    }
    granted_.clear();
    if (!commands_.empty()) {
        frame->text()->swap(commands_.front());
        commands_.pop_front();
    }
}

Status ConsumeCall::OnFrame(Slice frame) {
    auto events = DecodeConsumeFrame(frame, {});
    if (!events.ok()) {
        return events.status();
    }
    const LiveCalls::CallbackScope scope(connection_->calls());
    for (ConsumeEvent& event : *events) {
        Dispatch(std::move(event));
    }
    return Status::Ok();
}

void ConsumeCall::Dispatch(ConsumeEvent event) {
    if (auto* closed = std::get_if<ClosedEvent>(&event.event)) {
        return EndSubscription(event.subscription, closed->status);
    }
    std::shared_ptr<DeliveryListener> listener;
    AckDone ack_done;
    auto* ack = std::get_if<AckResult>(&event.event);
    {
        const std::lock_guard lock(mutex_);
        if (const auto found = subscriptions_.find(event.subscription);
            found != subscriptions_.end()) {
            listener = found->second.listener;
        }
        if (ack != nullptr) {
            if (const auto found = acks_.find(ack->id); found != acks_.end()) {
                ack_done = std::move(found->second.done);
                acks_.erase(found);
            }
        }
    }
    if (ack_done) {
        ack_done(std::move(ack->reply));
    } else if (listener == nullptr) {
        return;  // It was closed meanwhile.
    } else if (auto* reply = std::get_if<SubscribeReply>(&event.event)) {
        listener->OnSubscribed(*reply);
    } else if (auto* batches = std::get_if<std::vector<DeliveredBatch>>(&event.event)) {
        listener->OnDelivery(std::move(*batches));
    }
}

void ConsumeCall::EndSubscription(std::uint64_t subscription, const Status& status) {
    std::shared_ptr<DeliveryListener> listener;
    std::vector<AckDone> acks;
    {
        const std::lock_guard lock(mutex_);
        const auto found = subscriptions_.find(subscription);
        if (found == subscriptions_.end()) {
            return;
        }
        listener = std::move(found->second.listener);
        subscriptions_.erase(found);
        for (auto ack = acks_.begin(); ack != acks_.end();) {
            if (ack->second.subscription == subscription) {
                acks.push_back(std::move(ack->second.done));
                ack = acks_.erase(ack);
            } else {
                ++ack;
            }
        }
    }
    for (AckDone& done : acks) {
        done(Status::Unavailable("the subscription was closed before the ack was answered: " +
                                 status.ToString()));
    }
    listener->OnClosed(status);
}

void ConsumeCall::OnEnded(const grpc::Status& status) {
    const Status reason = connection_->StreamEnding(status);
    std::map<std::uint64_t, Subscription> subscriptions;
    std::map<std::uint64_t, PendingAck> acks;
    {
        const std::lock_guard lock(mutex_);
        gone_ = true;
        gone_reason_ = Status::Unavailable(std::string(reason.message()));
        subscriptions.swap(subscriptions_);
        acks.swap(acks_);
    }
    {
        const LiveCalls::CallbackScope scope(connection_->calls());
        for (auto& [id, ack] : acks) {
            ack.done(Status::Unavailable(std::string(reason.message())));
        }
        for (auto& [id, subscription] : subscriptions) {
            subscription.listener->OnClosed(reason);
        }
    }
    acks.clear();
    subscriptions.clear();
    connection_->StreamEnded();
}

}  // namespace qmq::rpc
