#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/protocol.h"
#include "qmq/status.h"

/// The SPI of transports: what the SDK needs of whatever carries frames to a QMQ-shaped cluster.
/// Applications only name a factory. Routing, load balancing, circuit breaking, retry and
/// reconnecting are written once above it; a transport carries.
namespace qmq {

/// One master of a subject, with its replicas behind it.
struct BrokerGroup {
    std::string name;
    std::string address;  ///< In the transport's own form.
    bool readable = true;
    bool writable = true;
    BrokerLimits limits = {};
    friend bool operator==(const BrokerGroup&, const BrokerGroup&) = default;
};

/// Which broker groups serve a subject.
struct Route {
    std::vector<BrokerGroup> groups;
    /// The same ones serve every other subject, for every role and group, so that nobody asks for
    /// each of thousands.
    bool every_subject = false;
};

enum class ClientRole : std::uint8_t { kProducer = 1, kConsumer = 2 };  // [I]

struct DiscoverRequest {
    std::string subject;
    std::string group;  ///< Of consumers.
    ClientRole role = ClientRole::kProducer;
    std::string app_code;
    std::string client_id;
};

/// What a delivery stream tells its owner. Calls for one stream come one at a time, on the
/// transport's threads: they return soon.
class DeliveryListener {
public:
    virtual ~DeliveryListener() = default;
    virtual void OnSubscribed(const SubscribeReply& reply) = 0;
    virtual void OnDelivery(std::vector<DeliveredBatch> batches) = 0;
    /// Last, once, also when the stream never opened.
    virtual void OnClosed(const Status& status) = 0;
};

/// One consumer's stream of messages. Thread-safe; calls return at once. Destroying it ends it as
/// `Close` does, but no one waits.
class DeliveryStream {
public:
    virtual ~DeliveryStream() = default;
    virtual void Grant(Credit credit) = 0;
    /// `done` comes once: kUnavailable when the connection is lost before the answer.
    virtual void Ack(std::vector<AckItem> items, AckDone done) = 0;
    /// The consumer leaves its group; `OnClosed(kCancelled)` follows.
    virtual void Close() = 0;
};

/// What a connection tells its owner. As `DeliveryListener`.
class ConnectionListener {
public:
    virtual ~ConnectionListener() = default;
    virtual void OnReady() = 0;
    /// Last, once, also when it never became ready. All sends, acks and streams of it have been
    /// answered before.
    virtual void OnClosed(const Status& status) = 0;
};

/// One connection to one broker group. It opens by itself when made, closes once, and is then
/// thrown away: whoever wants another makes another. Thread-safe; calls return at once, and work
/// before `OnReady` (frames wait for it).
///
/// Callbacks may come on the calling thread before the call returns (inproc), so the caller holds
/// no lock that they want.
class BrokerConnection {
public:
    /// Closes it. Callbacks may still come until `OnClosed`: listeners are shared and outlive the
    /// connection.
    virtual ~BrokerConnection() = default;

    /// Sends a frame; `done` gets one receipt a batch. When the connection is lost before the
    /// answer: kUnknown and kUnavailable for those that may have arrived, kRefused and kUnavailable
    /// for those that certainly did not.
    virtual void Send(std::vector<SendBatch> batches, SendDone done) = 0;
    virtual std::unique_ptr<DeliveryStream> Subscribe(
        SubscribeRequest request, std::shared_ptr<DeliveryListener> listener) = 0;

    virtual void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) = 0;
    virtual void ListGroups(std::string subject,
                            UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) = 0;
    virtual void ResetGroup(std::string subject,
                            std::string group,
                            StartPosition position,
                            UniqueFunction<void(Status)> done) = 0;
};

/// A way to one cluster, for one client. Thread-safe.
class Transport {
public:
    /// Blocks until none of its threads is inside a callback, unless it is called from one.
    virtual ~Transport() = default;
    virtual void Discover(DiscoverRequest request,
                          TimePoint deadline,
                          UniqueFunction<void(Result<Route>)> done) = 0;
    virtual std::unique_ptr<BrokerConnection> Connect(
        const BrokerGroup& group, std::shared_ptr<ConnectionListener> listener) = 0;
    /// After this time a connection is ready or closed. One that is neither is thrown away, and
    /// another one is made. Above zero; `milliseconds::max()` is no limit. A transport that wraps
    /// another one tells that one's.
    virtual std::chrono::milliseconds connect_timeout() const { return std::chrono::seconds(15); }
};

/// What a transport is given by the client that makes it.
struct TransportContext {
    const Clock& clock;
    Executor& timers;  ///< For time-outs; tasks on it return soon.
    std::string client_id;
    /// Takes a line for the client's log; from `timers` only, since it may run code of the
    /// application's. Empty: nobody reads it.
    std::function<void(std::string_view line)> warn = {};
};

/// Makes transports for the URIs of its schemes. An application lists the factories it links in
/// `ClientOptions::transports`, so which one is used is decided by the URI alone. Thread-safe.
class TransportFactory {
public:
    virtual ~TransportFactory() = default;
    /// "grpc", "grpcs".
    virtual std::vector<std::string> Schemes() const = 0;
    /// kInvalidArgument: the URI, with what is wrong in it. No network yet.
    virtual Result<std::unique_ptr<Transport>> Make(const std::string& uri,
                                                    const TransportContext& context) = 0;
};

}  // namespace qmq
