// Idempotency claims on the client's own threads.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>

#include "qmq/client.h"

#include "tests/support/fake_transport.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kPatience{20};

/// Every key is free; a renewal does what the test says.
class RenewingStore final : public IdempotencyStore {
public:
    explicit RenewingStore(std::function<void()> on_renew) : on_renew_(std::move(on_renew)) {}
    Result<Claim> Start(std::string_view key, milliseconds lease) override {
        return Claim{Claim::State::kStarted, std::string(key), 1, lease};
    }
    Status Renew(const Claim&) override {
        on_renew_();
        return Status::Ok();
    }
    Status Finish(const Claim&) override { return Status::Ok(); }
    Status Abandon(const Claim&) override { return Status::Ok(); }

private:
    const std::function<void()> on_renew_;
};

/// A promise that may be kept more than once, and awaited from several threads.
class Signal {
public:
    void Set() {
        if (!set_.exchange(true)) {
            promise_.set_value();
        }
    }
    bool Wait() const { return future_.wait_for(kPatience) == std::future_status::ready; }

private:
    std::atomic<bool> set_{false};
    std::promise<void> promise_;
    std::shared_future<void> future_ = promise_.get_future().share();
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
