#include "tests/anything/wire_engine.h"

#include <google/protobuf/stubs/logging.h>

#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "qmq/batch.h"
#include "qmq/v1/broker.pb.h"

#include "plugins/grpc/codec/consume_frames.h"
#include "plugins/grpc/codec/convert.h"
#include "plugins/grpc/codec/publish_frames.h"

namespace qmq::anything {
namespace {

namespace proto = qmq::v1;

/// The client that sends by plain calls.
constexpr std::size_t kPlainSender = 3;

/// All 64 bits as they are: what is negative here is huge there.
std::uint64_t Raw(std::chrono::milliseconds millis) {
    return static_cast<std::uint64_t>(millis.count());
}

proto::SubscribeRequest ToWire(const SubscribeRequest& request) {
    proto::SubscribeRequest message = rpc::ToProto(request);
    message.set_start(static_cast<proto::SubscribeRequest::Start>(request.start));
    message.mutable_retry()->set_initial_backoff_ms(Raw(request.retry.initial_backoff));
    message.mutable_retry()->set_max_backoff_ms(Raw(request.retry.max_backoff));
    message.set_ack_timeout_ms(Raw(request.ack_timeout));
    message.set_reconnect_grace_ms(Raw(request.reconnect_grace));
    return message;
}

template <typename Item>
void ToWire(const AckItem& item, Item* message) {
    message->set_verdict(static_cast<proto::AckItem::Verdict>(item.verdict));
    message->set_first(item.first);
    message->set_last(item.last);
    if (item.delay) {
        message->set_delay_ms(Raw(*item.delay));
    }
    message->set_error(item.error);
    if constexpr (requires { message->set_durability(proto::Durability{}); }) {
        message->set_durability(static_cast<proto::Durability>(item.durability));
    }
}

/// Runs `read(reply)` on the parsed reply of a plain call.
template <typename Reply, typename Read>
UniqueFunction<void(Result<std::string>)> Reading(Read read) {
    return [read = std::move(read)](Result<std::string> bytes) mutable {
        if (!bytes.ok()) {
            return read(Result<Reply>(bytes.status()));
        }
        Reply reply;
        if (!reply.ParseFromString(*bytes)) {
            return read(Result<Reply>(Status::Internal("the reply cannot be parsed")));
        }
        read(Result<Reply>(std::move(reply)));
    };
}

class WireEngine final : public Engine {
public:
    explicit WireEngine(std::unique_ptr<Pipe> pipe) : pipe_(std::move(pipe)) {
        // It has a line on standard error for each text that is not UTF-8.
        google::protobuf::SetLogHandler(nullptr);
    }

    void Send(std::size_t client, std::vector<SendBatch> batches, SendDone done) override;
    SubscriptionId Subscribe(std::size_t client, SubscribeRequest request, Ears ears) override;
    void Grant(SubscriptionId id, Credit credit) override;
    void Ack(SubscriptionId id, std::vector<AckItem> items, AckDone done) override;
    void Close(SubscriptionId id) override;
    void Detach(SubscriptionId id) override;
    void Pull(broker::PullRequest request, UniqueFunction<void(Result<Pulled>)> done) override;
    void Ack(ConsumerKey key, std::vector<AckItem> items, AckDone done) override;
    void Reset(std::string subject,
               std::string group,
               StartPosition position,
               UniqueFunction<void(Status)> done) override;
    void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) override;
    void ListGroups(std::string subject,
                    UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) override;
    void Garbage(std::size_t client, std::string bytes) override;
    bool Pump() override { return pipe_->Pump(); }

private:
    struct Subscription {
        Pipe::StreamId stream = 0;
        Ears ears;
        bool closed = false;
    };
    /// What one client has open; streams that have ended are opened again when they are needed.
    struct Client {
        std::optional<Pipe::StreamId> publish;
        std::optional<Pipe::StreamId> consume;
    };

    bool PlainSend(const std::vector<SendBatch>& batches, SendDone& done);
    Pipe::StreamId Publish(std::size_t client);
    Pipe::StreamId Consume(std::size_t client);
    void OnReplies(const Slice& frame);
    void OnEvents(const Slice& frame);
    void OnEvent(rpc::ConsumeEvent& event);
    void Command(SubscriptionId id, const std::function<void(proto::ConsumeCommand*)>& fill);
    void EndSubscriptions(Pipe::StreamId stream, const Status& status);

