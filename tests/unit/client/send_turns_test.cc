// Sends of several threads: in which order they are stored, and which thread tells of their
// outcomes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/owned_coroutine.h"
#include "tests/unit/client/send_threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using testing::Await;
using testing::kPatience;
using testing::Owned;
using ::testing::SizeIs;

/// Where outcomes are told, and whether two were told at once.
class Turns {
public:
    void Take() {
        {
            const std::lock_guard lock(mutex_);
            together_ = inside_++ > 0 || together_;
            threads_.insert(std::this_thread::get_id());
        }
        std::this_thread::yield();  // Another one may come now.
        const std::lock_guard lock(mutex_);
        --inside_;
        ++count_;
    }
    int count() const {
        const std::lock_guard lock(mutex_);
        return count_;
    }
    bool together() const {
        const std::lock_guard lock(mutex_);
        return together_;
    }
    std::set<std::thread::id> threads() const {
        const std::lock_guard lock(mutex_);
        return threads_;
    }

private:
    mutable std::mutex mutex_;
    int inside_ = 0;
    int count_ = 0;
    bool together_ = false;
    std::set<std::thread::id> threads_;
};

class SendTurnsTest : public testing::SendThreadsFixture {
protected:
    static Owned SendOne(Producer producer, Turns* turns) {
        (void)co_await producer.Send(Message("s"));
        turns->Take();
    }
    std::thread::id TransportThread() {
        std::promise<std::thread::id> thread;
        EXPECT_TRUE(transport_threads.Post([&] { thread.set_value(std::this_thread::get_id()); }));
        return thread.get_future().get();
    }
};

TEST_F(SendTurnsTest, CallbacksAndCoroutinesOfAllProducersHaveTheirTurnsOnOneThread) {
    constexpr int kThreads = 3;
    constexpr int kPairs = 200;
    Turns turns;
    std::vector<std::vector<Owned>> coroutines(kThreads);
    Client client = MakeClient();
    broker().SetHoldSends(true);  // Else a coroutine may find its receipt there, and go on at once.
    std::vector<std::thread> senders;
    for (std::vector<Owned>& mine : coroutines) {
        senders.emplace_back([&client, &turns, &mine] {
            Producer producer = *client.MakeProducer();
            for (int i = 0; i < kPairs; ++i) {
                const Status taken =
                    producer.Send(Message("s"), [&turns](const SendReceipt&) { turns.Take(); });
                EXPECT_TRUE(taken.ok()) << taken;
                mine.push_back(SendOne(producer, &turns));
            }
        });
    }
    for (std::thread& sender : senders) {
        sender.join();
    }
    EXPECT_EQ(turns.count(), 0);
    broker().SetHoldSends(false);
    EXPECT_TRUE(Await([&] {
        (void)broker().AnswerHeld();
        return turns.count() == 2 * kThreads * kPairs;
    }));
    EXPECT_TRUE(client.Shutdown(kPatience).drained);
    EXPECT_EQ(turns.count(), 2 * kThreads * kPairs);
    EXPECT_THAT(turns.threads(), SizeIs(1));
    EXPECT_FALSE(turns.together());
    EXPECT_FALSE(turns.threads().contains(std::this_thread::get_id()));
    EXPECT_FALSE(turns.threads().contains(TransportThread()));
}

TEST_F(SendTurnsTest, WhoEndsTheClientResumesTheCoroutinesWhoseTurnHasNotCome) {
    std::promise<void> go;
    const auto began = std::make_shared<std::promise<void>>();
    Client client = MakeClient();
    Producer producer = *client.MakeProducer();
    const Status taken =
        producer.Send(Message("s"), [began, went = go.get_future().share()](const SendReceipt&) {
            began->set_value();
            went.wait();
        });
    ASSERT_TRUE(taken.ok()) << taken;
    began->get_future().wait();
    std::optional<SendReceipt> receipt;
    std::thread::id resumed_on;
    const auto send = [&receipt, &resumed_on](Producer to) -> Owned {
        receipt = co_await to.Send(Message("s"));
        resumed_on = std::this_thread::get_id();
    };
    broker().SetHoldSends(true);
    const Owned waits = send(producer);
    broker().SetHoldSends(false);
    EXPECT_TRUE(Await([&] {
        (void)broker().AnswerHeld();
        return producer.stats().persisted_count == 2;
    }));
    EXPECT_FALSE(waits.done());
    (void)client.Shutdown(milliseconds(10));
    EXPECT_TRUE(waits.done());
    ASSERT_TRUE(receipt.has_value());
    EXPECT_TRUE(receipt->ok()) << *receipt;
    EXPECT_EQ(resumed_on, std::this_thread::get_id());
    go.set_value();
}

/// Threads that send over one producer, to a cluster of two broker groups that answers on a thread
/// of its own, or inside the calls.
class SendTurnsOrderTest : public SendTurnsTest, public ::testing::WithParamInterface<bool> {
protected:
    static constexpr int kThreads = 4;
    static constexpr int kEach = 2'000;

    SendTurnsOrderTest() {
        for (const char* name : {"a", "b"}) {
            of_test().AddBroker(name);
        }
    }
    testing::FakeCluster& of_test() { return GetParam() ? inside : cluster; }
    static bool HasKey(int thread) { return thread % 2 == 1; }
    static void SendMany(Producer producer, int thread) {
        const std::string name = std::to_string(thread);
        for (int i = 0; i < kEach; ++i) {
            Message message("s");
            message.SetId(name + ":" + std::to_string(i));
            if (HasKey(thread)) {
                message.SetOrderingKey(name);
            }
            producer.Send(std::move(message)).Detach();
        }
    }

    testing::FakeCluster inside;
};

INSTANTIATE_TEST_SUITE_P(Answers, SendTurnsOrderTest, ::testing::Bool(), [](const auto& param) {
    return std::string(param.param ? "InsideTheCall" : "OnAnotherThread");
});

TEST_P(SendTurnsOrderTest, TheMessagesOfEachThreadAreStoredInItsOrder) {
    ClientOptions options = Options();
    options.transports = {of_test().factory()};
    Client client = *Client::Create(std::move(options));
    Producer producer = *client.MakeProducer();
    std::vector<std::thread> senders;
    for (int thread = 0; thread < kThreads; ++thread) {
        senders.emplace_back([producer, thread] { SendMany(producer, thread); });
    }
    for (std::thread& sender : senders) {
        sender.join();
    }
    EXPECT_TRUE(producer.Flush(kPatience).ok());
    std::size_t stored = 0;
    std::map<int, std::set<std::string>> groups_of;
    for (const char* name : {"a", "b"}) {
        std::map<int, int> next;
        for (const auto& message : of_test().broker(name).stored()) {
            const std::size_t colon = message.id.find(':');
            const int thread = std::stoi(message.id.substr(0, colon));
            const int number = std::stoi(message.id.substr(colon + 1));
            EXPECT_GE(number, next[thread]) << message.id << " in " << name;
            next[thread] = number + 1;
            groups_of[thread].insert(name);
            ++stored;
        }
    }
    EXPECT_EQ(stored, static_cast<std::size_t>(kThreads) * kEach);
    for (const auto& [thread, groups] : groups_of) {
        EXPECT_TRUE(groups.size() == 1 || !HasKey(thread)) << thread;
    }
}

}  // namespace
}  // namespace qmq
