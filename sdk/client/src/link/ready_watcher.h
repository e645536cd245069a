#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "qmq/status.h"

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/readiness.h"
#include "sdk/client/src/link/broker_link.h"
#include "sdk/client/src/link/router.h"

namespace qmq::internal {

/// Watches one route until one of its links is up. Thread-safe.
class ReadyWatcher final : public RouteWatcher,
                           public LinkObserver,
                           public std::enable_shared_from_this<ReadyWatcher> {
public:
    explicit ReadyWatcher(std::shared_ptr<LinkPool> links) : links_(std::move(links)) {}

    /// kDeadlineExceeded with the last reason after `timeout`; a refusal for good, of the route or
    /// of all its links, with its own code; kCancelled after `Cancel`.
    Status Wait(std::chrono::milliseconds timeout) QMQ_EXCLUDES(mutex_);
    /// Ends the wait: the client shuts down.
    void Cancel() QMQ_EXCLUDES(mutex_);

    void OnRoute(const RouteKey& key, const KnownRoute& route) override;
    void OnRouteError(const RouteKey& key, const Status& status, std::uint64_t number) override;
    void OnLinkUp(BrokerLink& link, std::shared_ptr<BrokerConnection> up) override;
    void OnLinkDown(BrokerLink& link, const Status& status) override;

private:
    Status Look() QMQ_EXCLUDES(mutex_);

    const std::shared_ptr<LinkPool> links_;
    Readiness readiness_;
    Mutex mutex_;
    bool up_ QMQ_GUARDED_BY(mutex_) = false;
    bool cancelled_ QMQ_GUARDED_BY(mutex_) = false;
    /// Why there is no route yet.
    Status no_route_ QMQ_GUARDED_BY(mutex_) =
        Status::Unavailable("the route has not been answered yet");
    std::vector<std::shared_ptr<BrokerLink>> used_ QMQ_GUARDED_BY(mutex_);
};

}  // namespace qmq::internal
