#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <string_view>
#include <thread>
#include <utility>

#include "qmq/client.h"

#include "tests/support/fake_transport.h"

namespace qmq::testing {

constexpr std::chrono::seconds kPatience{60};  // Never waited for, where the code is right.

/// Waits for what other threads bring about. False where that does not come.
template <typename F>
bool Await(F&& is_true) {
    const auto give_up = std::chrono::steady_clock::now() + kPatience / 2;
    while (!is_true()) {
        if (std::chrono::steady_clock::now() > give_up) {
            return false;
        }
        std::this_thread::yield();
    }
    return true;
}

/// A client with threads of its own, and a scripted cluster of one broker group "a" that answers on
/// another thread.
class SendThreadsFixture : public ::testing::Test {
protected:
    SendThreadsFixture() { cluster.AddBroker("a"); }

    ClientOptions Options() {
        ClientOptions options;
        options.uri = "fake:";
        options.app_code = "test";
        options.transports = {cluster.factory()};
        options.log = [](LogLevel, std::string_view) {};
        return options;
    }
    Client MakeClient(bool inline_callbacks = false) {
        ClientOptions options = Options();
        options.inline_callbacks = inline_callbacks;
        return *Client::Create(std::move(options));
    }
    static Producer Blocking(Client& client, std::size_t max_pending_count) {
        ProducerOptions options;
        options.max_pending_count = max_pending_count;
        options.when_full = WhenFull::kBlock;
        options.timeout = kPatience;
        return *client.MakeProducer(options);
    }
    static SubscriptionOptions Consumer() {
        SubscriptionOptions options;
        options.subject = "in";
        options.group = "g";
        options.start = StartPosition::kEarliest;
        return options;
    }
    FakeBroker& broker() { return cluster.broker("a"); }

    ThreadPool transport_threads{{1, 1U << 20, "transport"}};
    FakeCluster cluster{&transport_threads};
};

}  // namespace qmq::testing
