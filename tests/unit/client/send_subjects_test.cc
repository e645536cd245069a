// Thousands of subjects: what each costs, and that those which nobody uses are forgotten.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "sdk/client/src/send/subject_queue.h"
#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using internal::SubjectQueue;
using internal::SubjectQueues;
using std::chrono::minutes;
using std::chrono::seconds;

std::string Name(int i) {
    return "subject-" + std::to_string(i);
}

TEST(SubjectQueuesTest, EachSubjectIsFoundUntilItIsRemoved) {
    SubjectQueues queues;
    std::map<std::string, SubjectQueue*> there;
    std::uint64_t random = 1;
    for (int step = 0; step < 20'000; ++step) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        const std::string name = Name(static_cast<int>(random >> 40) % 700);
        SubjectQueue* const found = queues.Find(name);
        const auto known = there.find(name);
        ASSERT_EQ(found, known == there.end() ? nullptr : known->second) << name;
        if (found == nullptr) {
            there[name] = &queues.Add(name);
        } else if (step % 3 != 0) {
            queues.Remove(*found);
            there.erase(known);
        }
        ASSERT_EQ(queues.count(), there.size());
    }
    for (const auto& [name, queue] : there) {
        ASSERT_EQ(queues.Find(name), queue);
    }
}

TEST(SubjectQueuesTest, ThePlaceOfARemovedSubjectIsUsedAgain) {
    SubjectQueues queues;
    for (int i = 0; i < 10'000; ++i) {
        queues.Remove(queues.Add(Name(i)));
    }
    EXPECT_LE(queues.place_count(), 64U);
}

class SendSubjectsTest : public testing::ClientFixture {
protected:
    SendSubjectsTest() : client(MakeClient(RarelyAsking())) {}

    ClientOptions RarelyAsking() {
        ClientOptions options = Options();
        options.route_refresh = std::chrono::hours(1);
        return options;
    }

    void SendTo(Producer& producer, int begin, int end) {
        for (int i = begin; i < end; ++i) {
            producer.Send(Message(Name(i))).Detach();
        }
    }

    Client client;
};

// Each first send made the next answer look at all subjects: a millisecond each at 80,000.
TEST_F(SendSubjectsTest, TheFirstSendOfASubjectLooksAtNoOtherSubject) {
    cluster.SetEverySubject(true);
    Producer producer = MakeProducer(client);
    constexpr int kSubjects = 5'000;
    for (int i = 0; i < kSubjects; ++i) {
        producer.Send(Message(Name(i))).Detach();
        if (i % 8 == 0) {
            Settle();
        }
    }
    Settle();
    EXPECT_LE(ProducerAccess::Core(producer)->looked_at(), 2U * kSubjects);
}

// A broker group that is away, or rests, with a message of each subject waiting for it.
TEST_F(SendSubjectsTest, ALinkThatComesBackLooksAtEachSubjectThatWaitsOnce) {
    cluster.SetEverySubject(true);
    broker().SetConnectable(false);
    Producer producer = MakeProducer(client);
    constexpr int kSubjects = 5'000;
    SendTo(producer, 0, kSubjects);
    Settle();
    broker().SetConnectable(true);
    Settle();
    EXPECT_LE(ProducerAccess::Core(producer)->looked_at(), 3U * kSubjects);
    Advance(seconds(1));
    EXPECT_EQ(broker().stored().size(), static_cast<std::size_t>(kSubjects));
}

TEST_F(SendSubjectsTest, SubjectsThatNobodySendsToAreForgotten) {
    Producer producer = MakeProducer(client);
    SendTo(producer, 0, 3'000);
    Advance(seconds(5));
    EXPECT_EQ(broker().stored().size(), 3'000U);
    EXPECT_EQ(producer.stats().subjects, 3'000U);
    Advance(minutes(16));
    EXPECT_EQ(producer.stats().subjects, 1'024U);
    const std::size_t asked = cluster.discover_count();
    Advance(minutes(60));  // Routes are asked for again, of those that are left.
    EXPECT_LE(cluster.discover_count(), asked + 1'024);
}

TEST_F(SendSubjectsTest, ASubjectThatWasForgottenIsAsGoodAsNew) {
    Producer producer = MakeProducer(client);
    SendTo(producer, 0, 3'000);
    Advance(minutes(20));
    std::vector<SendFuture> futures;
    for (int i = 0; i < 3'000; ++i) {
        futures.push_back(producer.Send(Message(Name(i))));
    }
    Advance(seconds(5));
    for (const SendFuture& future : futures) {
        ASSERT_TRUE(future.ready());
        EXPECT_TRUE(future.Get().ok());
        EXPECT_EQ(future.Get().sequence, 1U);
    }
}

TEST_F(SendSubjectsTest, SubjectsInUseAreKept) {
    Producer producer = MakeProducer(client);
    SendTo(producer, 0, 3'000);
    for (int round = 0; round < 8; ++round) {
        SendTo(producer, 0, 2'000);
        Advance(minutes(3));
    }
    EXPECT_EQ(producer.stats().subjects, 2'000U);
    EXPECT_EQ(broker().stored().size(), 3'000U + 8U * 2'000U);
}

TEST_F(SendSubjectsTest, WhatWaitsForARouteKeepsItsSubject) {
    cluster.SetDiscoverError(Status::Unavailable("nobody knows the way"));
    Producer producer = MakeProducer(client);
    std::vector<SendFuture> futures;
    for (int i = 0; i < 3'000; ++i) {
        futures.push_back(producer.Send(Message(Name(i)), std::chrono::hours(1)));
    }
    Advance(minutes(30));
    EXPECT_EQ(producer.stats().subjects, 3'000U);
    cluster.SetDiscoverError(Status::Ok());
    Advance(minutes(1));
    for (const SendFuture& future : futures) {
        ASSERT_TRUE(future.ready());
        EXPECT_TRUE(future.Get().ok());
    }
}

}  // namespace
}  // namespace qmq
