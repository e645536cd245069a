#include "tests/simulation/sim_scheduler.h"

#include <algorithm>
#include <vector>

namespace qmq::simulation {

TimerId SimScheduler::Add(TimePoint when, SimExecutor* owner, Task task) {
    const TimerId id = next_id_++;
    events_.emplace(Key{std::max(when, now_), id}, Event{owner, std::move(task)});
    times_.emplace(id, std::max(when, now_));
    return id;
}

bool SimScheduler::Remove(TimerId id) {
    const auto found = times_.find(id);
    if (found == times_.end()) {
        return false;
    }
    auto node = events_.extract(Key{found->second, id});
    times_.erase(found);
    return true;  // The task is destroyed here, when the maps are whole again: it may call us.
}

void SimScheduler::RemoveAllOf(const SimExecutor* owner) {
    std::vector<Task> dropped;
    for (auto it = events_.begin(); it != events_.end();) {
        if (it->second.owner == owner) {
            times_.erase(it->first.second);
            dropped.push_back(std::move(it->second.task));
            it = events_.erase(it);
        } else {
            ++it;
        }
    }
}

bool SimScheduler::Step() {
    if (events_.empty()) {
        return false;
    }
    RunOne(events_.begin());
    return true;
}

void SimScheduler::RunOne(Events::iterator event) {
    auto node = events_.extract(event);
    times_.erase(node.key().second);
    now_ = std::max(now_, node.key().first);  // Some were held up while others ran.
    ++event_count_;
    Note(static_cast<std::uint64_t>(now_.time_since_epoch().count()));
    Note(node.mapped().owner->number_);
    const SimExecutor* const before = std::exchange(running_, node.mapped().owner);
    node.mapped().task();
    running_ = before;
}

void SimScheduler::PassTime(TimePoint until, const std::vector<const SimExecutor*>& held) {
    is_passing_time_ = true;
    // From the front each time: what runs may add and remove any event.
    while (true) {
        auto next = events_.begin();
        while (next != events_.end() && next->first.first <= until &&
               std::find(held.begin(), held.end(), next->second.owner) != held.end()) {
            ++next;
        }
        if (next == events_.end() || next->first.first > until) {
            break;
        }
        RunOne(next);
    }
    now_ = std::max(now_, until);
    is_passing_time_ = false;
}

void SimScheduler::RunUntil(TimePoint until) {
    while (!events_.empty() && events_.begin()->first.first <= until) {
        Step();
    }
    now_ = std::max(now_, until);
}

bool SimExecutor::Post(Task task) {
    if (dead_) {
        return false;
    }
    const auto pause = std::chrono::microseconds(
        1 + scheduler_.random().Below(static_cast<std::uint64_t>(longest_pause_.count())));
    last_post_ = std::max(last_post_, scheduler_.Now() + pause);
    scheduler_.Add(last_post_, this, std::move(task));
    return true;
}

TimerId SimExecutor::PostAt(TimePoint when, Task task) {
    return dead_ ? 0 : scheduler_.Add(when, this, std::move(task));
}

bool SimExecutor::Cancel(TimerId timer) {
    return scheduler_.Remove(timer);
}

void SimExecutor::Kill() {
    dead_ = true;
    scheduler_.RemoveAllOf(this);
}

}  // namespace qmq::simulation
