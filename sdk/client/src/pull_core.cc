#include "sdk/client/src/pull_core.h"

#include <algorithm>
#include <future>
#include <utility>

#include "sdk/client/src/call_scope.h"
#include "sdk/client/src/delivery_core.h"

namespace qmq::internal {

namespace {
/// Bytes asked for with each message: more than most have, and the next pull makes good what a
/// large one overdraws.
constexpr std::uint64_t kBytesPerMessage = 64 * 1024;
constexpr std::uint64_t kLeastBytes = 1U << 20;
}  // namespace

PullCore::PullCore(std::shared_ptr<ClientRuntime> runtime,
                   std::shared_ptr<Router> router,
                   std::shared_ptr<LinkPool> links,
                   PullConsumerOptions options,
                   std::string group,
                   UniqueFunction<void(const PullCore*)> on_gone)
    : runtime_(std::move(runtime)),
      router_(std::move(router)),
      links_(std::move(links)),
      options_(std::move(options)),
      group_(std::move(group)),
      on_gone_(std::move(on_gone)),
      stale_timer_(runtime_->work()) {}

RouteKey PullCore::Key() const {
    return {ClientRole::kConsumer, options_.subject, group_};
}

void PullCore::Start() {
    router_->Watch(Key(), weak_from_this());
}

std::vector<PullCore::StreamPtr> PullCore::Streams() const {
    Lock lock(mutex_);
    std::vector<StreamPtr> all = leaving_;
    for (const auto& [name, stream] : streams_) {
        all.push_back(stream);
    }
    return all;
}

void PullCore::OnRouteError(const RouteKey& /*key*/, const Status& status) {
    Lock lock(mutex_);
    route_error_ = status;
}

void PullCore::OnRoute(const RouteKey& /*key*/, const std::vector<BrokerGroup>& groups) {
    std::vector<std::shared_ptr<BrokerLink>> links;
    for (const BrokerGroup& group : groups) {
        links.push_back(group.readable ? links_->Get(group) : nullptr);
    }
    StreamConfig config;
    config.request.key = {options_.subject, group_, runtime_->client_id(), ConsumeSource::kBoth};
    config.request.filter = options_.tags;
    config.request.start = options_.start;
    config.request.retry = options_.retry;
    config.request.ack_timeout = options_.ack_timeout;
    config.max_processing_time = options_.max_processing_time;
    config.ack_linger = std::chrono::microseconds(500);
    config.on_demand = true;
    config.credit_messages = options_.max_unacked_count;
    std::vector<StreamPtr> added;
    std::vector<StreamPtr> removed;
    {
        Lock lock(mutex_);
        if (closing_) {
            return;
        }
        route_error_ = Status::Ok();
        std::map<std::string, StreamPtr> before = std::exchange(streams_, {});
        for (std::size_t i = 0; i < groups.size(); ++i) {
            auto found = before.find(groups[i].name);
            if (found != before.end() && links[i] != nullptr) {
                streams_.insert(before.extract(found));
            } else if (links[i] != nullptr) {
                added.push_back(
                    std::make_shared<ConsumerStream>(runtime_, links[i], config, weak_from_this()));
                streams_.emplace(groups[i].name, added.back());
            }
        }
        for (auto& [name, stream] : before) {
            leaving_.push_back(stream);
            removed.push_back(std::move(stream));
        }
    }
    for (const StreamPtr& stream : added) {
        stream->Start();
    }
    for (const StreamPtr& stream : removed) {
        stream->ReleaseUnclaimed();
        stream->BeginClose([self = weak_from_this(), weak = std::weak_ptr(stream)] {
            auto core = self.lock();
            auto gone = weak.lock();
            if (core != nullptr && gone != nullptr) {
                Lock lock(core->mutex_);
                std::erase(core->leaving_, gone);
            }
        });
    }
    Ask();
}

void PullCore::OnRuns(std::vector<std::shared_ptr<DeliveryRun>> runs) {
    std::vector<Due> due;
    bool closing = false;
    {
        Lock lock(mutex_);
        closing = closing_;
        if (ready_.empty()) {
            ready_since_ = runtime_->Now();
        }
        for (auto& run : runs) {
            ready_.push_back(std::move(run));
        }
        ServeLocked(&due);
        if (closing) {
            ready_.clear();
        } else if (!ready_.empty()) {
            ArmStaleTimer();
        }
    }
    AnswerAll(std::move(due));
    if (closing) {
        for (const StreamPtr& stream : Streams()) {
            stream->ReleaseUnclaimed();
        }
        return;
    }
    Ask();
}

std::vector<Delivery> PullCore::TakeLocked(std::uint32_t max_messages) {
    std::vector<Delivery> deliveries;
    DeliveryRun::Claim claim;
    while (!ready_.empty() && deliveries.size() < max_messages) {
        const std::shared_ptr<DeliveryRun> run = ready_.front();
        if (!run->Next(std::nullopt, &claim)) {
            ready_.pop_front();
            continue;
        }
        deliveries.push_back(DeliveryAccess::Make(std::make_shared<Decision>(run, claim.sequence),
                                                  std::move(claim.message)));
    }
    return deliveries;
}

void PullCore::ServeLocked(std::vector<Due>* due) {
    while (!requests_.empty() && !ready_.empty()) {
        std::vector<Delivery> deliveries = TakeLocked(requests_.front().max_messages);
        if (deliveries.empty()) {
            return;
        }
        if (requests_.front().timer != 0) {
            runtime_->work().Cancel(requests_.front().timer);
        }
        due->push_back({std::move(requests_.front().answer), std::move(deliveries)});
        requests_.pop_front();
    }
}

void PullCore::AnswerAll(std::vector<Due> due) {
    for (Due& one : due) {
        one.answer(std::move(one.result));
    }
}

void PullCore::Enqueue(const PullOptions& options, Answer answer) {
    std::vector<Due> due;
    {
        Lock lock(mutex_);
        Status bad;
        if (options.max_messages < 1 || options.max_messages > 10'000) {
            bad = Status::InvalidArgument("max_messages: " + std::to_string(options.max_messages) +
                                          " is not in [1, 10,000]");
        } else if (options.max_wait.count() < 0 || options.max_wait > std::chrono::hours(1)) {
            bad = Status::InvalidArgument("max_wait: " + std::to_string(options.max_wait.count()) +
                                          " ms is not in [0, 1 h]");
        } else if (closing_) {
            bad = close_reason_;
        }
        if (!bad.ok()) {
            lock.unlock();
            answer(std::move(bad));
            return;
        }
        Request request;
        request.id = next_id_++;
        request.max_messages = std::min(options.max_messages, options_.max_unacked_count);
        request.until = runtime_->Now() + options.max_wait;
        request.answer = std::move(answer);
        if (options.max_wait.count() > 0) {
            request.timer =
                runtime_->work().PostAt(request.until, [self = weak_from_this(), id = request.id] {
                    if (auto core = self.lock()) {
                        core->OnTimeout(id);
                    }
                });
        }
        requests_.push_back(std::move(request));
        ServeLocked(&due);
    }
    AnswerAll(std::move(due));
    Ask();
}

/// Grants what the first waiting pull wants and nobody has been asked for yet. A broker group that
/// has nothing must not keep the others' messages away, so each is asked for a share, and at least
/// for one message.
void PullCore::Ask() {
    std::vector<std::pair<StreamPtr, std::uint64_t>> grants;
    std::vector<std::uint64_t> at_once;
    {
        Lock lock(mutex_);
        std::uint64_t wanted = 0;
        for (const Request& request : requests_) {
            wanted += request.max_messages;
        }
        std::uint64_t unacked = 0;
        for (const auto& [name, stream] : streams_) {
            unacked += stream->held_count();
        }
        const std::uint64_t room =
            options_.max_unacked_count > unacked ? options_.max_unacked_count - unacked : 0;
        wanted = std::min(wanted, room);
        if (!streams_.empty() && wanted > 0) {
            const std::uint64_t share = (wanted + streams_.size() - 1) / streams_.size();
            for (const auto& [name, stream] : streams_) {
                const std::int64_t missing =
                    static_cast<std::int64_t>(share) - stream->requested_count();
                if (missing > 0) {
                    grants.emplace_back(stream, static_cast<std::uint64_t>(missing));
                }
            }
        }
        for (const Request& request : requests_) {
            if (request.timer == 0) {
                at_once.push_back(request.id);
            }
        }
    }
    for (const auto& [stream, count] : grants) {
        stream->RequestMessages(count, std::max(count * kBytesPerMessage, kLeastBytes));
    }
    for (const std::uint64_t id : at_once) {
        OnTimeout(id);  // max_wait of zero: what was asked for is there for the next pull.
    }
}

Status PullCore::TimeoutStatus() const {
    if (!route_error_.ok()) {
        return route_error_.WithContext("subject " + options_.subject);
    }
    for (const auto& [name, stream] : streams_) {
        if (stream->live()) {
            return Status::Ok();
        }
    }
    return Status::Unavailable("subject " + options_.subject + ": no broker group is connected");
}

void PullCore::OnTimeout(std::uint64_t id) {
    std::vector<Due> due;
    {
        Lock lock(mutex_);
        auto found = std::find_if(requests_.begin(), requests_.end(), [id](const Request& request) {
            return request.id == id;
        });
        if (found == requests_.end()) {
            return;
        }
        Status status = TimeoutStatus();
        if (status.ok()) {
            due.push_back({std::move(found->answer), std::vector<Delivery>()});
        } else {
            due.push_back({std::move(found->answer), std::move(status)});
        }
        requests_.erase(found);
    }
    AnswerAll(std::move(due));
}

void PullCore::ArmStaleTimer() {
    stale_timer_.ArmBy(ready_since_ + options_.ack_timeout / 3, [this] {
        return [self = weak_from_this()] {
            if (auto core = self.lock()) {
                core->OnStale();
            }
        };
    });
}

/// Nobody has pulled for a while: what waits goes to others.
void PullCore::OnStale() {
    {
        Lock lock(mutex_);
        stale_timer_.OnFired();
        if (ready_.empty()) {
            return;
        }
        if (runtime_->Now() < ready_since_ + options_.ack_timeout / 3) {
            ArmStaleTimer();
            return;
        }
        ready_.clear();
    }
    for (const StreamPtr& stream : Streams()) {
        stream->ReleaseUnclaimed();
    }
}

void PullCore::PullAsync(const PullOptions& options, PullConsumer::Callback callback) {
    Enqueue(options,
            [runtime = runtime_,
             callback = std::make_shared<PullConsumer::Callback>(std::move(callback))](
                Result<std::vector<Delivery>> result) {
                auto shared = std::make_shared<Result<std::vector<Delivery>>>(std::move(result));
                runtime->callbacks().Post([callback, shared] { (*callback)(std::move(*shared)); });
            });
}

Result<std::vector<Delivery>> PullCore::Pull(const PullOptions& options) {
    if (CallScope::InsideClient(runtime_.get())) {
        return Status::FailedPrecondition(
            "Pull was called from a callback or handler of the same client; use PullAsync");
    }
    auto promise = std::make_shared<std::promise<Result<std::vector<Delivery>>>>();
    auto future = promise->get_future();
    Enqueue(options, [promise](Result<std::vector<Delivery>> result) {
        promise->set_value(std::move(result));
    });
    return future.get();
}

void PullCore::BeginClose(Task closed) {
    std::vector<Due> due;
    {
        Lock lock(mutex_);
        if (closed_) {
            lock.unlock();
            if (closed) {
                closed();
            }
            return;
        }
        if (closed) {
            on_closed_.push_back(std::move(closed));
        }
        if (std::exchange(closing_, true)) {
            return;
        }
        for (Request& request : requests_) {
            if (request.timer != 0) {
                runtime_->work().Cancel(request.timer);
            }
            due.push_back({std::move(request.answer), close_reason_});
        }
        requests_.clear();
        ready_.clear();
        stale_timer_.Cancel();
    }
    AnswerAll(std::move(due));
    router_->Unwatch(Key(), this);
    const std::vector<StreamPtr> streams = Streams();
    auto left = std::make_shared<std::atomic<std::size_t>>(streams.size() + 1);
    const auto one_less = [self = shared_from_this(), left] {
        if (left->fetch_sub(1) == 1) {
            self->OnStreamClosed();
        }
    };
    for (const StreamPtr& stream : streams) {
        stream->ReleaseUnclaimed();
        stream->BeginClose(one_less);
    }
    one_less();
}

void PullCore::OnStreamClosed() {
    std::vector<Task> closed;
    UniqueFunction<void(const PullCore*)> gone;
    {
        Lock lock(mutex_);
        if (std::exchange(closed_, true)) {
            return;
        }
        closed.swap(on_closed_);
        gone = std::move(on_gone_);
        on_gone_ = nullptr;
        changed_.notify_all();
    }
    for (Task& task : closed) {
        task();
    }
    if (gone) {
        gone(this);
    }
}

Status PullCore::Close(std::chrono::milliseconds timeout) {
    BeginClose(nullptr);
    if (!CallScope::InsideClient(runtime_.get())) {
        Lock lock(mutex_);
        if (changed_.wait_for(lock, timeout, [this] { return closed_; })) {
            return Status::Ok();
        }
    }
    // Deliveries that are out can no longer be acked: the group is left in any case.
    Abort(Status::Cancelled("the pull consumer was closed"));
    return Status::Ok();
}

PullCore::Left PullCore::Abort(const Status& why) {
    {
        Lock lock(mutex_);
        close_reason_ = why;
    }
    BeginClose(nullptr);
    Left left;
    for (const StreamPtr& stream : Streams()) {
        left.acks_unconfirmed += stream->Abort(why).unconfirmed;
    }
    OnStreamClosed();
    return left;
}

}  // namespace qmq::internal
