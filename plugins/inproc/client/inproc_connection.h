#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "qmq/transport.h"

#include "plugins/inproc/client/inproc_stream.h"
#include "plugins/inproc/client/transport_state.h"

namespace qmq::inproc {

/// A connection: counts what is under way, so that its end is told when all of that was answered.
/// The broker always answers, so closing only has to wait.
class ConnectionCore final : public std::enable_shared_from_this<ConnectionCore> {
public:
    ConnectionCore(std::shared_ptr<TransportState> state,
                   std::shared_ptr<ConnectionListener> listener);

    void Start();
    void Close();

    /// Counts one more thing under way. False when the connection is closing.
    bool Begin();
    void End();

    /// Null when the connection is closing.
    std::shared_ptr<StreamCore> AddStream(std::shared_ptr<DeliveryListener> listener);
    void StreamEnded(StreamCore* stream);

    Broker& broker() { return state_->broker(); }
    TransportState& state() { return *state_; }
    static Status Closed() { return Status::Unavailable("the connection to inproc: is closed"); }

private:
    void Report();

    const std::shared_ptr<TransportState> state_;
    std::shared_ptr<ConnectionListener> listener_;  // Null once it was told of the end.
    std::mutex mutex_;
    bool closing_ = false;        // guarded by mutex_
    bool is_registered_ = false;  // Set by Start.
    std::size_t under_way_ = 1;   // guarded by mutex_; itself, until it is closed.
    std::map<StreamCore*, std::shared_ptr<StreamCore>> streams_;  // guarded by mutex_
};

class InprocConnection final : public BrokerConnection {
public:
    explicit InprocConnection(std::shared_ptr<ConnectionCore> core) : core_(std::move(core)) {}
    ~InprocConnection() override { core_->Close(); }

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
    template <typename Answer>
    UniqueFunction<void(Answer)> Counted(UniqueFunction<void(Answer)> done);

    const std::shared_ptr<ConnectionCore> core_;
};

}  // namespace qmq::inproc
