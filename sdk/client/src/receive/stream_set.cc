#include "sdk/client/src/receive/stream_set.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "sdk/client/src/base/readiness.h"

namespace qmq::internal {

StreamSet::StreamSet(std::shared_ptr<ClientRuntime> runtime,
                     std::shared_ptr<Router> router,
                     std::shared_ptr<LinkPool> links,
                     StreamConfig config)
    : runtime_(std::move(runtime)),
      router_(std::move(router)),
      links_(std::move(links)),
      config_(std::move(config)) {}

RouteKey StreamSet::Key() const {
    return {ClientRole::kConsumer, config_.request.key.subject, config_.request.key.group};
}

void StreamSet::Start(std::weak_ptr<StreamOwner> owner) {
    {
        MutexLock lock(mutex_);
        owner_ = std::move(owner);
        if (stopped_) {
            return;
        }
    }
    router_->Watch(Key(), weak_from_this());
}

/// What one of `count` streams may have in hand.
StreamConfig StreamSet::Share(std::size_t count) const {
    const std::uint64_t streams = std::max<std::size_t>(count, 1);
    StreamConfig share = config_;
    for (std::uint64_t* part :
         {&share.credit.least_messages, &share.credit.most_messages, &share.credit.bytes}) {
        *part = std::max<std::uint64_t>(*part / streams, 1);
    }
    return share;
}

bool StreamSet::accepting() const {
    return !stopped_ && std::none_of(holds_.begin(), holds_.end(), [](const auto& entry) {
        return entry.second.on;
    });
}

StreamSet::Change StreamSet::Apply(const KnownRoute& route,
                                   const std::vector<std::shared_ptr<BrokerLink>>& links) {
    const auto readable =
        std::count_if(links.begin(), links.end(), [](const auto& link) { return link != nullptr; });
    const StreamConfig share = Share(static_cast<std::size_t>(readable));
    Change change;
    MutexLock lock(mutex_);
    if (stopped_ || route.number < route_number_) {
        return change;
    }
    route_number_ = route.number;
    route_status_ = Status::Ok();
    change.version = accepting_version_;
    change.accepting = accepting();
    std::map<std::string, StreamPtr> before = std::exchange(streams_, {});
    for (std::size_t i = 0; i < route.groups->size(); ++i) {
        if (links[i] == nullptr) {
            continue;
        }
        const std::string& name = (*route.groups)[i].name;
        if (auto found = before.find(name); found != before.end()) {
            change.kept.push_back(found->second);
            streams_.insert(before.extract(found));
            continue;
        }
        if (StreamPtr leaving = TakeLeaving(name)) {
            change.kept.push_back(leaving);
            streams_.emplace(name, std::move(leaving));
            continue;
        }
        auto stream = std::make_shared<ConsumerStream>(runtime_, links[i], share, owner_);
        streams_.emplace(name, stream);
        change.added.push_back(std::move(stream));
    }
    for (auto& [left, stream] : before) {
        // Marked here: the next route may have it back before it is told to leave.
        stream->MarkClosing([self = weak_from_this(), weak = std::weak_ptr(stream)] {
            auto set = self.lock();
            auto gone = weak.lock();
            if (set != nullptr && gone != nullptr) {
                set->OnLeft(gone);
            }
        });
        leaving_.push_back(stream);
        change.removed.push_back(std::move(stream));
    }
    return change;
}

/// The stream of a broker group that has come back while it was leaving: it stays. If it has closed
/// already, `OnLeft` puts a new one in its place.
StreamSet::StreamPtr StreamSet::TakeLeaving(const std::string& name) {
    const auto found = std::find_if(leaving_.begin(), leaving_.end(), [&](const StreamPtr& stream) {
        return stream->broker_group() == name;
    });
    if (found == leaving_.end()) {
        return nullptr;
    }
    StreamPtr stream = std::move(*found);
    leaving_.erase(found);
    stream->CancelClose();
    return stream;
}

void StreamSet::OnRoute(const RouteKey& /*key*/, const KnownRoute& route) {
    std::vector<std::shared_ptr<BrokerLink>> links;
    for (const BrokerGroup& group : *route.groups) {
        links.push_back(group.readable ? links_->Get(group, route.number) : nullptr);
    }
    const Change change = Apply(route, links);
    const StreamConfig share = Share(change.kept.size() + change.added.size());
    for (const StreamPtr& stream : change.kept) {
        stream->SetCreditLimits(share.credit);
    }
    for (const StreamPtr& stream : change.added) {
        stream->SetAccepting(change.version, change.accepting);
        stream->Start();
    }
    for (const StreamPtr& stream : change.removed) {
        Leave(stream);
    }
    if (const auto owner = Owner()) {
        owner->OnRoom();
        owner->OnReadinessChanged();
    }
}

std::shared_ptr<StreamOwner> StreamSet::Owner() const {
    MutexLock lock(mutex_);
    return owner_.lock();
}

void StreamSet::OnRouteError(const RouteKey& /*key*/, const Status& status, std::uint64_t number) {
    // The router has said so in the log and goes on asking; the known streams stay.
    {
        MutexLock lock(mutex_);
        if (number < route_number_) {
            return;
        }
        route_status_ = status;
    }
    if (const auto owner = Owner()) {
        owner->OnReadinessChanged();
    }
}

void StreamSet::Leave(const StreamPtr& stream) {
    // At most once nothing can be given back: it is handled before the stream goes.
    stream->GiveBack(TimePoint::max(), 0);
    stream->GoOnClosing();
}

void StreamSet::OnLeft(const StreamPtr& stream) {
    StreamPtr next;
    std::uint64_t version = 0;
    bool now_accepting = false;
    {
        MutexLock lock(mutex_);
        const auto found = streams_.find(stream->broker_group());
        const bool is_back = found != streams_.end() && found->second == stream;
        if (std::erase(leaving_, stream) == 0 && !is_back) {
            return;  // It was told before.
        }
        gone_.acked += stream->acked_count();
        gone_.failed += stream->failed_count();
        gone_.later += stream->later_count();
        if (!is_back) {
            return;
        }
        if (stopped_) {
            streams_.erase(found);
            return;
        }
        next = std::make_shared<ConsumerStream>(
            runtime_, stream->link(), Share(streams_.size()), owner_);
        found->second = next;
        version = accepting_version_;
        now_accepting = accepting();
    }
    next->SetAccepting(version, now_accepting);
    next->Start();
    if (const auto owner = Owner()) {
        owner->OnRoom();
        owner->OnReadinessChanged();
    }
}

std::vector<StreamSet::StreamPtr> StreamSet::CurrentLocked() const {
    std::vector<StreamPtr> streams;
    for (const auto& [name, stream] : streams_) {
        streams.push_back(stream);
    }
    return streams;
}

std::vector<StreamSet::StreamPtr> StreamSet::AllLocked() const {
    std::vector<StreamPtr> streams = CurrentLocked();
    streams.insert(streams.end(), leaving_.begin(), leaving_.end());
    return streams;
}

std::vector<StreamSet::StreamPtr> StreamSet::current() const {
    MutexLock lock(mutex_);
    return CurrentLocked();
}

std::vector<StreamSet::StreamPtr> StreamSet::all() const {
    MutexLock lock(mutex_);
    return AllLocked();
}

void StreamSet::SetHold(Hold hold, std::uint64_t order, bool on) {
    std::uint64_t version = 0;
    bool now_accepting = false;
    {
        MutexLock lock(mutex_);
        Reason& reason = holds_[hold];
        if (order < reason.order) {
            return;
        }
        reason = {order, on};
        version = ++accepting_version_;
        now_accepting = accepting();
    }
    // The version says to a stream who saw the newest state.
    for (const StreamPtr& stream : all()) {
        stream->SetAccepting(version, now_accepting);
    }
}

void StreamSet::Flush() {
    for (const StreamPtr& stream : all()) {
        stream->Flush();
    }
}

void StreamSet::RetryTimers() {
    for (const StreamPtr& stream : all()) {
        stream->RetryTimers();
    }
}

std::uint64_t StreamSet::ReleaseUnclaimed() {
    std::uint64_t released = 0;
    for (const StreamPtr& stream : all()) {
        released += stream->ReleaseUnclaimed();
    }
    return released;
}

std::uint64_t StreamSet::GiveBack(TimePoint arrived_before, std::uint64_t keep) {
    std::uint64_t given_back = 0;
    for (const StreamPtr& stream : all()) {
        given_back += stream->GiveBack(arrived_before, keep);
    }
    return given_back;
}

void StreamSet::Stop() {
    std::uint64_t version = 0;
    {
        MutexLock lock(mutex_);
        stopped_ = true;
        version = ++accepting_version_;
    }
    router_->Unwatch(Key(), this);
    for (const StreamPtr& stream : all()) {
        stream->SetAccepting(version, false);
    }
}

void StreamSet::BeginClose(Task closed) {
    const std::vector<StreamPtr> streams = all();
    // One more than the streams, so that it cannot reach zero before all have begun.
    auto left = std::make_shared<std::atomic<std::size_t>>(streams.size() + 1);
    auto done = std::make_shared<Task>(std::move(closed));
    const auto one_less = [left, done] {
        if (left->fetch_sub(1) == 1) {
            (*done)();
        }
    };
    for (const StreamPtr& stream : streams) {
        stream->BeginClose(one_less);
    }
    one_less();
}

StreamSet::Left StreamSet::Abort(const Status& why) {
    Left left;
    for (const StreamPtr& stream : all()) {
        left.undecided += stream->undecided_count();
        left.unconfirmed += stream->Abort(why);
    }
    return left;
}

StreamSet::Totals StreamSet::totals() const {
    std::vector<StreamPtr> streams;
    std::vector<StreamPtr> of_route;
    Totals totals;
    {
        // In one: a stream that leaves is among the streams or among those that are gone.
        MutexLock lock(mutex_);
        streams = AllLocked();
        of_route = CurrentLocked();
        totals = gone_;
    }
    totals.connected = !of_route.empty() &&
                       std::all_of(of_route.begin(), of_route.end(), [](const StreamPtr& stream) {
                           return stream->live();
                       });
    for (const StreamPtr& stream : streams) {
        totals.acked += stream->acked_count();
        totals.failed += stream->failed_count();
        totals.later += stream->later_count();
        totals.undecided += stream->undecided_count();
        totals.unconfirmed += stream->unconfirmed_count();
    }
    return totals;
}

std::vector<std::string> StreamSet::warnings() const {
    std::vector<std::string> warnings;
    for (const StreamPtr& stream : all()) {
        for (std::string& warning : stream->warnings()) {
            if (std::find(warnings.begin(), warnings.end(), warning) == warnings.end()) {
                warnings.push_back(std::move(warning));
            }
        }
    }
    return warnings;
}

Status StreamSet::ready() const {
    const std::vector<StreamPtr> streams = current();
    if (!streams.empty()) {
        return Readiness::OfAll(streams);
    }
    Status status = route_status();
    return status.ok() ? Status::Unavailable("no broker group can be read from") : status;
}

Status StreamSet::route_status() const {
    MutexLock lock(mutex_);
    return route_status_;
}

}  // namespace qmq::internal
