#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qmq/status.h"

#include "sdk/client/src/base/mutex.h"

namespace qmq::internal {

class ProducerCore;
class PullCore;
class ReadyWatcher;
class SubscriptionCore;

/// Who works in a client: the producers and consumers that its end has to end. Nobody is added once
/// it is closed, so the end misses nobody. Thread-safe; calls nobody.
class Roster {
public:
    using GroupKey = std::pair<std::string, std::string>;  // Subject and group.
    struct Members {
        std::vector<std::shared_ptr<ProducerCore>> producers;
        std::vector<std::shared_ptr<SubscriptionCore>> subscriptions;
        std::vector<std::shared_ptr<PullCore>> pullers;
        std::vector<std::shared_ptr<ReadyWatcher>> waiting;
    };

    /// Each of these: kCancelled once it is closed.
    Status Add(std::shared_ptr<ProducerCore> producer);
    Status Add(std::shared_ptr<ReadyWatcher> watcher);
    /// Keeps the place of a consumer that is being made: kAlreadyExists when this client has one.
    Status Claim(const GroupKey& key);
    Status Add(const GroupKey& key, std::shared_ptr<SubscriptionCore> subscription);
    Status Add(const GroupKey& key, std::shared_ptr<PullCore> puller);

    void Remove(const ProducerCore* producer);
    void Remove(const ReadyWatcher* watcher);
    void Remove(const GroupKey& key);

    /// Takes nobody any more, and says who is there. They stay until they leave or this goes.
    Members Close();
    std::vector<std::shared_ptr<ProducerCore>> producers() const;

private:
    struct Consumer {  // Both null while it is being made.
        std::shared_ptr<SubscriptionCore> subscription;
        std::shared_ptr<PullCore> puller;
    };

    Status CheckOpen() const QMQ_REQUIRES(mutex_);

    mutable Mutex mutex_;
    bool closed_ QMQ_GUARDED_BY(mutex_) = false;
    std::vector<std::shared_ptr<ProducerCore>> producers_ QMQ_GUARDED_BY(mutex_);
    std::vector<std::shared_ptr<ReadyWatcher>> waiting_ QMQ_GUARDED_BY(mutex_);
    std::map<GroupKey, Consumer> consumers_ QMQ_GUARDED_BY(mutex_);
};

}  // namespace qmq::internal
