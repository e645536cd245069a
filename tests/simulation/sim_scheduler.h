#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/random.h"

namespace qmq::simulation {

class SimExecutor;

/// Virtual time and everything that happens in it, in one thread. One seed gives one order of
/// events, whose hash says so.
class SimScheduler final : public Clock {
public:
    explicit SimScheduler(std::uint64_t seed) : random_(seed) {}

    TimePoint Now() const override { return now_; }
    WallTime WallNow() const override {
        // Far from the epoch, where a missing time would be mistaken for a real one.
        return WallTime(std::chrono::hours(24 * 365 * 56)) +
               std::chrono::duration_cast<std::chrono::milliseconds>(now_.time_since_epoch()) +
               wall_offset_;
    }
    /// The wall clock is set to this much more (or less) than the steady one would say.
    void SetWallOffset(std::chrono::milliseconds offset) { wall_offset_ = offset; }
    std::chrono::milliseconds wall_offset() const { return wall_offset_; }

    /// Runs the next event. False when there is none.
    bool Step();
    /// Runs events up to `until`, and leaves the clock there.
    void RunUntil(TimePoint until);

    /// From within an event of `running()`: time goes on until `until` and all others do what they
    /// do meanwhile, but for `held`, whose events wait. Not from within itself.
    void PassTime(TimePoint until, const std::vector<const SimExecutor*>& held);
    /// Whose event runs now; null outside of events.
    const SimExecutor* running() const { return running_; }
    bool is_passing_time() const { return is_passing_time_; }

    Random& random() { return random_; }
    std::uint64_t event_count() const { return event_count_; }
    std::uint64_t hash() const { return hash_; }
    /// Mixes what happened into the hash: outcomes, not only the order of events.
    void Note(std::uint64_t value) { hash_ = (hash_ ^ value) * 0x100000001b3ULL; }

private:
    friend class SimExecutor;
    struct Event {
        SimExecutor* owner;
        Task task;
    };
    using Key = std::pair<TimePoint, TimerId>;

    using Events = std::map<Key, Event>;
    void RunOne(Events::iterator event);
    TimerId Add(TimePoint when, SimExecutor* owner, Task task);
    bool Remove(TimerId id);
    void RemoveAllOf(const SimExecutor* owner);

    Random random_;
    TimePoint now_{};
    std::chrono::milliseconds wall_offset_{};
    const SimExecutor* running_ = nullptr;
    bool is_passing_time_ = false;
    Events events_;
    std::unordered_map<TimerId, TimePoint> times_;
    TimerId next_id_ = 1;
    std::uint64_t event_count_ = 0;
    std::uint64_t hash_ = 0xcbf29ce484222325ULL;
};

/// The threads of one simulated process. Tasks run in the order in which they were posted, each
/// after a small random pause, so that two executors interleave in every way.
class SimExecutor final : public Executor {
public:
    /// `longest_pause`: before a task runs; long for threads that wait for a disk.
    SimExecutor(SimScheduler& scheduler,
                std::uint64_t number,
                std::chrono::microseconds longest_pause = std::chrono::microseconds(50))
        : scheduler_(scheduler), number_(number), longest_pause_(longest_pause) {}
    ~SimExecutor() override { Kill(); }
    SimExecutor(const SimExecutor&) = delete;
    SimExecutor& operator=(const SimExecutor&) = delete;

    bool Post(Task task) override;
    TimerId PostAt(TimePoint when, Task task) override;
    bool Cancel(TimerId timer) override;

    /// The process dies: what waits is destroyed and nothing is taken any more.
    void Kill();

private:
    friend class SimScheduler;
    SimScheduler& scheduler_;
    const std::uint64_t number_;
    const std::chrono::microseconds longest_pause_;
    TimePoint last_post_{};
    bool dead_ = false;
};

}  // namespace qmq::simulation
