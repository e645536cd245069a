#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "qmq/client.h"

/// What handles paid orders: plain code that knows messages, and no client.
class Tickets {
public:
    // excerpt: handler
    qmq::HandlerOutcome OnPaid(const qmq::Message& order) {
        const auto id = order.Get<std::string>("orderId");
        if (order.Get<std::int64_t>("cents") < 0)
            return qmq::HandlerOutcome::DeadLetter("a negative price");
        if (order.attempt() > 3) alarms_[id] = order.last_error();
        issued_[id] += 1;
        return qmq::HandlerOutcome::Ack();
    }
    // end

    const std::map<std::string, int>& issued() const { return issued_; }
    const std::map<std::string, std::string>& alarms() const { return alarms_; }

private:
    std::map<std::string, int> issued_;
    std::map<std::string, std::string> alarms_;
};
