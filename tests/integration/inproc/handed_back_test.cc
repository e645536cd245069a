// What one client hands back to a broker in the process, another one has.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "qmq/client.h"
#include "qmq/inproc.h"

#include "tests/support/manual_executor.h"

namespace qmq {
namespace {

constexpr std::chrono::seconds kPatience{20};

Client MakeClient(std::shared_ptr<TransportFactory> transport, const std::string& id) {
    ClientOptions options;
    options.app_code = "test";
    options.client_id = id;
    options.transports = {std::move(transport)};
    options.log = [](LogLevel, std::string_view) {};
    return Client::Create(std::move(options)).value();
}

TEST(InprocHandedBackTest, WhatAClientHadNotBegunAnotherHasWithoutAnAttemptLess) {
    constexpr std::uint32_t kCount = 10;
    testing::ManualTime stands_still;
    std::atomic<std::uint32_t> came{0};
    std::atomic<std::uint32_t> first_attempts{0};
    std::promise<void> all_came;
    const auto transport = InprocTransport();
    Client first = MakeClient(transport, "client-1");
    Client second = MakeClient(transport, "client-2");
    SubscriptionOptions options;
    options.subject = "s";
    options.group = "g";
    options.start = StartPosition::kEarliest;
    options.prefetch_count = kCount;
    SubscriptionOptions waiting = options;
    waiting.executor = &stands_still.executor;
    Subscription held = first.Subscribe(waiting, [](const Message&) {}).value();
    Producer producer = second.MakeProducer().value();
    for (std::uint32_t i = 0; i < kCount; ++i) {
        ASSERT_TRUE(producer.Send(Message("s")).Get().ok());
    }
    while (held.stats().waiting_count < kCount) {
        std::this_thread::yield();  // They are on their way on another thread.
    }
    Subscription others = second
                              .Subscribe(options,
                                         [&](const Message& message) {
                                             first_attempts += message.attempt() == 1 ? 1 : 0;
                                             if (++came == kCount) {
                                                 all_came.set_value();
                                             }
                                         })
                              .value();
    ASSERT_TRUE(others.WaitReady(kPatience).ok());
    EXPECT_EQ(first.Shutdown(std::chrono::milliseconds(0)).deliveries_handed_back, kCount);
    EXPECT_EQ(all_came.get_future().wait_for(kPatience), std::future_status::ready);
    EXPECT_EQ(first_attempts, kCount);
}

}  // namespace
}  // namespace qmq
