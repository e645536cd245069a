#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "qmq/clock.h"
#include "qmq/function.h"

namespace qmq {

/// Names a task given to `Executor::PostAt`. Zero is never given out.
using TimerId = std::uint64_t;

/// Runs tasks later, on threads of its own. All calls are thread-safe and return at once.
///
/// A task never runs inside the call that took it. A task that throws ends the process: whoever
/// posts catches.
class Executor {
public:
    virtual ~Executor() = default;

    /// Takes `task` to run as soon as a thread is free. False when it was refused, because the
    /// queue is full or the executor has stopped: then it was destroyed without running.
    virtual bool Post(Task task) = 0;

    /// Takes `task` to run at `when` or soon after; a time that has passed means now. Zero when it
    /// was refused.
    virtual TimerId PostAt(TimePoint when, Task task) = 0;

    /// Forgets a timer. True when its task will never run, false when it has run, runs now, or is
    /// unknown.
    virtual bool Cancel(TimerId timer) = 0;
};

struct ThreadPoolOptions {
    /// Threads. Range: [1, 1024].
    std::size_t threads = 1;
    /// Most tasks that wait; `Post` refuses beyond it. Timers do not count. Range: [1, 2^31].
    std::size_t max_queued_count = 1 << 20;
    /// Name of the threads as the system shows it; at most 15 bytes are kept.
    std::string name = "qmq";
};

/// An executor of `threads` threads and one queue. The destructor stops it: tasks that have not
/// begun are destroyed, and it waits for those that run (on a thread of its own pool it detaches
/// that one thread instead of waiting for itself).
class ThreadPool final : public Executor {
public:
    explicit ThreadPool(ThreadPoolOptions options);
    ~ThreadPool() override;
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    bool Post(Task task) override;
    TimerId PostAt(TimePoint when, Task task) override;
    bool Cancel(TimerId timer) override;

    /// Starts threads until there are `threads`; never ends one. Returns how many there are: fewer
    /// when the system gives no more, or the pool has stopped.
    std::size_t Grow(std::size_t threads);

    /// Whether the calling thread is one of its own.
    bool RunsHere() const;

    /// Stops as the destructor does, but waits no longer than until `deadline` (`DeadlineAfter`): a
    /// thread whose task does not return by then is left to itself and ends when its task does.
    /// True when nothing runs any more (but for the task it is called from). Idempotent; not from
    /// two threads at once.
    bool Stop(TimePoint deadline);

private:
    struct State;
    static void Start(const std::shared_ptr<State>& state);
    std::shared_ptr<State> state_;
};

/// Runs tasks one after another, in the order in which they came, never two at a time: the owner of
/// some state, without a lock.
///
/// Whoever posts to an idle strand becomes its runner (`Mode::kInline`): it runs the task, and what
/// other threads post meanwhile, before its call returns. So a request crosses no thread on its way
/// into the state it needs, and under load tasks gather into rounds by themselves. After
/// `max_rounds` the rest goes to the executor, so that nobody runs others' work for ever. With
/// `Mode::kPosted` every round goes to the executor (simulation, tests, and callers that hold
/// locks).
///
/// Thread-safe. A strand outlives its tasks: destroy it when nobody posts any more. A round that
/// another thread is in goes to its end before; what waits is dropped.
class Strand {
public:
    enum class Mode : std::uint8_t { kInline, kPosted };

    /// `end_of_round` runs on the strand after each round of tasks, when all that had gathered has
    /// run and before what came meanwhile: the place to write once what the round produced. May be
    /// empty.
    Strand(Executor& executor, Mode mode, Task end_of_round);
    ~Strand();
    Strand(const Strand&) = delete;
    Strand& operator=(const Strand&) = delete;

    /// Takes `task`. In kInline mode it may have run when this returns: the caller holds no lock
    /// that a task may want.
    void Post(Task task);

    /// Takes `task` without ever running it inside the call.
    void PostLater(Task task);

    /// Blocks until the round is over that another thread is in, if there is one.
    void AwaitRound();

    /// As `Executor::PostAt`, but the task runs on the strand.
    TimerId PostAt(TimePoint when, Task task);
    bool Cancel(TimerId timer);

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace qmq
