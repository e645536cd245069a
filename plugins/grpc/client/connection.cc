#include "plugins/grpc/client/connection.h"

#include <utility>
#include <vector>

#include "plugins/grpc/client/unary_call.h"
#include "plugins/grpc/codec/channel_tuning.h"
#include "plugins/grpc/codec/convert.h"

namespace qmq::rpc {
namespace {

constexpr char kPublish[] = "/qmq.v1.Broker/Publish";
constexpr char kConsume[] = "/qmq.v1.Broker/Consume";

}  // namespace

ConnectionCore::ConnectionCore(GrpcClientOptions options,
                               Endpoint endpoint,
                               std::shared_ptr<LiveCalls> calls,
                               std::shared_ptr<ConnectionListener> listener)
    : options_(std::move(options)),
      endpoint_(std::move(endpoint)),
      calls_(std::move(calls)),
      listener_(std::move(listener)) {}

void ConnectionCore::Start(Executor& timers, const Clock& clock) {
    const bool begun = calls_->Begin(weak_from_this(), &live_id_);
    auto wire = begun ? MakeWire(options_, endpoint_)
                      : Result<Wire>(Status::Cancelled("the client was shut down"));
    // A channel connects when it is used first. With one for both streams the threads of gRPC
    // that serve them wait for each other, and hand over to a third.
    auto consume_wire = wire.ok() ? MakeWire(options_, endpoint_) : wire;
    if (!consume_wire.ok()) {
        {
            const std::lock_guard lock(mutex_);
            closing_ = true;
            reason_ = consume_wire.status().WithContext("broker " + endpoint_.address);
        }
        return Report();
    }
    wire_ = std::move(wire).value();
    consume_wire_ = std::move(consume_wire).value();
    stub_ = proto::Broker::NewStub(wire_.channel);
    std::shared_ptr<PublishCall> publish;
    {
        const std::lock_guard lock(mutex_);
        publish_ = std::make_shared<PublishCall>(shared_from_this(), options_.max_message_bytes);
        publish = publish_;
        open_calls_ = 1;
    }
    timers.PostAt(clock.Now() + options_.connect_timeout, [weak = weak_from_this()] {
        if (auto core = weak.lock()) {
            core->FailUnlessReady();
        }
    });
    publish->Start(wire_, kPublish);
}

void ConnectionCore::Cancel() {
    Fail(Status::Cancelled("the connection to broker " + endpoint_.address + " was closed"));
}

void ConnectionCore::FailUnlessReady() {
    {
        const std::lock_guard lock(mutex_);
        if (ready_) {
            return;
        }
    }
    Fail(Status::Unavailable("broker " + endpoint_.address + ": not ready within " +
                             std::to_string(options_.connect_timeout.count()) +
                             " ms (connect_timeout)"));
}

void ConnectionCore::Fail(const Status& reason) {
    std::vector<std::shared_ptr<StreamCall>> streams;
    std::vector<std::shared_ptr<Cancelable>> unaries;
    {
        const std::lock_guard lock(mutex_);
        if (closing_) {
            return;
        }
        closing_ = true;
        reason_ = reason;
        streams = {publish_, consume_};
        for (const auto& [id, call] : unaries_) {
            unaries.push_back(call);
        }
    }
    for (const auto& stream : streams) {
        if (stream != nullptr) {
            stream->Cancel();
        }
    }
    for (const auto& call : unaries) {
        call->Cancel();
    }
}

std::shared_ptr<PublishCall> ConnectionCore::publish() {
    const std::lock_guard lock(mutex_);
    return closing_ ? nullptr : publish_;
}

std::shared_ptr<ConsumeCall> ConnectionCore::consume() {
    std::shared_ptr<ConsumeCall> fresh;
    {
        const std::lock_guard lock(mutex_);
        if (closing_ || consume_ != nullptr) {
            return closing_ ? nullptr : consume_;
        }
        fresh = std::make_shared<ConsumeCall>(shared_from_this());
        consume_ = fresh;
        ++open_calls_;
    }
    fresh->Start(consume_wire_, kConsume);
    return fresh;
}

bool ConnectionCore::BeginUnary(std::shared_ptr<Cancelable> call, std::uint64_t* id) {
    const std::lock_guard lock(mutex_);
    if (closing_) {
        return false;
    }
    *id = ++last_unary_;
    unaries_.emplace(*id, std::move(call));
    ++open_calls_;
    return true;
}

void ConnectionCore::EndUnary(std::uint64_t id) {
    {
        const std::lock_guard lock(mutex_);
        unaries_.erase(id);
    }
    CallEnded();
}

void ConnectionCore::PrepareContext(grpc::ClientContext* context) const {
    if (!wire_.authorization.empty()) {
        context->AddMetadata(kAuthorizationKey, wire_.authorization);
    }
    SetTimeout(context, options_.call_timeout);
}

void ConnectionCore::StreamOpened() {
    {
        const std::lock_guard lock(mutex_);
        if (closing_) {
            return;
        }
        ready_ = true;
    }
    const LiveCalls::CallbackScope scope(*calls_);
    listener_->OnReady();
}

Status ConnectionCore::StreamEnding(const grpc::Status& status) {
    Fail(ExplainCallError(status, endpoint_));
    const std::lock_guard lock(mutex_);
    return reason_;
}

Status ConnectionCore::Lost() {
    const std::lock_guard lock(mutex_);
    return Status::Unavailable(std::string(reason_.message()));
}

void ConnectionCore::CallEnded() {
    {
        const std::lock_guard lock(mutex_);
        if (--open_calls_ > 0) {
            return;
        }
    }
    Report();
}

void ConnectionCore::Report() {
    std::shared_ptr<PublishCall> publish;
    std::shared_ptr<ConsumeCall> consume;
    Status reason;
    {
        const std::lock_guard lock(mutex_);
        publish.swap(publish_);
        consume.swap(consume_);
        reason = reason_;
    }
    {
        const LiveCalls::CallbackScope scope(*calls_);
        listener_->OnClosed(reason);
        listener_.reset();
    }
    if (live_id_ != 0) {
        calls_->End(live_id_);
    }
}

void GrpcConnection::Send(std::vector<SendBatch> batches, SendDone done) {
    if (const auto publish = core_->publish()) {
        return publish->Send(std::move(batches), std::move(done));
    }
    BatchReceipt refused;
    refused.outcome = SendOutcome::kRefused;
    refused.status = core_->Lost();
    const LiveCalls::CallbackScope scope(core_->calls());
    done(std::vector<BatchReceipt>(batches.size(), refused));
}

namespace {

/// What a subscriber gets whose connection has ended already.
class DeadStream final : public DeliveryStream {
public:
    explicit DeadStream(Status reason) : reason_(std::move(reason)) {}
    void Grant(Credit) override {}
    void Ack(std::vector<AckItem>, AckDone done) override { done(reason_); }
    void Close() override {}

private:
    const Status reason_;
};

}  // namespace

std::unique_ptr<DeliveryStream> GrpcConnection::Subscribe(
    SubscribeRequest request, std::shared_ptr<DeliveryListener> listener) {
    if (auto consume = core_->consume()) {
        const std::uint64_t id = consume->Subscribe(request, std::move(listener));
        return std::make_unique<GrpcDeliveryStream>(std::move(consume), id);
    }
    const LiveCalls::CallbackScope scope(core_->calls());
    listener->OnClosed(core_->Lost());
    return std::make_unique<DeadStream>(core_->Lost());
}

void GrpcConnection::ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) {
    CallUnary<proto::ListSubjectsRequest, proto::ListSubjectsReply>(
        core_,
        {},
        [](auto* stub, auto... call) { stub->ListSubjects(call...); },
        [done = std::move(done)](Result<proto::ListSubjectsReply> reply) mutable {
            if (!reply.ok()) {
                return done(reply.status());
            }
            std::vector<SubjectInfo> subjects;
            for (const auto& subject : reply->subjects()) {
                subjects.push_back(FromProto(subject));
            }
            done(std::move(subjects));
        });
}

