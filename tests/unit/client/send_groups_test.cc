// Several broker groups: which of them a batch goes to, and that none waits where it could go.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::SizeIs;

class SendGroupsTest : public testing::ClientFixture, public ::testing::WithParamInterface<int> {
protected:
    SendGroupsTest() : client(MakeClient()) {
        for (int i = 1; i < GetParam(); ++i) {
            cluster.AddBroker(Name(i));
        }
    }
    static std::string Name(int i) { return std::string(1, static_cast<char>('a' + i)); }
    template <typename F>
    void ForEachBroker(F&& call) {
        for (int i = 0; i < GetParam(); ++i) {
            call(broker(Name(i)));
        }
    }
    std::size_t stored_count() {
        std::size_t count = 0;
        ForEachBroker([&](testing::FakeBroker& one) { count += one.stored().size(); });
        return count;
    }

    Client client;
};

INSTANTIATE_TEST_SUITE_P(Groups, SendGroupsTest, ::testing::Values(2, 3));

bool HasBad(const SendBatch& batch) {
    auto heads = BatchView::Trusted(batch.batch.bytes()).begin_heads();
    while (const auto head = heads.Next()) {
        if (head->id == "bad") {
            return true;
        }
    }
    return false;
}

// The good neighbours of a refused message went to the queue of another lane, where nobody looked:
// they were refused at their deadline, with all brokers healthy.
TEST_P(SendGroupsTest, TheNeighboursOfABadMessageAreStoredAtOnce) {
    Producer producer = MakeProducer(client);
    ForEachBroker([](testing::FakeBroker& one) {
        one.SetSendHook([](const SendBatch& batch) -> std::optional<BatchReceipt> {
            if (HasBad(batch)) {
                return BatchReceipt{
                    Status::InvalidArgument("bad"), SendOutcome::kRefused, Durability::kDefault, 0};
            }
            return std::nullopt;
        });
    });
    // All in one batch, since nobody knows the route when they are sent.
    std::vector<SendFuture> futures;
    for (int i = 0; i < 5; ++i) {
        futures.push_back(producer.Send(Message("s").SetId(i == 2 ? "bad" : std::to_string(i))));
    }
    Settle();
    for (std::size_t i = 0; i < futures.size(); ++i) {
        ASSERT_TRUE(futures[i].ready()) << i;
        EXPECT_EQ(futures[i].Get().ok(), i != 2) << futures[i].Get().status;
    }
    EXPECT_EQ(stored_count(), 4U);
}

// What a lane that rests hands to another one waited there for that one's next answer.
TEST_P(SendGroupsTest, WhatALaneThatRestsGivesUpGoesAtOnce) {
    Producer producer = MakeProducer(client);
    broker("a").SetSendHook([](const SendBatch&) -> std::optional<BatchReceipt> {
        return BatchReceipt{
            Status::Unavailable("no"), SendOutcome::kRefused, Durability::kDefault, 0};
    });
    std::vector<SendFuture> futures;
    for (int i = 0; i < 100; ++i) {
        futures.push_back(producer.Send(Message("s")));
        Advance(milliseconds(3));
    }
    Advance(seconds(5));
    for (const SendFuture& future : futures) {
        ASSERT_TRUE(future.ready());
        EXPECT_NE(future.Get().broker_group, "a");
    }
    EXPECT_EQ(stored_count(), 100U);
}

TEST_P(SendGroupsTest, ARetryGoesAtOnceToAGroupThatIsIdle) {
    Producer producer = MakeProducer(client);
    int refusals = 0;
    ForEachBroker([&](testing::FakeBroker& one) {
        one.SetSendHook([&](const SendBatch&) -> std::optional<BatchReceipt> {
            return refusals++ % 2 == 0 ? std::optional(BatchReceipt{Status::Unavailable("no"),
                                                                    SendOutcome::kRefused,
                                                                    Durability::kDefault,
                                                                    0})
                                       : std::nullopt;
        });
    });
    const SendFuture future = producer.Send(Message("s"));
    Advance(milliseconds(100));
    ASSERT_TRUE(future.ready());
    EXPECT_EQ(future.Get().attempts, 2U);
}

// A group that is lost, and one that comes, with messages for every moment in between.
TEST_P(SendGroupsTest, NothingIsStuckWhileGroupsComeAndGo) {
    Producer producer = MakeProducer(client);
    std::vector<SendFuture> futures;
    for (int round = 0; round < 60; ++round) {
        testing::FakeBroker& one = broker(Name(round % GetParam()));
        one.SetHoldSends(round % 3 == 0);
        if (round % 5 == 0) {
            one.Cut();
        }
        for (int i = 0; i < 7; ++i) {
            futures.push_back(producer.Send(Message("subject-" + std::to_string(i % 3))));
        }
        one.AnswerHeld();
        Advance(milliseconds(7));
    }
    ForEachBroker([](testing::FakeBroker& one) { one.SetHoldSends(false); });
    for (int i = 0; i < 20; ++i) {
        ForEachBroker([](testing::FakeBroker& one) { one.AnswerHeld(); });
        Advance(seconds(1));
    }
    for (const SendFuture& future : futures) {
        ASSERT_TRUE(future.ready());
        EXPECT_TRUE(future.Get().ok()) << future.Get().status;
    }
}

}  // namespace
}  // namespace qmq
