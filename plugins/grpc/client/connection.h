#pragma once

#include <grpcpp/client_context.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "qmq/grpc.h"
#include "qmq/transport.h"
#include "qmq/v1/broker.grpc.pb.h"

#include "plugins/grpc/client/consume_call.h"
#include "plugins/grpc/client/endpoint.h"
#include "plugins/grpc/client/live_calls.h"
#include "plugins/grpc/client/publish_call.h"
#include "plugins/grpc/codec/convert.h"

namespace qmq::rpc {

/// A connection: the Publish stream (whose opening says that it is ready), the Consume stream once
/// somebody subscribes, each on a channel of its own, and unary calls on the first. When either
/// stream ends, everything ends.
///
/// Alive while `GrpcConnection` or one of its calls is. Thread-safe.
class ConnectionCore final : public Cancelable,
                             public std::enable_shared_from_this<ConnectionCore> {
public:
    ConnectionCore(GrpcClientOptions options,
                   Endpoint endpoint,
                   std::shared_ptr<LiveCalls> calls,
                   std::shared_ptr<ConnectionListener> listener);

    void Start(Executor& timers, const Clock& clock);
    /// Ends it as if the application had closed it.
    void Cancel() override;
    /// Ends it because of `reason`, unless it is ending already.
    void Fail(const Status& reason);

    /// Null when the connection has ended.
    std::shared_ptr<PublishCall> publish();
    /// Opens the stream when there is none yet.
    std::shared_ptr<ConsumeCall> consume();

    /// A call of its own on this channel. False when the connection has ended: then it was not
    /// begun.
    bool BeginUnary(std::shared_ptr<Cancelable> call, std::uint64_t* id);
    void EndUnary(std::uint64_t id);
    void PrepareContext(grpc::ClientContext* context) const;
    proto::Broker::Stub& stub() { return *stub_; }

    // From the streams.
    void StreamOpened();
    /// A stream ended with `status`: ends the other calls too, and says what those who wait for it
    /// are to be told.
    Status StreamEnding(const grpc::Status& status);
    /// It has told them.
    void StreamEnded() { CallEnded(); }

    const LiveCalls& calls() const { return *calls_; }
    const std::string& address() const { return endpoint_.address; }
    std::size_t max_message_bytes() const { return options_.max_message_bytes; }
    Status Explain(const grpc::Status& status) const { return ExplainCallError(status, endpoint_); }
    /// kUnavailable: why there is nothing to be had from it any more.
    Status Lost();

private:
    void CallEnded();
    void Report();
    void FailUnlessReady();

    const GrpcClientOptions options_;
    const Endpoint endpoint_;
    const std::shared_ptr<LiveCalls> calls_;
    std::shared_ptr<ConnectionListener> listener_;  // Null once it was told of the end.
    Wire wire_;
    Wire consume_wire_;
    std::unique_ptr<proto::Broker::Stub> stub_;
    std::uint64_t live_id_ = 0;

    std::mutex mutex_;
    std::shared_ptr<PublishCall> publish_;                          // guarded by mutex_
    std::shared_ptr<ConsumeCall> consume_;                          // guarded by mutex_
    std::map<std::uint64_t, std::shared_ptr<Cancelable>> unaries_;  // guarded by mutex_
    std::uint64_t last_unary_ = 0;                                  // guarded by mutex_
    int open_calls_ = 0;                                            // guarded by mutex_
    bool ready_ = false;                                            // guarded by mutex_
    bool closing_ = false;                                          // guarded by mutex_
    Status reason_;  // guarded by mutex_; why it is closing.
};

class GrpcConnection final : public BrokerConnection {
public:
    explicit GrpcConnection(std::shared_ptr<ConnectionCore> core) : core_(std::move(core)) {}
    ~GrpcConnection() override { core_->Cancel(); }

    void Send(std::vector<SendBatch> batches, SendDone done) override;
    std::unique_ptr<DeliveryStream> Subscribe(SubscribeRequest request,
                                              std::shared_ptr<DeliveryListener> listener) override;
    void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) override;
    void ListGroups(std::string subject,
                    UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) override;
    void ResetGroup(std::string subject,
                    std::string group,
                    StartPosition position,
                    UniqueFunction<void(Status)> done) override;

private:
    const std::shared_ptr<ConnectionCore> core_;
};

}  // namespace qmq::rpc
