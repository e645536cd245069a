// Ordering keys: one producer sends the messages of one key of a subject to one broker group, in
// the order of its calls, also after a retry.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using testing::ReceiptOf;
using ::testing::SizeIs;

class SendOrderTest : public testing::ClientFixture {
protected:
    SendOrderTest() : client(MakeClient()) {
        cluster.AddBroker("b");
        cluster.AddBroker("c");
    }
    static constexpr int kKeys = 24;

    static std::string KeyOf(int i) { return "key-" + std::to_string(i % kKeys); }
    /// One message, with a number that rises within its key.
    void SendNext(Producer& producer) {
        const int number = sent_++;
        Message message("s");
        message.SetId(KeyOf(number) + ":" + std::to_string(number)).SetOrderingKey(KeyOf(number));
        futures.push_back(producer.Send(std::move(message)));
    }
    /// The first time that each message was stored, by key and in order; each key in one group.
    void ExpectOrder() {
        std::map<std::string, std::string> group_of;
        std::map<std::string, int> last;
        std::set<std::string> seen;
        for (const char* name : {"a", "b", "c"}) {
            for (const auto& message : broker(name).stored()) {
                const std::size_t colon = message.id.find(':');
                const std::string key = message.id.substr(0, colon);
                const int number = std::stoi(message.id.substr(colon + 1));
                EXPECT_EQ(group_of.emplace(key, name).first->second, name) << message.id;
                if (seen.insert(message.id).second) {
                    const auto [at, first] = last.emplace(key, number);
                    EXPECT_TRUE(first || at->second < number) << message.id;
                    at->second = number;
                }
            }
        }
        EXPECT_THAT(seen, SizeIs(sent_));
    }
    void AnswerAll() {
        for (const char* name : {"a", "b", "c"}) {
            while (broker(name).AnswerHeld()) {
                Settle();
            }
        }
    }

    Client client;
    std::vector<SendFuture> futures;

private:
    int sent_ = 0;
};

TEST_F(SendOrderTest, TheKeyIsStoredWithTheMessage) {
    Producer producer = MakeProducer(client);
    const SendFuture future = producer.Send(Message("s").SetOrderingKey("k"));
    Settle();
    ASSERT_TRUE(future.ready());
    const auto stored = broker(future.Get().broker_group).stored();
    ASSERT_THAT(stored, SizeIs(1));
    EXPECT_EQ(BatchView::Trusted(stored[0].batch).begin_heads().Next()->key, "k");
}

// A key's messages went round-robin over the groups, batch by batch.
TEST_F(SendOrderTest, MessagesOfOneKeyGoToOneGroupInTheirOrder) {
    Producer producer = MakeProducer(client);
    for (int i = 0; i < 2'000; ++i) {
        SendNext(producer);
        if (i % 10 == 0) {
            Settle();
        }
    }
    Advance(seconds(1));
    ExpectOrder();
    for (const char* name : {"a", "b", "c"}) {
        EXPECT_GT(broker(name).stored().size(), 100U) << "keys are spread over the groups";
    }
}

// A batch that waits for its next attempt was overtaken by those behind it.
TEST_F(SendOrderTest, ARetryIsNotOvertaken) {
    Producer producer = MakeProducer(client);
    int asked = 0;
    for (const char* name : {"a", "b", "c"}) {
        broker(name).SetSendHook([&](const SendBatch&) -> std::optional<BatchReceipt> {
            return asked++ % 3 == 0 ? std::optional(BatchReceipt{Status::ResourceExhausted("busy"),
                                                                 SendOutcome::kRefused,
                                                                 Durability::kDefault,
                                                                 0})
                                    : std::nullopt;
        });
    }
    for (int i = 0; i < 1'000; ++i) {
        SendNext(producer);
        if (i % 7 == 0) {
            Advance(milliseconds(1));
        }
    }
    Advance(seconds(60));
    ExpectOrder();
}