    std::map<std::size_t, Client> clients_;
    std::map<SubscriptionId, Subscription> subscriptions_;
    std::map<std::uint64_t, SendDone> sends_;
    std::map<std::uint64_t, AckDone> acks_;
    std::uint64_t last_id_ = 0;
    std::unique_ptr<Pipe> pipe_;  // Last: while it ends it tells the streams.
};

Pipe::StreamId WireEngine::Publish(std::size_t client) {
    std::optional<Pipe::StreamId>& stream = clients_[client].publish;
    if (!stream) {
        stream = pipe_->Open(Pipe::Method::kPublish,
                             {[this](const Slice& frame) { OnReplies(frame); },
                              [this, client](const Status&) { clients_[client].publish.reset(); }});
    }
    return *stream;
}

Pipe::StreamId WireEngine::Consume(std::size_t client) {
    std::optional<Pipe::StreamId>& stream = clients_[client].consume;
    if (!stream) {
        auto opened = std::make_shared<Pipe::StreamId>(0);
        stream = *opened = pipe_->Open(Pipe::Method::kConsume,
                                       {[this](const Slice& frame) { OnEvents(frame); },
                                        [this, client, opened](const Status& status) {
                                            if (clients_[client].consume == *opened) {
                                                clients_[client].consume.reset();
                                            }
                                            EndSubscriptions(*opened, status);
                                        }});
    }
    return *stream;
}

void WireEngine::EndSubscriptions(Pipe::StreamId stream, const Status& status) {
    for (auto& [id, subscription] : subscriptions_) {
        if (subscription.stream == stream && !std::exchange(subscription.closed, true)) {
            subscription.ears.closed(status.ok() ? Status::Unavailable("the stream ended")
                                                 : status);
        }
    }
}

bool WireEngine::PlainSend(const std::vector<SendBatch>& batches, SendDone& done) {
    if (batches.size() != 1) {
        return false;
    }
    const auto messages = DecodeMessages("subject", batches[0].batch, 1, BatchLimits{});
    if (!messages.ok()) {
        return false;
    }
    proto::SendRequest request;
    request.set_subject(batches[0].subject);
    request.set_durability(static_cast<proto::Durability>(batches[0].durability));
    for (const Message& message : *messages) {
        *request.add_messages() = rpc::ToProto(message);
    }
    pipe_->Call("Send",
                request.SerializeAsString(),
                Reading<proto::SendReply>([done = std::move(done)](
                                              const Result<proto::SendReply>& reply) mutable {
                    BatchReceipt receipt;
                    receipt.status = reply.status();
                    receipt.outcome = reply.ok() ? SendOutcome::kPersisted : SendOutcome::kUnknown;
                    if (reply.ok()) {
                        receipt.durability = static_cast<Durability>(reply->durability());
                        receipt.first_sequence = reply->first_sequence();
                    }
                    std::vector<BatchReceipt> receipts;
                    receipts.push_back(std::move(receipt));
                    done(std::move(receipts));
                }));
    return true;
}

void WireEngine::Send(std::size_t client, std::vector<SendBatch> batches, SendDone done) {
    if (client == kPlainSender && PlainSend(batches, done)) {
        return;
    }
    proto::PublishFrame frame;
    proto::PublishRequest* request = frame.add_requests();
    request->set_id(++last_id_);
    for (const SendBatch& batch : batches) {
        proto::SubjectBatch* each = request->add_batches();
        each->set_subject(batch.subject);
        each->set_durability(static_cast<proto::Durability>(batch.durability));
        each->set_batch(std::string(batch.batch.bytes()));
    }
    sends_[last_id_] = std::move(done);
    pipe_->Write(Publish(client), frame.SerializeAsString());
}

void WireEngine::OnReplies(const Slice& frame) {
    auto results = rpc::DecodePublishReply(frame.bytes(), {});
    if (!results.ok()) {
        return;
    }
    for (rpc::PublishResult& result : *results) {
        if (auto node = sends_.extract(result.id)) {
            node.mapped()(std::move(result.receipts));
        }
    }
}

Engine::SubscriptionId WireEngine::Subscribe(std::size_t client,
                                             SubscribeRequest request,
                                             Ears ears) {
    const SubscriptionId id = ++last_id_;
    subscriptions_[id] = Subscription{Consume(client), std::move(ears), false};
    Command(id, [&](proto::ConsumeCommand* command) {
        *command->mutable_subscribe() = ToWire(request);
    });
    return id;
}

void WireEngine::Command(SubscriptionId id,
                         const std::function<void(proto::ConsumeCommand*)>& fill) {
    proto::ConsumeRequest frame;
    proto::ConsumeCommand* command = frame.add_commands();
    command->set_subscription(id);
    fill(command);
    pipe_->Write(subscriptions_.at(id).stream, frame.SerializeAsString());
}

void WireEngine::Grant(SubscriptionId id, Credit credit) {
    Command(id, [&](proto::ConsumeCommand* command) {
        command->mutable_credit()->set_messages(credit.messages);
        command->mutable_credit()->set_bytes(credit.bytes);
    });
}

void WireEngine::Ack(SubscriptionId id, std::vector<AckItem> items, AckDone done) {
    const std::uint64_t ack = ++last_id_;
    acks_[ack] = std::move(done);
    Command(id, [&](proto::ConsumeCommand* command) {
        command->mutable_ack()->set_id(ack);
        for (const AckItem& item : items) {
            ToWire(item, command->mutable_ack()->add_items());
        }
    });
}

void WireEngine::Close(SubscriptionId id) {
    Command(id, [](proto::ConsumeCommand* command) { command->mutable_close(); });
}

void WireEngine::Detach(SubscriptionId id) {
    pipe_->Cut(subscriptions_.at(id).stream);
}

void WireEngine::OnEvents(const Slice& frame) {
    auto events = rpc::DecodeConsumeFrame(frame, {});
    if (!events.ok()) {
        return;
    }
    for (rpc::ConsumeEvent& event : *events) {
        OnEvent(event);
    }
}

void WireEngine::OnEvent(rpc::ConsumeEvent& event) {
    const auto found = subscriptions_.find(event.subscription);
    if (auto* acked = std::get_if<rpc::AckResult>(&event.event)) {
        if (auto node = acks_.extract(acked->id)) {
            node.mapped()(std::move(acked->reply));
        }
        return;
    }
    if (found == subscriptions_.end() || found->second.closed) {
        return;
    }
    if (const auto* reply = std::get_if<SubscribeReply>(&event.event)) {
        found->second.ears.subscribed(*reply);
    } else if (const auto* batches = std::get_if<std::vector<DeliveredBatch>>(&event.event)) {
        std::uint64_t unreadable = 0;
        std::vector<Handed> messages = Unpack(*batches, &unreadable);
        found->second.ears.handed(std::move(messages), unreadable);
    } else if (const auto* closed = std::get_if<rpc::ClosedEvent>(&event.event)) {
        found->second.closed = true;
        found->second.ears.closed(closed->status);
    }
}

void WireEngine::Pull(broker::PullRequest request, UniqueFunction<void(Result<Pulled>)> done) {
    proto::PullRequest message;
    *message.mutable_consumer() = ToWire(request.consumer);
    message.set_max_messages(request.max_messages);
    message.set_max_bytes(request.max_bytes);
    message.set_max_wait_ms(Raw(request.max_wait));
    pipe_->Call("Pull",
                message.SerializeAsString(),
                Reading<proto::PullReply>(
                    [done = std::move(done)](const Result<proto::PullReply>& reply) mutable {
                        if (!reply.ok()) {
                            return done(reply.status());
                        }
                        Pulled pulled;
                        for (const proto::PulledMessage& each : reply->messages()) {
                            pulled.messages.push_back({each.pull_sequence(),
                                                       each.sequence(),
                                                       each.attempt(),
                                                       each.message().id(),
                                                       each.message().body()});
                        }
                        done(std::move(pulled));
                    }));
}

void WireEngine::Ack(ConsumerKey key, std::vector<AckItem> items, AckDone done) {
    proto::AckRequest message;
    message.set_subject(key.subject);
    message.set_group(key.group);
    message.set_consumer_id(key.consumer_id);
    message.set_source(static_cast<proto::SubscribeRequest::Source>(key.source));
    for (const AckItem& item : items) {
        ToWire(item, message.add_items());
    }
    pipe_->Call("Ack",
                message.SerializeAsString(),
                Reading<proto::AckReply>(
                    [done = std::move(done)](const Result<proto::AckReply>& reply) mutable {
                        if (!reply.ok()) {
                            return done(reply.status());
                        }
                        AckReply result;
                        for (const proto::PullRange& range : reply->not_held()) {
                            result.not_held.push_back({range.first(), range.last()});
                        }
                        done(std::move(result));
                    }));
}

void WireEngine::Reset(std::string subject,
                       std::string group,
                       StartPosition position,
                       UniqueFunction<void(Status)> done) {
    proto::ResetGroupRequest message;
    message.set_subject(subject);
    message.set_group(group);
    message.set_position(static_cast<proto::SubscribeRequest::Start>(position));
    pipe_->Call("ResetGroup",
                message.SerializeAsString(),
                [done = std::move(done)](const Result<std::string>& reply) mutable {
                    done(reply.status());
                });
}

void WireEngine::ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) {
    pipe_->Call("ListSubjects",
                "",
                Reading<proto::ListSubjectsReply>(
                    [done = std::move(done)](const Result<proto::ListSubjectsReply>& r) mutable {
                        if (!r.ok()) {
                            return done(r.status());
                        }
                        std::vector<SubjectInfo> infos;
                        for (const proto::SubjectInfo& info : r->subjects()) {
                            infos.push_back(rpc::FromProto(info));
                        }
                        done(std::move(infos));
                    }));
}

void WireEngine::ListGroups(std::string subject,
                            UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) {
    proto::ListGroupsRequest request;
    request.set_subject(subject);
    pipe_->Call("ListGroups",
                request.SerializeAsString(),
                Reading<proto::ListGroupsReply>(
                    [done = std::move(done)](const Result<proto::ListGroupsReply>& r) mutable {
                        if (!r.ok()) {
                            return done(r.status());
                        }
                        std::vector<GroupInfo> infos;
                        for (const proto::GroupInfo& info : r->groups()) {
                            infos.push_back(rpc::FromProto(info));
                        }
                        done(std::move(infos));
                    }));
}

void WireEngine::Garbage(std::size_t client, std::string bytes) {
    pipe_->Write(bytes.size() % 2 == 0 ? Publish(client) : Consume(client), std::move(bytes));
}

}  // namespace

std::unique_ptr<Engine> MakeWireEngine(std::unique_ptr<Pipe> pipe) {
    return std::make_unique<WireEngine>(std::move(pipe));
}

}  // namespace qmq::anything
