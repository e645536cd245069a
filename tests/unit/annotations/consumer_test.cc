#include "qmq/consumer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
            HasSubstr("executor \"pool\" is not bound; add it with ConsumerBindings::AddExecutor"),
            HasSubstr("filter \"log\""),
            HasSubstr("idempotency \"dedup\""),
            HasSubstr("no object is bound for &Seats::OnChange"),
            Not(HasSubstr("order.paid"))));
}

TEST_F(ConsumerTest, OptionsStandInTheDeclaration) {
    constexpr ConsumerOptions kOptions{.tags = qmq::AllOf("a", "b"), .parallelism = 7};
    EXPECT_EQ(kOptions.tags.mode(), TagMode::kAll);
    EXPECT_EQ(kOptions.tags.count(), 2U);
    EXPECT_EQ(kOptions.parallelism, 7U);
    EXPECT_EQ(kOptions.start, StartPosition::kLatest);
}

}  // namespace
}  // namespace qmq
