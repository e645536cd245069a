// A program of its own: handlers of every form that can be declared, each on its own subject.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qmq/consumer.h"

#include "tests/support/fake_transport.h"
#include "tests/support/manual_executor.h"

namespace {

using qmq::Delivery;
using qmq::DeliveryContext;
using qmq::HandlerOutcome;
using qmq::Message;

std::map<std::string, int> calls;

void Note(const Message& message) {
    ++calls[std::string(message.subject())];
}

void OnMessage(const Message& message) {
    Note(message);
}
void OnMessageNoexcept(const Message& message) noexcept {
    Note(message);
}
HandlerOutcome OnOutcome(const Message& message) {
    Note(message);
    return HandlerOutcome::DeadLetter("a function said so");
}
void OnContext(const Message& message, DeliveryContext& context) {
    Note(message);
    EXPECT_EQ(context.group(), "g");
}
HandlerOutcome OnOutcomeWithContext(const Message& message, DeliveryContext& context) {
    Note(message);
    return HandlerOutcome::DeadLetter("in group " + std::string(context.group()));
}
void OnDelivery(Delivery delivery) {
    Note(delivery.message());
    delivery.Reject("a delivery was");
}

/// Has a member that `Desk` inherits.
class Counter {
public:
    void OnInherited(const Message& message) {
        ++counted;
        Note(message);
    }

    int counted = 0;
};

class Desk : public Counter {
public:
    void OnMessage(const Message& message) { NoteHere(message); }
    void OnMessageConst(const Message& message) const { NoteHere(message); }
    void OnMessageNoexcept(const Message& message) noexcept { NoteHere(message); }
    void OnMessageConstNoexcept(const Message& message) const noexcept { NoteHere(message); }
    HandlerOutcome OnOutcome(const Message& message) {
        NoteHere(message);
        return HandlerOutcome::DeadLetter("a member said so");
    }
    void OnContext(const Message& message, DeliveryContext& context) {
        NoteHere(message);
        EXPECT_EQ(context.group(), "g");
    }
    void OnDelivery(Delivery delivery) {
        NoteHere(delivery.message());
        delivery.Ack();
    }
    static void OnStatic(const Message& message) { Note(message); }

    mutable int called = 0;

private:
    void NoteHere(const Message& message) const {
        ++called;
        Note(message);
    }
};

}  // namespace

QMQ_CONSUMER("opened", "g")(const qmq::Message& message) {
    Note(message);
}
QMQ_CONSUMER("opened.retry_later", "g")(const qmq::Message& message) {
    Note(message);
    if (message.attempt() == 1) {
        throw qmq::RetryLater(std::chrono::minutes(7), "the seat map is locked");
    }
}
QMQ_CONSUMER("opened.reject", "g")(const qmq::Message& message) {
    Note(message);
    throw qmq::Reject("no such order");
}
QMQ_CONSUMER("opened.throw", "g")(const qmq::Message& message) {
    Note(message);
    if (message.attempt() == 1) {
        throw std::runtime_error("database is away");
    }
}
QMQ_CONSUMER_FN(OnMessage, "function", "g");
QMQ_CONSUMER_FN(&OnMessage, "function.by_address", "g");
QMQ_CONSUMER_FN(OnMessageNoexcept, "function.noexcept", "g");
QMQ_CONSUMER_FN(OnOutcome, "function.outcome", "g");
QMQ_CONSUMER_FN(OnContext, "function.context", "g");
QMQ_CONSUMER_FN(OnOutcomeWithContext, "function.outcome_context", "g");
QMQ_CONSUMER_FN(OnDelivery, "function.delivery", "g");
QMQ_CONSUMER_FN(&Desk::OnMessage, "member", "g");
QMQ_CONSUMER_FN(&Desk::OnMessageConst, "member.const", "g");
QMQ_CONSUMER_FN(&Desk::OnMessageNoexcept, "member.noexcept", "g");
QMQ_CONSUMER_FN(&Desk::OnMessageConstNoexcept, "member.const_noexcept", "g");
QMQ_CONSUMER_FN(&Desk::OnOutcome, "member.outcome", "g");
QMQ_CONSUMER_FN(&Desk::OnContext, "member.context", "g");
QMQ_CONSUMER_FN(&Desk::OnDelivery, "member.delivery", "g");
QMQ_CONSUMER_FN(&Desk::OnInherited, "member.inherited", "g");
QMQ_CONSUMER_FN(&Desk::OnStatic, "member.static", "g");

namespace qmq {
namespace {

using ::testing::Pair;
using ::testing::UnorderedElementsAre;

/// One message on the subject of each declaration, through to its end.
class FormsTest : public ::testing::Test {
protected:
    FormsTest() {
        calls.clear();
        cluster.AddBroker("a");
        ClientOptions options;
        options.uri = "fake:";
        options.app_code = "test";
        options.transports = {cluster.factory()};
        options.log = [](LogLevel, std::string_view) {};
        options.runtime = {&time.clock, &time.executor, &time.executor, &time.executor, 1};
        client.emplace(Client::Create(std::move(options)).value());
        ConsumerBindings bindings;
        bindings.AddObject(desk).AddObject<Counter>(desk).SetLog([](LogLevel, std::string_view) {});
        const Result<std::vector<Subscription>> started = StartConsumers(*client, bindings);
        EXPECT_TRUE(started.ok()) << started.status();
        for (const DeclaredConsumer& declared : DeclaredConsumers()) {
            const std::string subject(declared.subject);
            broker().Append(Message(subject).SetId(subject));
        }
        time.Advance(std::chrono::seconds(1));
    }
    testing::FakeBroker& broker() { return cluster.broker("a"); }

    Desk desk;
    testing::ManualTime time;
    testing::FakeCluster cluster{&time.executor};
    std::optional<Client> client;
};

TEST_F(FormsTest, EachIsCalledOnce) {
    for (const DeclaredConsumer& declared : DeclaredConsumers()) {
        const std::string subject(declared.subject);
        const bool again = subject == "opened.retry_later" || subject == "opened.throw";
        EXPECT_EQ(calls[subject], again ? 2 : 1) << subject;
    }
}

TEST_F(FormsTest, MembersAreCalledOnTheObjectThatIsBound) {
    EXPECT_EQ(desk.called, 7);
    EXPECT_EQ(desk.counted, 1);
}

TEST_F(FormsTest, EachEndsAsItSays) {
    EXPECT_THAT(broker().dead_letters(),
                UnorderedElementsAre(Pair("opened.reject", "no such order"),
                                     Pair("function.outcome", "a function said so"),
                                     Pair("function.outcome_context", "in group g"),
                                     Pair("function.delivery", "a delivery was"),
                                     Pair("member.outcome", "a member said so")));
    EXPECT_EQ(broker().acked_count() + broker().dead_letters().size(), DeclaredConsumers().size());
}

TEST_F(FormsTest, WhatIsThrownDeliversAgain) {
    std::vector<std::pair<std::string, std::int64_t>> retries;
    for (const AckItem& item : broker().acks()) {
        if (item.verdict == AckVerdict::kRetry) {
            retries.emplace_back(item.error, item.delay.has_value() ? item.delay->count() : -1);
        }
    }
    EXPECT_THAT(retries,
                UnorderedElementsAre(Pair("the seat map is locked", 7 * 60'000),
                                     Pair("database is away", -1)));
}

}  // namespace
}  // namespace qmq
