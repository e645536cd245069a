// The small times that a shutdown has beyond its deadline. They run on the machine's clock, and a
// machine that is busy may take them away from a thread, so a test that waits for one tries again.

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "tests/unit/client/threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::kLong;
using testing::kSoon;

/// What takes this long is done within each of the times.
constexpr milliseconds kWork{50};

class ShutdownGracesTest : public testing::ThreadsFixture {
protected:
    /// True when it was so in one of some tries.
    static bool InOneOfSomeTries(const std::function<bool()>& attempt) {
        for (int i = 0; i < 5; ++i) {
            if (attempt()) {
                return true;
            }
        }
        return false;
    }
};

/// Lets code of the application's take `kWork`, or as long as the shutdown when that does not wait.
class UntilShutdownHasReturned {
public:
    void Work() { (void)over_.wait_for(kWork); }
    void Over() { promise_.set_value(); }

private:
    std::promise<void> promise_;
    const std::shared_future<void> over_ = promise_.get_future().share();
};

TEST_F(ShutdownGracesTest, CallbacksThatAreOwedAtTheDeadlineAreStillCalled) {
    EXPECT_TRUE(InOneOfSomeTries([this] {
        const auto shutdown = std::make_shared<UntilShutdownHasReturned>();
        const auto began = std::make_shared<std::promise<void>>();
        const auto called = std::make_shared<std::atomic<int>>(0);
        Client client = MakeClient();
        Producer producer = *client.MakeProducer();
        (void)producer.Send(Message("t"), [shutdown, began](const SendReceipt&) {
            began->set_value();
            shutdown->Work();
        });
        began->get_future().wait();
        for (int i = 0; i < 9; ++i) {
            (void)producer.Send(Message("t"), [called](const SendReceipt&) { ++*called; });
        }
        (void)producer.Flush(kLong);
        const ShutdownReport report = client.Shutdown(milliseconds(0));
        const int called_in_time = *called;
        shutdown->Over();
        return called_in_time == 9 && report.drained;
    }));
}

TEST_F(ShutdownGracesTest, WithoutBlockingCallbacksGetTheirSmallTimeHoweverLongItMayTake) {
    const auto over = std::make_shared<std::promise<void>>();
    const auto began = std::make_shared<std::promise<void>>();
    Client client = MakeClient();
    Producer producer = *client.MakeProducer();
    (void)producer.Send(Message("t"),
                        [began, over = over->get_future().share()](const SendReceipt&) {
                            began->set_value();
                            over.wait();
                        });
    began->get_future().wait();
    for (int i = 0; i < 9; ++i) {
        (void)producer.Send(Message("t"), [](const SendReceipt&) {});
    }
    EXPECT_TRUE(producer.Flush(kLong).ok());
    std::promise<ShutdownReport> ended;
    client.ShutdownAsync(std::chrono::hours(1),
                         [&ended](const ShutdownReport& report) { ended.set_value(report); });
    EXPECT_EQ(ended.get_future().get().callbacks_dropped, 9U);
    over->set_value();
}

TEST_F(ShutdownGracesTest, LinesOfTheLogThatWaitAreStillHandedOver) {
    EXPECT_TRUE(InOneOfSomeTries([this] {
        const auto shutdown = std::make_shared<UntilShutdownHasReturned>();
        const auto began = std::make_shared<std::promise<void>>();
        const auto lines = std::make_shared<std::atomic<int>>(0);
        ClientOptions options = Options();
        options.log = [shutdown, began, lines](LogLevel, std::string_view) {
            if (++*lines == 1) {
                began->set_value();
                shutdown->Work();
            }
        };
        Client client = MakeClient(std::move(options));
        Subscription subscription = *client.Subscribe(Consumer(), [](const Message&) {});
        broker().AppendUndecodable("s");
        broker().AppendUndecodable("s");
        began->get_future().wait();
        while (subscription.stats().failed_count < 2) {
            std::this_thread::yield();
        }
        AwaitTransport();  // Both are logged.
        (void)client.Shutdown(milliseconds(0));
        const int lines_in_time = *lines;
        shutdown->Over();
        return lines_in_time >= 2;
    }));
}

