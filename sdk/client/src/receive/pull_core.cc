#include "sdk/client/src/receive/pull_core.h"

#include <algorithm>
#include <future>
#include <utility>

#include "qmq/deadline.h"

#include "sdk/client/src/base/call_scope.h"
#include "sdk/client/src/receive/delivery_core.h"

namespace qmq::internal {

namespace {
/// Bytes asked for with each message: more than most have, and the next pull makes good what a
/// large one overdraws.
constexpr std::uint64_t kBytesPerMessage = 64 * 1024;
constexpr std::uint64_t kLeastBytes = 1U << 20;

StreamConfig ConfigOf(const PullConsumerOptions& options,
                      const std::string& group,
                      const std::string& client_id) {
    StreamConfig config = MakeStreamConfig(options, group, client_id);
    config.ack_linger = std::chrono::microseconds(500);
    config.on_demand = true;
    config.credit = {options.max_unacked_count, options.max_unacked_count, 0};
    return config;
}

}  // namespace

PullCore::PullCore(std::shared_ptr<ClientRuntime> runtime,
                   std::shared_ptr<Router> router,
                   std::shared_ptr<LinkPool> links,
                   PullConsumerOptions options,
                   std::string group,
                   UniqueFunction<void(const PullCore*)> on_gone)
    : runtime_(std::move(runtime)),
      options_(std::move(options)),
      group_(std::move(group)),
      streams_(std::make_shared<StreamSet>(runtime_,
                                           std::move(router),
                                           std::move(links),
                                           ConfigOf(options_, group_, runtime_->client_id()))),
      on_gone_(std::move(on_gone)),
      stale_timer_(runtime_->work()) {}

void PullCore::Start() {
    streams_->Start(weak_from_this());
}

Status PullCore::ready() const {
    {
        MutexLock lock(mutex_);
        if (closing_) {
            return close_reason_;
        }
    }
    return streams_->ready();
}

Status PullCore::WaitReady(std::chrono::milliseconds timeout) {
    return readiness_.Wait(timeout, [this] { return ready(); })
        .WithContext("subject " + options_.subject + ", group " + group_);
}

void PullCore::OnRuns(std::vector<std::shared_ptr<DeliveryRun>> runs) {
    Served served;
    bool closing = false;
    {
        MutexLock lock(mutex_);
        closing = closing_;
        for (auto& run : runs) {
            ready_.push_back(std::move(run));
        }
        Serve(&served);
        if (closing) {
            ready_.clear();
        } else if (!ready_.empty()) {
            ArmStaleTimer();
        }
    }
    Finish(std::move(served));
    if (closing) {
        ReleaseUnclaimed();
        return;
    }
    Ask();
}

void PullCore::OnRoom() {
    Served served;
    {
        MutexLock lock(mutex_);
        Serve(&served);
    }
    Finish(std::move(served));
    Ask();
}

void PullCore::ReleaseUnclaimed() {
    const std::uint64_t released = streams_->ReleaseUnclaimed();
    MutexLock lock(mutex_);
    handed_back_ += released;
}

std::uint64_t PullCore::HeldCount() const {
    std::uint64_t held = 0;
    for (const auto& stream : streams_->all()) {
        held += stream->held_count();
    }
    return held;
}

/// How many of those that are ready may be handed out. Of several broker groups a little more may
/// come than was wanted: what is over waits here until something that is out has ended.
std::uint64_t PullCore::Room() const {
    const std::uint64_t held = HeldCount();
    if (held <= options_.max_unacked_count) {
        return options_.max_unacked_count;  // With all that are ready there are no more out.
    }
    std::uint64_t room = options_.max_unacked_count;
    for (const auto& run : ready_) {
        room += run->unclaimed_count();
    }
    return room > held ? room - held : 0;
}

std::vector<Delivery> PullCore::Take(std::uint32_t max_messages, Served* served) {
    std::vector<Delivery> deliveries;
    DeliveryRun::Claim claim;
    const std::uint64_t most = std::min<std::uint64_t>(max_messages, Room());
    while (!ready_.empty() && deliveries.size() < most) {
        const std::shared_ptr<DeliveryRun> run = ready_.front();
        if (run->stream().leases_over(served->now)) {
            served->lapsed.push_back(run->shared_stream());
            ready_.pop_front();
            continue;
        }
        if (!run->Next(std::nullopt, &claim)) {
            ready_.pop_front();
            continue;
        }
        run->stream().NoteClaimed();
        deliveries.push_back(DeliveryAccess::Make(std::make_shared<Decision>(run, claim.sequence),
                                                  std::move(claim.message)));
    }
    return deliveries;
}

void PullCore::Serve(Served* served) {
    if (!requests_.empty() && !ready_.empty()) {
        served->now = runtime_->Now();
    }
    while (!requests_.empty() && !ready_.empty()) {
        std::vector<Delivery> deliveries = Take(requests_.front().max_messages, served);
        if (deliveries.empty()) {
            return;
        }
        if (requests_.front().timer != 0) {
            runtime_->work().Cancel(requests_.front().timer);
        }
        served->due.push_back({std::move(requests_.front().answer), std::move(deliveries)});
        requests_.pop_front();
    }
}

void PullCore::Finish(Served served) {
    for (const auto& stream : served.lapsed) {
        stream->OnLeasesOver(served.now);
    }
    for (Due& one : served.due) {
        one.answer(std::move(one.result));
    }
}

Status PullCore::Enqueue(const PullOptions& options, Answer answer) {
    Served served;
    {
        MutexLock lock(mutex_);
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
            return bad;
        }
        Request request;
        request.id = next_id_++;
        request.max_messages = std::min(options.max_messages, options_.max_unacked_count);
        request.until = DeadlineAfter(runtime_->Now(), options.max_wait);
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
        Serve(&served);
    }
    Finish(std::move(served));
    Ask();
    return Status::Ok();
}

