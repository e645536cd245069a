#pragma once

#include <memory>
#include <string>
#include <vector>

#include "qmq/function.h"
#include "qmq/protocol.h"
#include "qmq/status.h"

/// What a network protocol is to other transports: the words in which the client half and the
/// server half of the direct transport speak, so that neither knows the other. Batches go through
/// as slices: nothing is encoded, copied or handed to another thread.
namespace qmq::inproc {

/// Takes what a subscription brings. Calls come one at a time, perhaps before `Subscribe` has
/// returned.
class Sink {
public:
    virtual ~Sink();
    virtual void OnSubscribed(const SubscribeReply& reply) = 0;
    virtual void OnDelivery(std::vector<DeliveredBatch> batches) = 0;
    /// Last, once; not after `Session::Detach`.
    virtual void OnClosed(const Status& status) = 0;
};

/// A consumer that is connected. Thread-safe; destroying it is `Detach`.
class Session {
public:
    virtual ~Session();
    virtual void Grant(Credit credit) = 0;
    virtual void Ack(std::vector<AckItem> items, AckDone done) = 0;
    /// The consumer leaves its group; `Sink::OnClosed` follows.
    virtual void Close() = 0;
    /// The consumer goes without a word: what it holds stays its own for a while.
    virtual void Detach() = 0;
};

/// A broker in this process. Thread-safe. Calls return at once, and may call back before they do;
/// every callback comes exactly once.
class Broker {
public:
    virtual ~Broker();

    virtual BrokerLimits limits() const { return {}; }
    virtual void Send(std::vector<SendBatch> batches, SendDone done) = 0;
    virtual std::unique_ptr<Session> Subscribe(SubscribeRequest request,
                                               std::shared_ptr<Sink> sink) = 0;
    virtual void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) = 0;
    virtual void ListGroups(std::string subject,
                            UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) = 0;
    virtual void ResetGroup(std::string subject,
                            std::string group,
                            StartPosition position,
                            UniqueFunction<void(Status)> done) = 0;

    /// The one to whom it was given needs it no more, and calls it no more. The last one closes the
    /// broker, and waits for that unless it is inside a callback of the broker, which would be
    /// waiting for itself.
    virtual void Release(bool inside_callback) = 0;
};

}  // namespace qmq::inproc
