#include "server/store/background.h"

#include <algorithm>
#include <utility>

namespace qmq::store {

bool ReturnPath::BeginWork() {
    const std::lock_guard lock(mutex_);
    if (strand_ == nullptr) {
        return false;
    }
    ++working_;
    return true;
}

void ReturnPath::EndWork() {
    const std::lock_guard lock(mutex_);
    --working_;
    left_.notify_all();
}

void ReturnPath::Post(Task task) {
    Strand* strand = nullptr;
    {
        const std::lock_guard lock(mutex_);
        if (strand_ == nullptr) {
            return;
        }
        strand = strand_;
        posting_.push_back(std::this_thread::get_id());
    }
    // Without the lock: we may become the strand's runner, for long, and close this very path.
    strand->Post(std::move(task));
    const std::lock_guard lock(mutex_);
    posting_.erase(std::find(posting_.begin(), posting_.end(), std::this_thread::get_id()));
    left_.notify_all();
}

void ReturnPath::Close() {
    std::unique_lock lock(mutex_);
    strand_ = nullptr;
    const auto is_other = [self = std::this_thread::get_id()](std::thread::id id) {
        return id != self;
    };
    left_.wait(lock, [&] {
        return working_ == 0 && std::none_of(posting_.begin(), posting_.end(), is_other);
    });
}

void Background::Run(Work work, Done done) {
    queue_.push_back(std::make_shared<Job>(Job{std::move(work), std::move(done), Status()}));
    if (!running_) {
        Start();
    }
}

void Background::Start() {
    running_ = true;
    std::shared_ptr<Job> job = std::move(queue_.front());
    queue_.pop_front();
    // It may be queued on the strand while a task before it destroys us.
    const auto finish = [this, job, alive = std::weak_ptr<const bool>(alive_)] {
        if (alive.expired()) {
            return;
        }
        running_ = false;
        if (!queue_.empty()) {
            Start();
        }
        job->done(job->status);
    };
    const auto run = [job, path = path_, finish] {
        if (!path->BeginWork()) {
            return;
        }
        job->status = job->work();
        path->EndWork();
        path->Post(finish);
    };
    if (!io_.Post(run)) {
        // The executor has stopped or is full. The work is owed all the same: do it here.
        run();
    }
}

}  // namespace qmq::store
