#include "plugins/grpc/server/broker_service.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "qmq/subject.h"

#include "plugins/grpc/codec/proto_wire.h"
#include "plugins/grpc/server/consume_stream.h"
#include "plugins/grpc/server/unary_reactor.h"

namespace qmq::rpc {
namespace {

using RawReactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

/// A stream that is refused before it began.
class RefusedStream final : public RawReactor {
public:
    explicit RefusedStream(const grpc::Status& status) { Finish(status); }
    void OnDone() override { delete this; }
};

}  // namespace

BrokerService::BrokerService(ServiceOptions options, broker::Broker& broker)
    : options_(std::move(options)),
      broker_(broker),
      authenticator_(options_.token),
      ids_(options_.clock->WallNow(), random_) {}

template <typename Stream>
RawReactor* BrokerService::StartStream(grpc::CallbackServerContext* context) {
    if (grpc::Status allowed = authenticator_.Check(*context); !allowed.ok()) {
        return new RefusedStream(allowed);
    }
    auto stream = std::make_shared<Stream>(streams_, broker_, options_.streams);
    Stream* reactor = stream.get();
    stream->Start(context, options_.max_message_bytes);
    return reactor;
}

RawReactor* BrokerService::Publish(grpc::CallbackServerContext* context) {
    return StartStream<PublishStream>(context);
}

RawReactor* BrokerService::Consume(grpc::CallbackServerContext* context) {
    return StartStream<ConsumeStream>(context);
}

/// Of what the broker takes and what a frame has room for, beside the name of its subject and the
/// like, the lower.
static std::size_t LargestBatch(const ServiceOptions& options) {
    constexpr std::size_t kFrameOverhead = 1'024;
    return std::min(options.batch.max_batch_bytes, options.max_message_bytes - kFrameOverhead);
}

template <typename Begin>
grpc::ServerUnaryReactor* BrokerService::Unary(grpc::CallbackServerContext* context, Begin begin) {
    auto* reactor = new UnaryReactor;
    const std::shared_ptr<UnaryAnswer> answer = reactor->answer();
    grpc::Status allowed = authenticator_.Check(*context);
    if (!allowed.ok()) {
        answer->Give([&] { return allowed; });
    } else if (Status begun = begin(answer); !begun.ok()) {
        answer->Give(begun);
    }
    return reactor;
}

grpc::ServerUnaryReactor* BrokerService::Discover(grpc::CallbackServerContext* context,
                                                  const proto::DiscoverRequest* request,
                                                  proto::DiscoverReply* reply) {
    return Unary(context, [&](const std::shared_ptr<UnaryAnswer>& answer) {
        if (Status valid = ValidateStoredSubject(request->subject()); !valid.ok()) {
            return valid;
        }
        answer->Give([&] {
            proto::BrokerGroup* group = reply->add_groups();
            group->set_name(options_.group_name);
            group->set_address(options_.advertised_address);
            group->set_readable(true);
            group->set_writable(true);
            group->mutable_limits()->set_max_batch_bytes(LargestBatch(options_));
            reply->set_every_subject(true);
            return grpc::Status::OK;
        });
        return Status::Ok();
    });
}

grpc::ServerUnaryReactor* BrokerService::ListSubjects(grpc::CallbackServerContext* context,
                                                      const proto::ListSubjectsRequest*,
                                                      proto::ListSubjectsReply* reply) {
    return Unary(context, [&](const std::shared_ptr<UnaryAnswer>& answer) {
        broker_.ListSubjects([answer, reply](const Result<std::vector<SubjectInfo>>& subjects) {
            answer->Give([&] {
                for (const SubjectInfo& info :
                     subjects.ok() ? subjects.value() : std::vector<SubjectInfo>()) {
                    *reply->add_subjects() = ToProto(info);
                }
                return ToGrpc(subjects.status());
            });
        });
        return Status::Ok();
    });
}

grpc::ServerUnaryReactor* BrokerService::ListGroups(grpc::CallbackServerContext* context,
                                                    const proto::ListGroupsRequest* request,
                                                    proto::ListGroupsReply* reply) {
    return Unary(context, [&](const std::shared_ptr<UnaryAnswer>& answer) {
        broker_.ListGroups(request->subject(),
                           [answer, reply](const Result<std::vector<GroupInfo>>& groups) {
                               answer->Give([&] {
                                   for (const GroupInfo& info :
                                        groups.ok() ? groups.value() : std::vector<GroupInfo>()) {
                                       *reply->add_groups() = ToProto(info);
                                   }
                                   return ToGrpc(groups.status());
                               });
                           });
        return Status::Ok();
    });
}

grpc::ServerUnaryReactor* BrokerService::ResetGroup(grpc::CallbackServerContext* context,
                                                    const proto::ResetGroupRequest* request,
                                                    proto::ResetGroupReply*) {
    return Unary(context, [&](const std::shared_ptr<UnaryAnswer>& answer) {
        if (request->position() == proto::SubscribeRequest::START_DEFAULT) {
            return Status::InvalidArgument(
                "position: must be START_LATEST or START_EARLIEST; nothing was moved");
        }
        auto position = FromProto(request->position());
        if (!position.ok()) {
            return position.status();
        }
        broker_.ResetGroup(
            request->subject(), request->group(), *position, [answer](const Status& status) {
                answer->Give(status);
            });
        return Status::Ok();
    });
}

Result<SendBatch> BrokerService::EncodeBatch(const proto::SendRequest& request,
                                             proto::SendReply* reply) {
    auto durability = FromProto(request.durability());
    if (!durability.ok()) {
        return durability.status();
    }
    if (request.messages().empty()) {
        return Status::InvalidArgument("messages: there is none");
    }
    BatchBuilder builder;
    for (int i = 0; i < request.messages_size(); ++i) {
        auto message = FromProto(request.subject(), request.messages(i));
        if (!message.ok()) {
            return message.status().WithContext("messages[" + std::to_string(i) + "]");
        }
        const std::string id = message->id().empty() ? ids_.Next() : std::string(message->id());
        builder.Add(*message, id, options_.clock->WallNow());
        reply->add_ids(id);
    }
    if (builder.bytes() > options_.batch.max_batch_bytes) {
        return Status::InvalidArgument(
            "the messages take " + std::to_string(builder.bytes()) + " bytes, more than the " +
            std::to_string(options_.batch.max_batch_bytes) + " of a batch; send fewer at once");
    }
    return SendBatch{request.subject(), Slice::Own(builder.Finish()), *durability};
}

/// One answer has no room for an outcome: that it may have been stored all the same is its code.
static Status SendStatus(const BatchReceipt& receipt) {
    return receipt.outcome == SendOutcome::kUnknown
               ? Status::DeadlineExceeded(std::string(receipt.status.message()))
               : receipt.status;
}

grpc::ServerUnaryReactor* BrokerService::Send(grpc::CallbackServerContext* context,
                                              const proto::SendRequest* request,
                                              proto::SendReply* reply) {
    return Unary(context, [&](const std::shared_ptr<UnaryAnswer>& answer) {
        auto batch = EncodeBatch(*request, reply);
        if (!batch.ok()) {
            return batch.status();
        }
        std::vector<SendBatch> batches;
        batches.push_back(std::move(batch).value());
        broker_.Send(std::move(batches),
                     [answer, reply](const std::vector<BatchReceipt>& receipts) {
                         answer->Give([&] {
                             const BatchReceipt& receipt = receipts.front();
                             reply->set_durability(ToProto(receipt.durability));
                             reply->set_first_sequence(receipt.first_sequence);
                             return ToGrpc(SendStatus(receipt));
                         });
                     });
        return Status::Ok();
    });
}

namespace {

constexpr std::uint32_t kDefaultPullMessages = 50;
/// In clear a message takes up to 1.6 times as much (small numbers do), and what a client takes
/// unless it is told otherwise is 4 MiB.
constexpr std::uint64_t kDefaultPullBytes = 2U << 20;
/// Of a stored batch, which may have become a little larger than any that is taken.
constexpr BatchLimits kStoredLimits{65U << 20, 1'000'000};

/// As long as the caller waits and not longer: what is handed out to nobody waits for its time-out.
std::chrono::milliseconds MaxWait(const grpc::CallbackServerContext& context,
                                  std::uint64_t asked_millis) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        context.deadline() - std::chrono::system_clock::now());
    return std::clamp(MillisFromWire(asked_millis),
                      std::chrono::milliseconds(0),
                      std::max(left, std::chrono::milliseconds(0)));
}

