#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "qmq/batch.h"
#include "qmq/executor.h"
#include "qmq/subject.h"
#include "qmq/transport.h"

/// A cluster in memory whose every answer a test can script: for tests of the client alone.
namespace qmq::testing {

struct StoredMessage {
    std::string subject;
    std::string id;
    std::string batch;  ///< A batch of this one message.
    bool undecodable = false;
};

/// One broker group. Thread-safe; calls back without its lock, on `executor`, or inside the call
/// when that is null.
class FakeBroker : public std::enable_shared_from_this<FakeBroker> {
public:
    FakeBroker(BrokerGroup group, Executor* executor)
        : group_(std::move(group)), executor_(executor) {}

    // What a test scripts.

    /// False: connections stay in the making.
    void SetConnectable(bool connectable);
    /// Connections fail at once with this, until it is ok again.
    void SetConnectError(Status status);
    /// Frames wait for `AnswerHeld`.
    void SetHoldSends(bool hold);
    /// Asked for each batch; nothing means "store it".
    using SendHook = std::function<std::optional<BatchReceipt>(const SendBatch&)>;
    void SetSendHook(SendHook hook);
    /// Called when a client closes a stream, before that is so.
    void SetCloseHook(std::function<void()> hook);
    /// Acks wait, unanswered.
    void SetHoldAcks(bool hold);
    /// Answers all acks with this instead of taking them.
    void SetAckError(Status status);
    /// Whether a consumer that comes back keeps what it held.
    void SetKeepHeld(bool keep);
    /// What each subscription is told.
    void SetWarnings(std::vector<std::string> warnings);
    /// Answers the oldest frame that waits. False when there is none.
    bool AnswerHeld();
    /// Loses every connection: what is not answered is unknown.
    void Cut(Status why = Status::Unavailable("cut by the test"));
    /// Stores a message as if somebody had sent it.
    void Append(const Message& message);
    void AppendUndecodable(const std::string& subject);
    /// As another client's delayed retry: only `group` is to handle it. Its body is the group.
    void AppendForGroup(const std::string& subject, const std::string& group);
    /// The leases of these pull sequences end, whoever holds them; the messages wait for others.
    void EndLeases(std::uint64_t first, std::uint64_t last);
    /// Closes the streams, but not their connections.
    void CloseStreams(const Status& why);

    // What a test looks at.

    std::vector<StoredMessage> stored() const;
    std::size_t frame_count() const;
    std::vector<std::size_t> frame_sizes() const;  ///< Batches of each frame.
    std::size_t held_frame_count() const;
    std::size_t connect_count() const;
    std::size_t connection_count() const;  ///< Made and not closed.
    std::size_t subscriber_count() const;
    std::vector<AckItem> acks() const;  ///< All, in order.
    std::uint64_t acked_count() const;  ///< Messages acked for good.
    std::vector<std::pair<std::string, std::string>> dead_letters() const;  ///< Id and error.
    std::uint64_t held_count() const;  ///< Messages in consumers' hands.
    std::vector<SubscribeRequest> subscribes() const;
    std::uint64_t granted_messages() const;

    // For FakeTransport.
    std::unique_ptr<BrokerConnection> Connect(std::shared_ptr<ConnectionListener> listener);

private:
    friend class FakeConnection;
    friend class FakeStream;

    struct Pending {
        std::uint64_t index = 0;  // In stored_.
        std::uint32_t attempt = 1;
    };
    struct Group {
        std::uint64_t next = 0;  // Index in stored_.
        std::deque<Pending> again;
        std::map<std::string, std::map<std::uint64_t, Pending>> held;  // By consumer, sequence.
        std::map<std::string, std::uint64_t> next_sequence;
    };
    struct Stream {
        SubscribeRequest request;
        std::shared_ptr<DeliveryListener> listener;
        std::uint64_t connection = 0;
        std::int64_t messages = 0;
        std::int64_t bytes = 0;
    };
    struct Connection {
        std::shared_ptr<ConnectionListener> listener;
        bool ready = false;
    };
    struct HeldFrame {
        std::uint64_t connection = 0;
        std::vector<SendBatch> batches;
        SendDone done;
    };
    struct HeldAck {
        std::uint64_t connection = 0;
        AckDone done;
    };
    using Calls = std::vector<Task>;
    using GroupKey = std::pair<std::string, std::string>;

    void Run(Calls calls);
    void Send(std::uint64_t connection, std::vector<SendBatch> batches, SendDone done);
    std::vector<BatchReceipt> Store(const std::vector<SendBatch>& batches);
    std::uint64_t Subscribe(std::uint64_t connection,
                            SubscribeRequest request,
                            std::shared_ptr<DeliveryListener> listener);
    void Grant(std::uint64_t stream, Credit credit);
    void Ack(std::uint64_t stream, std::vector<AckItem> items, AckDone done);
    void ApplyAck(Stream& stream, const AckItem& item, AckReply* reply);
    void CloseStream(std::uint64_t stream, const Status& why);
    void RunCloseHook();
    void CloseConnection(std::uint64_t connection, const Status& why);
    void CloseLocked(std::uint64_t connection, const Status& why, Calls* calls);
    void Pump(Calls* calls);
    Calls MakeReady();

    const BrokerGroup group_;
    Executor* const executor_;

    mutable std::mutex mutex_;
    bool connectable_ = true;
    Status connect_error_;
    bool hold_sends_ = false;
    bool hold_acks_ = false;
    bool keep_held_ = true;
    std::vector<std::string> warnings_;
    Status ack_error_;
    SendHook send_hook_;
    std::function<void()> close_hook_;
    std::vector<StoredMessage> stored_;
    std::map<std::string, std::uint64_t> next_sequence_;
    std::map<GroupKey, Group> groups_;
    std::map<std::uint64_t, Connection> connections_;
    std::map<std::uint64_t, Stream> streams_;
    std::deque<HeldFrame> held_frames_;
    std::vector<HeldAck> held_acks_;
    std::vector<std::size_t> frame_sizes_;
    std::vector<AckItem> acks_;
    std::vector<SubscribeRequest> subscribes_;
    std::vector<std::pair<std::string, std::string>> dead_letters_;
    std::uint64_t acked_count_ = 0;
    std::uint64_t granted_ = 0;
    std::uint64_t next_id_ = 1;
    std::size_t connect_count_ = 0;
};

/// The cluster: broker groups and who serves what. Outlives its clients.
class FakeCluster {
public:
    /// `executor` plays the transport's threads; null calls back inside the calls, as inproc does.
    explicit FakeCluster(Executor* executor = nullptr) : executor_(executor) {}

    FakeBroker& AddBroker(const std::string& name, bool writable = true);
    FakeBroker& broker(const std::string& name);
    void RemoveBroker(const std::string& name);  ///< From routes.
    void SetLimits(const std::string& name, BrokerLimits limits);
    void SetDiscoverError(Status status);
    /// What routes say of all other subjects.
    void SetEverySubject(bool every_subject);
    std::size_t discover_count() const;
    DiscoverRequest last_discover() const;
    /// For scheme "fake".
    std::shared_ptr<TransportFactory> factory();

private:
    friend class FakeTransport;
    void Discover(DiscoverRequest request, UniqueFunction<void(Result<Route>)> done);

    Executor* const executor_;
    mutable std::mutex mutex_;
    std::map<std::string, std::shared_ptr<FakeBroker>> brokers_;
    std::map<std::string, BrokerGroup> route_;
    Status discover_error_;
    bool every_subject_ = false;
    std::size_t discover_count_ = 0;
    DiscoverRequest last_discover_;
};

}  // namespace qmq::testing
