#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "qmq/status.h"

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/link/broker_link.h"
#include "sdk/client/src/link/router.h"
#include "sdk/client/src/receive/consumer_stream.h"

namespace qmq::internal {

/// The streams of one consumer: one to each broker group of its route, and those that are leaving
/// because their broker group has left it. A group that comes back while its stream is leaving has
/// that one back: two streams to one broker group would be one consumer twice. What all of them are
/// to do is said here once. Thread-safe; router and owner are called without its lock, and of the
/// streams whatever may call back.
class StreamSet final : public RouteWatcher, public std::enable_shared_from_this<StreamSet> {
public:
    using StreamPtr = std::shared_ptr<ConsumerStream>;

    /// `config` is that of the whole consumer: its credit is shared out.
    StreamSet(std::shared_ptr<ClientRuntime> runtime,
              std::shared_ptr<Router> router,
              std::shared_ptr<LinkPool> links,
              StreamConfig config);

    void Start(std::weak_ptr<StreamOwner> owner);

    /// Of the broker groups of the route.
    std::vector<StreamPtr> current() const;
    /// Those that are leaving, too.
    std::vector<StreamPtr> all() const;

    /// Why no more messages are taken. They are while no reason is left.
    enum class Hold : std::uint8_t { kPaused, kStalled };
    /// `order` rises with the caller's own changes of `hold`: one that was overtaken by a newer one
    /// counts no more.
    void SetHold(Hold hold, std::uint64_t order, bool on);

    void Flush();
    /// As in `ConsumerStream`, of all of them.
    void RetryTimers();
    /// As in `ConsumerStream`, of all of them.
    std::uint64_t ReleaseUnclaimed();
    std::uint64_t GiveBack(TimePoint arrived_before, std::uint64_t keep);

    /// No route and no message is taken any more. Idempotent.
    void Stop();
    /// After `Stop`: each stream leaves its group when all that it holds has ended and is
    /// confirmed; then `closed` is called, once.
    void BeginClose(Task closed);
    struct Left {
        std::uint64_t unconfirmed = 0;
        std::uint64_t undecided = 0;
    };
    /// After `Stop`: leaves now.
    Left Abort(const Status& why);

    struct Totals {
        std::uint64_t acked = 0;
        std::uint64_t failed = 0;
        std::uint64_t later = 0;
        std::uint64_t undecided = 0;
        std::uint64_t unconfirmed = 0;
        bool connected = false;  ///< There is a stream, and all of them are.
    };
    Totals totals() const;
    /// Each text once.
    std::vector<std::string> warnings() const;
    /// Ok when every broker group of the route has confirmed this member; else the reason. A change
    /// is told by `StreamOwner::OnReadinessChanged`.
    Status ready() const;
    /// Why the route could not be asked for; ok when it could.
    Status route_status() const;

    void OnRoute(const RouteKey& key, const KnownRoute& route) override;
    void OnRouteError(const RouteKey& key, const Status& status, std::uint64_t number) override;

private:
    /// How a route differs from the one before.
    struct Change {
        std::vector<StreamPtr> added;
        std::vector<StreamPtr> kept;
        std::vector<StreamPtr> removed;
        std::uint64_t version = 0;  ///< For the added, as in `ConsumerStream::SetAccepting`.
        bool accepting = false;
    };
    struct Reason {
        std::uint64_t order = 0;
        bool on = false;
    };

    StreamConfig Share(std::size_t count) const;
    std::vector<StreamPtr> CurrentLocked() const QMQ_REQUIRES(mutex_);
    std::vector<StreamPtr> AllLocked() const QMQ_REQUIRES(mutex_);
    Change Apply(const KnownRoute& route, const std::vector<std::shared_ptr<BrokerLink>>& links)
        QMQ_EXCLUDES(mutex_);
    StreamPtr TakeLeaving(const std::string& name) QMQ_REQUIRES(mutex_);
    void Leave(const StreamPtr& stream);
    void OnLeft(const StreamPtr& stream);
    bool accepting() const QMQ_REQUIRES(mutex_);
    RouteKey Key() const;
    std::shared_ptr<StreamOwner> Owner() const QMQ_EXCLUDES(mutex_);

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::shared_ptr<Router> router_;
    const std::shared_ptr<LinkPool> links_;
    const StreamConfig config_;

    mutable Mutex mutex_;
    std::weak_ptr<StreamOwner> owner_ QMQ_GUARDED_BY(mutex_);
    std::map<std::string, StreamPtr> streams_ QMQ_GUARDED_BY(mutex_);
    std::vector<StreamPtr> leaving_ QMQ_GUARDED_BY(mutex_);
    std::map<Hold, Reason> holds_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t accepting_version_ QMQ_GUARDED_BY(mutex_) = 0;
    bool stopped_ QMQ_GUARDED_BY(mutex_) = false;
    std::uint64_t route_number_ QMQ_GUARDED_BY(mutex_) = 0;  // Routes with a lower one are older.
    Status route_status_ QMQ_GUARDED_BY(mutex_) = Status::Unavailable("the route is not known yet");
    Totals gone_ QMQ_GUARDED_BY(mutex_);  // Of streams that have left.
};

}  // namespace qmq::internal
