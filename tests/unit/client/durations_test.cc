// Every call that takes a duration, with those that are no ordinary ones: nothing, less than
// nothing, and for ever.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <optional>
#include <thread>
#include <vector>

#include "qmq/client.h"

#include "tests/support/fake_transport.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// A client whose broker answers nothing, whose route to "away" never comes, and with a handler
/// that does not return: whoever waits for one of them waits until `Release`.
class Standstill {
public:
    Standstill() {
        cluster_.AddBroker("a");
        ClientOptions options;
        options.uri = "fake:";
        options.app_code = "test";
        options.transports = {cluster_.factory()};
        options.log = [](LogLevel, std::string_view) {};
        client.emplace(std::move(*Client::Create(std::move(options))));
        producer = *client->MakeProducer();
        SubscriptionOptions consumer;
        consumer.subject = "s";
        consumer.group = "g";
        consumer.start = StartPosition::kEarliest;
        auto began = std::make_shared<std::promise<void>>();
        subscription = *client->Subscribe(
            consumer, [began, released = go_.get_future().share()](const Message&) {
                began->set_value();
                released.wait();
            });
        cluster_.broker("a").Append(Message("s"));
        began->get_future().wait();
        cluster_.broker("a").SetHoldSends(true);
        sent = producer.Send(Message("t"));
        while (cluster_.broker("a").held_frame_count() == 0) {
            std::this_thread::yield();  // The frame is on its way from another thread.
        }
    }
    ~Standstill() { Release(); }
    Standstill(const Standstill&) = delete;
    Standstill& operator=(const Standstill&) = delete;

    void Release() {
        if (!released_.exchange(true)) {
            go_.set_value();
            (void)cluster_.broker("a").AnswerHeld();  // Unless the client has gone, and it too.
        }
    }

private:
    std::promise<void> go_;
    std::atomic<bool> released_{false};
    ThreadPool transport_threads_{{1, 1U << 20, "transport"}};
    testing::FakeCluster cluster_{&transport_threads_};

public:
    std::optional<Client> client;
    Producer producer;
    Subscription subscription;
    SendFuture sent;
};

Status Waited(bool came) {
    return came ? Status::Ok() : Status::DeadlineExceeded("it did not come");
}

struct Wait {
    const char* name;
    std::function<Status(Standstill&, milliseconds)> call;
};

const std::vector<Wait>& Waits() {
    static const std::vector<Wait> waits = {
        {"Flush", [](Standstill& at, milliseconds time) { return at.producer.Flush(time); }},
        {"WaitFor",
         [](Standstill& at, milliseconds time) {
             return Waited(at.sent.WaitFor(time).has_value());
         }},
        {"CloseSubscription",
         [](Standstill& at, milliseconds time) { return at.subscription.Close(time); }},
        {"Shutdown",
         [](Standstill& at, milliseconds time) {
             const ShutdownReport report = at.client->Shutdown(time);
             EXPECT_EQ(report.handlers_running == 0, report.drained);
             return Waited(report.drained);
         }},
        {"ShutdownAsync",
         [](Standstill& at, milliseconds time) {
             auto ended = std::make_shared<std::promise<bool>>();
             at.client->ShutdownAsync(
                 time, [ended](const ShutdownReport& report) { ended->set_value(report.drained); });
             return Waited(ended->get_future().get());
         }},
    };
    return waits;
}

class WaitTest : public ::testing::TestWithParam<std::size_t> {
protected:
    static Status Call(Standstill& at, milliseconds time) {
        return Waits()[GetParam()].call(at, time);
    }
};

INSTANTIATE_TEST_SUITE_P(Durations,
                         WaitTest,
                         ::testing::Range<std::size_t>(0, 5),
                         [](const auto& param) { return std::string(Waits()[param.param].name); });

TEST_P(WaitTest, NothingAndLessEndAtOnce) {
    for (const milliseconds time : {milliseconds(0), milliseconds(-1), milliseconds::min()}) {
        Standstill at;
        EXPECT_EQ(Call(at, time).code(), StatusCode::kDeadlineExceeded) << time.count();
    }
}

// `now + milliseconds::max()` was a time long ago, so "for ever" meant "at once".
TEST_P(WaitTest, ForEverWaitsUntilItCame) {
    Standstill at;
    std::promise<void> calls;
    std::promise<Status> ended;
    std::thread waiter([&] {
        calls.set_value();
        ended.set_value(Call(at, milliseconds::max()));
    });
    calls.get_future().wait();
    at.Release();
    EXPECT_TRUE(ended.get_future().get().ok());
    waiter.join();
}

