#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qmq/client.h"

#include "tests/support/fake_transport.h"
#include "tests/support/wrapping_factory.h"

namespace qmq::testing {

/// Far more than a step takes, far less than a wait for each other would.
inline constexpr std::chrono::seconds kLong{60};
inline constexpr std::chrono::seconds kSoon{20};

/// Clients with threads of their own, and a scripted cluster of one broker group "a" whose answers
/// come on one more.
class ThreadsFixture : public ::testing::Test {
protected:
    ThreadsFixture() { cluster.AddBroker("a"); }

    ClientOptions Options() {
        ClientOptions options;
        options.uri = "fake:";
        options.app_code = "test";
        options.transports = {cluster.factory()};
        options.log = [](LogLevel, std::string_view) {};
        return options;
    }
    Client MakeClient() { return MakeClient(Options()); }
    static Client MakeClient(ClientOptions options) {
        return std::move(*Client::Create(std::move(options)));
    }
    static SubscriptionOptions Consumer(const std::string& group = "g") {
        SubscriptionOptions options;
        options.subject = "s";
        options.group = group;
        options.start = StartPosition::kEarliest;
        return options;
    }
    FakeBroker& broker() { return cluster.broker("a"); }
    /// Returns when all has run that waits for the transport's thread.
    void AwaitTransport() {
        std::promise<void> ran;
        ASSERT_TRUE(transport_threads.Post([&ran] { ran.set_value(); }));
        ran.get_future().wait();
    }

    ThreadPool transport_threads{{1, 1U << 20, "transport"}};
    FakeCluster cluster{&transport_threads};
};

/// Carries what another transport carries, and does something of the test's when it is destroyed.
class HookedTransport final : public Transport {
public:
    HookedTransport(std::unique_ptr<Transport> inner, std::function<void()> at_end)
        : inner_(std::move(inner)), at_end_(std::move(at_end)) {}
    ~HookedTransport() override { at_end_(); }
    void Discover(DiscoverRequest request,
                  TimePoint deadline,
                  UniqueFunction<void(Result<Route>)> done) override {
        inner_->Discover(std::move(request), deadline, std::move(done));
    }
    std::unique_ptr<BrokerConnection> Connect(
        const BrokerGroup& group, std::shared_ptr<ConnectionListener> listener) override {
        return inner_->Connect(group, std::move(listener));
    }

private:
    const std::unique_ptr<Transport> inner_;
    const std::function<void()> at_end_;
};

inline std::shared_ptr<TransportFactory> MakeHookedFactory(std::shared_ptr<TransportFactory> inner,
                                                           std::function<void()> at_end) {
    return std::make_shared<WrappingFactory>(
        std::move(inner), [at_end = std::move(at_end)](std::unique_ptr<Transport> transport) {
            return std::make_unique<HookedTransport>(std::move(transport), at_end);
        });
}

}  // namespace qmq::testing
