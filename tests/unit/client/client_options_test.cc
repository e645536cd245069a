// What the options of a client do.

#include <gmock/gmock.h>
#include <unistd.h>

#include <array>
#include <string>
#include <utility>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::StartsWith;

class ClientOptionsTest : public testing::ClientFixture {
protected:
    /// Of the first message of a client, which is made of the time and of chance.
    std::string FirstMessageId(std::uint64_t seed) {
        ClientOptions options = Options();
        options.runtime.seed = seed;
        Client client = MakeClient(std::move(options));
        Producer producer = MakeProducer(client);
        const SendFuture sent = producer.Send(Message("s"));
        Settle();
        return sent.Get().message_id;
    }
    /// How often something that fails is tried in ten seconds.
    template <typename Count>
    std::size_t Tries(milliseconds initial, milliseconds longest, Count count) {
        ClientOptions options = Options();
        options.initial_reconnect_backoff = initial;
        options.max_reconnect_backoff = longest;
        Client client = MakeClient(std::move(options));
        const Subscription subscription =
            MakeSubscription(client, Consumer(), [](const Message&) {});
        const std::size_t before = count();
        Advance(seconds(10));
        return count() - before;
    }
};

TEST_F(ClientOptionsTest, ASeedReplaysItsChanceAndZeroIsTheSystems) {
    EXPECT_EQ(FirstMessageId(7), FirstMessageId(7));
    EXPECT_NE(FirstMessageId(0), FirstMessageId(0));
}

TEST_F(ClientOptionsTest, AClientIdIsMadeFromHostProcessAndChance) {
    std::array<char, 256> host{};
    ASSERT_EQ(gethostname(host.data(), host.size() - 1), 0);
    ClientOptions options = Options("");
    options.runtime.seed = 0;
    const std::string one = MakeClient(options).client_id();
    const std::string other = MakeClient(options).client_id();
    EXPECT_THAT(one, StartsWith(std::string(host.data()) + "-" + std::to_string(getpid()) + "-"));
    EXPECT_NE(one, other);
}

TEST_F(ClientOptionsTest, TheClusterIsToldWhoAsks) {
    Client client = MakeClient(Options("client-7"));
    Producer producer = MakeProducer(client);
    producer.Send(Message("t")).Detach();
    Settle();
    EXPECT_EQ(cluster.last_discover().app_code, "test");
    EXPECT_EQ(cluster.last_discover().client_id, "client-7");
    EXPECT_EQ(cluster.last_discover().subject, "t");
}

TEST_F(ClientOptionsTest, EachExecutorOfTheRuntimeDoesItsPart) {
    std::string ran;
    testing::ManualExecutor callbacks{time.clock};
    testing::ManualExecutor handlers{time.clock};
    ClientOptions options = Options();
    options.runtime.callbacks = &callbacks;
    options.runtime.handlers = &handlers;
    Client client = MakeClient(std::move(options));
    Producer producer = MakeProducer(client);
    (void)producer.Send(Message("s"), [&](const SendReceipt&) { ran += "callback "; });
    const Subscription subscription =
        MakeSubscription(client, Consumer(), [&](const Message&) { ran += "handler "; });
    Advance(seconds(1));
    EXPECT_EQ(ran, "");
    callbacks.RunAll();
    EXPECT_EQ(ran, "callback ");
    handlers.RunAll();
    EXPECT_EQ(ran, "callback handler ");
}

TEST_F(ClientOptionsTest, ALostConnectionIsTriedAgainAfterThePausesThatAreSet) {
    broker().SetConnectError(Status::Unavailable("refused"));
    const auto connects = [this] { return broker().connect_count(); };
    EXPECT_GE(Tries(milliseconds(100), milliseconds(100), connects), 100U);
    // With the usual pauses it would be eight at least.
    EXPECT_LT(Tries(minutes(1), minutes(5), connects), 8U);
}

TEST_F(ClientOptionsTest, ARouteIsAskedForAgainAfterThePausesThatAreSet) {
    cluster.SetDiscoverError(Status::Unavailable("meta is away"));
    const auto questions = [this] { return cluster.discover_count(); };
    EXPECT_GE(Tries(milliseconds(100), milliseconds(100), questions), 100U);
    EXPECT_LT(Tries(minutes(1), minutes(5), questions), 8U);
}

TEST_F(ClientOptionsTest, AKnownRouteIsAskedForAsOftenAsIsSet) {
    ClientOptions options = Options();
    options.route_refresh = seconds(5);
    Client client = MakeClient(std::move(options));
    Producer producer = MakeProducer(client);
    producer.Send(Message("s")).Detach();
    Settle();
    const std::size_t before = cluster.discover_count();
    Advance(seconds(50));
    EXPECT_EQ(cluster.discover_count() - before, 10U);
}

}  // namespace
}  // namespace qmq
