#include "sdk/client/src/link/ready_watcher.h"

#include <utility>

namespace qmq::internal {

void ReadyWatcher::OnRoute(const RouteKey& /*key*/, const KnownRoute& route) {
    for (const BrokerGroup& group : *route.groups) {
        std::shared_ptr<BrokerLink> link = links_->Get(group, route.number);
        if (link == nullptr) {
            continue;
        }
        const bool up = link->AddObserver(weak_from_this()) != nullptr;
        const MutexLock lock(mutex_);
        used_.push_back(std::move(link));
        up_ = up_ || up;
    }
    readiness_.Changed();
}

void ReadyWatcher::OnRouteError(const RouteKey& /*key*/,
                                const Status& status,
                                std::uint64_t /*number*/) {
    {
        const MutexLock lock(mutex_);
        no_route_ = status;
    }
    readiness_.Changed();
}

void ReadyWatcher::OnLinkUp(BrokerLink& /*link*/, std::shared_ptr<BrokerConnection> /*up*/) {
    {
        const MutexLock lock(mutex_);
        up_ = true;
    }
    readiness_.Changed();
}

void ReadyWatcher::OnLinkDown(BrokerLink& /*link*/, const Status& /*status*/) {
    readiness_.Changed();
}

void ReadyWatcher::Cancel() {
    {
        const MutexLock lock(mutex_);
        cancelled_ = true;
    }
    readiness_.Changed();
}

Status ReadyWatcher::Wait(std::chrono::milliseconds timeout) {
    return readiness_.Wait(timeout, [this] { return Look(); });
}

/// One link is enough, so what is refused for good counts only when no other may still come up.
Status ReadyWatcher::Look() {
    std::vector<std::shared_ptr<BrokerLink>> used;
    Status reason;
    {
        const MutexLock lock(mutex_);
        if (up_) {
            return Status::Ok();
        }
        if (cancelled_) {
            return Status::Cancelled("the client was shut down");
        }
        if (used_.empty()) {
            return no_route_;
        }
        used = used_;
    }
    for (const auto& link : used) {
        Status status = link->last_error();
        if (status.ok()) {
            status = Status::Unavailable("connecting");
        }
        if (reason.ok() || Readiness::IsFinal(reason)) {
            reason = std::move(status);
        }
    }
    return reason;
}

}  // namespace qmq::internal
