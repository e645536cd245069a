#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "qmq/message.h"
#include "qmq/transport.h"

#include "server/broker/broker.h"
#include "tests/simulation/sim_scheduler.h"
#include "tests/support/audit_story.h"

namespace qmq::simulation {

/// What the network does to packets. Chances per packet, in [0, 1].
struct NetworkFaults {
    double loss = 0;
    double duplication = 0;
    double reordering = 0;
    double slow = 0;  ///< A packet takes up to a second.
};

struct NetworkCounts {
    std::uint64_t packets = 0;
    std::uint64_t lost = 0;
    std::uint64_t duplicated = 0;
    std::uint64_t reordered = 0;
    std::uint64_t slow = 0;
    std::uint64_t cuts = 0;
    std::uint64_t refused = 0;
};

class SimLink;

/// Packets between clients and the broker. Each connection is a reliable stream made over packets
/// that are lost, doubled, late and out of order: lost ones are sent again, doubled ones dropped,
/// early ones wait. A connection that is cut is cut for good, and what was under way is lost on
/// both sides.
class SimNetwork {
public:
    SimNetwork(SimScheduler& scheduler, SimExecutor& wires)
        : scheduler_(scheduler), wires_(wires) {}

    /// Who answers; null while the broker is down. Taking it away cuts every connection and drops
    /// the sessions: the caller has killed the broker's executors before, so that they go as they
    /// do in a crash, without a word.
    void SetBroker(broker::Broker* broker);
    void SetFaults(const NetworkFaults& faults) { faults_ = faults; }
    /// Cuts each connection with this chance.
    void Cut(double chance);
    const NetworkCounts& counts() const { return counts_; }

    /// One message that the broker hands out, before it travels.
    struct HandOut {
        std::string group;
        std::string id;
        testing::Copy copy;
        std::uint32_t attempt = 1;
    };
    void OnHandOut(std::function<void(const HandOut&)> called) { on_hand_out_ = std::move(called); }
    /// A message that comes to the broker, and what it answers, before that travels.
    void OnArrival(std::function<void(const std::string& id)> called) {
        on_arrival_ = std::move(called);
    }
    using Stored = std::function<void(const std::string& id, SendOutcome, std::uint64_t sequence)>;
    void OnStored(Stored called) { on_stored_ = std::move(called); }
    /// Which stored copy a message in a handler is. What travels has memory of its own, so that its
    /// place tells it.
    std::optional<testing::Copy> CopyOf(const Message& message) const;

    /// A transport for one client, whose process is `executor`.
    std::shared_ptr<TransportFactory> MakeFactory(SimExecutor& executor);

private:
    friend class SimLink;
    friend class SimConnection;
    friend class SimTransport;
    friend class ServerSink;

    void Carry(const ConsumerKey& consumer, DeliveredBatch& batch);
    /// By batch.
    using Ids = std::vector<std::vector<std::string>>;
    Ids Arrived(const std::vector<SendBatch>& batches) const;
    void Answered(const Ids& ids, const std::vector<BatchReceipt>& receipts) const;

    SimScheduler& scheduler_;
    SimExecutor& wires_;
    broker::Broker* broker_ = nullptr;
    NetworkFaults faults_;
    NetworkCounts counts_;
    std::map<std::uint64_t, std::weak_ptr<SimLink>> links_;
    std::vector<std::weak_ptr<std::unique_ptr<broker::Session>>> sessions_;
    std::uint64_t next_link_ = 1;
    std::function<void(const HandOut&)> on_hand_out_ = [](const HandOut&) {};
    std::function<void(const std::string&)> on_arrival_ = [](const std::string&) {};
    Stored on_stored_ = [](const std::string&, SendOutcome, std::uint64_t) {};
    std::unordered_map<const char*, testing::Copy> copies_;  // By where the id lies.
};

}  // namespace qmq::simulation
