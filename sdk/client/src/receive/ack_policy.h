#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "qmq/protocol.h"
#include "qmq/status.h"

#include "sdk/client/src/receive/ack_window.h"
#include "sdk/client/src/receive/delivery_run.h"

namespace qmq::internal {

/// What a policy writes into: the acks on their way, and the counts that the application sees.
struct AckLedger {
    AckWindow window;
    std::uint64_t acked_count = 0;
    std::uint64_t failed_count = 0;
    /// Not ok once the stream has ended: what decisions are told from then on.
    Status ended;
};

/// When a message is acked, and what the outcome of its handler then means. Everything in which
/// `SubscriptionOptions::at_most_once` differs is here. Called under the stream's lock; stateless.
class AckPolicy {
public:
    using Answers = std::vector<AckWindow::Answer>;
    using RunPtr = std::shared_ptr<DeliveryRun>;

    virtual ~AckPolicy() = default;

    /// Whether messages are the consumer's by leases: then they are renewed, what handlers begin is
    /// told, and what was not begun can be given back.
    virtual bool has_leases() const = 0;
    /// A run has arrived. True: handlers may have it now. False: once `window` says that its
    /// receipt is recorded.
    virtual bool OnArrived(AckLedger& ledger, const RunPtr& run) const = 0;
    /// Handlers are done with `range` without a fault. Returns how many messages end by it; the
    /// others had ended before.
    virtual std::uint64_t OnHandled(AckLedger& ledger, SequenceRange range) const = 0;
    /// One decision about one message. As above.
    virtual std::uint64_t OnDecided(AckLedger& ledger,
                                    DeliveryRun& run,
                                    AckItem item,
                                    AckCallback done,
                                    Answers* answers) const = 0;
    /// Nobody here will handle `unclaimed`: others do where there are leases, and else nobody. As
    /// above.
    virtual std::uint64_t OnReleased(AckLedger& ledger,
                                     const DeliveryRun::Unclaimed& unclaimed) const = 0;
    /// After a reconnection only what is below `held_below` is still the consumer's. Returns how
    /// many messages of `run` end by it.
    virtual std::uint64_t OnResumed(AckLedger& ledger,
                                    DeliveryRun& run,
                                    std::uint64_t held_below) const = 0;
};

/// Acked when handled.
const AckPolicy& AtLeastOnce();
/// Acked on receipt, and handled when that is recorded.
const AckPolicy& AtMostOnce();

}  // namespace qmq::internal
