// Wherever a client calls code of the application's, that may call whatever the client has.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/filter_fixture.h"
#include "tests/unit/client/threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using testing::kLong;
using testing::kSoon;
using testing::ScriptFilter;

using Batch = Result<std::vector<Delivery>>;

constexpr milliseconds kNow{0};

/// One place at a time from which calls are made.
class CallAnywhereTest : public testing::ThreadsFixture,
                         public ::testing::WithParamInterface<std::size_t> {
public:
    struct Place {
        const char* name;
        /// Sees to it that `Here` is called from there.
        std::function<void(CallAnywhereTest&)> arrange;
    };
    static const std::vector<Place>& Places();

protected:
    /// From the place under test `call` is made, once; false when it does not return.
    bool ReturnsThere(Task call) {
        call_ = std::move(call);
        ClientOptions options = Options();
        options.log = [this](LogLevel, std::string_view) {
            if (from_log) {
                Here();
            }
        };
        client.emplace(MakeClient(std::move(options)));
        producer = *client->MakeProducer();
        Places()[GetParam()].arrange(*this);
        return returned_.get_future().wait_for(kSoon) == std::future_status::ready;
    }
    void Here() {
        if (!came_.exchange(true)) {
            call_();
            returned_.set_value();
        }
    }
    /// `handler` has a message.
    void Handle(Handler handler, std::shared_ptr<Filter> filter = nullptr) {
        SubscriptionOptions options = Consumer();
        if (filter != nullptr) {
            options.filters = {std::move(filter)};
        }
        subscription = *client->Subscribe(std::move(options), std::move(handler));
        broker().Append(Message("s"));
    }
    PullConsumer MakePuller(const std::string& group) {
        PullConsumerOptions options;
        options.subject = "s";
        options.group = group;
        return *client->MakePullConsumer(options);
    }

    /// What a client can be asked, and all that it makes, without any time to wait.
    void CallEverything() {
        CallAll(producer);
        Producer new_producer = *client->MakeProducer();
        CallAll(new_producer);
        if (subscription.has_value()) {
            CallAll(*subscription);
        }
        Subscription new_subscription = *client->Subscribe(Consumer("new"), [](const Message&) {});
        CallAll(new_subscription);
        if (puller.has_value()) {
            CallAll(*puller);
        }
        PullConsumer new_puller = MakePuller("new-pulls");
        CallAll(new_puller);
        (void)client->WaitReady("new", kNow);
        EXPECT_FALSE(client->client_id().empty());
    }
    static void CallAll(Producer& one) {
        const auto ignore = [](const SendReceipt&) {};
        const SendFuture sent = one.Send(Message("new"));
        (void)sent.ready();
        (void)sent.WaitFor(kNow);
        (void)one.Send(Message("new"), ignore);
        (void)one.TrySend(Message("new"), ignore);
        (void)one.Flush(kNow);
        (void)one.stats();
    }
    static void CallAll(Subscription& one) {
        one.Pause();
        one.Resume();
        (void)one.stats();
        (void)one.warnings();
        (void)one.WaitReady(kNow);
        (void)one.Close(kNow);
    }
    static void CallAll(PullConsumer& one) {
        (void)one.Pull({1, kNow});
        (void)one.PullAsync({1, kNow}, [](const Batch&) {});
        (void)one.WaitReady(kNow);
        (void)one.Close(kNow);
    }

    std::optional<Subscription> subscription;
    std::optional<PullConsumer> puller;
    Producer producer;
    std::atomic<bool> from_log{false};

private:
    Task call_;
    std::atomic<bool> came_{false};
    std::promise<void> returned_;

protected:
    std::optional<Client> client;  // Last: it ends before what is called touches anything else.
};

const std::vector<CallAnywhereTest::Place>& CallAnywhereTest::Places() {
    using Test = CallAnywhereTest;
    static const auto nothing = [](const Message&) {};
    static const std::vector<Place> kPlaces = {
        {"Handler", [](Test& t) { t.Handle([&t](const Message&) { t.Here(); }); }},
        {"ManualHandler",
         [](Test& t) {
             t.Handle([&t](Delivery delivery) {
                 t.Here();
                 delivery.Ack();
             });
         }},
        {"Filter",
         [](Test& t) {
             t.Handle(nothing, std::make_shared<ScriptFilter>([&t](auto&, auto& next) {
                          t.Here();
                          return next();
                      }));
         }},
        {"FilterThatHearsOfTheEnd",
         [](Test& t) {
             t.Handle(nothing,
                      std::make_shared<ScriptFilter>(nullptr, [&t](auto&, auto&) { t.Here(); }));
         }},
        {"SendCallback",
         [](Test& t) {
             (void)t.producer.Send(Message("t"), [&t](const SendReceipt&) { t.Here(); });
         }},
        {"AckCallback",
         [](Test& t) {
             t.Handle([&t](Delivery delivery) { delivery.Ack([&t](const Status&) { t.Here(); }); });
         }},
        {"PullCallback",
         [](Test& t) {
             t.puller = t.MakePuller("pulls");
             (void)t.puller->PullAsync({1, kNow}, [&t](const Batch&) { t.Here(); });
         }},
        {"LogSink",
         [](Test& t) {
             t.from_log = true;
             t.Handle(nothing);
             t.broker().AppendUndecodable("s");
         }},
        {"WhatAHandlerRegisteredForItsStop",
         [](Test& t) {
             const auto began = std::make_shared<std::promise<void>>();
             t.Handle([&t, began](const Message&, DeliveryContext& context) {
                 std::promise<void> stopped;
                 const std::stop_callback on_stop(context.stop_token(), [&] {
                     t.Here();
                     stopped.set_value();
                 });
                 began->set_value();
                 stopped.get_future().wait();
             });
             began->get_future().wait();
             (void)t.subscription->Close(kLong);
         }},
    };
    return kPlaces;
}

std::string NameOfPlace(const ::testing::TestParamInfo<std::size_t>& param) {
    return CallAnywhereTest::Places()[param.param].name;
}

INSTANTIATE_TEST_SUITE_P(Places,
                         CallAnywhereTest,
                         ::testing::Range<std::size_t>(0, CallAnywhereTest::Places().size()),
                         NameOfPlace);

TEST_P(CallAnywhereTest, EachCallReturns) {
    EXPECT_TRUE(ReturnsThere([this] { CallEverything(); }));
    EXPECT_EQ(client->Shutdown(kLong).handlers_running, 0U);
}

/// Not from the last of the places: there a handler waits that a shutdown waits for.
class ShutdownAnywhereTest : public CallAnywhereTest {};

INSTANTIATE_TEST_SUITE_P(Places,
                         ShutdownAnywhereTest,
                         ::testing::Range<std::size_t>(0, CallAnywhereTest::Places().size() - 1),
                         NameOfPlace);

TEST_P(ShutdownAnywhereTest, AShutdownDoesNotWaitForThatOne) {
    EXPECT_TRUE(ReturnsThere([this] { (void)client->Shutdown(kLong); }));
    (void)client->Shutdown(kLong);
}

}  // namespace
}  // namespace qmq
