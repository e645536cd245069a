#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qmq/client.h"

namespace qmq::testing {

/// A cluster that never answers: enough for whoever only wants to start consumers.
class SilentTransport final : public Transport {
public:
    void Discover(DiscoverRequest, TimePoint, UniqueFunction<void(Result<Route>)> done) override {
        done(Status::Unavailable("silent"));
    }
    std::unique_ptr<BrokerConnection> Connect(const BrokerGroup&,
                                              std::shared_ptr<ConnectionListener>) override {
        return nullptr;  // Nothing was discovered.
    }
};

class SilentFactory final : public TransportFactory {
public:
    std::vector<std::string> Schemes() const override { return {"silent"}; }
    Result<std::unique_ptr<Transport>> Make(const std::string&, const TransportContext&) override {
        return std::unique_ptr<Transport>(std::make_unique<SilentTransport>());
    }
};

inline Client MakeSilentClient() {
    ClientOptions options;
    options.uri = "silent:";
    options.app_code = "test";
    options.transports = {std::make_shared<SilentFactory>()};
    options.log = [](LogLevel, std::string_view) {};
    return Client::Create(std::move(options)).value();
}

}  // namespace qmq::testing
