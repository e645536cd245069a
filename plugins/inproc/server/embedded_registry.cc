#include "plugins/inproc/server/embedded_registry.h"

#include <utility>

namespace qmq::inproc {

EmbeddedRegistry::~EmbeddedRegistry() {
    for (std::thread& closer : closers_) {
        // The last reference may be a closer's own.
        if (closer.get_id() == std::this_thread::get_id()) {
            closer.detach();
        } else {
            closer.join();
        }
    }
}

Result<EmbeddedRegistry::Use> EmbeddedRegistry::Acquire(const std::string& directory,
                                                        const TransportContext& context) {
    std::unique_lock lock(mutex_);
    for (auto found = entries_.find(directory); found != entries_.end();
         found = entries_.find(directory)) {
        if (found->second.broker != nullptr) {
            ++found->second.users;
            return Use{found->second.broker.get(),
                       found->second.fan->Listen(context.timers, context.warn)};
        }
        changed_.wait(lock);
    }
    const std::shared_ptr<EventFan> fan = entries_.emplace(directory, Entry{}).first->second.fan;
    lock.unlock();
    auto listening = fan->Listen(context.timers, context.warn);
    // The broker keeps the registry, so that it outlives the factory as long as it has users.
    auto opened = EmbeddedBroker::Open(
        directory, options_, fan, [self = shared_from_this(), directory](bool inside_callback) {
            self->Release(directory, inside_callback);
        });
    lock.lock();
    changed_.notify_all();
    if (!opened.ok()) {
        entries_.erase(directory);
        return opened.status();
    }
    Entry& entry = entries_[directory];
    entry.broker = std::move(opened).value();
    entry.users = 1;
    return Use{entry.broker.get(), std::move(listening)};
}

void EmbeddedRegistry::Release(std::string directory, bool inside_callback) {
    // Ours, for the broker's own copies of both go with the broker.
    std::shared_ptr<EmbeddedRegistry> self = shared_from_this();
    std::unique_ptr<EmbeddedBroker> last;
    {
        const std::lock_guard lock(mutex_);
        Entry& entry = entries_.at(directory);
        if (--entry.users > 0) {
            return;
        }
        last = std::move(entry.broker);
        if (inside_callback) {
            closers_.emplace_back([self = self, directory, broker = std::move(last)]() mutable {
                self->Close(directory, std::move(broker));
                self.reset();
            });
            return;
        }
    }
    Close(directory, std::move(last));
}

void EmbeddedRegistry::Close(const std::string& directory, std::unique_ptr<EmbeddedBroker> broker) {
    broker.reset();
    const std::lock_guard lock(mutex_);
    entries_.erase(directory);
    changed_.notify_all();
}

}  // namespace qmq::inproc
