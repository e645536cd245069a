#include "sdk/client/src/base/handler_pool.h"

#include <algorithm>
#include <utility>

namespace qmq::internal {

namespace {

/// So many threads are there from the first member on, if there are as many handlers.
constexpr std::size_t kFirstThreads = 4;
/// A task that has waited for so long, while no other one began, gets a thread of its own.
constexpr std::chrono::milliseconds kWait{5};

}  // namespace

/// The executor of one member.
class HandlerPool::Place final : public Executor {
public:
    Place(std::shared_ptr<HandlerPool> pool, std::uint64_t member)
        : pool_(std::move(pool)), member_(member) {}
    ~Place() override { pool_->Leave(member_); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    bool Post(Task task) override { return pool_->Post(member_, std::move(task)); }
    TimerId PostAt(TimePoint when, Task task) override {
        return pool_->threads_.PostAt(when, std::move(task));
    }
    bool Cancel(TimerId timer) override { return pool_->threads_.Cancel(timer); }

private:
    const std::shared_ptr<HandlerPool> pool_;
    const std::uint64_t member_;
};

HandlerPool::HandlerPool(
    Executor& threads, Grow grow, std::size_t most_threads, Executor& timers, const Clock& clock)
    : threads_(threads),
      grow_(std::move(grow)),
      most_threads_(most_threads),
      clock_(clock),
      timer_(timers) {}

std::shared_ptr<Executor> HandlerPool::Join(std::size_t handlers) {
    std::uint64_t member = 0;
    std::size_t threads = 0;
    {
        MutexLock lock(mutex_);
        member = ++last_member_;
        members_[member] = {handlers, 0};
        handlers_ += handlers;
        ++idle_members_;
        threads = std::min(Limit(), kFirstThreads);
    }
    GrowTo(threads);
    return std::make_shared<Place>(shared_from_this(), member);
}

void HandlerPool::Leave(std::uint64_t member) {
    std::size_t admitted = 0;
    {
        MutexLock lock(mutex_);
        const auto found = members_.find(member);
        handlers_ -= found->second.handlers;
        idle_members_ -= found->second.running == 0 ? 1U : 0U;
        members_.erase(found);
        admitted = Admit();  // The thread that was kept for it.
    }
    Give(admitted);
}

std::size_t HandlerPool::Limit() const {
    return std::max(std::min(most_threads_, handlers_), members_.size());
}

/// Whether one more of it leaves a thread for each other member that has none.
bool HandlerPool::MayRun(const Member& member) const {
    const std::size_t kept = idle_members_ - (member.running == 0 ? 1U : 0U);
    return running_ + 1 + kept <= Limit();
}

bool HandlerPool::Post(std::uint64_t member, Task task) {
    std::size_t admitted = 0;
    {
        MutexLock lock(mutex_);
        if (stopped_) {
            return false;
        }
        waiting_.push_back({member, std::move(task)});
        admitted = Admit();
    }
    Give(admitted);
    return true;
}

/// Moves on what may run. Returns how many tasks that are.
std::size_t HandlerPool::Admit() {
    std::size_t count = 0;
    for (auto it = waiting_.begin(); it != waiting_.end();) {
        Member& member = members_.at(it->member);
        if (!MayRun(member)) {
            ++it;
            continue;
        }
        idle_members_ -= member.running == 0 ? 1U : 0U;
        ++member.running;
        ++running_;
        ++count;
        admitted_.push_back(std::move(*it));
        it = waiting_.erase(it);
    }
    ArmGrowth();
    return count;
}

void HandlerPool::Give(std::size_t count) {
    for (; count > 0; --count) {
        (void)threads_.Post([self = shared_from_this()] { self->RunOne(); });
    }
}

void HandlerPool::RunOne() {
    Waiting next;
    {
        MutexLock lock(mutex_);
        if (admitted_.empty()) {
            return;  // It has stopped.
        }
        next = std::move(admitted_.front());
        admitted_.pop_front();
        ++begun_count_;
    }
    next.task();
    next.task = nullptr;  // What it holds may be the member's place.
    std::size_t admitted = 0;
    {
        MutexLock lock(mutex_);
        --running_;
        if (const auto found = members_.find(next.member); found != members_.end()) {
            --found->second.running;
            idle_members_ += found->second.running == 0 ? 1U : 0U;
        }
        if (!waiting_.empty()) {
            admitted = Admit();
        }
    }
    Give(admitted);
}

/// While more was given to the threads than there are.
void HandlerPool::ArmGrowth() {
    if (running_ <= thread_count_ || thread_count_ >= Limit() || timer_.armed()) {
        return;
    }
    watched_begun_ = begun_count_;
    timer_.Cancel();  // A time that was refused is over: it watches from now on.
    timer_.ArmBy(clock_.Now() + kWait, *this, &HandlerPool::OnGrowth);
}

void HandlerPool::OnGrowth(TimerSlot::Shot shot) {
    std::size_t threads = 0;
    {
        MutexLock lock(mutex_);
        timer_.OnFired(shot);
        if (admitted_.empty() || stopped_) {
            return;
        }
        threads = thread_count_;
        if (begun_count_ == watched_begun_) {
            threads = std::min(Limit(), thread_count_ + admitted_.size());
        }
    }
    GrowTo(threads);
    MutexLock lock(mutex_);
    if (!admitted_.empty() && !stopped_) {
        ArmGrowth();
    }
}

/// Without the lock: starting a thread takes a while, and may fail.
void HandlerPool::GrowTo(std::size_t threads) {
    {
        MutexLock lock(mutex_);
        if (threads <= thread_count_) {
            return;
        }
    }
    const std::size_t count = grow_(threads);
    MutexLock lock(mutex_);
    thread_count_ = std::max(thread_count_, count);
}

void HandlerPool::Stop() {
    // What the tasks hold may be the application's: it goes without the lock.
    std::deque<Waiting> waiting;
    std::deque<Waiting> admitted;
    MutexLock lock(mutex_);
    stopped_ = true;
    waiting.swap(waiting_);
    admitted.swap(admitted_);
    timer_.Cancel();
    lock.Unlock();
}

}  // namespace qmq::internal
