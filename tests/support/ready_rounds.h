#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>

#include "qmq/client.h"

namespace qmq::testing {

/// Subscribes a new group at the end of its subject, waits until it is ready, and sends at once;
/// `rounds` times, each with a client of its own. Each message has to come.
inline void ExpectThatReadyMeansReady(const ClientOptions& options, int rounds) {
    constexpr auto kPatience = std::chrono::seconds(20);
    ClientOptions sending = options;
    sending.client_id = "sender";
    Client sender = Client::Create(sending).value();
    Producer producer = sender.MakeProducer().value();
    ASSERT_TRUE(producer.Send(Message("s")).Get().ok());  // The way to the broker is known.
    for (int round = 0; round < rounds; ++round) {
        std::mutex mutex;
        std::condition_variable changed;
        bool received = false;
        ClientOptions receiving = options;
        receiving.client_id = "receiver-" + std::to_string(round);
        Client receiver = Client::Create(receiving).value();
        SubscriptionOptions subscription;
        subscription.subject = "s";
        subscription.group = "g-" + std::to_string(round);
        Subscription made = receiver
                                .Subscribe(subscription,
                                           [&](const Message&) {
                                               const std::lock_guard lock(mutex);
                                               received = true;
                                               changed.notify_all();
                                           })
                                .value();
        const Status ready = made.WaitReady(kPatience);
        ASSERT_TRUE(ready.ok()) << ready;
        ASSERT_TRUE(producer.Send(Message("s")).Get().ok());
        std::unique_lock lock(mutex);
        EXPECT_TRUE(changed.wait_for(lock, kPatience, [&] { return received; })) << round;
        lock.unlock();
        receiver.Shutdown(kPatience);
    }
}

}  // namespace qmq::testing
