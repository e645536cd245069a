#include "qmq/inproc.h"

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qmq/process_mark.h"

#include "plugins/inproc/client/inproc_transport.h"
#include "plugins/inproc/server/embedded_registry.h"

namespace qmq {
namespace inproc {
namespace {

constexpr std::uint64_t kMemoryBytesPerShard = 16U << 20;

/// The directory that a URI names; empty for memory.
Result<std::string> ParseUri(const std::string& uri) {
    constexpr std::string_view kDirectory = "inproc://";
    if (uri == "inproc:") {
        return std::string();
    }
    if (!uri.starts_with(kDirectory) || uri.size() <= kDirectory.size() + 1 ||
        uri[kDirectory.size()] != '/') {
        return Status::InvalidArgument(
            "uri \"" + uri +
            "\": expected inproc: for a broker in memory, or inproc:///dir with the absolute path "
            "of a directory");
    }
    // One spelling for each directory, so that two clients meet in one broker.
    std::string path =
        std::filesystem::path(uri.substr(kDirectory.size())).lexically_normal().string();
    if (path.size() > 1 && path.ends_with('/')) {
        path.pop_back();
    }
    return path;
}

/// A transport whose client hears what the broker has to tell, and no longer than it lives.
class ListeningTransport final : public Transport {
public:
    ListeningTransport(std::unique_ptr<Transport> transport,
                       std::unique_ptr<EventFan::Listening> listening)
        : transport_(std::move(transport)), listening_(std::move(listening)) {}
    void Discover(DiscoverRequest request,
                  TimePoint deadline,
                  UniqueFunction<void(Result<Route>)> done) override {
        transport_->Discover(std::move(request), deadline, std::move(done));
    }
    std::unique_ptr<BrokerConnection> Connect(
        const BrokerGroup& group, std::shared_ptr<ConnectionListener> listener) override {
        return transport_->Connect(group, std::move(listener));
    }

private:
    const std::unique_ptr<Transport> transport_;
    const std::unique_ptr<EventFan::Listening> listening_;  // Ends first.
};

/// The brokers of a factory, and the process in which they are.
struct Brokers {
    std::shared_ptr<EmbeddedRegistry> registry;
    ProcessMark process;
    std::unique_ptr<Brokers> before;  // Of the process that this one was forked from: not touched.
};

class InprocFactory final : public TransportFactory {
public:
    explicit InprocFactory(InprocOptions options)
        : options_(options), brokers_(MakeBrokers(nullptr).release()) {}
    ~InprocFactory() override {
        std::unique_ptr<Brokers> brokers(brokers_.load());
        if (brokers->process.foreign()) {
            KeepForEver(std::shared_ptr<Brokers>(std::move(brokers)));
            return;
        }
        if (brokers->before != nullptr) {
            KeepForEver(std::shared_ptr<Brokers>(std::move(brokers->before)));
        }
    }
    InprocFactory(const InprocFactory&) = delete;
    InprocFactory& operator=(const InprocFactory&) = delete;

    std::vector<std::string> Schemes() const override { return {"inproc"}; }

    Result<std::unique_ptr<Transport>> Make(const std::string& uri,
                                            const TransportContext& context) override {
        if (Status valid = Validate(options_); !valid.ok()) {
            return valid;
        }
        auto directory = ParseUri(uri);
        if (!directory.ok()) {
            return directory.status();
        }
        auto use = Registry().Acquire(*directory, context);
        if (!use.ok()) {
            return use.status().WithContext("uri \"" + uri + "\"");
        }
        return std::unique_ptr<Transport>(std::make_unique<ListeningTransport>(
            MakeTransport(*use->broker), std::move(use->listening)));
    }

private:
    std::unique_ptr<Brokers> MakeBrokers(std::unique_ptr<Brokers> before) const {
        auto made = std::make_unique<Brokers>();
        made->registry = std::make_shared<EmbeddedRegistry>(options_);
        made->before = std::move(before);
        return made;
    }

    /// In a child by fork() the brokers of the parent have no threads: others take their place.
    /// Without a lock, since a fork may have copied one that is held.
    EmbeddedRegistry& Registry() {
        Brokers* brokers = brokers_.load(std::memory_order_acquire);
        while (brokers->process.foreign()) {
            auto fresh = MakeBrokers(std::unique_ptr<Brokers>(brokers));
            if (brokers_.compare_exchange_strong(brokers, fresh.get(), std::memory_order_acq_rel)) {
                brokers = fresh.release();
            } else {
                (void)fresh->before.release();  // Another thread's has it.
            }
        }
        return *brokers->registry;
    }

    const InprocOptions options_;
    std::atomic<Brokers*> brokers_;
};

}  // namespace
}  // namespace inproc

Status Validate(const InprocOptions& options) {
    std::string problems;
    const auto add = [&](const std::string& problem) {
        problems += (problems.empty() ? "" : "; ") + problem;
    };
    if (options.shards < 1 || options.shards > 64) {
        add("shards is " + std::to_string(options.shards) + ", range [1, 64]");
    }
    if (options.durability < Durability::kMemory || options.durability > Durability::kFsync) {
        add("durability must be memory, page_cache or fsync");
    }
    const std::uint64_t least = inproc::kMemoryBytesPerShard * options.shards;
    constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
    if (options.memory_bytes < least || options.memory_bytes > kMost) {
        add("memory_bytes is " + std::to_string(options.memory_bytes) + ", range [" +
            std::to_string(least) + ", " + std::to_string(kMost) + "]");
    }
    return problems.empty() ? Status::Ok() : Status::InvalidArgument("InprocOptions: " + problems);
}

std::shared_ptr<TransportFactory> InprocTransport(InprocOptions options) {
    return std::make_shared<inproc::InprocFactory>(options);
}

}  // namespace qmq