TEST_F(ShutdownGracesTest, ATransportThatIsAboutToEndIsWaitedFor) {
    EXPECT_TRUE(InOneOfSomeTries([this] {
        const auto shutdown = std::make_shared<UntilShutdownHasReturned>();
        const auto ended = std::make_shared<std::atomic<bool>>(false);
        ClientOptions options = Options();
        options.transports = {testing::MakeHookedFactory(cluster.factory(), [shutdown, ended] {
            shutdown->Work();
            *ended = true;
        })};
        Client client = MakeClient(std::move(options));
        (void)client.Shutdown(milliseconds(0));
        const bool ended_in_time = *ended;
        shutdown->Over();
        return ended_in_time;
    }));
}

TEST_F(ShutdownGracesTest, WithEverythingHungItReturnsAllTheSame) {
    std::promise<void> go;
    const auto went = go.get_future().share();
    const auto hung = std::make_shared<std::atomic<int>>(0);
    const auto hang = [went, hung] {
        ++*hung;
        went.wait();
    };
    ClientOptions options = Options();
    options.log = [hang](LogLevel, std::string_view) { hang(); };
    options.transports = {testing::MakeHookedFactory(cluster.factory(), hang)};
    {
        Client client = MakeClient(std::move(options));
        Producer producer = *client.MakeProducer();
        Subscription subscription =
            *client.Subscribe(Consumer(), [hang](const Message&) { hang(); });
        broker().AppendUndecodable("s");
        broker().Append(Message("s"));
        (void)producer.Send(Message("t"), [hang](const SendReceipt&) { hang(); });
        while (*hung < 3) {
            std::this_thread::yield();
        }
        const auto start = steady_clock::now();
        const ShutdownReport report = client.Shutdown(milliseconds(10));
        EXPECT_LT(steady_clock::now() - start, kSoon);
        EXPECT_EQ(report.handlers_running, 1U);
        EXPECT_FALSE(report.drained);
    }
    go.set_value();
}

TEST_F(ShutdownGracesTest, TheReportCountsCallbacksOfEachKindThatNeverCome) {
    std::promise<void> go;
    const auto began = std::make_shared<std::promise<void>>();
    const auto called = std::make_shared<std::atomic<int>>(0);
    Client client = MakeClient();
    Producer producer = *client.MakeProducer();
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "g";
    PullConsumer puller = *client.MakePullConsumer(options);
    broker().Append(Message("s"));
    std::vector<Delivery> pulled = *puller.Pull({.max_messages = 1, .max_wait = kLong});
    ASSERT_EQ(pulled.size(), 1U);
    (void)producer.Send(Message("t"), [began, went = go.get_future().share()](const SendReceipt&) {
        began->set_value();
        went.wait();
    });
    began->get_future().wait();
    pulled[0].Ack([called](const Status&) { ++*called; });
    (void)producer.Send(Message("t"), [called](const SendReceipt&) { ++*called; });
    ASSERT_TRUE(puller
                    .PullAsync({.max_messages = 1, .max_wait = kLong},
                               [called](const Result<std::vector<Delivery>>&) { ++*called; })
                    .ok());
    while (broker().acked_count() == 0) {
        std::this_thread::yield();
    }
    ASSERT_TRUE(producer.Flush(kLong).ok());
    AwaitTransport();  // The answers to the send and the ack are there.
    const ShutdownReport report = client.Shutdown(milliseconds(10));
    EXPECT_EQ(report.callbacks_dropped, 3U);  // The pull's comes with the end.
    EXPECT_FALSE(report.drained);
    go.set_value();
    EXPECT_EQ(*called, 0);
}

}  // namespace
}  // namespace qmq
