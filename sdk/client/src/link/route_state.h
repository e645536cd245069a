#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "qmq/clock.h"
#include "qmq/random.h"
#include "qmq/status.h"
#include "qmq/transport.h"

#include "sdk/client/src/link/reconnect_machine.h"

namespace qmq::internal {

/// The broker groups of a route. Shared, since thousands of subjects have the same.
using RouteGroups = std::shared_ptr<const std::vector<BrokerGroup>>;

/// A route that was answered.
struct KnownRoute {
    RouteGroups groups;  ///< Null: none is known.
    /// Of the question that it answers. The higher one of two is newer, whatever their subjects.
    std::uint64_t number = 0;
};

/// Ok, or what the answer cannot mean: a broker group twice, or one that takes no message at all.
Status CheckRoute(const std::vector<BrokerGroup>& groups);

/// The groups of an answer, in one order whatever that of the answer, so that equal routes are
/// recognised. Null: it names none.
RouteGroups SharedGroups(std::vector<BrokerGroup> groups);

/// What is known of the route of one subject, and when to ask again: after `refresh` when the last
/// answer was good, else by back-off. An answer that failed or names nobody never takes away a
/// route that is known.
class RouteState {
public:
    RouteState(std::chrono::milliseconds refresh, BackoffOptions backoff)
        : refresh_(refresh), again_(backoff) {}

    struct Step {
        bool news = false;  ///< `groups` are others than before, or known again after an error.
        TimePoint ask_again{};
    };
    /// The groups of an answer are in the order of their names (`SharedGroups`).
    Step OnAnswer(const Result<RouteGroups>& answer, TimePoint now, Random& random);

    /// As long as no groups are known: those of every subject. They are as good as its own, so an
    /// answer that names nobody does not take them away either.
    void Adopt(RouteGroups groups) { groups_ = std::move(groups); }

    /// Null as long as none are known.
    const RouteGroups& groups() const { return groups_; }
    /// Why the last answer was no use; ok after a good one, and before the first.
    const Status& last_error() const { return last_error_; }
    bool worth_logging() const { return again_.worth_logging(); }

private:
    std::chrono::milliseconds refresh_;
    ReconnectMachine again_;
    RouteGroups groups_;
    Status last_error_;
};

}  // namespace qmq::internal