TEST_F(SendOrderTest, ACutConnectionChangesNoOrder) {
    Producer producer = MakeProducer(client);
    for (int i = 0; i < 1'000; ++i) {
        SendNext(producer);
        const std::string name(1, static_cast<char>('a' + i % 3));
        broker(name).SetHoldSends(i % 4 != 0);
        if (i % 50 == 0) {
            broker(name).Cut();
        }
        if (i % 5 == 0) {
            broker(name).AnswerHeld();
            Advance(milliseconds(2));
        }
    }
    for (const char* name : {"a", "b", "c"}) {
        broker(name).SetHoldSends(false);
    }
    for (int i = 0; i < 10; ++i) {
        AnswerAll();
        Advance(seconds(1));
    }
    ExpectOrder();
}

TEST_F(SendOrderTest, AGroupThatIsAwayKeepsItsKeys) {
    Producer producer = MakeProducer(client);
    for (int i = 0; i < 3 * kKeys; ++i) {
        SendNext(producer);
    }
    Settle();
    broker("b").SetConnectError(Status::Unavailable("away"));
    broker("b").Cut();
    for (int i = 0; i < 10 * kKeys; ++i) {
        SendNext(producer);
        Advance(milliseconds(5));
    }
    broker("b").SetConnectError(Status::Ok());
    Advance(seconds(20));
    ExpectOrder();
}

TEST_F(SendOrderTest, TheNeighboursOfABadMessageKeepTheirOrder) {
    Producer producer = MakeProducer(client);
    for (const char* name : {"a", "b", "c"}) {
        broker(name).SetSendHook([](const SendBatch& batch) -> std::optional<BatchReceipt> {
            auto heads = BatchView::Trusted(batch.batch.bytes()).begin_heads();
            while (const auto head = heads.Next()) {
                if (head->id == "bad") {
                    return BatchReceipt{Status::InvalidArgument("bad"),
                                        SendOutcome::kRefused,
                                        Durability::kDefault,
                                        0};
                }
            }
            return std::nullopt;
        });
    }
    std::vector<SendFuture> bad;
    for (int i = 0; i < 10 * kKeys; ++i) {
        SendNext(producer);
        if (i % 40 == 20) {
            bad.push_back(producer.Send(Message("s").SetId("bad").SetOrderingKey(KeyOf(i))));
        }
    }
    Advance(seconds(5));
    ExpectOrder();
    for (const SendFuture& future : bad) {
        ASSERT_TRUE(future.ready());
        EXPECT_EQ(future.Get().status.code(), StatusCode::kInvalidArgument);
    }
    for (const SendFuture& future : futures) {
        ASSERT_TRUE(future.ready());
        EXPECT_TRUE(future.Get().ok()) << future.Get().status;
    }
}

// "A message that fails does not hold up those behind it."
TEST_F(SendOrderTest, AfterADeadlineTheNextOnesOfTheKeyGo) {
    Producer producer = MakeProducer(client);
    SendNext(producer);
    Settle();
    for (const char* name : {"a", "b", "c"}) {
        broker(name).SetHoldSends(true);
    }
    const SendFuture late =
        producer.Send(Message("s").SetId("late").SetOrderingKey(KeyOf(0)), seconds(1));
    Settle();
    const SendFuture behind =
        producer.Send(Message("s").SetId("behind").SetOrderingKey(KeyOf(0)), seconds(10));
    Advance(seconds(1));
    ASSERT_TRUE(late.ready());
    EXPECT_EQ(late.Get().outcome, SendOutcome::kUnknown);
    EXPECT_FALSE(behind.ready());
    for (const char* name : {"a", "b", "c"}) {
        broker(name).SetHoldSends(false);
    }
    AnswerAll();
    Settle();
    ASSERT_TRUE(behind.ready());
    EXPECT_TRUE(behind.Get().ok());
}