/// Grants what the first waiting pull wants and nobody has been asked for yet. A broker group that
/// has nothing must not keep the others' messages away, so each is asked for a share, and at least
/// for one message.
void PullCore::Ask() {
    std::uint64_t share = 0;
    std::vector<std::uint64_t> at_once;
    const std::vector<StreamSet::StreamPtr> streams = streams_->current();
    {
        MutexLock lock(mutex_);
        if (stale_timer_.refused() && !ready_.empty()) {
            ArmStaleTimer();
        }
        std::uint64_t wanted = 0;
        for (const Request& request : requests_) {
            wanted += request.max_messages;
        }
        const std::uint64_t unacked = HeldCount();
        const std::uint64_t room =
            options_.max_unacked_count > unacked ? options_.max_unacked_count - unacked : 0;
        wanted = std::min(wanted, room);
        if (!streams.empty()) {
            share = (wanted + streams.size() - 1) / streams.size();
        }
        for (const Request& request : requests_) {
            if (request.timer == 0) {
                at_once.push_back(request.id);
            }
        }
    }
    for (const auto& stream : streams) {
        stream->RequestMessages(share, kBytesPerMessage, kLeastBytes);
    }
    for (const std::uint64_t id : at_once) {
        OnTimeout(id);  // max_wait of zero: what was asked for is there for the next pull.
    }
}

Status PullCore::TimeoutStatus() const {
    for (const auto& stream : streams_->current()) {
        if (stream->live()) {
            return Status::Ok();  // Also while the route cannot be asked for again.
        }
    }
    if (Status status = streams_->route_status(); !status.ok()) {
        return status.WithContext("subject " + options_.subject);
    }
    return Status::Unavailable("subject " + options_.subject + ": no broker group is connected");
}

void PullCore::OnTimeout(std::uint64_t id) {
    Served served;
    Status status = TimeoutStatus();
    {
        MutexLock lock(mutex_);
        auto found = std::find_if(requests_.begin(), requests_.end(), [id](const Request& request) {
            return request.id == id;
        });
        if (found == requests_.end()) {
            return;
        }
        if (status.ok()) {
            served.due.push_back({std::move(found->answer), std::vector<Delivery>()});
        } else {
            served.due.push_back({std::move(found->answer), std::move(status)});
        }
        requests_.erase(found);
    }
    Finish(std::move(served));
}

void PullCore::ArmStaleTimer() {
    stale_timer_.ArmBy(StaleAt(ready_.front()->arrived()), *this, &PullCore::OnStale);
}

/// What nobody has pulled for a while goes to others.
void PullCore::OnStale(TimerSlot::Shot shot) {
    const TimePoint now = runtime_->Now();
    {
        MutexLock lock(mutex_);
        stale_timer_.OnFired(shot);
        std::erase_if(ready_, [&](const auto& run) { return StaleAt(run->arrived()) <= now; });
        if (!ready_.empty()) {
            ArmStaleTimer();
        }
    }
    (void)streams_->GiveBack(now - options_.ack_timeout / 3, 0);
}

Status PullCore::PullAsync(const PullOptions& options, PullConsumer::Callback callback) {
    return Enqueue(
        options,
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
    Status taken = Enqueue(options, [promise](Result<std::vector<Delivery>> result) {
        promise->set_value(std::move(result));
    });
    if (!taken.ok()) {
        return taken;
    }
    return future.get();
}

void PullCore::BeginClose(Task closed) {
    Served served;
    bool ended = false;
    {
        MutexLock lock(mutex_);
        ended = closed_;
        if (!ended && closed) {
            on_closed_.push_back(std::exchange(closed, nullptr));
        }
        if (!ended && std::exchange(closing_, true)) {
            return;
        }
        for (Request& request : requests_) {
            if (request.timer != 0) {
                runtime_->work().Cancel(request.timer);
            }
            served.due.push_back({std::move(request.answer), close_reason_});
        }
        requests_.clear();
        ready_.clear();
        stale_timer_.Cancel();
    }
    if (ended) {
        if (closed) {
            closed();
        }
        return;
    }
    Finish(std::move(served));
    readiness_.Changed();
    streams_->Stop();
    ReleaseUnclaimed();
    streams_->BeginClose([self = shared_from_this()] { self->OnStreamsClosed(); });
}

void PullCore::OnStreamsClosed() {
    std::vector<Task> closed;
    UniqueFunction<void(const PullCore*)> gone;
    {
        MutexLock lock(mutex_);
        if (std::exchange(closed_, true)) {
            return;
        }
        closed.swap(on_closed_);
        gone = std::exchange(on_gone_, nullptr);
        changed_.NotifyAll();
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
        const TimePoint deadline = DeadlineAfter(std::chrono::steady_clock::now(), timeout);
        MutexLock lock(mutex_);
        if (changed_.WaitUntil(
                mutex_, deadline, [this]() QMQ_REQUIRES(mutex_) { return closed_; })) {
            return Status::Ok();
        }
    }
    // Deliveries that are out can no longer be acked: the group is left in any case.
    Abort(Status::Cancelled("the pull consumer was closed"));
    return Status::Ok();
}

PullCore::Left PullCore::Abort(const Status& why) {
    {
        MutexLock lock(mutex_);
        close_reason_ = why;
    }
    BeginClose(nullptr);
    const StreamSet::Left streams = streams_->Abort(why);
    Left left;
    left.acks_unconfirmed = streams.unconfirmed;
    left.undecided = streams.undecided;
    {
        MutexLock lock(mutex_);
        left.handed_back = handed_back_;
    }
    OnStreamsClosed();
    return left;
}

}  // namespace qmq::internal
