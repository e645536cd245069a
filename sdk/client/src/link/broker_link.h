#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "qmq/transport.h"

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/link/circuit_breaker.h"
#include "sdk/client/src/link/reconnect_machine.h"

namespace qmq::internal {

class BrokerLink;

/// Told when a link can carry and when it no longer can. Calls come on any thread, without a lock
/// of the link.
class LinkObserver {
public:
    virtual ~LinkObserver() = default;
    virtual void OnLinkUp(BrokerLink& link, std::shared_ptr<BrokerConnection> connection) = 0;
    virtual void OnLinkDown(BrokerLink& link, const Status& status) = 0;
};

/// The way to one broker group for as long as somebody needs it: a connection, made again for ever
/// when it is lost, and the circuit breaker over it. Thread-safe.
class BrokerLink : public std::enable_shared_from_this<BrokerLink> {
public:
    BrokerLink(std::shared_ptr<ClientRuntime> runtime,
               std::shared_ptr<Transport> transport,
               BrokerGroup group,
               std::uint64_t route_number);
    ~BrokerLink();
    BrokerLink(const BrokerLink&) = delete;
    BrokerLink& operator=(const BrokerLink&) = delete;

    void Start();
    /// Ends it for good; observers hear nothing more.
    void Stop();
    /// A route with this number names the broker group so. At another address the connection is
    /// made anew; an address of an older route than the one that is known says nothing.
    void MoveTo(const BrokerGroup& group, std::uint64_t route_number);
    /// Somebody waits for it: a timer that the executor refused is asked for again. So do all calls
    /// of those that use it.
    void Retry();

    const std::string& name() const { return name_; }
    /// The connection when it is ready, else null.
    std::shared_ptr<BrokerConnection> connection();
    /// Why it is not connected.
    Status last_error();
    /// Registers, once; an observer that is gone is forgotten. Returns the connection if it is
    /// ready, so that no `OnLinkUp` is missed between.
    std::shared_ptr<BrokerConnection> AddObserver(std::weak_ptr<LinkObserver> observer);

    /// The breaker, under the link's lock.
    bool WouldAllow() const;
    bool Acquire();
    std::optional<TimePoint> next_probe() const;
    void OnAnswered();
    void OnUnanswered(const Status& why);

private:
    class Listener;

    void Open();
    void HandleReady(std::uint64_t generation);
    void HandleClosed(std::uint64_t generation, const Status& status);
    /// Time to connect again, or to give up connecting.
    void OnTimer(std::uint64_t generation, TimerSlot::Shot shot);
    void Arm(TimePoint when) QMQ_REQUIRES(mutex_);
    void RetryTimer() QMQ_REQUIRES(mutex_);
    std::vector<std::shared_ptr<LinkObserver>> LiveObservers() QMQ_REQUIRES(mutex_);
    /// Destroys `connection` on the work executor: never inside a call of the transport.
    void Discard(std::shared_ptr<Transport> transport,
                 std::shared_ptr<BrokerConnection> connection);
    std::string Describe() const QMQ_REQUIRES(mutex_);

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::string name_;

    mutable Mutex mutex_;
    std::shared_ptr<Transport> transport_ QMQ_GUARDED_BY(mutex_);  // Null once stopped.
    BrokerGroup group_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t route_number_ QMQ_GUARDED_BY(mutex_);  // That said so.
    std::shared_ptr<BrokerConnection> connection_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t generation_ QMQ_GUARDED_BY(mutex_) = 0;                  // Of the connection.
    std::chrono::milliseconds connect_timeout_ QMQ_GUARDED_BY(mutex_){0};  // Likewise.
    bool ready_ QMQ_GUARDED_BY(mutex_) = false;
    bool early_ready_ QMQ_GUARDED_BY(mutex_) = false;  // Before Connect returned.
    bool stopped_ QMQ_GUARDED_BY(mutex_) = false;
    Status last_error_ QMQ_GUARDED_BY(mutex_);
    ReconnectMachine reconnect_ QMQ_GUARDED_BY(mutex_);
    CircuitBreaker breaker_ QMQ_GUARDED_BY(mutex_);
    Random random_ QMQ_GUARDED_BY(mutex_);
    TimerSlot timer_ QMQ_GUARDED_BY(mutex_);
    std::vector<std::weak_ptr<LinkObserver>> observers_ QMQ_GUARDED_BY(mutex_);
};

/// The links of one client, by broker group. Thread-safe.
class LinkPool {
public:
    LinkPool(std::shared_ptr<ClientRuntime> runtime, std::shared_ptr<Transport> transport)
        : runtime_(std::move(runtime)), transport_(std::move(transport)) {}

    /// The link to `group` of the route with this number, made when nobody has one. Lives as long
    /// as its users. Null after `Stop`.
    std::shared_ptr<BrokerLink> Get(const BrokerGroup& group, std::uint64_t route_number);
    /// The links that there are to `groups` hear where these are by the route with this number.
    void Confirm(const std::vector<BrokerGroup>& groups, std::uint64_t route_number);
    void Stop();

private:
    /// Null when nobody has one.
    std::shared_ptr<BrokerLink> Find(const std::string& name) const QMQ_REQUIRES(mutex_);

    const std::shared_ptr<ClientRuntime> runtime_;
    Mutex mutex_;
    std::shared_ptr<Transport> transport_ QMQ_GUARDED_BY(mutex_);
    std::map<std::string, std::weak_ptr<BrokerLink>> links_ QMQ_GUARDED_BY(mutex_);
    bool stopped_ QMQ_GUARDED_BY(mutex_) = false;
};

}  // namespace qmq::internal
