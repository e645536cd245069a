#include "sdk/client/src/roster.h"

#include <algorithm>

namespace qmq::internal {

namespace {

/// Takes `one` out of `all`, for the caller to destroy without the lock.
template <typename T>
std::shared_ptr<T> Extract(std::vector<std::shared_ptr<T>>* all, const T* one) {
    const auto found = std::find_if(
        all->begin(), all->end(), [one](const auto& other) { return other.get() == one; });
    if (found == all->end()) {
        return nullptr;
    }
    std::shared_ptr<T> taken = std::move(*found);
    all->erase(found);
    return taken;
}

}  // namespace

Status Roster::CheckOpen() const {
    return closed_ ? Status::Cancelled("the client has been shut down") : Status::Ok();
}

Status Roster::Add(std::shared_ptr<ProducerCore> producer) {
    MutexLock lock(mutex_);
    if (Status status = CheckOpen(); !status.ok()) {
        return status;
    }
    producers_.push_back(std::move(producer));
    return Status::Ok();
}

Status Roster::Add(std::shared_ptr<ReadyWatcher> watcher) {
    MutexLock lock(mutex_);
    if (Status status = CheckOpen(); !status.ok()) {
        return status;
    }
    waiting_.push_back(std::move(watcher));
    return Status::Ok();
}

Status Roster::Claim(const GroupKey& key) {
    MutexLock lock(mutex_);
    if (Status status = CheckOpen(); !status.ok()) {
        return status;
    }
    if (!consumers_.try_emplace(key).second) {
        return Status::AlreadyExists("this client has a consumer of subject " + key.first +
                                     " in group " + key.second + " already");
    }
    return Status::Ok();
}

Status Roster::Add(const GroupKey& key, std::shared_ptr<SubscriptionCore> subscription) {
    MutexLock lock(mutex_);
    if (Status status = CheckOpen(); !status.ok()) {
        return status;
    }
    consumers_[key].subscription = std::move(subscription);
    return Status::Ok();
}

Status Roster::Add(const GroupKey& key, std::shared_ptr<PullCore> puller) {
    MutexLock lock(mutex_);
    if (Status status = CheckOpen(); !status.ok()) {
        return status;
    }
    consumers_[key].puller = std::move(puller);
    return Status::Ok();
}

void Roster::Remove(const ProducerCore* producer) {
    std::shared_ptr<ProducerCore> removed;  // Destroyed without the lock, as those below.
    MutexLock lock(mutex_);
    removed = Extract(&producers_, producer);
}

void Roster::Remove(const ReadyWatcher* watcher) {
    std::shared_ptr<ReadyWatcher> removed;
    MutexLock lock(mutex_);
    removed = Extract(&waiting_, watcher);
}

void Roster::Remove(const GroupKey& key) {
    Consumer removed;
    MutexLock lock(mutex_);
    if (const auto found = consumers_.find(key); found != consumers_.end()) {
        removed = std::move(found->second);
        consumers_.erase(found);
    }
}

Roster::Members Roster::Close() {
    MutexLock lock(mutex_);
    closed_ = true;
    Members members;
    members.producers = producers_;
    members.waiting = waiting_;
    for (const auto& [key, consumer] : consumers_) {
        if (consumer.subscription != nullptr) {
            members.subscriptions.push_back(consumer.subscription);
        }
        if (consumer.puller != nullptr) {
            members.pullers.push_back(consumer.puller);
        }
    }
    return members;
}

std::vector<std::shared_ptr<ProducerCore>> Roster::producers() const {
    MutexLock lock(mutex_);
    return producers_;
}

}  // namespace qmq::internal