// "Only a change of the route moves a key, after what was sent before has been answered."
TEST_F(SendOrderTest, AGroupThatLeavesTheRouteGivesItsKeysToOthersInOrder) {
    Producer producer = MakeProducer(client);
    for (int i = 0; i < 4 * kKeys; ++i) {
        SendNext(producer);
    }
    Settle();
    cluster.RemoveBroker("b");
    for (int i = 0; i < 100; ++i) {
        SendNext(producer);
        Advance(seconds(1));
    }
    EXPECT_FALSE(futures.empty());
    std::map<std::string, std::map<std::string, int>> last;
    for (const char* name : {"a", "b", "c"}) {
        for (const auto& message : broker(name).stored()) {
            const std::size_t colon = message.id.find(':');
            const int number = std::stoi(message.id.substr(colon + 1));
            int& before = last[message.id.substr(0, colon)][name];
            EXPECT_LE(before, number);
            before = number;
        }
    }
    for (const SendFuture& future : futures) {
        ASSERT_TRUE(future.ready());
        EXPECT_TRUE(future.Get().ok()) << future.Get().status;
    }
    EXPECT_NE(futures.back().Get().broker_group, "b");
}

class SendOrderMoveTest : public SendOrderTest {
protected:
    SendFuture SendKeyed(const std::string& id) {
        return producer.Send(Message("s").SetId(id).SetOrderingKey("k"), hours(1));
    }
    /// The broker group of a key leaves the route while "before" is not answered; "behind" is sent
    /// then. Returns that group.
    std::string LeaveTheRouteUnanswered() {
        const SendFuture first = SendKeyed("first");
        Settle();
        std::string group = ReceiptOf(first).broker_group;
        broker(group).SetHoldSends(true);
        before = SendKeyed("before");
        Settle();
        EXPECT_EQ(broker(group).held_frame_count(), 1U);
        cluster.RemoveBroker(group);
        Advance(seconds(61));  // Routes are asked for again each minute.
        behind = SendKeyed("behind");
        Advance(seconds(10));
        return group;
    }
    std::vector<std::string> StoredIn(const std::string& group) {
        std::vector<std::string> ids;
        for (const auto& message : broker(group).stored()) {
            ids.push_back(message.id);
        }
        return ids;
    }

    Producer producer = MakeProducer(client);
    SendFuture before;
    SendFuture behind;
};

TEST_F(SendOrderMoveTest, AKeyMovesWhenWhatWasSentBeforeIsAnsweredAndNotSooner) {
    const std::string group = LeaveTheRouteUnanswered();
    for (const char* name : {"a", "b", "c"}) {
        EXPECT_THAT(broker(name).stored(), SizeIs(name == group ? 1 : 0)) << name;
    }
    EXPECT_FALSE(behind.ready());
    EXPECT_TRUE(broker(group).AnswerHeld());
    Settle();
    EXPECT_EQ(ReceiptOf(before).broker_group, group);
    const std::string moved_to = ReceiptOf(behind).broker_group;
    EXPECT_NE(moved_to, group);
    EXPECT_THAT(StoredIn(group), ElementsAre("first", "before"));
    EXPECT_THAT(StoredIn(moved_to), ElementsAre("behind"));
}

TEST_F(SendOrderMoveTest, AnAnswerThatIsLostMeanwhileChangesNoOrder) {
    const std::string group = LeaveTheRouteUnanswered();
    broker(group).Cut();
    Advance(seconds(5));
    const std::string moved_to = ReceiptOf(before).broker_group;
    EXPECT_NE(moved_to, group);
    EXPECT_EQ(ReceiptOf(behind).broker_group, moved_to);
    EXPECT_THAT(StoredIn(group), ElementsAre("first"));
    EXPECT_THAT(StoredIn(moved_to), ElementsAre("before", "behind"));
}

TEST_F(SendOrderMoveTest, WhatIsOnItsWayToAGroupThatLeftTheRouteIsStillCounted) {
    const std::string group = LeaveTheRouteUnanswered();
    EXPECT_EQ(broker(group).held_frame_count(), 1U);
    EXPECT_EQ(producer.stats().in_flight_batches, 1U);
    EXPECT_TRUE(broker(group).AnswerHeld());
    Settle();
    EXPECT_EQ(producer.stats().in_flight_batches, 0U);
}

}  // namespace
}  // namespace qmq
