#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "qmq/client.h"

/// What handles paid orders: plain code that knows messages, and no client.
class Tickets {
public:
    // excerpt: handler
    /// Called from as many threads at once as the subscription's `parallelism` says.
    qmq::HandlerOutcome OnPaid(const qmq::Message& order) {
        const auto id = order.Get<std::string>("orderId");
        if (order.Get<std::int64_t>("cents") < 0)
            return qmq::HandlerOutcome::DeadLetter("a negative price");
        const std::lock_guard lock(mutex_);
        if (order.attempt() > 3) alarms_[id] = order.last_error();
        issued_.insert(id);  // An order may come twice: it gets one ticket.
        return qmq::HandlerOutcome::Ack();
    }
    // end

    const std::set<std::string>& issued() const { return issued_; }
    const std::map<std::string, std::string>& alarms() const { return alarms_; }

private:
    std::mutex mutex_;
    std::set<std::string> issued_;
    std::map<std::string, std::string> alarms_;
};
