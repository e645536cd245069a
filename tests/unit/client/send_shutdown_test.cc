// Sends of several threads beside a shutdown: each callback of what was taken comes or is counted,
// and what was refused is stored nowhere.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/unit/client/send_threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using testing::kPatience;

/// What callbacks are told, by message. Lives as long as they do.
class Told {
public:
    void Add(const std::string& id, SendOutcome outcome) {
        const std::lock_guard lock(mutex_);
        outcomes_[id].push_back(outcome);
    }
    std::map<std::string, std::vector<SendOutcome>> outcomes() const {
        const std::lock_guard lock(mutex_);
        return outcomes_;
    }

private:
    mutable std::mutex mutex_;
    std::map<std::string, std::vector<SendOutcome>> outcomes_;
};

/// What one thread sent.
struct Sent {
    std::uint64_t taken = 0;  // With a callback.
    std::set<std::string> refused;
    std::vector<std::pair<std::string, SendFuture>> futures;
};

class SendShutdownTest : public testing::SendThreadsFixture {
protected:
    static constexpr int kThreads = 3;
    static constexpr int kMostOfEach = 20'000;
    static constexpr int kBeforeShutdown = 500;

    void Begin(bool inline_callbacks = false) {
        client.emplace(MakeClient(inline_callbacks));
        ProducerOptions options;
        options.max_pending_count = 1'000;
        producer = *client->MakeProducer(options);
    }
    SendCallback Callback(const std::string& id) {
        return [to = told, id](const SendReceipt& receipt) { to->Add(id, receipt.outcome); };
    }
    /// Sends until the client has been shut down, and a little longer.
    void SendMany(const std::string& name, Sent* sent) {
        int after_the_end = 0;
        for (int i = 0; i < kMostOfEach && after_the_end < 20; ++i) {
            const std::string id = name + ":" + std::to_string(i);
            Message message("s" + std::to_string(i % 3));
            message.SetId(id);
            if (i % 4 == 0) {
                sent->futures.emplace_back(id, producer.Send(std::move(message)));
                continue;
            }
            const Status taken = producer.Send(std::move(message), Callback(id));
            if (taken.ok()) {
                ++sent->taken;
                if (count.fetch_add(1) + 1 == kBeforeShutdown) {
                    many.set_value();
                }
                continue;
            }
            sent->refused.insert(id);
            after_the_end += taken.code() == StatusCode::kCancelled ? 1 : 0;
            std::this_thread::yield();  // There may be no room.
        }
    }
    /// Shuts down beside threads that send. The report, and in `all` what they sent.
    ShutdownReport ShutdownBesideSends(milliseconds timeout, std::vector<Sent>* all) {
        all->resize(kThreads);
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < all->size(); ++i) {
            threads.emplace_back([this, i, all] { SendMany(std::to_string(i), &(*all)[i]); });
        }
        many.get_future().wait();
        ShutdownReport report = client->Shutdown(timeout);
        for (std::thread& thread : threads) {
            thread.join();
        }
        return report;
    }
    void ExpectAddsUp(const ShutdownReport& report,
                      std::uint64_t taken,
                      const std::vector<Sent>& all) {
        std::set<std::string> stored;
        for (const auto& message : broker().stored()) {
            stored.insert(message.id);
        }
        std::uint64_t called = 0;
        for (const auto& [id, outcomes] : told->outcomes()) {
            EXPECT_EQ(outcomes.size(), 1U) << id;
            called += outcomes.size();
            ExpectStoredAsTold(stored, id, outcomes.front());
        }
        for (const Sent& sent : all) {
            taken += sent.taken;
            for (const std::string& id : sent.refused) {
                EXPECT_FALSE(stored.contains(id)) << id;
            }
            for (const auto& [id, future] : sent.futures) {
                ASSERT_TRUE(future.ready()) << id;
                ExpectStoredAsTold(stored, id, future.Get().outcome);
            }
        }
        EXPECT_EQ(taken, called + report.callbacks_dropped);
    }

    const std::shared_ptr<Told> told = std::make_shared<Told>();
    std::promise<void> many;
    std::atomic<int> count{0};
    std::optional<Client> client;
    Producer producer;

private:
    static void ExpectStoredAsTold(const std::set<std::string>& stored,
                                   const std::string& id,
                                   SendOutcome outcome) {
        if (outcome != SendOutcome::kUnknown) {
            EXPECT_EQ(stored.contains(id), outcome == SendOutcome::kPersisted) << id;
        }
    }
};

class SendShutdownTimeTest : public SendShutdownTest,
                             public ::testing::WithParamInterface<std::tuple<int, bool>> {};

INSTANTIATE_TEST_SUITE_P(Time,
                         SendShutdownTimeTest,
                         ::testing::Combine(::testing::Values(0, 1, 10, 20'000), ::testing::Bool()),
                         [](const auto& param) {
                             return std::to_string(std::get<0>(param.param)) + "Ms" +
                                    (std::get<1>(param.param) ? "Inline" : "");
                         });

TEST_P(SendShutdownTimeTest, WhatIsTakenIsCalledBackOrCountedAndWhatIsRefusedIsNotStored) {
    const auto [time_ms, inline_callbacks] = GetParam();
    Begin(inline_callbacks);
    std::vector<Sent> all;
    const ShutdownReport report = ShutdownBesideSends(milliseconds(time_ms), &all);
    ExpectAddsUp(report, 0, all);
    if (time_ms == 20'000) {
        EXPECT_TRUE(report.drained);
    }
}

TEST_F(SendShutdownTest, BehindACallbackThatDoesNotReturnTheRestIsCounted) {
    Begin();
    std::promise<void> go;
    const auto began = std::make_shared<std::promise<void>>();
    const Status taken = producer.Send(
        Message("s"),
        [to = told, began, went = go.get_future().share()](const SendReceipt& receipt) {
            to->Add(receipt.message_id, receipt.outcome);
            began->set_value();
            went.wait();
        });
    ASSERT_TRUE(taken.ok()) << taken;
    began->get_future().wait();
    std::vector<Sent> all;
    const ShutdownReport report = ShutdownBesideSends(milliseconds(10), &all);
    EXPECT_GE(report.callbacks_dropped, static_cast<std::uint64_t>(kBeforeShutdown));
    ExpectAddsUp(report, 1, all);
    go.set_value();
}

}  // namespace
}  // namespace qmq
