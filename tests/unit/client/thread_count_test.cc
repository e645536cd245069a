// How many threads a client has, and which of them stay when it has ended.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tests/unit/client/threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::kLong;
using testing::kSoon;

constexpr std::string_view kAll = "qmq-";
constexpr std::string_view kHandlers = "qmq-handler";

using Names = std::map<std::string, std::string>;

/// The names of the threads of this process by their ids.
Names ThreadNames() {
    Names names;
    std::error_code gone;  // A thread may end while this looks.
    for (std::filesystem::directory_iterator task("/proc/self/task", gone), end; task != end;
         task.increment(gone)) {
        std::getline(std::ifstream(task->path() / "comm"), names[task->path().filename()]);
    }
    return names;
}

class ThreadCountTest : public testing::ThreadsFixture {
protected:
    ~ThreadCountTest() override { LetGo(); }

    /// Threads whose names begin so, but for those that other tests have left.
    std::size_t ThreadCount(std::string_view name) const {
        const Names now = ThreadNames();
        return static_cast<std::size_t>(std::count_if(now.begin(), now.end(), [&](const auto& one) {
            return one.second.starts_with(name) && !before_.contains(one.first);
        }));
    }
    /// Waits for that: a thread takes its name, and goes, in its own time.
    ::testing::AssertionResult Become(std::string_view name, std::size_t count) const {
        const auto give_up = steady_clock::now() + kSoon;
        std::size_t seen = ThreadCount(name);
        while (seen != count && steady_clock::now() < give_up) {
            std::this_thread::yield();
            seen = ThreadCount(name);
        }
        return seen == count ? ::testing::AssertionSuccess()
                             : ::testing::AssertionFailure() << seen << " threads " << name;
    }
    void LetGo() {
        if (!std::exchange(let_go_, true)) {
            go_.set_value();
        }
    }
    static SubscriptionOptions Parallel(std::uint32_t parallelism, const std::string& group = "g") {
        SubscriptionOptions options = Consumer(group);
        options.parallelism = parallelism;
        return options;
    }
    /// What begins and does not return until the test lets it.
    std::function<void()> Hang() {
        return [hung = hung, went = went_] {
            ++*hung;
            went.wait();
        };
    }
    Subscription SubscribeHung(Client& client, SubscriptionOptions options) {
        return *client.Subscribe(std::move(options), [hang = Hang()](const Message&) { hang(); });
    }
    void AwaitHung(int count) {
        while (*hung < count) {
            std::this_thread::yield();
        }
    }
    void Append(int count) {
        for (int i = 0; i < count; ++i) {
            broker().Append(Message("s"));
        }
    }

    const std::shared_ptr<std::atomic<int>> hung = std::make_shared<std::atomic<int>>(0);

private:
    const Names before_ = ThreadNames();
    std::promise<void> go_;
    const std::shared_future<void> went_ = go_.get_future().share();
    bool let_go_ = false;
};

TEST_F(ThreadCountTest, HowManyThreadsThereAreDoesNotDependOnWhatAClientIsUsedFor) {
    Client client = MakeClient();
    std::promise<void> called;
    ASSERT_TRUE(client.MakeProducer()
                    ->Send(Message("t"), [&called](const SendReceipt&) { called.set_value(); })
                    .ok());
    called.get_future().wait();
    constexpr std::size_t kFew = 2;  // For timers and the client's own work, and for callbacks.
    EXPECT_TRUE(Become(kAll, kFew));
    std::vector<Producer> producers;
    std::vector<PullConsumer> pullers;
    for (int i = 0; i < 20; ++i) {
        producers.push_back(*client.MakeProducer());
        EXPECT_TRUE(producers.back().Send(Message("t" + std::to_string(i))).Get().ok());
        PullConsumerOptions options;
        options.subject = "t";
        options.group = "g" + std::to_string(i);
        pullers.push_back(*client.MakePullConsumer(options));
        EXPECT_TRUE(pullers.back().WaitReady(kLong).ok());
    }
    EXPECT_TRUE(Become(kAll, kFew));
}

TEST_F(ThreadCountTest, TheFirstFourForHandlersComeWithTheFirstSubscription) {
    Client client = MakeClient();
    Producer producer = *client.MakeProducer();
    EXPECT_EQ(ThreadCount(kHandlers), 0U);
    Subscription first = SubscribeHung(client, Parallel(32, "g1"));
    EXPECT_TRUE(Become(kHandlers, 4));
    Subscription second = SubscribeHung(client, Parallel(32, "g2"));
    EXPECT_TRUE(Become(kHandlers, 4));
}

TEST_F(ThreadCountTest, HandlersOnTheirOwnExecutorNeedNone) {
    ThreadPool own({.threads = 1, .name = "own"});
    std::promise<void> handled;
    Client client = MakeClient();
    SubscriptionOptions options = Parallel(32);
    options.executor = &own;
    Subscription subscription =
        *client.Subscribe(options, [&handled](const Message&) { handled.set_value(); });
    Append(1);
    handled.get_future().wait();
    EXPECT_EQ(ThreadCount(kHandlers), 0U);
    (void)client.Shutdown(kLong);
}

