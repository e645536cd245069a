#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"

namespace qmq::testing {

/// With a client that pulls.
class PullFixture : public ClientFixture {
protected:
    struct Pulled {
        bool done = false;
        Status status;
        std::vector<Delivery> deliveries;
    };

    PullFixture() : client(MakeClient()) {}

    static PullConsumerOptions PullFrom(const std::string& subject) {
        PullConsumerOptions options;
        options.subject = subject;
        options.group = "g";
        options.start = StartPosition::kEarliest;
        return options;
    }
    PullConsumer Make(PullConsumerOptions options = PullFrom("s")) {
        auto made = client.MakePullConsumer(std::move(options));
        EXPECT_TRUE(made.ok()) << made.status();
        Settle();
        return std::move(*made);
    }
    static std::shared_ptr<Pulled> Pull(
        PullConsumer& consumer,
        std::uint32_t max_messages,
        std::chrono::milliseconds max_wait = std::chrono::seconds(1)) {
        auto pulled = std::make_shared<Pulled>();
        Status taken = consumer.PullAsync({max_messages, max_wait},
                                          [pulled](Result<std::vector<Delivery>> result) {
                                              EXPECT_FALSE(pulled->done);
                                              pulled->done = true;
                                              if (result.ok()) {
                                                  pulled->deliveries = std::move(*result);
                                              } else {
                                                  pulled->status = result.status();
                                              }
                                          });
        if (!taken.ok()) {
            EXPECT_FALSE(pulled->done);
            pulled->done = true;
            pulled->status = std::move(taken);
        }
        return pulled;
    }

    Client client;
};

}  // namespace qmq::testing
