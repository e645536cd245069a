#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "qmq/batch.h"
#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/grpc.h"
#include "qmq/transport.h"

#include "plugins/grpc/server/grpc_server.h"
#include "tests/integration/grpc/fake_broker.h"

namespace qmq {

constexpr auto kPatience = std::chrono::seconds(20);

/// Calls that came back, awaited by what they brought.
template <typename T>
class Inbox {
public:
    void Put(T value) {
        const std::lock_guard lock(mutex_);
        values_.push_back(std::move(value));
        changed_.notify_all();
    }
    /// Waits until there are `count`.
    bool WaitFor(std::size_t count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, kPatience, [&] { return values_.size() >= count; });
    }
    std::vector<T> values() {
        const std::lock_guard lock(mutex_);
        return values_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<T> values_;
};

class RecordingConnection final : public ConnectionListener {
public:
    void OnReady() override { ready.Put(true); }
    void OnClosed(const Status& status) override { closed.Put(status); }
    Inbox<bool> ready;
    Inbox<Status> closed;
};

class RecordingDelivery final : public DeliveryListener {
public:
    void OnSubscribed(const SubscribeReply& reply) override { subscribed.Put(reply); }
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        for (DeliveredBatch& batch : batches) {
            delivered.Put(std::move(batch));
        }
    }
    void OnClosed(const Status& status) override { closed.Put(status); }
    Inbox<SubscribeReply> subscribed;
    Inbox<DeliveredBatch> delivered;
    Inbox<Status> closed;
};

/// A batch of `count` messages with bodies of `body_bytes`.
inline Slice MakeBatch(std::uint32_t count, std::size_t body_bytes = 100) {
    BatchBuilder builder;
    for (std::uint32_t i = 0; i < count; ++i) {
        Message message("any");
        message.AddTag("t").Set("n", std::int32_t{1}).SetBody(std::string(body_bytes, 'b'));
        builder.Add(message, "id-" + std::to_string(i), WallTime(std::chrono::milliseconds(1)));
    }
    return Slice::Own(builder.Finish());
}

inline std::string WholeBatch(const DeliveredBatch& batch) {
    return std::string(batch.header.bytes()) + std::string(batch.body.bytes());
}

class GrpcTest : public testing::Test {
protected:
    using Receipts = std::vector<BatchReceipt>;

    void StartServer(rpc::GrpcServerOptions options = {}) {
        auto server = rpc::GrpcServer::Start(std::move(options), broker_);
        ASSERT_TRUE(server.ok()) << server.status();
        server_ = std::move(server).value();
    }

    /// By number: Debian's c-ares loses ten bytes whenever it looks for localhost.
    std::string Address() const { return "127.0.0.1:" + std::to_string(server_->port()); }

    Result<std::unique_ptr<Transport>> MakeTransport(GrpcClientOptions options = {},
                                                     const std::string& scheme = "grpc") {
        return GrpcTransport(std::move(options))
            ->Make(scheme + "://" + Address(), {SystemClock(), timers_, "test-client"});
    }

    /// A connection that has become ready.
    void Connect(GrpcClientOptions options = {}, const std::string& scheme = "grpc") {
        auto transport = MakeTransport(std::move(options), scheme);
        ASSERT_TRUE(transport.ok()) << transport.status();
        transport_ = std::move(transport).value();
        connection_ = transport_->Connect({"default", Address()}, listener_);
        ASSERT_TRUE(listener_->ready.WaitFor(1))
            << "closed: " << testing::PrintToString(listener_->closed.values());
    }

    std::future<Receipts> Send(std::vector<SendBatch> batches) {
        auto promise = std::make_shared<std::promise<Receipts>>();
        connection_->Send(std::move(batches), [promise](Receipts receipts) {
            promise->set_value(std::move(receipts));
        });
        return promise->get_future();
    }

    SubscribeRequest Consumer(const std::string& subject, const std::string& group) {
        SubscribeRequest request;
        request.key = {subject, group, "consumer-1", ConsumeSource::kBoth};
        request.start = StartPosition::kEarliest;
        return request;
    }

    broker::FakeBroker broker_;
    ThreadPool timers_{{1, 1024, "timers"}};
    std::unique_ptr<rpc::GrpcServer> server_;
    std::shared_ptr<RecordingConnection> listener_ = std::make_shared<RecordingConnection>();
    std::unique_ptr<Transport> transport_;
    std::unique_ptr<BrokerConnection> connection_;
};

template <typename T>
T Await(std::future<T> future) {
    if (future.wait_for(kPatience) != std::future_status::ready) {
        ADD_FAILURE() << "no answer in time";
        throw std::runtime_error("no answer in time");
    }
    return future.get();
}

}  // namespace qmq
