#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "qmq/batch.h"
#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/inproc.h"

#include "plugins/inproc/server/embedded_registry.h"

namespace qmq {
namespace {

using testing::HasSubstr;

constexpr auto kPatience = std::chrono::seconds(20);

class SilentConnection final : public ConnectionListener {
public:
    void OnReady() override {}
    void OnClosed(const Status&) override {}
};

class CountingDelivery final : public DeliveryListener {
public:
    void OnSubscribed(const SubscribeReply&) override {}
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        const std::lock_guard lock(mutex_);
        for (const DeliveredBatch& batch : batches) {
            count_ += batch.count;
        }
        changed_.notify_all();
    }
    void OnClosed(const Status&) override {}

    bool WaitFor(std::uint64_t count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, kPatience, [&] { return count_ >= count; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::uint64_t count_ = 0;
};

Slice MakeBatch(std::uint32_t count, std::size_t body_bytes) {
    BatchBuilder builder;
    for (std::uint32_t i = 0; i < count; ++i) {
        Message message("any");
        message.SetBody(std::string(body_bytes, 'b'));
        builder.Add(message, "id-" + std::to_string(i), SystemClock().WallNow());
    }
    return Slice::Own(builder.Finish());
}

/// A client as the SDK is one: a transport with a connection.
struct User {
    std::unique_ptr<Transport> transport;
    std::unique_ptr<BrokerConnection> connection;
};

class InprocBrokerTest : public testing::Test {
protected:
    ~InprocBrokerTest() override { std::filesystem::remove_all(directory_); }

    Result<User> Join(TransportFactory& factory, const std::string& uri = "inproc:") {
        auto transport = factory.Make(uri, {SystemClock(), timers_, "client"});
        if (!transport.ok()) {
            return transport.status();
        }
        User user{std::move(transport).value(), nullptr};
        user.connection =
            user.transport->Connect({"inproc", "inproc"}, std::make_shared<SilentConnection>());
        return user;
    }
    BatchReceipt Send(User& user, Slice batch, const std::string& subject = "s") {
        std::promise<BatchReceipt> receipt;
        user.connection->Send({{subject, std::move(batch)}},
                              [&](const std::vector<BatchReceipt>& receipts) {
                                  receipt.set_value(receipts.front());
                              });
        return receipt.get_future().get();
    }
    SubscribeRequest Consumer() {
        SubscribeRequest request;
        request.key = {"s", "g", "consumer", ConsumeSource::kBoth};
        request.start = StartPosition::kEarliest;
        return request;
    }

    ThreadPool timers_{{}};
    const std::string directory_ =
        (std::filesystem::path(testing::TempDir()) /
         ("qmq-inproc-" + std::to_string(testing::UnitTest::GetInstance()->random_seed()) + "-" +
          testing::UnitTest::GetInstance()->current_test_info()->name() + "-" +
          std::to_string(std::chrono::steady_clock::now().time_since_epoch().count())))
            .string();
};

TEST_F(InprocBrokerTest, ClientsOfOneFactoryShareABroker) {
    auto factory = InprocTransport();
    auto producer = Join(*factory);
    auto consumer = Join(*factory);
    ASSERT_TRUE(producer.ok()) << producer.status();
    auto delivery = std::make_shared<CountingDelivery>();
    auto stream = consumer->connection->Subscribe(Consumer(), delivery);
    stream->Grant({100, 1 << 20});

    const BatchReceipt receipt = Send(*producer, MakeBatch(3, 100));

    EXPECT_EQ(receipt.outcome, SendOutcome::kPersisted) << receipt.status;
    EXPECT_EQ(receipt.durability, Durability::kMemory);
    EXPECT_TRUE(delivery->WaitFor(3));
}

TEST_F(InprocBrokerTest, ClientsOfTwoFactoriesDoNotMeet) {
    auto a = InprocTransport();
    auto b = InprocTransport();
    auto in_a = Join(*a);
    auto in_b = Join(*b);
    Send(*in_a, MakeBatch(1, 1));
    EXPECT_EQ(Send(*in_b, MakeBatch(1, 1)).first_sequence,
              Send(*in_a, MakeBatch(1, 1), "other").first_sequence);
}

TEST_F(InprocBrokerTest, ADirectoryKeepsItsMessagesFromOneClientToTheNext) {
    auto factory = InprocTransport({.durability = Durability::kFsync});
    const std::string uri = "inproc://" + directory_;
    {
        auto user = Join(*factory, uri);
        ASSERT_TRUE(user.ok()) << user.status();
        EXPECT_EQ(Send(*user, MakeBatch(5, 100)).durability, Durability::kFsync);
        user->connection.reset();
        user->transport.reset();
    }
    auto user = Join(*factory, uri);
    ASSERT_TRUE(user.ok()) << user.status();
    auto delivery = std::make_shared<CountingDelivery>();
    auto stream = user->connection->Subscribe(Consumer(), delivery);
    stream->Grant({100, 1 << 20});
    EXPECT_TRUE(delivery->WaitFor(5));
}

TEST_F(InprocBrokerTest, ADirectoryThatAnotherBrokerHoldsIsRefusedWithTheReason) {
    auto holder = InprocTransport();
    auto other = InprocTransport();
    auto held = Join(*holder, "inproc://" + directory_);
    ASSERT_TRUE(held.ok()) << held.status();

    auto refused = Join(*other, "inproc://" + directory_);

    EXPECT_EQ(refused.status().code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr(directory_));
    // The first client of the same factory is not refused.
    EXPECT_TRUE(Join(*holder, "inproc://" + directory_ + "/./").ok());
}

TEST_F(InprocBrokerTest, ADirectoryThatCannotBeMadeIsNamed) {
    auto factory = InprocTransport();
    auto refused = Join(*factory, "inproc:///proc/nowhere");
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("/proc/nowhere"));
}

TEST_F(InprocBrokerTest, AFullMemoryRefusesSendsUntilConsumersHaveAcked) {
    auto factory = InprocTransport({.memory_bytes = 32U << 20});
    auto user = Join(*factory);
    ASSERT_TRUE(user.ok()) << user.status();
    BatchReceipt receipt;
    std::uint64_t sent = 0;
    for (int i = 0; i < 100 && receipt.status.ok(); ++i) {
        receipt = Send(*user, MakeBatch(1, 1 << 20));
        sent += receipt.status.ok() ? 1U : 0U;
    }
    EXPECT_EQ(receipt.outcome, SendOutcome::kRefused);
    EXPECT_EQ(receipt.status.code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(receipt.status.message()), HasSubstr("InprocOptions::memory_bytes"));
    EXPECT_GT(sent, 15U);

    auto delivery = std::make_shared<CountingDelivery>();
    auto stream = user->connection->Subscribe(Consumer(), delivery);
    stream->Grant({1'000, 1U << 30});
    ASSERT_TRUE(delivery->WaitFor(sent));
    std::promise<void> acked;
    stream->Ack({{AckVerdict::kAck, 0, sent - 1, {}, ""}},
                [&](const Result<AckReply>&) { acked.set_value(); });
    acked.get_future().wait();
    // The broker drops what is consumed now and then, by itself.
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    do {
        receipt = Send(*user, MakeBatch(1, 1 << 20));
    } while (!receipt.status.ok() && std::chrono::steady_clock::now() < give_up);
    EXPECT_EQ(receipt.outcome, SendOutcome::kPersisted) << receipt.status;
}

TEST_F(InprocBrokerTest, TheLastClientMayGoInsideACallbackAndTheNextOneWaitsForTheEnd) {
    auto factory = InprocTransport();
    const std::string uri = "inproc://" + directory_;
    auto user = Join(*factory, uri);
    ASSERT_TRUE(user.ok()) << user.status();
    std::promise<void> gone;
    user->connection->Send({{"s", MakeBatch(1, 1)}}, [&](const std::vector<BatchReceipt>&) {
        user->connection.reset();
        user->transport.reset();
        gone.set_value();
    });
    gone.get_future().wait();

    auto next = Join(*factory, uri);

    ASSERT_TRUE(next.ok()) << next.status();
    EXPECT_EQ(Send(*next, MakeBatch(1, 1)).outcome, SendOutcome::kPersisted);
}

// What a broker's own thread drops when a callback has run may be its last user: it waited for
// itself, and so did the next one.
TEST_F(InprocBrokerTest, ItsOwnThreadMayReleaseIt) {
    auto registry = std::make_shared<inproc::EmbeddedRegistry>(InprocOptions{});
    const TransportContext context{SystemClock(), timers_, "client"};
    auto use = registry->Acquire(directory_, context);
    ASSERT_TRUE(use.ok()) << use.status();
    std::promise<void> released;
    use->broker->Send({{"s", MakeBatch(1, 1)}}, [&](const std::vector<BatchReceipt>&) {
        use->broker->Release(false);
        released.set_value();
    });
    ASSERT_EQ(released.get_future().wait_for(kPatience), std::future_status::ready);
    auto next = registry->Acquire(directory_, context);
    ASSERT_TRUE(next.ok()) << next.status();
    next->broker->Release(false);
}

TEST_F(InprocBrokerTest, TheFactoryMayGoBeforeItsClients) {
    auto factory = InprocTransport();
    auto user = Join(*factory);
    factory.reset();
    EXPECT_EQ(Send(*user, MakeBatch(1, 1)).outcome, SendOutcome::kPersisted);
}

}  // namespace
}  // namespace qmq
