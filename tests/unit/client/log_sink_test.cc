// What the application's log sink may do, in a client with threads of its own.

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "tests/unit/client/threads_fixture.h"

namespace qmq {
namespace {

using testing::kSoon;

class LogSinkTest : public testing::ThreadsFixture {
protected:
    /// Makes the client say something.
    void Provoke(Client& client) {
        subscription = *client.Subscribe(Consumer(), [](const Message&) {});
        broker().AppendUndecodable("s");
    }

    const std::shared_ptr<std::once_flag> once = std::make_shared<std::once_flag>();
    Subscription subscription;
};

TEST_F(LogSinkTest, ItMaySendAndWaitForTheReceipt) {
    std::promise<Producer> made;
    const auto receipt = std::make_shared<std::promise<SendReceipt>>();
    ClientOptions options = Options();
    options.log = [once = once, receipt, producer = made.get_future().share()](LogLevel,
                                                                               std::string_view) {
        std::call_once(*once, [&] {
            Producer mine = producer.get();
            receipt->set_value(mine.Send(Message("lines")).Get());
        });
    };
    Client client = MakeClient(std::move(options));
    made.set_value(*client.MakeProducer());
    Provoke(client);
    std::future<SendReceipt> came = receipt->get_future();
    ASSERT_EQ(came.wait_for(kSoon), std::future_status::ready);
    EXPECT_TRUE(came.get().ok());
}

TEST_F(LogSinkTest, ItHasAThreadThatDoesNothingElse) {
    const auto of_sink = std::make_shared<std::promise<std::thread::id>>();
    ClientOptions options = Options();
    options.log = [once = once, of_sink](LogLevel, std::string_view) {
        std::call_once(*once, [&] { of_sink->set_value(std::this_thread::get_id()); });
    };
    std::promise<std::thread::id> of_callback;
    std::promise<std::thread::id> of_handler;
    std::promise<std::thread::id> of_transport;
    Client client = MakeClient(std::move(options));
    Producer producer = *client.MakeProducer();
    Provoke(client);
    (void)producer.Send(Message("t"), [&of_callback](const SendReceipt&) {
        of_callback.set_value(std::this_thread::get_id());
    });
    SubscriptionOptions consumer = Consumer("other");
    consumer.subject = "t";
    const auto other = client.Subscribe(consumer, [&of_handler](const Message&) {
        of_handler.set_value(std::this_thread::get_id());
    });
    ASSERT_TRUE(transport_threads.Post(
        [&of_transport] { of_transport.set_value(std::this_thread::get_id()); }));
    const std::set<std::thread::id> threads{std::this_thread::get_id(),
                                            of_callback.get_future().get(),
                                            of_handler.get_future().get(),
                                            of_transport.get_future().get(),
                                            of_sink->get_future().get()};
    EXPECT_EQ(threads.size(), 5U);
}

}  // namespace
}  // namespace qmq
