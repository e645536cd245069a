#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "qmq/executor.h"
#include "qmq/function.h"
#include "qmq/status.h"

namespace qmq::store {

/// What joins work on an I/O thread to the strand, and parts them when the store goes: after
/// `Close` no work of ours runs or begins, and none touches the strand, which may then go too.
class ReturnPath {
public:
    explicit ReturnPath(Strand& strand) : strand_(&strand) {}

    /// False when it is closed: then the work is not to be done.
    bool BeginWork();
    void EndWork();
    /// Runs `task` on the strand, or drops it when the path is closed.
    void Post(Task task);
    /// Waits until no work is under way and no other thread is inside `Post`.
    void Close();

private:
    std::mutex mutex_;
    std::condition_variable left_;
    int working_ = 0;                       // guarded by mutex_.
    Strand* strand_;                        // guarded by mutex_; null once closed.
    std::vector<std::thread::id> posting_;  // guarded by mutex_.
};

/// Work that may block, one piece at a time in the order in which it came, on the I/O executor;
/// what came of it is told on the strand. Used from the strand.
class Background {
public:
    using Work = UniqueFunction<Status()>;
    using Done = UniqueFunction<void(Status)>;

    Background(Executor& io, Strand& strand)
        : io_(io), path_(std::make_shared<ReturnPath>(strand)) {}
    ~Background() { path_->Close(); }
    Background(const Background&) = delete;
    Background& operator=(const Background&) = delete;

    /// `work` runs once all before it has; then `done` on the strand, unless we are gone by then.
    void Run(Work work, Done done);
    bool idle() const { return !running_ && queue_.empty(); }

private:
    struct Job {
        Work work;
        Done done;
        Status status;
    };
    void Start();

    Executor& io_;
    const std::shared_ptr<ReturnPath> path_;
    std::deque<std::shared_ptr<Job>> queue_;
    bool running_ = false;
    const std::shared_ptr<const bool> alive_ = std::make_shared<const bool>(true);
};

}  // namespace qmq::store
