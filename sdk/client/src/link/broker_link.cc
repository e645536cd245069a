#include "sdk/client/src/link/broker_link.h"

#include <algorithm>
#include <utility>

#include "qmq/deadline.h"

namespace qmq::internal {

namespace {
Status Moved(const BrokerGroup& group) {
    return Status::Unavailable("the broker group moved to " + group.address);
}
}  // namespace

/// The transport's view of one connection: knows the link only while it lives, and which of its
/// connections it speaks of.
class BrokerLink::Listener final : public ConnectionListener {
public:
    Listener(std::weak_ptr<BrokerLink> link, std::uint64_t generation)
        : link_(std::move(link)), generation_(generation) {}
    void OnReady() override {
        if (auto link = link_.lock()) {
            link->HandleReady(generation_);
        }
    }
    void OnClosed(const Status& status) override {
        if (auto link = link_.lock()) {
            link->HandleClosed(generation_, status);
        }
    }

private:
    std::weak_ptr<BrokerLink> link_;
    std::uint64_t generation_;
};

BrokerLink::BrokerLink(std::shared_ptr<ClientRuntime> runtime,
                       std::shared_ptr<Transport> transport,
                       BrokerGroup group,
                       std::uint64_t route_number)
    : runtime_(std::move(runtime)),
      name_(group.name),
      transport_(std::move(transport)),
      group_(std::move(group)),
      route_number_(route_number),
      last_error_(Status::Unavailable("not connected yet")),
      reconnect_(runtime_->reconnect_backoff()),
      breaker_(CircuitBreakerOptions{}),
      random_(runtime_->MakeRandom()),
      timer_(runtime_->work()) {}

BrokerLink::~BrokerLink() {
    Discard(std::move(transport_), std::move(connection_));
}

void BrokerLink::Start() {
    Open();
}

void BrokerLink::Stop() {
    // Destroyed here, the connection before the transport: the caller is no thread of a transport.
    std::shared_ptr<Transport> transport;
    std::shared_ptr<BrokerConnection> old;
    {
        MutexLock lock(mutex_);
        transport = std::move(transport_);
        stopped_ = true;
        ready_ = false;
        ++generation_;
        timer_.Cancel();
        observers_.clear();
        old = std::move(connection_);
    }
}

void BrokerLink::Discard(std::shared_ptr<Transport> transport,
                         std::shared_ptr<BrokerConnection> connection) {
    if (connection == nullptr) {
        return;
    }
    // The transport outlives its connections, also those that wait to be destroyed.
    runtime_->work().Post([transport = std::move(transport),
                           connection = std::move(connection)]() mutable { connection.reset(); });
}

void BrokerLink::Open() {
    std::uint64_t generation = 0;
    BrokerGroup group;
    std::shared_ptr<Transport> transport;
    {
        MutexLock lock(mutex_);
        if (stopped_) {
            return;
        }
        transport = transport_;
        generation = ++generation_;
        early_ready_ = false;
        group = group_;
    }
    auto listener = std::make_shared<Listener>(weak_from_this(), generation);
    const std::chrono::milliseconds timeout = transport->connect_timeout();
    std::shared_ptr<BrokerConnection> connection = transport->Connect(group, std::move(listener));
    bool ready = false;
    std::optional<Status> moved;
    {
        MutexLock lock(mutex_);
        if (generation != generation_) {
            lock.Unlock();
            Discard(std::move(transport), std::move(connection));  // Closed or stopped meanwhile.
            return;
        }
        connection_ = std::move(connection);
        ready = early_ready_;
        if (group.address != group_.address) {
            moved = Moved(group_);
        } else if (!ready) {
            // Transports have time-outs of their own, but nothing here may hang because one of
            // them does not work.
            connect_timeout_ = timeout;
            Arm(DeadlineAfter(runtime_->Now(), timeout));
        }
    }
    if (moved.has_value()) {
        HandleClosed(generation, *moved);
    } else if (ready) {
        HandleReady(generation);
    }
}

void BrokerLink::Arm(TimePoint when) {
    timer_.ArmBy(when, [this, generation = generation_](TimerSlot::Shot shot) {
        return [self = weak_from_this(), generation, shot] {
            if (auto link = self.lock()) {
                link->OnTimer(generation, shot);
            }
        };
    });
}

void BrokerLink::RetryTimer() {
    if (timer_.refused()) {
        Arm(timer_.when());
    }
}

void BrokerLink::Retry() {
    MutexLock lock(mutex_);
    RetryTimer();
}

void BrokerLink::OnTimer(std::uint64_t generation, TimerSlot::Shot shot) {
    std::chrono::milliseconds timeout{0};
    bool connecting = false;
    {
        MutexLock lock(mutex_);
        if (generation != generation_ || ready_) {
            return;
        }
        timer_.OnFired(shot);
        connecting = connection_ != nullptr;
        timeout = connect_timeout_;
    }
    if (connecting) {
        HandleClosed(generation,
                     Status::Unavailable("the connection did not come up in " +
                                         std::to_string(timeout.count()) + " ms"));
    } else {
        Open();
    }
}

std::vector<std::shared_ptr<LinkObserver>> BrokerLink::LiveObservers() {
    std::vector<std::shared_ptr<LinkObserver>> live;
    std::erase_if(observers_, [&live](const std::weak_ptr<LinkObserver>& observer) {
        auto strong = observer.lock();
        if (strong == nullptr) {
            return true;
        }
        live.push_back(std::move(strong));
        return false;
    });
    return live;
}

void BrokerLink::HandleReady(std::uint64_t generation) {
    std::vector<std::shared_ptr<LinkObserver>> observers;
    std::shared_ptr<BrokerConnection> connection;
    std::string line;
    {
        MutexLock lock(mutex_);
        if (generation != generation_ || ready_) {
            return;
        }
        if (connection_ == nullptr) {
            early_ready_ = true;  // `Open` goes on with it when Connect has returned.
            return;
        }
        ready_ = true;
        timer_.Cancel();
        connection = connection_;
        observers = LiveObservers();
        if (reconnect_.failures() > 0) {
            line = "broker group " + Describe() + ": connected again";
        }
        reconnect_.OnUp(runtime_->Now());
        last_error_ = Status::Ok();
    }
    if (!line.empty()) {
        runtime_->log().Info(line);
    }
    for (const auto& observer : observers) {
        observer->OnLinkUp(*this, connection);
    }
}

void BrokerLink::HandleClosed(std::uint64_t generation, const Status& status) {
    std::vector<std::shared_ptr<LinkObserver>> observers;
    std::shared_ptr<Transport> transport;
    std::shared_ptr<BrokerConnection> old;
    std::string line;
    {
        MutexLock lock(mutex_);
        if (generation != generation_) {
            return;
        }
        transport = transport_;
        ++generation_;
        ready_ = false;
        last_error_ =
            status.ok() ? Status::Unavailable("the connection was closed by the broker") : status;
        old = std::move(connection_);
        observers = LiveObservers();
        const TimePoint when = reconnect_.OnDown(runtime_->Now(), random_);
        if (reconnect_.worth_logging()) {
            line = "broker group " + Describe() + ": " + last_error_.ToString() + " (failure " +
                   std::to_string(reconnect_.failures()) + "; trying again)";
        }
        timer_.Cancel();
        Arm(when);
    }
    Discard(std::move(transport), std::move(old));
    if (!line.empty()) {
        runtime_->log().Warning(line);
    }
    for (const auto& observer : observers) {
        observer->OnLinkDown(*this, status);
    }
}

void BrokerLink::MoveTo(const BrokerGroup& group, std::uint64_t route_number) {
    std::uint64_t generation = 0;
    {
        MutexLock lock(mutex_);
        RetryTimer();
        if (route_number < route_number_) {
            return;
        }
        route_number_ = route_number;
        const bool same = group_.address == group.address;
        group_ = group;
        if (same || connection_ == nullptr) {
            return;  // `Open`, when it is in Connect, sees to it afterwards.
        }
        generation = generation_;
    }
    HandleClosed(generation, Moved(group));
}

std::string BrokerLink::Describe() const {
    return name_ + " at " + group_.address;
}

std::shared_ptr<BrokerConnection> BrokerLink::connection() {
    MutexLock lock(mutex_);
    RetryTimer();
    return ready_ ? connection_ : nullptr;
}

Status BrokerLink::last_error() {
    MutexLock lock(mutex_);
    RetryTimer();
    return last_error_.WithContext("broker group " + Describe());
}

std::shared_ptr<BrokerConnection> BrokerLink::AddObserver(std::weak_ptr<LinkObserver> observer) {
    MutexLock lock(mutex_);
    RetryTimer();
    if (observers_.size() == observers_.capacity()) {  // Before it takes more memory.
        std::erase_if(observers_, [](const auto& one) { return one.expired(); });
    }
    const auto is_it = [&observer](const auto& one) {
        return !one.owner_before(observer) && !observer.owner_before(one);
    };
    if (std::none_of(observers_.begin(), observers_.end(), is_it)) {
        observers_.push_back(std::move(observer));
    }
    return ready_ ? connection_ : nullptr;
}

bool BrokerLink::WouldAllow() const {
    MutexLock lock(mutex_);
    return breaker_.WouldAllow(runtime_->Now());
}

bool BrokerLink::Acquire() {
    MutexLock lock(mutex_);
    return breaker_.Acquire(runtime_->Now());
}

std::optional<TimePoint> BrokerLink::next_probe() const {
    MutexLock lock(mutex_);
    return breaker_.next_probe();
}

void BrokerLink::OnAnswered() {
    MutexLock lock(mutex_);
    breaker_.OnSuccess(runtime_->Now());
}

void BrokerLink::OnUnanswered(const Status& why) {
    std::string line;
    {
        MutexLock lock(mutex_);
        if (breaker_.OnFailure(runtime_->Now())) {
            line = "broker group " + Describe() +
                   ": too many sends fail, giving it a rest; last: " + why.ToString();
        }
    }
    if (!line.empty()) {
        runtime_->log().Warning(line);
    }
}

std::shared_ptr<BrokerLink> LinkPool::Find(const std::string& name) const {
    const auto found = links_.find(name);
    return found == links_.end() ? nullptr : found->second.lock();
}

std::shared_ptr<BrokerLink> LinkPool::Get(const BrokerGroup& group, std::uint64_t route_number) {
    std::shared_ptr<BrokerLink> link;
    bool made = false;
    {
        MutexLock lock(mutex_);
        if (stopped_) {
            return nullptr;
        }
        link = Find(group.name);
        if (link == nullptr) {
            std::erase_if(links_, [](const auto& entry) { return entry.second.expired(); });
            link = std::make_shared<BrokerLink>(runtime_, transport_, group, route_number);
            links_.emplace(group.name, link);
            made = true;
        }
    }
    if (made) {
        link->Start();
    } else {
        link->MoveTo(group, route_number);
    }
    return link;
}

void LinkPool::Confirm(const std::vector<BrokerGroup>& groups, std::uint64_t route_number) {
    for (const BrokerGroup& group : groups) {
        std::shared_ptr<BrokerLink> link;
        {
            MutexLock lock(mutex_);
            link = Find(group.name);
        }
        if (link != nullptr) {
            link->MoveTo(group, route_number);
        }
    }
}

void LinkPool::Stop() {
    std::map<std::string, std::weak_ptr<BrokerLink>> links;
    {
        MutexLock lock(mutex_);
        stopped_ = true;
        links.swap(links_);
        transport_.reset();
    }
    for (const auto& [name, weak] : links) {
        if (auto link = weak.lock()) {
            link->Stop();
        }
    }
}

}  // namespace qmq::internal
