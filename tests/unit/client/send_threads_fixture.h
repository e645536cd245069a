#pragma once

#include <chrono>
#include <thread>
#include <utility>

#include "tests/unit/client/threads_fixture.h"

namespace qmq::testing {

constexpr std::chrono::seconds kPatience{60};  // Never waited for, where the code is right.

/// Waits for what other threads bring about. False where that does not come.
template <typename F>
bool Await(F&& is_true) {
    const auto give_up = std::chrono::steady_clock::now() + kPatience / 2;
    while (!is_true()) {
        if (std::chrono::steady_clock::now() > give_up) {
            return false;
        }
        std::this_thread::yield();
    }
    return true;
}

/// `ThreadsFixture` for sends: handlers have the subject "in".
class SendThreadsFixture : public ThreadsFixture {
protected:
    Client MakeClient(bool inline_callbacks = false) {
        ClientOptions options = Options();
        options.inline_callbacks = inline_callbacks;
        return ThreadsFixture::MakeClient(std::move(options));
    }
    static Producer Blocking(Client& client, std::size_t max_pending_count) {
        ProducerOptions options;
        options.max_pending_count = max_pending_count;
        options.when_full = WhenFull::kBlock;
        options.timeout = kPatience;
        return *client.MakeProducer(options);
    }
    static SubscriptionOptions Consumer() {
        SubscriptionOptions options = ThreadsFixture::Consumer();
        options.subject = "in";
        return options;
    }
};

}  // namespace qmq::testing
