#pragma once

#include <grpcpp/server_context.h>

#include <memory>
#include <string>

#include "qmq/batch.h"
#include "qmq/clock.h"
#include "qmq/id.h"
#include "qmq/random.h"
#include "qmq/v1/broker.grpc.pb.h"

#include "plugins/grpc/codec/convert.h"
#include "plugins/grpc/server/authenticator.h"
#include "plugins/grpc/server/publish_stream.h"
#include "plugins/grpc/server/server_stream.h"
#include "server/broker/broker.h"

namespace qmq::rpc {

struct ServiceOptions {
    std::string token;
    std::string group_name;
    std::string advertised_address;
    std::size_t max_message_bytes = 0;
    StreamLimits streams;
    BatchLimits batch;
    const Clock* clock = nullptr;
};

/// The two streams with their messages as bytes, the rest as generated classes.
using RawStreams = proto::Broker::WithRawCallbackMethod_Publish<
    proto::Broker::WithRawCallbackMethod_Consume<proto::Broker::Service>>;
using BrokerServiceBase =
    proto::Broker::WithCallbackMethod_Discover<proto::Broker::WithCallbackMethod_ListSubjects<
        proto::Broker::WithCallbackMethod_ListGroups<proto::Broker::WithCallbackMethod_ResetGroup<
            proto::Broker::WithCallbackMethod_Send<proto::Broker::WithCallbackMethod_Pull<
                proto::Broker::WithCallbackMethod_Ack<RawStreams>>>>>>>;

/// The service of broker.proto: each call becomes one of the broker, and its answer comes back.
class BrokerService final : public BrokerServiceBase {
public:
    BrokerService(ServiceOptions options, broker::Broker& broker);

    StreamRegistry& streams() { return *streams_; }

    grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Publish(
        grpc::CallbackServerContext* context) override;
    grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Consume(
        grpc::CallbackServerContext* context) override;

    grpc::ServerUnaryReactor* Discover(grpc::CallbackServerContext* context,
                                       const proto::DiscoverRequest* request,
                                       proto::DiscoverReply* reply) override;
    grpc::ServerUnaryReactor* ListSubjects(grpc::CallbackServerContext* context,
                                           const proto::ListSubjectsRequest* request,
                                           proto::ListSubjectsReply* reply) override;
    grpc::ServerUnaryReactor* ListGroups(grpc::CallbackServerContext* context,
                                         const proto::ListGroupsRequest* request,
                                         proto::ListGroupsReply* reply) override;
    grpc::ServerUnaryReactor* ResetGroup(grpc::CallbackServerContext* context,
                                         const proto::ResetGroupRequest* request,
                                         proto::ResetGroupReply* reply) override;
    grpc::ServerUnaryReactor* Send(grpc::CallbackServerContext* context,
                                   const proto::SendRequest* request,
                                   proto::SendReply* reply) override;
    grpc::ServerUnaryReactor* Pull(grpc::CallbackServerContext* context,
                                   const proto::PullRequest* request,
                                   proto::PullReply* reply) override;
    grpc::ServerUnaryReactor* Ack(grpc::CallbackServerContext* context,
                                  const proto::AckRequest* request,
                                  proto::AckReply* reply) override;

private:
    template <typename Stream>
    grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StartStream(
        grpc::CallbackServerContext* context);
    /// Calls `begin(answer)` when the caller may call, and answers with what it returns unless that
    /// is ok: then it has taken the answer upon itself.
    template <typename Begin>
    grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context, Begin begin);
    Result<SendBatch> EncodeBatch(const proto::SendRequest& request, proto::SendReply* reply);

    const ServiceOptions options_;
    broker::Broker& broker_;
    const Authenticator authenticator_;
    const std::shared_ptr<StreamRegistry> streams_ = std::make_shared<StreamRegistry>();
    Random random_ = Random::FromSystem();
    MessageIdGenerator ids_;
};

}  // namespace qmq::rpc
