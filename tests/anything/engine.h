#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "qmq/protocol.h"
#include "qmq/status.h"

#include "server/broker/broker.h"

/// What is attacked: a broker, by its own functions or by what a transport makes of bytes.
namespace qmq::anything {

/// The id of a message in a batch that no client can read: it can be acked, and that is all.
inline constexpr const char* kUnreadable = "?";

/// One message as a consumer got it.
struct Handed {
    std::uint64_t pull = 0;
    std::uint64_t sequence = 0;
    std::uint32_t attempt = 0;
    std::string id;
    std::string body;
};

/// The messages of `batches`, and how many of them cannot be read.
std::vector<Handed> Unpack(const std::vector<DeliveredBatch>& batches, std::uint64_t* unreadable);

/// What a subscription hears.
struct Ears {
    std::function<void(const SubscribeReply&)> subscribed;
    std::function<void(std::vector<Handed>, std::uint64_t unreadable)> handed;
    std::function<void(const Status&)> closed;
};

struct Pulled {
    SubscribeReply subscribed;
    std::vector<Handed> messages;
    std::uint64_t unreadable = 0;
};

/// Every call that a client can make. Answers come later, while the engine is run, or never: it may
/// be lost before.
class Engine {
public:
    using SubscriptionId = std::uint64_t;

    virtual ~Engine() = default;
    virtual void Send(std::size_t client, std::vector<SendBatch> batches, SendDone done) = 0;
    virtual SubscriptionId Subscribe(std::size_t client, SubscribeRequest request, Ears ears) = 0;
    virtual void Grant(SubscriptionId id, Credit credit) = 0;
    virtual void Ack(SubscriptionId id, std::vector<AckItem> items, AckDone done) = 0;
    virtual void Close(SubscriptionId id) = 0;
    virtual void Detach(SubscriptionId id) = 0;
    virtual void Pull(broker::PullRequest request, UniqueFunction<void(Result<Pulled>)> done) = 0;
    virtual void Ack(ConsumerKey key, std::vector<AckItem> items, AckDone done) = 0;
    virtual void Reset(std::string subject,
                       std::string group,
                       StartPosition position,
                       UniqueFunction<void(Status)> done) = 0;
    virtual void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) = 0;
    virtual void ListGroups(std::string subject,
                            UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) = 0;
    /// Bytes that mean nothing, where the engine takes bytes. What they do to the connection is
    /// told to nobody.
    virtual void Garbage(std::size_t client, std::string bytes) = 0;
    /// What the engine itself has to do between two tasks of the broker. False: nothing.
    virtual bool Pump() { return false; }
};

std::unique_ptr<Engine> MakeBrokerEngine(broker::Broker& broker);

}  // namespace qmq::anything
