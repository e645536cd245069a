// Idempotency claims on the client's own threads.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "qmq/client.h"

#include "tests/support/fake_transport.h"
#include "tests/unit/client/signal.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Counter;
using testing::Signal;

constexpr seconds kPatience{20};

/// Every key is free; a call does what the test says.
class RenewingStore final : public IdempotencyStore {
public:
    explicit RenewingStore(
        std::function<void()> on_renew, std::function<void()> on_other = [] {})
        : on_renew_(std::move(on_renew)), on_other_(std::move(on_other)) {}
    Result<Claim> Start(std::string_view key, milliseconds lease) override {
        on_other_();
        return Claim{Claim::State::kStarted, std::string(key), 1, lease};
    }
    Status Renew(const Claim&) override {
        on_renew_();
        return Status::Ok();
    }
    Status Finish(const Claim&) override {
        on_other_();
        return Status::Ok();
    }
    Status Abandon(const Claim&) override {
        on_other_();
        return Status::Ok();
    }

private:
    const std::function<void()> on_renew_;
    const std::function<void()> on_other_;
};

class ClaimThreadsTest : public ::testing::Test {
protected:
    ClaimThreadsTest() { cluster.AddBroker("a"); }

    Client MakeClient() {
        ClientOptions options;
        options.uri = "fake:";
        options.app_code = "test";
        options.transports = {cluster.factory()};
        options.log = [](LogLevel, std::string_view) {};
        options.handler_threads = 1;
        return Client::Create(std::move(options)).value();
    }
    static SubscriptionOptions With(std::shared_ptr<IdempotencyStore> store) {
        SubscriptionOptions options;
        options.subject = "s";
        options.group = "g";
        options.idempotency = std::move(store);
        options.ack_timeout = seconds(1);
        return options;
    }

    testing::FakeCluster cluster;
};

TEST_F(ClaimThreadsTest, AClaimIsRenewedThoughEveryHandlerAndTheCallbacksAreBusy) {
    auto renewed = std::make_shared<Signal>();
    auto release = std::make_shared<Signal>();
    auto came = std::make_shared<std::atomic<bool>>(false);
    Client client = MakeClient();
    Producer producer = client.MakeProducer().value();
    Subscription subscription =
        client
            .Subscribe(With(std::make_shared<RenewingStore>([renewed] { renewed->Set(); })),
                       [renewed, release, came](const Message&) {
                           *came = renewed->Wait();
                           release->Set();
                       })
            .value();
    (void)producer.Send(Message("s"), [release](const SendReceipt&) { release->Wait(); });
    EXPECT_TRUE(release->Wait());
    EXPECT_TRUE(*came);
    client.Shutdown(kPatience);
}

// One thread renewed the claims of all stores: while one hung, those of another one ran out.
TEST_F(ClaimThreadsTest, AStoreThatHangsHoldsUpNoOtherOnesRenewals) {
    auto hangs = std::make_shared<Signal>();
    auto renewed = std::make_shared<Signal>();
    auto release = std::make_shared<Signal>();
    Client client = MakeClient();
    Producer producer = client.MakeProducer().value();
    auto hanging = std::make_shared<RenewingStore>([hangs, release] {
        hangs->Set();
        release->Wait();
    });
    auto other = std::make_shared<RenewingStore>([hangs, renewed] {
        if (hangs->Wait()) {
            renewed->Set();
        }
    });
    const auto handle = [release](const Message&) { release->Wait(); };
    Subscription first = client.Subscribe(With(std::move(hanging)), handle).value();
    SubscriptionOptions options = With(std::move(other));
    options.group = "other";
    Subscription second = client.Subscribe(options, handle).value();
    (void)producer.Send(Message("s")).Get();
    EXPECT_TRUE(renewed->Wait());
    release->Set();
    client.Shutdown(kPatience);
}

TEST_F(ClaimThreadsTest, AClaimIsMadeAndEndedOnTheThreadOfItsHandlerAndRenewedOnAnother) {
    std::mutex mutex;
    std::vector<std::thread::id>
        called_on;  // Start, handler, Finish; then Start, handler, Abandon.
    std::thread::id renewed_on;
    Signal renewed;
    Counter calls;
    const auto note = [&] {
        {
            const std::lock_guard lock(mutex);
            called_on.push_back(std::this_thread::get_id());
        }
        calls.Add();
    };
    const auto store = std::make_shared<RenewingStore>(
        [&] {
            {
                const std::lock_guard lock(mutex);
                renewed_on = std::this_thread::get_id();
            }
            renewed.Set();
        },
        note);
    Client client = MakeClient();
    Producer producer = client.MakeProducer().value();
    Subscription subscription = client
                                    .Subscribe(With(store),
                                               [&](const Message& message) {
                                                   note();
                                                   (void)renewed.Wait();
                                                   return message.body() == "bad"
                                                              ? HandlerOutcome::DeadLetter("bad")
                                                              : HandlerOutcome::Ack();
                                               })
                                    .value();
    ASSERT_TRUE(subscription.WaitReady(kPatience).ok());
    (void)producer.Send(Message("s").SetBody("good")).Get();
    ASSERT_TRUE(calls.WaitFor(3));
    (void)producer.Send(Message("s").SetBody("bad")).Get();
    ASSERT_TRUE(calls.WaitFor(6));
    client.Shutdown(kPatience);
    ASSERT_EQ(called_on.size(), 6U);
    EXPECT_EQ(called_on[0], called_on[1]);
    EXPECT_EQ(called_on[2], called_on[1]);
    EXPECT_EQ(called_on[3], called_on[4]);
    EXPECT_EQ(called_on[5], called_on[4]);
    EXPECT_NE(renewed_on, std::thread::id());
    EXPECT_NE(renewed_on, called_on[1]);
    EXPECT_NE(renewed_on, called_on[4]);
}

TEST_F(ClaimThreadsTest, ARenewalThatDoesNotReturnKeepsNoShutdown) {
    auto begun = std::make_shared<Signal>();
    auto release = std::make_shared<Signal>();
    Client client = MakeClient();
    Producer producer = client.MakeProducer().value();
    auto store = std::make_shared<RenewingStore>([begun, release] {
        begun->Set();
        release->Wait();
    });
    Subscription subscription =
        client.Subscribe(With(std::move(store)), [begun](const Message&) { begun->Wait(); })
            .value();
    (void)producer.Send(Message("s")).Get();
    ASSERT_TRUE(begun->Wait());
    const auto before = std::chrono::steady_clock::now();
    client.Shutdown(milliseconds(0));
    EXPECT_LT(std::chrono::steady_clock::now() - before, kPatience / 2);
    release->Set();
}

}  // namespace
}  // namespace qmq
