#include "qmq/consumer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/fake_transport.h"
#include "tests/support/manual_executor.h"
#include "tests/unit/annotations/silent_client.h"

namespace {

struct Seats {
    void OnChange(const qmq::Message&) {}
    qmq::HandlerOutcome OnCheck(const qmq::Message&) const { return qmq::HandlerOutcome::Ack(); }
    void OnPrint(qmq::Delivery delivery) noexcept { delivery.Ack(); }
};

int refunds = 0;
qmq::HandlerOutcome OnRefund(const qmq::Message&) {
    ++refunds;
    return qmq::HandlerOutcome::Ack();
}

}  // namespace

QMQ_CONSUMER("order.paid", "ticketing", .tags = {"domestic", "international"}, .parallelism = 3)
(const qmq::Message&) {}
QMQ_CONSUMER("order.paid", "accounting")(const qmq::Message&) {
    throw qmq::RetryLater();
}
QMQ_CONSUMER_FN(OnRefund, "order.refunded", "ticketing", .executor = "pool");
QMQ_CONSUMER_FN(&Seats::OnChange, "seat.changed", "ticketing");
QMQ_CONSUMER_FN(
    &Seats::OnCheck, "seat.checked", "ticketing", .filters = {"log"}, .idempotency = "dedup");
QMQ_CONSUMER_FN(&Seats::OnPrint, "seat.printed", "", .broadcast = true);

namespace qmq {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class PassingFilter final : public Filter {
public:
    HandlerOutcome Handle(DeliveryContext&, Next& next) override { return next(); }
};

class ConsumerTest : public ::testing::Test {
protected:
    ConsumerBindings AllBound() {
        ConsumerBindings bindings;
        bindings.AddExecutor("pool", pool_)
            .AddFilter("log", std::make_shared<PassingFilter>())
            .AddIdempotency("dedup", MakeMemoryIdempotencyStore())
            .AddObject(seats_)
            .SetLog([this](LogLevel, std::string_view line) { lines_.emplace_back(line); });
        return bindings;
    }
    /// How a problem of the consumer of `subject` begins.
    static std::string At(const std::string& subject) {
        for (const DeclaredConsumer& declared : DeclaredConsumers()) {
            if (declared.subject == subject) {
                return std::string(declared.file) + ":" + std::to_string(declared.line) +
                       ": consumer of \"" + subject + "\": ";
            }
        }
        ADD_FAILURE() << "nobody consumes " << subject;
        return {};
    }

