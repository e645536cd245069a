// Where a thread would wait for what it brings itself, and so does not wait.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"
#include "tests/unit/client/send_threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using testing::kPatience;
using testing::ReceiptOf;
using ::testing::SizeIs;

/// On executors of somebody else's.
class SendWaitsInTimeTest : public testing::ClientFixture {
protected:
    SendWaitsInTimeTest() : client(MakeClient()), producer(MakeProducer(client)) {}

    /// Sends, and is refused to wait for it.
    void SendAndWait() {
        sent.push_back(producer.Send(Message("out")));
        EXPECT_FALSE(sent.back().ready());
        const std::optional<SendReceipt> waited = sent.back().WaitFor(hours(1));
        ASSERT_TRUE(waited.has_value());
        for (const SendReceipt& told : {sent.back().Get(), *waited}) {
            EXPECT_EQ(told.outcome, SendOutcome::kUnknown);
            EXPECT_EQ(told.status.code(), StatusCode::kFailedPrecondition);
        }
        EXPECT_EQ(producer.Flush(hours(1)).code(), StatusCode::kFailedPrecondition);
    }

    Client client;
    Producer producer;
    std::vector<SendFuture> sent;
};

TEST_F(SendWaitsInTimeTest, NeitherACallbackNorAHandlerWaitsWhichSaysNothingOfTheMessage) {
    EXPECT_TRUE(producer.Send(Message("t"), [&](const SendReceipt&) { SendAndWait(); }).ok());
    const Subscription subscription =
        MakeSubscription(client, Consumer(), [&](const Message&) { SendAndWait(); });
    Append(1);
    Settle();
    ASSERT_THAT(sent, SizeIs(2));
    for (const SendFuture& future : sent) {
        EXPECT_TRUE(ReceiptOf(future).ok()) << ReceiptOf(future);
    }
}

TEST_F(SendWaitsInTimeTest, AReceiptThatIsThereIsGivenToACallbackAndToAHandler) {
    const SendFuture first = producer.Send(Message("t"));
    Settle();
    ASSERT_TRUE(first.ready());
    std::vector<SendReceipt> given;
    const auto take = [&] {
        given.push_back(first.Get());
        given.push_back(first.WaitFor(milliseconds(0)).value_or(SendReceipt{}));
    };
    EXPECT_TRUE(producer.Send(Message("t"), [&](const SendReceipt&) { take(); }).ok());
    const Subscription subscription =
        MakeSubscription(client, Consumer(), [&](const Message&) { take(); });
    Append(1);
    Settle();
    ASSERT_THAT(given, SizeIs(4));
    for (const SendReceipt& receipt : given) {
        EXPECT_TRUE(receipt.ok()) << receipt;
    }
}

class SendWaitsTest : public testing::SendThreadsFixture {
protected:
    using Told = std::shared_ptr<std::promise<std::vector<Status>>>;

    static Told MakeTold() { return std::make_shared<std::promise<std::vector<Status>>>(); }
    /// Takes the only room of `full`, and calls what waits for a receipt, for all, and for room.
    std::vector<Status> WaitForEverything(Producer& full) {
        broker().SetHoldSends(true);
        const SendFuture sent = full.Send(Message("out"), kPatience / 2);
        std::vector<Status> told{sent.Get().status, full.Flush(kPatience / 2)};
        told.push_back(full.Send(Message("out"), kPatience / 2, SendCallback()));
        broker().SetHoldSends(false);
        return told;
    }
    static void ExpectRefused(const Told& told) {
        std::future<std::vector<Status>> came = told->get_future();
        ASSERT_EQ(came.wait_for(kPatience), std::future_status::ready);
        const std::vector<Status> statuses = came.get();
        ASSERT_THAT(statuses, SizeIs(3));
        EXPECT_EQ(statuses[0].code(), StatusCode::kFailedPrecondition) << statuses[0];
        EXPECT_EQ(statuses[1].code(), StatusCode::kFailedPrecondition) << statuses[1];
        EXPECT_EQ(statuses[2].code(), StatusCode::kResourceExhausted) << statuses[2];
    }
    void ExpectRefusedInACallback(Client& client, Producer& producer) {
        const Told told = MakeTold();
        EXPECT_TRUE(producer
                        .Send(Message("t"),
                              [this, told, full = Blocking(client, 1)](const SendReceipt&) mutable {
                                  told->set_value(WaitForEverything(full));
                              })
                        .ok());
        ExpectRefused(told);
    }
};

TEST_F(SendWaitsTest, AnInlineCallbackDoesNotWaitAndAHandlerBesideItDoes) {
    Client client = MakeClient(true);
    Producer producer = Blocking(client, 100);
    ExpectRefusedInACallback(client, producer);
    const auto handled = std::make_shared<std::promise<SendReceipt>>();
    const auto subscription = client.Subscribe(Consumer(), [=](const Message&) mutable {
        handled->set_value(producer.Send(Message("out")).Get());
    });
    ASSERT_TRUE(subscription.ok()) << subscription.status();
    broker().Append(Message("in"));
    const SendReceipt receipt = handled->get_future().get();
    EXPECT_TRUE(receipt.ok()) << receipt;
}

/// With one executor of the application's, whichever it is.
class SendWaitsRuntimeTest : public SendWaitsTest,
                             public ::testing::WithParamInterface<Executor * Runtime::*> {
protected:
    Client MakeClientOnGiven() {
        ClientOptions options = Options();
        options.runtime.*GetParam() = &given;
        return *Client::Create(std::move(options));
    }

    ThreadPool given{{1, 1U << 20, "given"}};
};

INSTANTIATE_TEST_SUITE_P(
    Given,
    SendWaitsRuntimeTest,
    ::testing::Values(&Runtime::executor, &Runtime::callbacks, &Runtime::handlers),
    [](const auto& param) {
        return std::string(param.param == &Runtime::executor    ? "ForWork"
                           : param.param == &Runtime::callbacks ? "ForCallbacks"
                                                                : "ForHandlers");
    });

TEST_P(SendWaitsRuntimeTest, ACallbackDoesNotWait) {
    Client client = MakeClientOnGiven();
    Producer producer = Blocking(client, 100);
    ExpectRefusedInACallback(client, producer);
}

TEST_P(SendWaitsRuntimeTest, AHandlerDoesNotWait) {
    Client client = MakeClientOnGiven();
    const Told told = MakeTold();
    const auto subscription = client.Subscribe(
        Consumer(), [this, told, full = Blocking(client, 1)](const Message&) mutable {
            told->set_value(WaitForEverything(full));
        });
    ASSERT_TRUE(subscription.ok()) << subscription.status();
    broker().Append(Message("in"));
    ExpectRefused(told);
}

TEST_F(SendWaitsInTimeTest, AReceiptThatCouldNotBeWaitedForNamesNoMessage) {
    std::optional<SendReceipt> told;
    EXPECT_TRUE(producer
                    .Send(Message("t"),
                          [&](const SendReceipt&) {
                              sent.push_back(producer.Send(Message("out").SetId("mine")));
                              told = sent.back().Get();
                          })
                    .ok());
    Settle();
    ASSERT_TRUE(told.has_value());
    EXPECT_EQ(told->status.code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(told->message_id, "");
}

}  // namespace
}  // namespace qmq
