#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "qmq/batch.h"
#include "qmq/clock.h"
#include "qmq/slice.h"
#include "qmq/transport.h"

#include "sdk/client/src/broker_link.h"
#include "sdk/client/src/broker_selector.h"
#include "sdk/client/src/send_machine.h"
#include "sdk/client/src/send_state.h"

/// What a producer keeps; all of it under the producer's lock.
namespace qmq::internal {

struct SubjectQueue;
struct Lane;

/// Messages of one subject that share one fate, from the first one taken to the answer.
struct PendingBatch {
    enum class Place : std::uint8_t {
        kOpen,      ///< Takes messages.
        kQueued,    ///< In its lane's queue.
        kInFlight,  ///< In a frame.
        kWaiting,   ///< For its next attempt.
        kStranded,  ///< No broker group is available.
        kDone
    };

    PendingBatch(TimePoint deadline, BackoffOptions backoff, std::size_t expected_bytes)
        : machine(deadline, backoff), builder(expected_bytes) {}

    std::uint64_t id = 0;
    std::uint64_t generation =
        0;  ///< For Flush: the id of the batch it was split from, or its own.
    SubjectQueue* subject = nullptr;
    std::shared_ptr<Lane> lane;
    Place place = Place::kOpen;
    SendMachine machine;
    std::shared_ptr<ProducerAccess::State> state;
    std::uint32_t position = 0;  ///< Of its first message in `state`.
    std::uint32_t count = 0;
    bool single = false;  ///< Split off: answers for one position of `state`.
    BatchBuilder builder;
    Slice encoded;  ///< Once it has been in a frame.
    std::uint64_t bytes = 0;
    TimePoint opened{};
    WallTime opened_wall{};
};

struct SubjectQueue {
    std::string name;
    std::vector<std::shared_ptr<Lane>> lanes;  ///< Its route.
    BrokerSelector selector;
    std::shared_ptr<PendingBatch> open;
    std::deque<std::shared_ptr<PendingBatch>> stranded;
    Status route_error = Status::Unavailable("the route of the subject is not known yet");
    /// Of the batch before, to reserve for the next.
    std::size_t last_count = 0;
    std::size_t last_bytes = 0;
};

/// The way of batches to one broker group.
struct Lane {
    std::shared_ptr<BrokerLink> link;
    std::shared_ptr<BrokerConnection> connection;  ///< Null while it is down.
    bool writable = true;
    std::uint32_t subjects = 0;  ///< That have it in their route.
    std::uint32_t in_flight = 0;  ///< Frames.
    std::uint32_t in_flight_batches = 0;
    bool pumping = false;
    TimePoint blocked_until{};  ///< By the circuit breaker.
    /// Open batches up to this id have lingered: they go as soon as there is room, and take messages
    /// until then.
    std::uint64_t due = 0;
    std::deque<std::shared_ptr<PendingBatch>> queue;
    std::map<std::uint64_t, std::shared_ptr<PendingBatch>> open;  ///< By id, oldest first.
};

struct Frame {
    std::shared_ptr<Lane> lane;
    std::vector<std::shared_ptr<PendingBatch>> batches;
};

/// Batches whose futures and callbacks are due, to be handed out without the lock.
using Finished = std::vector<std::shared_ptr<ProducerAccess::State>>;

}  // namespace qmq::internal
