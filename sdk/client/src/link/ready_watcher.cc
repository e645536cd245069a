#include "sdk/client/src/link/ready_watcher.h"

#include <algorithm>
#include <utility>

namespace qmq::internal {

void ReadyWatcher::OnRoute(const RouteKey& /*key*/, const KnownRoute& route) {
    std::vector<std::shared_ptr<BrokerLink>> links;
    for (const BrokerGroup& group : *route.groups) {
        if (auto link = links_->Get(group, route.number); link != nullptr) {
            links.push_back(std::move(link));
        }
    }
    {
        const MutexLock lock(mutex_);
        if (route.number < route_number_) {
            return;
        }
        route_number_ = route.number;
        used_ = links;
        up_ = false;
    }
    for (const auto& link : links) {
        if (link->AddObserver(weak_from_this()) != nullptr) {
            OnUp(*link);
        }
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

void ReadyWatcher::OnLinkUp(BrokerLink& link, std::shared_ptr<BrokerConnection> /*up*/) {
    OnUp(link);
    readiness_.Changed();
}

void ReadyWatcher::OnUp(const BrokerLink& link) {
    const MutexLock lock(mutex_);
    up_ = up_ || std::any_of(used_.begin(), used_.end(), [&link](const auto& used) {
              return used.get() == &link;
          });
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
