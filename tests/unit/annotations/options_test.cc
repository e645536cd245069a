// A program of its own: each of its declarations differs from the first in one option.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "qmq/consumer.h"

#include "tests/support/fake_transport.h"
#include "tests/support/manual_executor.h"

namespace {

std::map<std::string, int> handled;
std::optional<qmq::TimePoint> deadline;

void Note(const qmq::Message& message) {
    ++handled[std::string(message.subject())];
}
void NoteDeadline(const qmq::Message&, qmq::DeliveryContext& context) {
    deadline = context.deadline();
}

constexpr qmq::RetryPolicy kRetry{.max_attempts = 7,
                                  .initial_backoff = std::chrono::milliseconds(70),
                                  .multiplier = 3.0,
                                  .max_backoff = std::chrono::milliseconds(700)};

}  // namespace

QMQ_CONSUMER_FN(Note, "plain", "g");
QMQ_CONSUMER_FN(Note, "any_tag", "g", .tags = {"a", "b"});
QMQ_CONSUMER_FN(Note, "all_tags", "g", .tags = qmq::AllOf("a", "b"));
QMQ_CONSUMER_FN(Note, "parallelism", "g", .parallelism = 7);
QMQ_CONSUMER_FN(Note, "retry", "g", .retry = kRetry);
QMQ_CONSUMER_FN(Note, "broadcast", "", .broadcast = true);
QMQ_CONSUMER_FN(Note, "at_most_once", "g", .at_most_once = true);
QMQ_CONSUMER_FN(Note, "start", "g", .start = qmq::StartPosition::kEarliest);
QMQ_CONSUMER_FN(Note, "prefetch_count", "g", .prefetch_count = 30);
QMQ_CONSUMER_FN(Note, "ack_timeout", "g", .ack_timeout = std::chrono::seconds(7));
QMQ_CONSUMER_FN(NoteDeadline,
                "max_processing_time",
                "g",
                .max_processing_time = std::chrono::hours(1));
QMQ_CONSUMER_FN(Note, "filters", "g", .filters = {"outer", "inner"});
QMQ_CONSUMER_FN(Note, "idempotency", "g", .idempotency = "dedup");
QMQ_CONSUMER_FN(Note, "executor", "g", .executor = "own");

namespace qmq {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class NamedFilter final : public Filter {
public:
    NamedFilter(std::string name, std::vector<std::string>* seen)
        : name_(std::move(name)), seen_(seen) {}
    HandlerOutcome Handle(DeliveryContext&, Next& next) override {
        seen_->push_back(name_);
        return next();
    }

private:
    const std::string name_;
    std::vector<std::string>* const seen_;
};

class CountingStore final : public IdempotencyStore {
public:
    Result<Claim> Start(std::string_view key, std::chrono::milliseconds lease) override {
        ++started;
        return inner_->Start(key, lease);
    }
    Status Renew(const Claim& claim) override { return inner_->Renew(claim); }
    Status Finish(const Claim& claim) override { return inner_->Finish(claim); }
    Status Abandon(const Claim& claim) override { return inner_->Abandon(claim); }

    int started = 0;

private:
    const std::shared_ptr<IdempotencyStore> inner_ = MakeMemoryIdempotencyStore();
};

/// All of them are started, and no handler runs until the test lets it.
class ConsumerOptionsTest : public ::testing::Test {
protected:
    ConsumerOptionsTest() {
        handled.clear();
        deadline.reset();
        cluster.AddBroker("a");
        ClientOptions options;
        options.uri = "fake:";
        options.app_code = "test";
        options.client_id = "client-1";
        options.transports = {cluster.factory()};
        options.log = [](LogLevel, std::string_view) {};
        options.runtime = {&time.clock, &time.executor, &time.executor, &handlers, 1};
        client.emplace(Client::Create(std::move(options)).value());
        ConsumerBindings bindings;
        bindings.AddFilter("outer", std::make_shared<NamedFilter>("outer", &filtered))
            .AddFilter("inner", std::make_shared<NamedFilter>("inner", &filtered))
            .AddIdempotency("dedup", store)
            .AddExecutor("own", own)
            .SetLog([](LogLevel, std::string_view) {});
        const Result<std::vector<Subscription>> started = StartConsumers(*client, bindings);
        EXPECT_TRUE(started.ok()) << started.status();
        time.Settle();
    }
    testing::FakeBroker& broker() { return cluster.broker("a"); }
    /// They have arrived, and wait for a handler.
    void Append(int count, const std::string& subject) {
        for (int i = 0; i < count; ++i) {
            broker().Append(Message(subject));
        }
        time.Settle();
    }
    SubscribeRequest RequestFor(const std::string& subject) {
        for (const SubscribeRequest& request : broker().subscribes()) {
            if (request.key.subject == subject) {
                return request;
            }
        }
        ADD_FAILURE() << "nobody subscribed to " << subject;
        return {};
    }

