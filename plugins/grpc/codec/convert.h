#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "qmq/message.h"
#include "qmq/protocol.h"
#include "qmq/status.h"
#include "qmq/v1/broker.pb.h"

/// Between the generated messages of broker.proto and the words of qmq/protocol.h, for all that is
/// not on the hot path. What comes in may be anything: kInvalidArgument names the field.
namespace qmq::rpc {

namespace proto = qmq::v1;

/// Times beyond a century are cut to one, so that sums of them cannot overflow: every limit that
/// they are held against is lower.
std::chrono::milliseconds MillisFromWire(std::uint64_t millis);
std::uint64_t MillisToWire(std::chrono::milliseconds millis);

proto::SubscribeRequest ToProto(const SubscribeRequest& request);
Result<SubscribeRequest> FromProto(const proto::SubscribeRequest& message);

proto::SubjectInfo ToProto(const SubjectInfo& info);
SubjectInfo FromProto(const proto::SubjectInfo& message);

proto::GroupInfo ToProto(const GroupInfo& info);
GroupInfo FromProto(const proto::GroupInfo& message);

Result<Durability> FromProto(proto::Durability durability);
proto::Durability ToProto(Durability durability);

Result<StartPosition> FromProto(proto::SubscribeRequest::Start start);
proto::SubscribeRequest::Start ToProto(StartPosition start);

Result<ConsumeSource> FromProto(proto::SubscribeRequest::Source source);

Result<AckItem> FromProto(const proto::AckItem& message);

/// A message in clear. `FromProto` checks what `Message::Validate` checks.
proto::Message ToProto(const Message& message);
Result<Message> FromProto(const std::string& subject, const proto::Message& message);

}  // namespace qmq::rpc
