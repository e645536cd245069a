#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qmq/client.h"

#include "sdk/client/src/send/producer_core.h"
#include "tests/support/fake_transport.h"
#include "tests/support/manual_executor.h"

namespace qmq::testing {

/// A client on virtual time in one thread, with a scripted cluster of one broker group "a".
class ClientFixture : public ::testing::Test {
protected:
    ClientFixture() {
        cluster.AddBroker("a");
        time.after_each = [this] { ExpectNothingStuck(); };
    }
    ~ClientFixture() override { ExpectNothingStuck(); }

    /// Nothing waits in a producer's lane that has room; holds after every step of virtual time.
    void ExpectNothingStuck() {
        std::erase_if(producers_, [](const auto& weak) {
            const auto producer = weak.lock();
            if (producer != nullptr) {
                EXPECT_EQ(producer->FindStuck(), "");
            }
            return producer == nullptr;
        });
    }

    ClientOptions Options(const std::string& client_id = "client-1") {
        ClientOptions options;
        options.uri = "fake:";
        options.app_code = "test";
        options.client_id = client_id;
        options.transports = {cluster.factory()};
        options.log = [this](LogLevel level, std::string_view line) {
            if (level >= LogLevel::kWarning) {
                log.emplace_back(line);
            }
        };
        options.runtime = {&time.clock, &time.executor, &time.executor, &time.executor, 1};
        return options;
    }
    Client MakeClient() { return MakeClient(Options()); }
    static Client MakeClient(ClientOptions options) {
        Result<Client> client = Client::Create(std::move(options));
        EXPECT_TRUE(client.ok()) << client.status();
        return std::move(*client);
    }
    Producer MakeProducer(Client& client, ProducerOptions options = {}) {
        Result<Producer> producer = client.MakeProducer(options);
        EXPECT_TRUE(producer.ok()) << producer.status();
        producers_.push_back(ProducerAccess::Core(*producer)->weak_from_this());
        return std::move(*producer);
    }
    Subscription MakeSubscription(Client& client, SubscriptionOptions options, Handler handler) {
        Result<Subscription> made = client.Subscribe(std::move(options), std::move(handler));
        EXPECT_TRUE(made.ok()) << made.status();
        Settle();
        return std::move(*made);
    }
    static SubscriptionOptions Consumer(const std::string& subject = "s",
                                        const std::string& group = "g") {
        SubscriptionOptions options;
        options.subject = subject;
        options.group = group;
        options.start = StartPosition::kEarliest;
        return options;
    }
    FakeBroker& broker(const std::string& name = "a") { return cluster.broker(name); }
    void Settle() { time.Settle(); }
    void Advance(std::chrono::milliseconds by) { time.Advance(by); }
    void Append(int count, const std::string& subject = "s") {
        for (int i = 0; i < count; ++i) {
            broker().Append(Message(subject).SetBody(std::to_string(next_body++)));
        }
    }
    static std::string Body(const Message& message) { return std::string(message.body()); }
    bool Logged(std::string_view part) const {
        for (const std::string& line : log) {
            if (line.find(part) != std::string::npos) {
                return true;
            }
        }
        return false;
    }

    ManualTime time;
    FakeCluster cluster{&time.executor};
    std::vector<std::string> log;
    int next_body = 0;

private:
    std::vector<std::weak_ptr<internal::ProducerCore>> producers_;
};

}  // namespace qmq::testing
