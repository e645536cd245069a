// What a client shares with nobody: others go on when its code hangs, and what has hung keeps
// nothing else of it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/filter_fixture.h"
#include "tests/unit/client/threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::kLong;
using testing::kSoon;

using Note = std::function<void()>;

/// Comes once, however often it is told.
class Came {
public:
    Note Tell() {
        return [told = told_] {
            if (!told->first.exchange(true)) {
                told->second.set_value();
            }
        };
    }
    bool Wait() { return told_->second.get_future().wait_for(kSoon) == std::future_status::ready; }

private:
    using Told = std::pair<std::atomic<bool>, std::promise<void>>;
    const std::shared_ptr<Told> told_ = std::make_shared<Told>();
};

class ClientApartTest : public testing::ThreadsFixture {
protected:
    ~ClientApartTest() override { go_.set_value(); }

    /// What begins and does not return as long as the test runs.
    Note Hang(Came& came) {
        return [tell = came.Tell(), went = went_] {
            tell();
            went.wait();
        };
    }
    /// With a log sink, a handler of `subject` and the callback of a send, which do that.
    Client Begin(const std::string& subject, const Note& logs, const Note& handles, Note calls) {
        ClientOptions options = Options();
        options.log = [logs](LogLevel, std::string_view) { logs(); };
        Client client = MakeClient(std::move(options));
        SubscriptionOptions consumer = Consumer();
        consumer.subject = subject;
        EXPECT_TRUE(client.Subscribe(consumer, [handles](const Message&) { handles(); }).ok());
        broker().AppendUndecodable(subject);
        broker().Append(Message(subject));
        const Status taken = client.MakeProducer()->Send(
            Message("sent"), [calls = std::move(calls)](const SendReceipt&) { calls(); });
        EXPECT_TRUE(taken.ok()) << taken;
        return client;
    }

private:
    std::promise<void> go_;
    const std::shared_future<void> went_ = go_.get_future().share();
};

TEST_F(ClientApartTest, OneWhoseCodeHangsHoldsUpNoOther) {
    Came hung[3];
    const Client hanging = Begin("s", Hang(hung[0]), Hang(hung[1]), Hang(hung[2]));
    for (Came& one : hung) {
        ASSERT_TRUE(one.Wait());
    }
    Came came[3];
    Client other = Begin("t", came[0].Tell(), came[1].Tell(), came[2].Tell());
    for (Came& one : came) {
        EXPECT_TRUE(one.Wait());
    }
    const auto start = steady_clock::now();
    const ShutdownReport report = other.Shutdown(kLong);
    EXPECT_LT(steady_clock::now() - start, kSoon);
    EXPECT_EQ(report.handlers_running, 0U);
    EXPECT_EQ(report.callbacks_dropped, 0U);
}

/// Whether nobody holds it any more; waits for that.
bool Goes(const std::weak_ptr<int>& held) {
    const auto give_up = steady_clock::now() + kSoon;
    while (!held.expired() && steady_clock::now() < give_up) {
        std::this_thread::yield();
    }
    return held.expired();
}

TEST_F(ClientApartTest, AHandlerThatDoesNotReturnKeepsNothingButWhatItTouches) {
    Came hung;
    auto of_handler = std::make_shared<int>(0);
    auto of_sink = std::make_shared<int>(0);
    auto of_filter = std::make_shared<int>(0);
    auto of_callback = std::make_shared<int>(0);
    auto of_transport = std::make_shared<int>(0);
    const std::vector<std::weak_ptr<int>> others{
        of_handler, of_sink, of_filter, of_callback, of_transport};
    ClientOptions options = Options();
    options.log = [of_sink](LogLevel, std::string_view) {};
    options.transports = {testing::MakeHookedFactory(cluster.factory(), [of_transport] {})};
    std::optional<Client> client(MakeClient(std::move(options)));
    std::optional<Subscription> stuck =
        *client->Subscribe(Consumer("stuck"), [hang = Hang(hung)](const Message&) { hang(); });
    SubscriptionOptions filtered = Consumer("filtered");
    filtered.filters = {std::make_shared<testing::ScriptFilter>(
        [of_filter](DeliveryContext&, Filter::Next& next) { return next(); })};
    std::optional<Subscription> other =
        *client->Subscribe(std::move(filtered), [of_handler](const Message&) {});
    broker().Append(Message("s"));
    ASSERT_TRUE(hung.Wait());
    broker().SetHoldSends(true);
    (void)client->MakeProducer()->Send(Message("t"), [of_callback](const SendReceipt&) {});
    options = ClientOptions();
    filtered = SubscriptionOptions();
    of_handler = of_sink = of_filter = of_callback = of_transport = nullptr;
    EXPECT_EQ(client->Shutdown(milliseconds(10)).handlers_running, 1U);
    client.reset();
    stuck.reset();
    other.reset();
    for (std::size_t i = 0; i < others.size(); ++i) {
        EXPECT_TRUE(Goes(others[i])) << i;
    }
}

class ClientConnectionsTest : public testing::ClientFixture {};

TEST_F(ClientConnectionsTest, AClientHasOneToABrokerGroupWhateverItIsUsedFor) {
    Client client = MakeClient();
    std::vector<Producer> producers;
    std::vector<Subscription> subscriptions;
    std::vector<PullConsumer> pullers;
    for (int i = 0; i < 10; ++i) {
        const std::string number = std::to_string(i);
        producers.push_back(MakeProducer(client));
        producers.back().Send(Message("s" + number)).Detach();
        subscriptions.push_back(
            MakeSubscription(client, Consumer("s" + number), [](const Message&) {}));
        PullConsumerOptions options;
        options.subject = "s" + number;
        options.group = "pulls";
        pullers.push_back(client.MakePullConsumer(options).value());
    }
    EXPECT_TRUE(client.WaitReady("s0", milliseconds(0)).ok());
    Advance(std::chrono::minutes(5));
    EXPECT_EQ(broker().connection_count(), 1U);
    EXPECT_EQ(broker().connect_count(), 1U);
}

}  // namespace
}  // namespace qmq