void GrpcConnection::ListGroups(std::string subject,
                                UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) {
    proto::ListGroupsRequest request;
    request.set_subject(std::move(subject));
    CallUnary<proto::ListGroupsRequest, proto::ListGroupsReply>(
        core_,
        std::move(request),
        [](auto* stub, auto... call) { stub->ListGroups(call...); },
        [done = std::move(done)](Result<proto::ListGroupsReply> reply) mutable {
            if (!reply.ok()) {
                return done(reply.status());
            }
            std::vector<GroupInfo> groups;
            for (const auto& group : reply->groups()) {
                groups.push_back(FromProto(group));
            }
            done(std::move(groups));
        });
}

void GrpcConnection::ResetGroup(std::string subject,
                                std::string group,
                                StartPosition position,
                                UniqueFunction<void(Status)> done) {
    proto::ResetGroupRequest request;
    request.set_subject(std::move(subject));
    request.set_group(std::move(group));
    request.set_position(ToProto(position));
    CallUnary<proto::ResetGroupRequest, proto::ResetGroupReply>(
        core_,
        std::move(request),
        [](auto* stub, auto... call) { stub->ResetGroup(call...); },
        [done = std::move(done)](Result<proto::ResetGroupReply> reply) mutable {
            done(reply.ok() ? Status::Ok() : reply.status());
        });
}

}  // namespace qmq::rpc