TEST_F(ThreadCountTest, HandlersThatWaitGetMoreUpToTheSumOfAllParallelism) {
    Client client = MakeClient();
    Subscription first = SubscribeHung(client, Parallel(6, "g1"));
    Subscription second = SubscribeHung(client, Parallel(3, "g2"));
    Append(20);
    AwaitHung(9);
    EXPECT_TRUE(Become(kHandlers, 9));
    LetGo();
    AwaitHung(40);
    EXPECT_EQ(ThreadCount(kHandlers), 9U);
}

TEST_F(ThreadCountTest, ThereAreNoMoreThanHandlerThreads) {
    ClientOptions options = Options();
    options.handler_threads = 2;
    Client client = MakeClient(std::move(options));
    Subscription subscription = SubscribeHung(client, Parallel(8));
    Append(20);
    AwaitHung(2);
    EXPECT_EQ(*hung, 2);
    LetGo();
    AwaitHung(20);
    EXPECT_TRUE(Become(kHandlers, 2));
}

TEST_F(ThreadCountTest, ThereAreAsManyAsSubscriptionsHoweverFewAreAllowed) {
    ClientOptions options = Options();
    options.handler_threads = 1;
    Client client = MakeClient(std::move(options));
    std::vector<Subscription> subscriptions;
    for (const char* group : {"g1", "g2", "g3"}) {
        subscriptions.push_back(SubscribeHung(client, Parallel(8, group)));
    }
    Append(10);
    AwaitHung(3);  // One of each.
    EXPECT_TRUE(Become(kHandlers, 3));
    EXPECT_EQ(*hung, 3);
    LetGo();
    (void)client.Shutdown(kLong);
}

TEST_F(ThreadCountTest, SubscriptionsThatCloseLeaveTheirThreadsToTheNext) {
    Client client = MakeClient();
    for (int i = 0; i < 10; ++i) {
        auto handled = std::make_shared<std::promise<void>>();
        Subscription subscription =
            *client.Subscribe(Parallel(4, "g" + std::to_string(i)),
                              [handled, once = std::make_shared<std::once_flag>()](const Message&) {
                                  std::call_once(*once, [&] { handled->set_value(); });
                              });
        Append(1);
        handled->get_future().wait();
        ASSERT_TRUE(subscription.Close(kLong).ok());
    }
    EXPECT_TRUE(Become(kHandlers, 4));
}

TEST_F(ThreadCountTest, AShutdownLeavesNone) {
    Client client = MakeClient();
    Producer producer = *client.MakeProducer();
    Subscription subscription =
        *client.Subscribe(Parallel(32), [](const Message&) { std::this_thread::yield(); });
    for (int i = 0; i < 100; ++i) {
        producer.Send(Message("s")).Detach();
    }
    (void)client.Shutdown(kLong);
    EXPECT_TRUE(Become(kAll, 0));
}

// The handles of a client are often kept for as long as the process runs.
TEST_F(ThreadCountTest, AShutdownLeavesNotEvenTheOneOfTheLog) {
    auto logged = std::make_shared<std::promise<void>>();
    ClientOptions options = Options();
    options.log = [logged, once = std::make_shared<std::once_flag>()](LogLevel, std::string_view) {
        std::call_once(*once, [&] { logged->set_value(); });
    };
    Client client = MakeClient(std::move(options));
    Subscription subscription = *client.Subscribe(Consumer(), [](const Message&) {});
    broker().AppendUndecodable("s");
    logged->get_future().wait();
    (void)client.Shutdown(kLong);
    EXPECT_TRUE(Become(kAll, 0));
}

TEST_F(ThreadCountTest, AHandlerThatDoesNotReturnKeepsItsOneThread) {
    std::optional<Client> client(MakeClient());
    Subscription subscription = SubscribeHung(*client, Parallel(8));
    Append(1);
    AwaitHung(1);
    EXPECT_EQ(client->Shutdown(milliseconds(10)).handlers_running, 1U);
    client.reset();
    EXPECT_TRUE(Become(kAll, 1));
    LetGo();
    EXPECT_TRUE(Become(kAll, 0));
}

TEST_F(ThreadCountTest, ACallbackThatDoesNotReturnKeepsItsOneThread) {
    std::optional<Client> client(MakeClient());
    Subscription subscription = *client->Subscribe(Parallel(8), [](const Message&) {});
    (void)client->MakeProducer()->Send(Message("t"),
                                       [hang = Hang()](const SendReceipt&) { hang(); });
    AwaitHung(1);
    (void)client->Shutdown(milliseconds(10));
    client.reset();
    EXPECT_TRUE(Become(kAll, 1));
    LetGo();
    EXPECT_TRUE(Become(kAll, 0));
}

TEST_F(ThreadCountTest, ALogSinkThatDoesNotReturnKeepsItsOneThread) {
    ClientOptions options = Options();
    options.log = [hang = Hang()](LogLevel, std::string_view) { hang(); };
    std::optional<Client> client(MakeClient(std::move(options)));
    std::optional<Subscription> subscription =
        *client->Subscribe(Parallel(8), [](const Message&) {});
    broker().AppendUndecodable("s");
    AwaitHung(1);
    (void)client->Shutdown(milliseconds(10));
    subscription.reset();
    client.reset();
    EXPECT_TRUE(Become(kAll, 1));
    LetGo();
    EXPECT_TRUE(Become(kAll, 0));
}

}  // namespace
}  // namespace qmq
