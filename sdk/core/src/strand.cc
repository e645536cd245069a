#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "qmq/executor.h"

namespace qmq {

namespace {

/// Rounds that one caller runs for others before the executor takes over.
constexpr int kMaxRounds = 16;

}  // namespace

/// Shared with the tasks it has given to the executor, so that a late one finds it.
struct Strand::State : std::enable_shared_from_this<Strand::State> {
    State(Executor& executor_in, Mode mode_in, Task end_of_round_in)
        : executor(executor_in), mode(mode_in), end_of_round(std::move(end_of_round_in)) {}

    Executor& executor;
    const Mode mode;
    Task end_of_round;  // Of the runner.

    std::mutex mutex;
    std::condition_variable round_over;
    std::vector<Task> queue;                    // guarded by mutex
    std::thread::id in_round;                   // guarded by mutex; who is in a round
    bool awaited = false;                       // guarded by mutex; somebody waits for its end
    bool running = false;                       // guarded by mutex; somebody runs, or was asked to
    bool closed = false;                        // guarded by mutex
    std::unordered_set<TimerId> queued_timers;  // guarded by mutex; due, and in the queue
    std::vector<Task> round;                    // Of the runner; kept for its memory.

    /// Whether the caller is to run the queue now.
    bool Add(Task task) {
        const std::lock_guard lock(mutex);
        if (closed) {
            return false;
        }
        queue.push_back(std::move(task));
        return !std::exchange(running, true);
    }

    void RunRounds() {
        for (int rounds = 0; rounds < kMaxRounds; ++rounds) {
            if (!BeginRound()) {
                return;
            }
            for (Task& task : round) {
                task();
            }
            round.clear();
            if (end_of_round) {
                end_of_round();
            }
        }
        {
            const std::lock_guard lock(mutex);
            EndRound();
        }
        Hand();
    }

    /// Also ends the one before. False when there is nothing to run.
    bool BeginRound() {
        const std::lock_guard lock(mutex);
        EndRound();
        if (queue.empty()) {
            running = false;
            return false;
        }
        round.swap(queue);
        in_round = std::this_thread::get_id();
        return true;
    }

    void EndRound() {
        in_round = {};
        if (std::exchange(awaited, false)) {
            round_over.notify_all();
        }
    }

    /// Waits for the end of a round of another thread, if there is one.
    void AwaitRound(std::unique_lock<std::mutex>& lock) {
        const std::thread::id self = std::this_thread::get_id();
        while (in_round != std::thread::id() && in_round != self) {
            awaited = true;
            round_over.wait(lock);
        }
    }

    /// Goes on with the queue on the executor.
    void Hand() {
        if (!executor.Post([state = shared_from_this()] { state->RunRounds(); })) {
            // Refused: it has stopped, or is full. The next caller becomes the runner instead.
            const std::lock_guard lock(mutex);
            running = false;
        }
    }
};

Strand::Strand(Executor& executor, Mode mode, Task end_of_round)
    : state_(std::make_shared<State>(executor, mode, std::move(end_of_round))) {}

Strand::~Strand() {
    std::vector<Task> dropped;
    std::unique_lock lock(state_->mutex);
    state_->closed = true;
    dropped.swap(state_->queue);
    state_->AwaitRound(lock);
    if (state_->in_round != std::thread::id()) {
        state_->end_of_round = nullptr;  // One of its own tasks destroys it: that is the last.
    }
}

void Strand::AwaitRound() {
    std::unique_lock lock(state_->mutex);
    state_->AwaitRound(lock);
}

void Strand::Post(Task task) {
    // A task may drop the last reference to us.
    const std::shared_ptr<State> state = state_;
    if (!state->Add(std::move(task))) {
        return;
    }
    if (state->mode == Mode::kInline) {
        state->RunRounds();
    } else {
        state->Hand();
    }
}

void Strand::PostLater(Task task) {
    const std::shared_ptr<State> state = state_;
    if (state->Add(std::move(task))) {
        state->Hand();
    }
}

TimerId Strand::PostAt(TimePoint when, Task task) {
    // The executor's id is known only after the call, by which time the timer may have fired: the
    // cell joins the two.
    struct Cell {
        Task task;
        std::mutex mutex;
        TimerId id = 0;  // guarded by mutex
    };
    auto cell = std::make_shared<Cell>();
    cell->task = std::move(task);
    const std::lock_guard hold(cell->mutex);
    const TimerId timer =
        state_->executor.PostAt(when, [weak = std::weak_ptr<State>(state_), cell] {
            const std::shared_ptr<State> state = weak.lock();
            if (!state) {
                return;
            }
            TimerId id = 0;
            {
                const std::lock_guard lock(cell->mutex);
                id = cell->id;
            }
            {
                const std::lock_guard lock(state->mutex);
                state->queued_timers.insert(id);
            }
            if (state->Add([state_pointer = state.get(), cell, id] {
                    {
                        const std::lock_guard lock(state_pointer->mutex);
                        if (state_pointer->queued_timers.erase(id) == 0) {
                            return;  // Cancelled after it was due.
                        }
                    }
                    cell->task();
                })) {
                // We are on the executor already: run here in both modes.
                state->RunRounds();
            }
        });
    cell->id = timer;
    return timer;
}

bool Strand::Cancel(TimerId timer) {
    if (state_->executor.Cancel(timer)) {
        return true;
    }
    const std::lock_guard lock(state_->mutex);
    return state_->queued_timers.erase(timer) > 0;
}

}  // namespace qmq