TEST(DurationsTest, WaitReady) {
    testing::FakeCluster cluster;
    cluster.AddBroker("a").SetConnectError(Status::Unavailable("refused"));
    ClientOptions options;
    options.uri = "fake:";
    options.app_code = "test";
    options.transports = {cluster.factory()};
    options.log = [](LogLevel, std::string_view) {};
    Client client = std::move(*Client::Create(std::move(options)));
    for (const milliseconds time : {milliseconds(0), milliseconds(-1), milliseconds::min()}) {
        EXPECT_EQ(client.WaitReady("s", time).code(), StatusCode::kDeadlineExceeded);
    }
    std::promise<Status> ended;
    std::thread waiter([&] { ended.set_value(client.WaitReady("s", milliseconds::max())); });
    cluster.broker("a").SetConnectError(Status::Ok());
    EXPECT_TRUE(ended.get_future().get().ok());
    waiter.join();
}

/// Durations that are checked: what is out of range is told, never rounded or taken for another.
class RangesTest : public ::testing::Test {
protected:
    static constexpr milliseconds kOut[] = {
        milliseconds(-1), milliseconds::min(), milliseconds::max()};

    template <typename Options, typename Duration>
    static void Expect(Options options, Duration Options::*field, bool zero_is_good) {
        ASSERT_TRUE(Validate(options).ok()) << Validate(options);
        for (const Duration out : {Duration(-1), Duration::min(), Duration::max()}) {
            options.*field = out;
            EXPECT_EQ(Validate(options).code(), StatusCode::kInvalidArgument) << out.count();
        }
        options.*field = Duration(0);
        EXPECT_EQ(Validate(options).ok(), zero_is_good);
    }
};

TEST_F(RangesTest, OfOptions) {
    ClientOptions client;
    client.app_code = "test";
    Expect(client, &ClientOptions::initial_reconnect_backoff, false);
    Expect(client, &ClientOptions::max_reconnect_backoff, false);
    Expect(client, &ClientOptions::route_refresh, false);
    const ProducerOptions producer;
    Expect(producer, &ProducerOptions::linger, true);
    Expect(producer, &ProducerOptions::timeout, false);
    Expect(producer, &ProducerOptions::initial_backoff, false);
    Expect(producer, &ProducerOptions::max_backoff, false);
    SubscriptionOptions subscription;
    subscription.subject = "s";
    subscription.group = "g";
    Expect(subscription, &SubscriptionOptions::ack_timeout, false);
    Expect(subscription, &SubscriptionOptions::max_processing_time, false);
    Expect(subscription, &SubscriptionOptions::ack_linger, true);
    PullConsumerOptions puller;
    puller.subject = "s";
    puller.group = "g";
    Expect(puller, &PullConsumerOptions::ack_timeout, false);
    Expect(puller, &PullConsumerOptions::max_processing_time, false);
}

TEST_F(RangesTest, OfCalls) {
    Standstill at;
    PullConsumerOptions options;
    options.subject = "pulled";
    options.group = "g";
    PullConsumer consumer = *at.client->MakePullConsumer(options);
    for (const milliseconds out : kOut) {
        EXPECT_EQ(at.producer.Send(Message("t"), out).Get().status.code(),
                  StatusCode::kInvalidArgument);
        EXPECT_EQ(consumer.Pull({1, out}).status().code(), StatusCode::kInvalidArgument);
        EXPECT_EQ(consumer.PullAsync({1, out}, [](const Result<std::vector<Delivery>>&) {}).code(),
                  StatusCode::kInvalidArgument);
        EXPECT_FALSE(Message("t").SetDelay(out).Validate().ok());
    }
    EXPECT_EQ(at.producer.Send(Message("t"), milliseconds(0)).Get().status.code(),
              StatusCode::kInvalidArgument);
    // Whether it is connected by now, or not yet, it does not wait.
    (void)consumer.Pull({1, milliseconds(0)});
    for (const milliseconds time : {milliseconds(0), milliseconds(-1), milliseconds::min()}) {
        EXPECT_TRUE(consumer.Close(time).ok());
    }
    EXPECT_TRUE(consumer.Close(milliseconds::max()).ok());
    EXPECT_EQ(
        consumer.PullAsync({1, seconds(1)}, [](const Result<std::vector<Delivery>>&) {}).code(),
        StatusCode::kCancelled);
}

}  // namespace
}  // namespace qmq
