// Thousands of subjects: what each costs, and that those which nobody uses are forgotten.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory_resource>
#include <utility>

#include "sdk/client/src/send/subject_queue.h"
#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using internal::SubjectQueue;
using internal::SubjectQueues;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

std::string Name(int i) {
    return "subject-" + std::to_string(i);
}

class SubjectQueuesTest : public ::testing::Test {
protected:
    static constexpr std::uint64_t kLimit = 16U << 20;

    SubjectQueue& AddUnused(const std::string& name) {
        SubjectQueue& added = queues.Add(name);
        queues.Leave(added);
        return added;
    }

    internal::Budget budget{1'000, kLimit};
    SubjectQueues queues{budget};
};

TEST_F(SubjectQueuesTest, EachSubjectIsFoundUntilItIsRemoved) {
    std::map<std::string, SubjectQueue*> there;
    std::uint64_t random = 1;
    for (int step = 0; step < 20'000; ++step) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        const std::string name = Name(static_cast<int>(random >> 40) % 700);
        SubjectQueue* const found = queues.Find(name);
        const auto known = there.find(name);
        ASSERT_EQ(found, known == there.end() ? nullptr : known->second) << name;
        if (found == nullptr) {
            there[name] = &AddUnused(name);
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

// Subjects lay between the messages of their time on one heap, and kept the pages of these: what
// 20,000 of them had pending was not given back.
TEST_F(SubjectQueuesTest, TheMemoryOfRemovedSubjectsIsGivenBack) {
    for (int i = 0; i < 10'000; ++i) {
        AddUnused(Name(i));
    }
    const std::size_t most = queues.slab_bytes();
    for (int i = 0; i < 10'000; ++i) {
        queues.Remove(*queues.Find(Name(i)));
    }
    EXPECT_LE(queues.slab_bytes(), most / 20);
}

TEST_F(SubjectQueuesTest, WhatASubjectCostsIsPendingWhileItHasUsers) {
    SubjectQueue& subject = queues.Add("s");
    const std::uint64_t bytes = budget.bytes();
    EXPECT_GE(bytes, sizeof(SubjectQueue) + sizeof(internal::SubjectDetails));
    queues.Use(subject);
    EXPECT_EQ(budget.bytes(), bytes);
    queues.Leave(subject);
    EXPECT_EQ(budget.bytes(), bytes);
    queues.Leave(subject);
    EXPECT_EQ(budget.bytes(), 0U);
    queues.Use(subject);
    EXPECT_EQ(budget.bytes(), bytes);
    // Its queues for keys as well, made now or while it has no users.
    (void)queues.KeyQueueOf(subject, "key");
    const std::uint64_t with_key = budget.bytes();
    EXPECT_GE(with_key, bytes + sizeof(SubjectQueue) + sizeof(internal::SubjectDetails));
    queues.Leave(subject);
    for (int i = 0; i < 100; ++i) {
        (void)queues.KeyQueueOf(subject, std::to_string(i));
    }
    EXPECT_EQ(budget.bytes(), 0U);
    queues.Use(queues.KeyQueueOf(subject, "key"));
    EXPECT_GE(budget.bytes(), bytes + 16 * (with_key - bytes) / 2);
    queues.Leave(subject);
    EXPECT_EQ(budget.bytes(), 0U);
}

TEST_F(SubjectQueuesTest, TheSubjectThatWasUsedLongestAgoIsTheFirstOfTooMany) {
    int made = 0;
    while (!queues.has_excess()) {
        ASSERT_EQ(queues.TooIdle(TimePoint::min()), nullptr);
        AddUnused(Name(made++));
    }
    // A quarter of what may be pending.
    EXPECT_GT(made, 2'000);
    EXPECT_LT(made, 6'000);
    queues.Use(*queues.Find(Name(0)));
    EXPECT_FALSE(queues.has_excess()) << "one in use is none of them";
    queues.Leave(*queues.Find(Name(0)));
    EXPECT_EQ(queues.TooIdle(TimePoint::min()), queues.Find(Name(1)));
    queues.Remove(*queues.Find(Name(1)));
    EXPECT_FALSE(queues.has_excess());
    EXPECT_EQ(queues.TooIdle(TimePoint::min()), nullptr);
    EXPECT_EQ(queues.TooIdle(TimePoint{}), queues.Find(Name(2))) << "for so long nobody used it";
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

    /// One that keeps about a thousand subjects without messages.
    Producer MakeSmall(Client& of) {
        ProducerOptions options;
        options.max_pending_bytes = 1U << 20;
        return MakeProducer(of, options);
    }
    /// To so many subjects, a hundred at a time. The most subjects that it had after one.
    std::uint64_t SendInHundreds(Producer& producer, int count) {
        std::uint64_t most = 0;
        for (int i = 0; i < count; i += 100) {
            SendTo(producer, i, i + 100);
            Advance(milliseconds(10));
            most = std::max(most, producer.stats().subjects);
        }
        return most;
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

// Nothing counted them: with 20,000 subjects a limit of 16 MiB held 64.
TEST_F(SendSubjectsTest, SubjectsCountAsPendingWhileSomethingOfThemIs) {
    cluster.SetEverySubject(true);
    broker().SetConnectable(false);
    Producer producer = MakeProducer(client);
    SendTo(producer, 0, 1);
    SendTo(producer, 0, 1'000);
    const std::size_t of_a_thousand = producer.stats().pending_bytes;
    Producer other = MakeProducer(client);
    for (int i = 0; i < 1'000; ++i) {
        SendTo(other, 0, 1);
    }
    EXPECT_GE(of_a_thousand, other.stats().pending_bytes + 1'000U * 900);
    broker().SetConnectable(true);
    Advance(seconds(5));
    EXPECT_EQ(producer.stats().pending_bytes, 0U);
    EXPECT_EQ(producer.stats().subjects, 1'000U) << "few enough to be kept";
}

// The piece of the stage that was begun counted for ever: half of the room of a small producer.
TEST_F(SendSubjectsTest, AFloodLeavesTheWholeRoom) {
    cluster.SetEverySubject(true);
    ProducerOptions options;
    options.max_pending_bytes = 128U << 10;
    Producer producer = MakeProducer(client, options);
    SendTo(producer, 0, 1);
    Advance(seconds(1));
    SendTo(producer, 0, 100);
    EXPECT_GT(producer.stats().pending_bytes, 64U << 10);
    Advance(seconds(5));
    EXPECT_EQ(producer.stats().pending_bytes, 0U);
    for (int i = 0; i < 2; ++i) {
        Message large("s");
        large.SetBody(std::string(40'000, 'x'));
        EXPECT_TRUE(producer.Send(std::move(large), nullptr).ok());
    }
}

TEST_F(SendSubjectsTest, SubjectsThatNobodyUsesAreForgottenAtOnceWhenTheyAreTooMany) {
    cluster.SetEverySubject(true);
    Producer producer = MakeSmall(client);
    ASSERT_LE(SendInHundreds(producer, 10'000), 1'400U) << "about a MiB";
    EXPECT_EQ(broker().stored().size(), 10'000U);
    EXPECT_GE(producer.stats().subjects, 700U);
    SendTo(producer, 0, 10'000);
    Advance(seconds(5));
    EXPECT_EQ(producer.stats().pending_bytes, 0U);
    EXPECT_LE(producer.stats().subjects, 1'400U);
}

// Those that waited for a broker group could not be forgotten until it was back.
TEST_F(SendSubjectsTest, SubjectsThatWaitedForABrokerThatIsAwayAreForgotten) {
    cluster.SetEverySubject(true);
    ProducerOptions options;
    options.max_pending_bytes = 64U << 20;
    options.timeout = seconds(2);
    Producer producer = MakeProducer(client, options);
    SendTo(producer, 0, 1);
    Advance(seconds(1));
    broker().SetConnectable(false);
    broker().Cut();
    Settle();
    SendTo(producer, 0, 20'000);
    EXPECT_EQ(producer.stats().subjects, 20'000U);
    Advance(seconds(5));
    EXPECT_EQ(producer.stats().refused_count, 20'000U);
    EXPECT_EQ(producer.stats().pending_bytes, 0U);
    EXPECT_LE(producer.stats().subjects, 19'000U) << "about 16 MiB";
    broker().SetConnectable(true);
    Advance(minutes(1));
    SendTo(producer, 0, 20'000);
    Advance(seconds(1));
    EXPECT_EQ(broker().stored().size(), 20'001U);
}

/// Another thread may come between an executor's taking a timer and the task's taking the lock.
class MeanwhileExecutor final : public Executor {
public:
    MeanwhileExecutor(testing::ManualExecutor& inner, const Clock& clock)
        : inner_(inner), clock_(clock) {}
    bool Post(Task task) override { return inner_.Post(std::move(task)); }
    TimerId PostAt(TimePoint when, Task task) override {
        earliest = std::min(earliest, when - clock_.Now());
        return inner_.PostAt(when, [this, task = std::move(task)]() mutable {
            if (const auto once = std::exchange(meanwhile, nullptr)) {
                once();
            }
            task();
        });
    }
    bool Cancel(TimerId timer) override { return inner_.Cancel(timer); }

    std::function<void()> meanwhile;
    std::chrono::nanoseconds earliest{0};

private:
    testing::ManualExecutor& inner_;
    const Clock& clock_;
};

// To forget thousands in pieces the timer was set to the beginning of time. An event loop that
// computes how long that is took it for 292 years; and a timer that was just firing then was
// replaced, and both went on for ever.
TEST_F(SendSubjectsTest, WhoForgetsInPiecesHasOneTimerAtATimeThatExists) {
    cluster.SetEverySubject(true);
    MeanwhileExecutor work(time.executor, time.clock);
    ClientOptions of_client = Options();
    of_client.runtime = {&time.clock, &work, &time.executor, &time.executor, 1};
    Client client_of_work = MakeClient(of_client);
    Producer producer = MakeSmall(client_of_work);
    (void)SendInHundreds(producer, 3'000);
    const std::size_t before = time.executor.timer_count();
    for (int round = 0; round < 20; ++round) {
        broker().SetHoldSends(true);
        SendTo(producer, 3'000 + 300 * round, 3'300 + 300 * round);
        work.meanwhile = [&] {
            broker().SetHoldSends(false);
            while (broker().AnswerHeld()) {
                while (time.executor.task_count() > 0) {
                    time.executor.RunOne();
                }
            }
        };
        Advance(milliseconds(50));
    }
    Advance(seconds(3));
    EXPECT_LE(time.executor.timer_count(), before);
    EXPECT_GE(work.earliest, -seconds(1));
}

// Whoever asked for the route of every subject in vain had none, though it was known: a subject
// that was new then, or forgotten before, was served by nobody.
TEST_F(SendSubjectsTest, ANewSubjectTakesTheRouteOfEverySubjectWhileDiscoveryIsAway) {
    cluster.SetEverySubject(true);
    Producer producer = MakeProducer(client);
    SendTo(producer, 0, 1);
    Advance(std::chrono::hours(1) - seconds(2));
    cluster.SetDiscoverError(Status::Unavailable("discovery is away"));
    Advance(seconds(5));
    SendTo(producer, 1, 3);
    Advance(seconds(1));
    EXPECT_EQ(broker().stored().size(), 3U);
}

TEST_F(SendSubjectsTest, SubjectsOfAProducerThatIsGoneAreAskedForNoMore) {
    {
        Producer producer = MakeProducer(client);
        SendTo(producer, 0, 100);
        Advance(seconds(1));
    }
    Advance(std::chrono::hours(3));
    EXPECT_EQ(cluster.discover_count(), 100U);
}

// It need not be one that other threads may use, nor give anything.
TEST_F(SendSubjectsTest, TheDefaultMemoryResourceOfTheApplicationIsNotUsed) {
    struct Restore {
        std::pmr::memory_resource* before =
            std::pmr::set_default_resource(std::pmr::null_memory_resource());
        ~Restore() { std::pmr::set_default_resource(before); }
    } restore;
    Producer producer = MakeProducer(client);
    producer.Send(Message("a-subject-whose-name-is-not-short").SetOrderingKey("key")).Detach();
    Advance(std::chrono::hours(2));
    EXPECT_EQ(broker().stored().size(), 1U);
}

// Each had a timer of its own.
TEST_F(SendSubjectsTest, RoutesAreAskedForAgainByOneTimer) {
    Producer producer = MakeProducer(client);
    SendTo(producer, 0, 500);
    Advance(seconds(1));
    EXPECT_LE(time.executor.timer_count(), 10U);
    EXPECT_EQ(cluster.discover_count(), 500U);
    Advance(std::chrono::hours(1) + seconds(1));
    EXPECT_EQ(cluster.discover_count(), 1'000U) << "each again, once";
}

}  // namespace
}  // namespace qmq
