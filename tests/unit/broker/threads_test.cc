#include <future>
#include <thread>

#include "tests/unit/broker/broker_fixture.h"

// The broker with real threads, for the thread sanitizer as much as for the result.
namespace qmq::broker::testing {
namespace {

/// Acks what it is handed, from the thread that hands it, and asks for more.
class AckingSink final : public DeliverySink {
public:
    AckingSink(std::size_t expected, std::promise<void> all)
        : expected_(expected), all_(std::move(all)) {}

    void OnSubscribed(const SubscribeReply&) override { subscribed_.set_value(); }
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        std::vector<AckItem> items;
        Credit credit;
        for (const DeliveredBatch& batch : batches) {
            items.push_back(AckItem{AckVerdict::kAck,
                                    batch.first_pull_sequence,
                                    batch.first_pull_sequence + batch.count - 1,
                                    {},
                                    {}});
            credit.messages += batch.count;
            credit.bytes += batch.header.size() + batch.body.size();
        }
        session->Ack(std::move(items), [this, credit](Result<AckReply> reply) {
            EXPECT_TRUE(reply.ok()) << reply.status();
            EXPECT_EQ(reply->not_held_count(), 0U);
            acked_ += credit.messages;
            if (acked_ == expected_) {
                all_.set_value();
            }
        });
        session->Grant(credit);
    }
    void OnClosed(const Status&) override {}

    void WaitSubscribed() { subscribed_.get_future().wait(); }

    Session* session = nullptr;

private:
    const std::size_t expected_;
    std::promise<void> all_;
    std::promise<void> subscribed_;
    std::size_t acked_ = 0;
};

TEST(ThreadsTest, ManyThreadsSendWhileConsumersOfEveryShardAck) {
    constexpr std::size_t kThreads = 4;
    constexpr std::size_t kFrames = 100;
    constexpr std::size_t kBatch = 5;
    constexpr std::size_t kSubjects = 4;
    ThreadPool timers({.threads = 1, .name = "timer"});
    ThreadPool io({.threads = 2, .name = "io"});
    std::unique_ptr<env::FileSystem> files = env::MakeMemoryFileSystem();
    BrokerOptions options;
    options.directory = "/data";
    options.shards = 3;
    options.subject_durability = {{"s1", Durability::kPageCache}};
    Result<std::unique_ptr<Broker>> opened =
        Broker::Open(options, BrokerEnvironment{*files, SystemClock(), timers, io});
    ASSERT_TRUE(opened.ok()) << opened.status();
    std::unique_ptr<Broker> broker = *std::move(opened);

    std::vector<std::shared_ptr<AckingSink>> sinks;
    std::vector<std::unique_ptr<Session>> sessions;
    std::vector<std::future<void>> finished;
    for (std::size_t i = 0; i < kSubjects; ++i) {
        std::promise<void> all;
        finished.push_back(all.get_future());
        sinks.push_back(std::make_shared<AckingSink>(kThreads * kFrames * kBatch, std::move(all)));
        sessions.push_back(
            broker->Subscribe(MakeRequest("s" + std::to_string(i), "g"), sinks.back()));
        sinks.back()->session = sessions.back().get();
        sinks.back()->WaitSubscribed();
        sessions.back()->Grant({100, 1U << 20U});
    }

    std::atomic<std::size_t> answered{0};
    std::vector<std::thread> senders;
    for (std::size_t t = 0; t < kThreads; ++t) {
        senders.emplace_back([&] {
            for (std::size_t f = 0; f < kFrames; ++f) {
                std::vector<SendBatch> frame;
                for (std::size_t s = 0; s < kSubjects; ++s) {
                    const std::string subject = "s" + std::to_string(s);
                    BatchBuilder builder;
                    for (std::size_t m = 0; m < kBatch; ++m) {
                        builder.Add(Message(subject).SetBody("m"), "id", SystemClock().WallNow());
                    }
                    frame.push_back(SendBatch{subject, Slice::Own(builder.Finish()), {}});
                }
                broker->Send(std::move(frame), [&](std::vector<BatchReceipt> receipts) {
                    for (const BatchReceipt& receipt : receipts) {
                        EXPECT_TRUE(receipt.status.ok()) << receipt.status;
                    }
                    ++answered;
                });
            }
        });
    }
    for (std::thread& sender : senders) {
        sender.join();
    }
    for (std::future<void>& future : finished) {
        future.wait();
    }
    std::promise<Status> closed;
    broker->Close([&closed](Status status) { closed.set_value(std::move(status)); });
    const Status status = closed.get_future().get();
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(answered, kThreads * kFrames);
    sessions.clear();
    broker.reset();
}

}  // namespace
}  // namespace qmq::broker::testing
