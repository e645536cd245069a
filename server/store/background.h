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

/// The way back from an I/O thread to the strand, which closes when the store goes: after `Close`
/// no task of ours touches the strand, which may then go too.
class ReturnPath {
public:
    explicit ReturnPath(Strand& strand) : strand_(&strand) {}

    /// Runs `task` on the strand, or drops it when the path is closed.
    void Post(Task task);
    /// Waits for the moment until no other thread is inside `Post`.
    void Close();

private:
    std::mutex mutex_;
    std::condition_variable left_;
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
