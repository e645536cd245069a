// A child by fork() has a copy of the client, but none of its threads, and perhaps locks that they
// held. A child that left by exit(), or called Shutdown, hung for ever.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <optional>
#include <vector>

#include "qmq/client.h"

#include "tests/support/fake_transport.h"
#include "tests/support/forked.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

using testing::InChild;

bool Refused(const Status& status) {
    return testing::IsForkRefusal(status);
}

/// Never destroyed: clients that live until the end of the process use it.
testing::FakeCluster& Cluster() {
    static auto* cluster = [] {
        auto* made = new testing::FakeCluster;
        made->AddBroker("a");
        return made;
    }();
    return *cluster;
}

ClientOptions Options() {
    ClientOptions options;
    options.uri = "fake:";
    options.app_code = "test";
    options.transports = {Cluster().factory()};
    options.log = [](LogLevel, std::string_view) {};
    return options;
}

SubscriptionOptions Consumer(const std::string& group) {
    SubscriptionOptions options;
    options.subject = "s";
    options.group = group;
    return options;
}

PullConsumerOptions Puller(const std::string& group) {
    PullConsumerOptions options;
    options.subject = "s";
    options.group = group;
    return options;
}

TEST(ForkTest, AChildThatExitsWithAStaticClientEnds) {
    QMQ_SKIP_UNLESS_CHILD_MAY_ALLOCATE();
    static Client client = std::move(*Client::Create(Options()));
    static Producer producer = *client.MakeProducer();
    static Subscription subscription = *client.Subscribe(Consumer("static"), [](const Message&) {});
    ASSERT_TRUE(producer.Send(Message("s")).Get().ok());
    EXPECT_EQ(InChild([] { return 7; }), 7);
    EXPECT_TRUE(producer.Send(Message("s")).Get().ok());
}

TEST(ForkTest, InAChildEachCallReturnsAtOnceAndSaysWhatToDo) {
    QMQ_SKIP_UNLESS_CHILD_MAY_ALLOCATE();
    Client client = std::move(*Client::Create(Options()));
    Producer producer = *client.MakeProducer();
    Subscription subscription = *client.Subscribe(Consumer("calls"), [](const Message&) {});
    PullConsumer puller = *client.MakePullConsumer(Puller("calls-pull"));
    ASSERT_TRUE(producer.Send(Message("s")).Get().ok());
    Cluster().broker("a").SetHoldSends(true);
    const SendFuture waiting = producer.Send(Message("s"));
    const auto ignore = [](const Result<std::vector<Delivery>>&) {};
    // Each bit is a call that did not answer so.
    const int wrong = InChild([&] {
        int bits = 0;
        auto expect = [&bits, bit = 1](bool right) mutable {
            bits |= right ? 0 : bit;
            bit <<= 1;
        };
        int called = 0;
        const auto count = [&called](const SendReceipt&) { ++called; };
        expect(Refused(producer.Send(Message("s")).Get().status) &&
               Refused(producer.Send(Message("s"), seconds(60)).Get().status) &&
               Refused(producer.TrySend(Message("s")).Get().status) &&
               Refused(producer.Send(Message("s"), count)) &&
               Refused(producer.Send(Message("s"), seconds(60), count)) &&
               Refused(producer.TrySend(Message("s"), count)) &&
               Refused(producer.Flush(seconds(60))));
        expect(Refused(waiting.Get().status) && waiting.WaitFor(seconds(60)).has_value());
        expect(Refused(client.MakeProducer().status()) &&
               Refused(client.MakePullConsumer(Puller("x")).status()) &&
               Refused(client.Subscribe(Consumer("x"), [](const Message&) {}).status()));
        expect(Refused(client.WaitReady("s", seconds(60))));
        expect(Refused(subscription.Close(seconds(60))) && !subscription.stats().connected &&
               !subscription.warnings().empty() && Refused(subscription.stats().last_error) &&
               Refused(subscription.WaitReady(seconds(60))) &&
               Refused(puller.WaitReady(seconds(60))));
        subscription.Pause();
        subscription.Resume();
        expect(Refused(puller.Pull({1, seconds(60)}).status()) &&
               Refused(puller.PullAsync({1, seconds(60)}, ignore)) &&
               Refused(puller.Close(seconds(60))));
        int reports = 0;
        client.ShutdownAsync(seconds(60), [&](const ShutdownReport& report) {
            reports += Refused(report.status) && !report.drained ? 1 : 0;
        });
        expect(reports == 1);
        const ShutdownReport report = client.Shutdown(milliseconds(500));
        expect(Refused(report.status) && !report.drained && called == 0);
        return bits;
    });
    EXPECT_EQ(wrong, 0);
    EXPECT_TRUE(Cluster().broker("a").AnswerHeld());
    EXPECT_TRUE(waiting.Get().ok());
    Cluster().broker("a").SetHoldSends(false);
    const ShutdownReport report = client.Shutdown(seconds(20));
    EXPECT_TRUE(report.status.ok());
    EXPECT_EQ(report.sends_unknown + report.sends_refused + report.callbacks_dropped, 0U);
}

// A delivery that was held at the fork is the parent's to decide: in the child nothing is.
TEST(ForkTest, InAChildADeliveryIsLeftAlone) {
    QMQ_SKIP_UNLESS_CHILD_MAY_ALLOCATE();
    Client client = std::move(*Client::Create(Options()));
    PullConsumerOptions options = Puller("delivery");
    options.start = StartPosition::kEarliest;
    PullConsumer puller = *client.MakePullConsumer(options);
    Cluster().broker("a").Append(Message("s"));
    auto pulled = puller.Pull({2, seconds(20)});
    ASSERT_TRUE(pulled.ok() && !pulled->empty());
    EXPECT_EQ(InChild([&] {
                  int told = 0;
                  (*pulled)[0].Ack([&](const Status&) { ++told; });
                  // It said that the client had ended.
                  auto recorded = (*pulled)[0].AckAsync();
                  const bool refused = recorded.await_ready() && Refused(recorded.await_resume());
                  pulled->clear();
                  return told == 0 && refused ? 7 : 1;
              }),
              7);
    std::promise<Status> recorded;
    (*pulled)[0].Ack([&](const Status& status) { recorded.set_value(status); });
    EXPECT_TRUE(recorded.get_future().get().ok());
}

TEST(ForkTest, InAChildHandlesMayGo) {
    QMQ_SKIP_UNLESS_CHILD_MAY_ALLOCATE();
    std::promise<void> handled;
    std::optional<Client> client(std::move(*Client::Create(Options())));
    std::optional<Producer> producer(*client->MakeProducer());
    std::optional<PullConsumer> puller(*client->MakePullConsumer(Puller("handles-pull")));
    SubscriptionOptions options = Consumer("handles");
    options.subject = "handles";  // To which nothing but this test sends.
    options.start = StartPosition::kEarliest;
    std::optional<Subscription> subscription(
        *client->Subscribe(options, [&](const Message&) { handled.set_value(); }));
    std::optional<SendFuture> sent(producer->Send(Message("handles")));
    EXPECT_EQ(InChild([&] {
                  producer.reset();
                  puller.reset();
                  subscription.reset();
                  sent.reset();
                  client.reset();
                  return 7;
              }),
              7);
    EXPECT_TRUE(sent->Get().ok());
    // A message whose handler has not begun would be handed back, and nothing would be drained.
    handled.get_future().wait();
    EXPECT_TRUE(client->Shutdown(seconds(20)).drained);
}

}  // namespace
}  // namespace qmq
