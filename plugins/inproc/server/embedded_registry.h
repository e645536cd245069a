#pragma once

#include <condition_variable>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "qmq/inproc.h"
#include "qmq/status.h"
#include "qmq/transport.h"

#include "plugins/inproc/server/embedded_broker.h"

namespace qmq::inproc {

/// The brokers of one factory, by directory: opened by the first who asks, closed by the last who
/// releases. Thread-safe.
class EmbeddedRegistry final : public std::enable_shared_from_this<EmbeddedRegistry> {
public:
    explicit EmbeddedRegistry(InprocOptions options) : options_(options) {}
    ~EmbeddedRegistry();
    EmbeddedRegistry(const EmbeddedRegistry&) = delete;
    EmbeddedRegistry& operator=(const EmbeddedRegistry&) = delete;

    struct Use {
        Broker* broker = nullptr;  ///< To be given back by `Broker::Release`, once.
        std::unique_ptr<EventFan::Listening> listening;
    };
    /// Waits while the broker of `directory` is being opened or closed by another thread. What the
    /// broker has to tell, also while it is being opened, goes to the log of `context`.
    Result<Use> Acquire(const std::string& directory, const TransportContext& context);

private:
    struct Entry {
        std::shared_ptr<EventFan> fan = std::make_shared<EventFan>();
        std::unique_ptr<EmbeddedBroker> broker;  // Null while it is being opened or closed.
        std::size_t users = 0;
    };

    void Release(std::string directory, bool inside_callback);
    void Close(const std::string& directory, std::unique_ptr<EmbeddedBroker> broker);

    const InprocOptions options_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::string, Entry> entries_;  // guarded by mutex_
    std::vector<std::thread> closers_;      // guarded by mutex_
};

}  // namespace qmq::inproc