AckItem Say(AckVerdict verdict, const DeliveredBatch& batch, std::string error = {}) {
    return {verdict,
            batch.first_pull_sequence,
            batch.first_pull_sequence + batch.count - 1,
            std::nullopt,
            std::move(error)};
}

Status PutPulled(const std::string& subject, const DeliveredBatch& batch, proto::PullReply* reply) {
    auto messages =
        MessageReader::Make(subject, batch.header, batch.body, batch.attempt, kStoredLimits);
    if (!messages.ok()) {
        return messages.status();
    }
    std::uint64_t i = 0;
    for (; const std::optional<Message> message = messages->Next(); ++i) {
        proto::PulledMessage* pulled = reply->add_messages();
        pulled->set_pull_sequence(batch.first_pull_sequence + i);
        pulled->set_sequence(batch.first_sequence + i);
        pulled->set_attempt(message->attempt());
        *pulled->mutable_message() = ToProto(*message);
    }
    return Status::Ok();
}

/// What is to be acked at once goes to `acks`.
grpc::Status FillPullReply(const std::string& subject,
                           const Result<broker::PullReply>& pulled,
                           proto::PullReply* reply,
                           std::vector<AckItem>* acks) {
    if (!pulled.ok()) {
        return ToGrpc(pulled.status());
    }
    reply->set_incarnation(pulled.value().subscribed.incarnation);
    reply->set_held_below(pulled.value().subscribed.held_below);
    for (const std::string& warning : pulled.value().subscribed.warnings) {
        reply->add_warnings(CleanText(warning, kMaxErrorTextBytes));
    }
    for (const DeliveredBatch& batch : pulled.value().batches) {
        if (Status put = PutPulled(subject, batch, reply); !put.ok()) {
            // Delivered again it would be the same: it goes where people look, with the reason.
            const std::string why = "cannot be decoded: " + put.ToString();
            acks->push_back(Say(AckVerdict::kDeadLetter, batch, why));
            reply->add_warnings(CleanText(std::to_string(batch.count) + " messages from sequence " +
                                              std::to_string(batch.first_sequence) + ": " + why +
                                              "; to the dead letters",
                                          kMaxErrorTextBytes));
        }
    }
    return grpc::Status::OK;
}