    testing::ManualTime time;
    testing::ManualExecutor handlers{time.clock};
    testing::ManualExecutor own{time.clock};
    testing::FakeCluster cluster{&time.executor};
    std::vector<std::string> filtered;
    const std::shared_ptr<CountingStore> store = std::make_shared<CountingStore>();
    std::optional<Client> client;
};

TEST_F(ConsumerOptionsTest, WhatABrokerIsAskedForDiffersInTheOptionThatWasGivenAlone) {
    using Change = std::function<void(SubscribeRequest&)>;
    const std::map<std::string, Change> changes = {
        {"any_tag",
         [](SubscribeRequest& r) {
             r.filter = {TagMode::kAny, {"a", "b"}};
         }},
        {"all_tags",
         [](SubscribeRequest& r) {
             r.filter = {TagMode::kAll, {"a", "b"}};
         }},
        {"retry", [](SubscribeRequest& r) { r.retry = kRetry; }},
        {"broadcast", [](SubscribeRequest& r) { r.key.group = "client-1"; }},
        {"start", [](SubscribeRequest& r) { r.start = StartPosition::kEarliest; }},
        {"ack_timeout", [](SubscribeRequest& r) { r.ack_timeout = std::chrono::seconds(7); }},
    };
    EXPECT_EQ(broker().subscribes().size(), DeclaredConsumers().size());
    for (const DeclaredConsumer& declared : DeclaredConsumers()) {
        const std::string subject(declared.subject);
        SubscribeRequest expected;
        expected.key = {subject, "g", "client-1"};
        if (const auto change = changes.find(subject); change != changes.end()) {
            change->second(expected);
        }
        const SubscribeRequest request = RequestFor(subject);
        EXPECT_EQ(request.key.group, expected.key.group) << subject;
        EXPECT_EQ(request.key.consumer_id, expected.key.consumer_id) << subject;
        EXPECT_EQ(request.filter, expected.filter) << subject;
        EXPECT_EQ(request.start, expected.start) << subject;
        EXPECT_EQ(request.retry, expected.retry) << subject;
        EXPECT_EQ(request.ack_timeout, expected.ack_timeout) << subject;
    }
}

TEST_F(ConsumerOptionsTest, Parallelism) {
    Append(20, "plain");
    EXPECT_EQ(handlers.task_count(), 4U);
    Append(20, "parallelism");
    EXPECT_EQ(handlers.task_count(), 4U + 7U);
}

TEST_F(ConsumerOptionsTest, PrefetchCount) {
    Append(100, "plain");
    const std::uint64_t usual = broker().held_count();
    EXPECT_LT(usual, 30U);
    Append(100, "prefetch_count");
    EXPECT_EQ(broker().held_count(), usual + 30U);
}

TEST_F(ConsumerOptionsTest, AtMostOnce) {
    Append(3, "plain");
    time.Advance(std::chrono::seconds(1));
    EXPECT_EQ(broker().acked_count(), 0U);
    Append(3, "at_most_once");
    time.Advance(std::chrono::seconds(1));
    EXPECT_EQ(broker().acked_count(), 3U);
    EXPECT_THAT(handled, IsEmpty());
}

TEST_F(ConsumerOptionsTest, MaxProcessingTime) {
    Append(1, "max_processing_time");
    handlers.RunAll();
    EXPECT_EQ(deadline, time.clock.Now() + std::chrono::hours(1));
}

TEST_F(ConsumerOptionsTest, Filters) {
    Append(1, "plain");
    handlers.RunAll();
    EXPECT_THAT(filtered, IsEmpty());
    Append(1, "filters");
    handlers.RunAll();
    EXPECT_THAT(filtered, ElementsAre("outer", "inner"));
    EXPECT_EQ(handled["filters"], 1);
}

TEST_F(ConsumerOptionsTest, Idempotency) {
    Append(1, "plain");
    handlers.RunAll();
    EXPECT_EQ(store->started, 0);
    Append(1, "idempotency");
    handlers.RunAll();
    EXPECT_EQ(store->started, 1);
    EXPECT_EQ(handled["idempotency"], 1);
}

TEST_F(ConsumerOptionsTest, Executor) {
    Append(1, "executor");
    EXPECT_EQ(handlers.task_count(), 0U);
    EXPECT_EQ(own.task_count(), 1U);
    own.RunAll();
    EXPECT_EQ(handled["executor"], 1);
}

}  // namespace
}  // namespace qmq
