#include "qmq/inproc.h"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

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

class InprocFactory final : public TransportFactory {
public:
    explicit InprocFactory(InprocOptions options)
        : options_(options), registry_(std::make_shared<EmbeddedRegistry>(options)) {}

    std::vector<std::string> Schemes() const override { return {"inproc"}; }

    Result<std::unique_ptr<Transport>> Make(const std::string& uri,
                                            const TransportContext&) override {
        if (Status valid = Validate(options_); !valid.ok()) {
            return valid;
        }
        auto directory = ParseUri(uri);
        if (!directory.ok()) {
            return directory.status();
        }
        auto broker = registry_->Acquire(*directory);
        if (!broker.ok()) {
            return broker.status().WithContext("uri \"" + uri + "\"");
        }
        return MakeTransport(**broker);
    }

private:
    const InprocOptions options_;
    const std::shared_ptr<EmbeddedRegistry> registry_;
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
