// What may be a handler, and for how long it may run.

#include "qmq/handler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/decisions.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using testing::DecisionsAt;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Form = Handler::Form;

class HandlerTest : public testing::ClientFixture {
protected:
    Client client = MakeClient();
};

void OnMessage(const Message&) {}
HandlerOutcome OnOutcome(const Message&) {
    return HandlerOutcome::Ack();
}
void OnDelivery(Delivery delivery) {
    delivery.Ack();
}
void OnMessageWithContext(const Message&, DeliveryContext&) {}

TEST_F(HandlerTest, ItsFormIsThatOfItsSignature) {
    EXPECT_EQ(Handler(OnMessage).form(), Form::kMessage);
    EXPECT_EQ(Handler(&OnOutcome).form(), Form::kMessage);
    EXPECT_EQ(Handler(OnMessageWithContext).form(), Form::kMessage);
    EXPECT_EQ(Handler(OnDelivery).form(), Form::kDelivery);
    EXPECT_EQ(Handler([](const Message&) {}).form(), Form::kMessage);
    EXPECT_EQ(
        Handler([](const Message&, DeliveryContext&) { return HandlerOutcome::Ack(); }).form(),
        Form::kMessage);
    EXPECT_EQ(Handler([](Delivery) {}).form(), Form::kDelivery);
    EXPECT_TRUE(Handler(std::function<void(const Message&)>(OnMessage)));
}

TEST_F(HandlerTest, OfAnEmptyFunctionOrANullPointerItIsEmptyAndRefused) {
    std::vector<Handler> empty;
    empty.emplace_back();
    empty.emplace_back(std::function<void(const Message&)>());
    empty.emplace_back(std::function<HandlerOutcome(const Message&)>());
    empty.emplace_back(std::function<void(const Message&, DeliveryContext&)>());
    empty.emplace_back(std::function<void(Delivery)>());
    empty.emplace_back(static_cast<void (*)(const Message&)>(nullptr));
    empty.emplace_back(static_cast<HandlerOutcome (*)(const Message&)>(nullptr));
    empty.emplace_back(static_cast<void (*)(Delivery)>(nullptr));
    for (Handler& handler : empty) {
        EXPECT_EQ(handler.form(), Form::kEmpty);
        EXPECT_FALSE(handler);
        EXPECT_EQ(client.Subscribe(Consumer(), std::move(handler)).status().code(),
                  StatusCode::kInvalidArgument);
    }
}

TEST_F(HandlerTest, WhatCanOnlyBeMovedIsCalledForEachMessage) {
    std::vector<std::string> seen;
    auto owned = std::make_unique<std::string>("owned");
    const Subscription subscription = MakeSubscription(
        client, Consumer(), [&seen, owned = std::move(owned)](const Message& message) {
            seen.push_back(*owned + " " + Body(message));
        });
    const Subscription manual =
        MakeSubscription(client,
                         Consumer("manual"),
                         [&seen, mine = std::make_unique<std::string>("mine")](Delivery delivery) {
                             seen.push_back(*mine + " " + Body(delivery.message()));
                             delivery.Ack();
                         });
    Append(2);
    Append(1, "manual");
    Advance(seconds(1));
    EXPECT_THAT(seen, ElementsAre("owned 0", "owned 1", "mine 2"));
    EXPECT_EQ(broker().acked_count(), 3U);
}

TEST_F(HandlerTest, ItMayRunForHours) {
    std::vector<std::uint32_t> attempts;
    const Subscription subscription =
        MakeSubscription(client, Consumer(), [&](const Message& message) {
            attempts.push_back(message.attempt());
            Advance(hours(11));
        });
    Append(1);
    Settle();
    EXPECT_THAT(attempts, ElementsAre(1));
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_THAT(DecisionsAt(broker(), AckVerdict::kRetry), IsEmpty());
    EXPECT_THAT(DecisionsAt(broker(), AckVerdict::kRelease), IsEmpty());
}

}  // namespace
}  // namespace qmq