void AnswerPull(broker::Broker& broker,
                const ConsumerKey& consumer,
                const Result<broker::PullReply>& pulled,
                UnaryAnswer* answer,
                proto::PullReply* reply) {
    std::vector<AckItem> acks;
    const bool given =
        answer->Give([&] { return FillPullReply(consumer.subject, pulled, reply, &acks); });
    if (!given && pulled.ok()) {
        // The caller has gone: others have it now and not after its time-out.
        for (const DeliveredBatch& batch : pulled.value().batches) {
            acks.push_back(Say(AckVerdict::kRelease, batch));
        }
    }
    if (!acks.empty()) {
        broker.Ack(consumer, std::move(acks), [](const Result<AckReply>&) {});
    }
}

}  // namespace

grpc::ServerUnaryReactor* BrokerService::Pull(grpc::CallbackServerContext* context,
                                              const proto::PullRequest* request,
                                              proto::PullReply* reply) {
    return Unary(context, [&](const std::shared_ptr<UnaryAnswer>& answer) {
        auto consumer = FromProto(request->consumer());
        if (!consumer.ok()) {
            return consumer.status();
        }
        broker::PullRequest pull;
        pull.consumer = std::move(consumer).value();
        pull.max_messages =
            request->max_messages() == 0 ? kDefaultPullMessages : request->max_messages();
        pull.max_bytes = request->max_bytes() == 0 ? kDefaultPullBytes : request->max_bytes();
        pull.max_wait = MaxWait(*context, request->max_wait_ms());
        // Nothing of the service: the broker may answer when that has gone.
        broker_.Pull(pull,
                     [&broker = broker_, answer, reply, consumer = pull.consumer.key](
                         const Result<broker::PullReply>& pulled) {
                         AnswerPull(broker, consumer, pulled, answer.get(), reply);
                     });
        return Status::Ok();
    });
}

grpc::ServerUnaryReactor* BrokerService::Ack(grpc::CallbackServerContext* context,
                                             const proto::AckRequest* request,
                                             proto::AckReply* reply) {
    return Unary(context, [&](const std::shared_ptr<UnaryAnswer>& answer) {
        auto source = FromProto(request->source());
        if (!source.ok()) {
            return source.status();
        }
        std::vector<AckItem> items;
        for (const proto::AckItem& message : request->items()) {
            auto item = FromProto(message);
            if (!item.ok()) {
                return item.status();
            }
            items.push_back(std::move(item).value());
        }
        broker_.Ack({request->subject(), request->group(), request->consumer_id(), *source},
                    std::move(items),
                    [answer, reply](const Result<AckReply>& acked) {
                        answer->Give([&] {
                            if (acked.ok()) {
                                reply->set_not_held_count(acked->not_held_count());
                                for (const PullRange& range : acked->not_held) {
                                    proto::PullRange* message = reply->add_not_held();
                                    message->set_first(range.first);
                                    message->set_last(range.last);
                                }
                            }
                            return ToGrpc(acked.status());
                        });
                    });
        return Status::Ok();
    });
}

}  // namespace qmq::rpc