    ThreadPool pool_{{}};
    Seats seats_;
    std::vector<std::string> lines_;
    Client client_ = qmq::testing::MakeSilentClient();
};

TEST_F(ConsumerTest, EveryDeclarationIsListedWithFileAndLine) {
    const std::vector<DeclaredConsumer> declared = DeclaredConsumers();
    ASSERT_THAT(declared, SizeIs(6));
    EXPECT_EQ(declared[0].group, "accounting");
    EXPECT_EQ(declared[1].group, "ticketing");
    EXPECT_EQ(declared[2].function, "OnRefund");
    EXPECT_THAT(std::string(declared[2].file), HasSubstr("consumer_test.cc"));
    EXPECT_GT(declared[2].line, 0);
}

TEST_F(ConsumerTest, AllAreStartedAndListed) {
    const Result<std::vector<Subscription>> started = StartConsumers(client_, AllBound());
    ASSERT_TRUE(started.ok()) << started.status();
    EXPECT_THAT(*started, SizeIs(6));
    EXPECT_THAT(lines_, SizeIs(7));
    EXPECT_THAT(lines_, Contains(HasSubstr("order.paid -> ticketing")));
    EXPECT_THAT(lines_, Contains(HasSubstr("seat.printed -> (broadcast)")));
}

TEST_F(ConsumerTest, WithoutALogTheListGoesToStandardError) {
    ConsumerBindings bindings = AllBound();
    bindings.SetLog(nullptr);
    ::testing::internal::CaptureStderr();
    const Result<std::vector<Subscription>> started = StartConsumers(client_, bindings);
    const std::string listed = ::testing::internal::GetCapturedStderr();
    ASSERT_TRUE(started.ok()) << started.status();
    EXPECT_THAT(listed, HasSubstr("6 consumers\n"));
    EXPECT_THAT(listed, HasSubstr("order.paid -> ticketing"));
}

TEST_F(ConsumerTest, StartingTwiceInOneClientIsRefusedAndLeavesTheFirstAlone) {
    ASSERT_TRUE(StartConsumers(client_, AllBound()).ok());
    const Result<std::vector<Subscription>> again = StartConsumers(client_, AllBound());
    EXPECT_EQ(again.status().code(), StatusCode::kAlreadyExists);
    EXPECT_THAT(std::string(again.status().message()), HasSubstr("consumer_test.cc"));
}

/// Runs a handler inside of the call that starts it: the earliest that is possible.
class EagerExecutor final : public Executor {
public:
    bool Post(Task task) override {
        task();
        return true;
    }
    TimerId PostAt(TimePoint, Task) override { return 0; }
    bool Cancel(TimerId) override { return false; }
};

// "All or none is started", but one was started after the other, and the first ones had handled
// messages by the time that a later one was refused.
TEST_F(ConsumerTest, NothingIsHandledWhenALaterOneIsRefused) {
    testing::ManualTime time;
    testing::FakeCluster cluster;  // Delivers inside of Subscribe.
    EagerExecutor eager;
    cluster.AddBroker("a").Append(Message("order.refunded").SetBody("x"));
    ClientOptions options;
    options.uri = "fake:";
    options.app_code = "test";
    options.transports = {cluster.factory()};
    options.log = [](LogLevel, std::string_view) {};
    options.runtime = {&time.clock, &time.executor, &time.executor, &time.executor, 1};
    Client client = Client::Create(std::move(options)).value();
    ConsumerBindings bindings = AllBound();
    bindings.AddExecutor("pool", eager);
    SubscriptionOptions taken;
    taken.subject = "seat.changed";
    taken.group = "ticketing";
    Subscription first = client.Subscribe(taken, [](const Message&) {}).value();
    refunds = 0;

    EXPECT_EQ(StartConsumers(client, bindings).status().code(), StatusCode::kAlreadyExists);
    time.Settle();
    EXPECT_EQ(refunds, 0);

    (void)first.Close(std::chrono::milliseconds(0));
    time.Settle();
    const Result<std::vector<Subscription>> started = StartConsumers(client, bindings);
    ASSERT_TRUE(started.ok()) << started.status();
    time.Settle();
    EXPECT_EQ(refunds, 1);
}

TEST_F(ConsumerTest, EverythingThatIsNotBoundIsNamedAtOnce) {
    const Result<std::vector<Subscription>> started = StartConsumers(client_);
    EXPECT_EQ(started.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(
        std::string(started.status().message()),
        AllOf(
            HasSubstr(At("order.refunded") +
                      "executor \"pool\" is not bound; add it with ConsumerBindings::AddExecutor"),
            HasSubstr(At("seat.checked") + "filter \"log\" is not bound"),
            HasSubstr(At("seat.checked") + "idempotency \"dedup\" is not bound"),
            HasSubstr(At("seat.changed") + "no object is bound for &Seats::OnChange"),
            HasSubstr(At("seat.checked") + "no object is bound for &Seats::OnCheck"),
            HasSubstr(At("seat.printed") + "no object is bound for &Seats::OnPrint"),
            Not(HasSubstr("order.paid"))));
}

// They are written in the order of their declaration, which is part of the promise.
TEST_F(ConsumerTest, OptionsStandInTheDeclarationAllOfThemInTheirOrder) {
    using std::chrono::hours;
    using std::chrono::seconds;
    constexpr ConsumerOptions kOptions{.tags = qmq::AllOf("a", "b"),
                                       .parallelism = 7,
                                       .retry = {.max_attempts = 3},
                                       .broadcast = true,
                                       .at_most_once = true,
                                       .start = StartPosition::kEarliest,
                                       .prefetch_count = 9,
                                       .ack_timeout = seconds(5),
                                       .max_processing_time = hours(1),
                                       .filters = {"log"},
                                       .idempotency = "dedup",
                                       .executor = "pool"};
    EXPECT_EQ(kOptions.tags.mode(), TagMode::kAll);
    EXPECT_EQ(kOptions.tags.count(), 2U);
    EXPECT_EQ(kOptions.parallelism, 7U);
    EXPECT_EQ(kOptions.retry.max_attempts, 3U);
    EXPECT_EQ(kOptions.retry.max_backoff, RetryPolicy().max_backoff);
    EXPECT_TRUE(kOptions.broadcast);
    EXPECT_TRUE(kOptions.at_most_once);
    EXPECT_EQ(kOptions.start, StartPosition::kEarliest);
    EXPECT_EQ(kOptions.prefetch_count, 9U);
    EXPECT_EQ(kOptions.ack_timeout, seconds(5));
    EXPECT_EQ(kOptions.max_processing_time, hours(1));
    EXPECT_EQ(kOptions.filters.count, 1U);
    EXPECT_STREQ(kOptions.filters.names[0], "log");
    EXPECT_STREQ(kOptions.idempotency, "dedup");
    EXPECT_STREQ(kOptions.executor, "pool");
}

TEST_F(ConsumerTest, WhatADeclarationLeavesOutIsAsInSubscriptionOptions) {
    constexpr ConsumerOptions kOptions;
    const SubscriptionOptions usual;
    EXPECT_EQ(Tags(kOptions.tags), usual.tags);
    EXPECT_EQ(kOptions.parallelism, usual.parallelism);
    EXPECT_EQ(kOptions.retry, usual.retry);
    EXPECT_EQ(kOptions.broadcast, usual.broadcast);
    EXPECT_EQ(kOptions.at_most_once, usual.at_most_once);
    EXPECT_EQ(kOptions.start, usual.start);
    EXPECT_EQ(kOptions.prefetch_count, usual.prefetch_count);
    EXPECT_EQ(kOptions.ack_timeout, usual.ack_timeout);
    EXPECT_EQ(kOptions.max_processing_time, usual.max_processing_time);
}

TEST_F(ConsumerTest, WhereOneHasAProblemNoneIsStartedNorListed) {
    ConsumerBindings bindings;  // "order.paid" needs none of them.
    bindings.SetLog([this](LogLevel, std::string_view line) { lines_.emplace_back(line); });
    EXPECT_EQ(StartConsumers(client_, bindings).status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(lines_, SizeIs(0));
    const Result<std::vector<Subscription>> started = StartConsumers(client_, AllBound());
    EXPECT_TRUE(started.ok()) << started.status();  // kAlreadyExists if one had been left.
}

// The consumer started without its store, and handled what it had handled before.
TEST_F(ConsumerTest, AStoreThatIsNullFailsTheStart) {
    ConsumerBindings bindings = AllBound();
    bindings.AddIdempotency("dedup", nullptr);
    const Result<std::vector<Subscription>> started = StartConsumers(client_, bindings);
    EXPECT_EQ(started.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(started.status().message()),
                HasSubstr("idempotency \"dedup\" is bound to a null pointer"));
}

}  // namespace
}  // namespace qmq
