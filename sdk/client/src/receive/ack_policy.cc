#include "sdk/client/src/receive/ack_policy.h"

#include <algorithm>
#include <utility>

namespace qmq::internal {

namespace {

bool IsFailure(AckVerdict verdict) {
    return verdict == AckVerdict::kRetry || verdict == AckVerdict::kDeadLetter;
}

class AtLeastOncePolicy final : public AckPolicy {
public:
    bool has_leases() const override { return true; }

    bool OnArrived(AckLedger& ledger, const RunPtr& run) const override {
        ledger.window.OnDelivered(run->range());
        return true;
    }

    std::uint64_t OnHandled(AckLedger& ledger, SequenceRange range) const override {
        const std::uint64_t count = ledger.window.Ack(range);
        ledger.acked_count += count;
        return count;
    }

    std::uint64_t OnDecided(AckLedger& ledger,
                            DeliveryRun& run,
                            AckItem item,
                            AckCallback done,
                            Answers* answers) const override {
        if (!run.Owns(item.first)) {
            if (done) {
                answers->push_back(
                    {std::move(done), ledger.ended.ok() ? AckWindow::NotOurs() : ledger.ended});
            }
            return 0;
        }
        const AckVerdict verdict = item.verdict;
        const std::uint64_t count = ledger.window.Decide(std::move(item), std::move(done), answers);
        ledger.acked_count += verdict == AckVerdict::kAck ? count : 0;
        ledger.failed_count += IsFailure(verdict) ? count : 0;
        return count;
    }

    std::uint64_t OnReleased(AckLedger& ledger,
                             const DeliveryRun::Unclaimed& unclaimed) const override {
        const SequenceRange& range = unclaimed.range;
        return ledger.window.Decide(
            {AckVerdict::kRelease, range.first, range.last, std::nullopt, {}}, nullptr, nullptr);
    }

    /// Whatever is not ours any more ends here; its handler may go on, but its ack goes nowhere:
    /// the number may soon be another message's.
    std::uint64_t OnResumed(AckLedger& ledger,
                            DeliveryRun& run,
                            std::uint64_t held_below) const override {
        if (run.range().last < held_below) {
            return 0;
        }
        run.Disown(held_below);
        return ledger.window.Forget({std::max(run.range().first, held_below), run.range().last});
    }
};

class AtMostOncePolicy final : public AckPolicy {
public:
    bool has_leases() const override { return false; }

    bool OnArrived(AckLedger& ledger, const RunPtr& run) const override {
        ledger.window.AckOnReceipt(run);
        return false;
    }

    std::uint64_t OnHandled(AckLedger& /*ledger*/, SequenceRange range) const override {
        return range.count();
    }

    std::uint64_t OnDecided(AckLedger& ledger,
                            DeliveryRun& /*run*/,
                            AckItem item,
                            AckCallback done,
                            Answers* answers) const override {
        const bool is_ack = item.verdict == AckVerdict::kAck;
        ledger.failed_count += is_ack ? 0U : 1U;
        if (done) {
            answers->push_back(
                {std::move(done),
                 is_ack ? Status::Ok()
                        : Status::FailedPrecondition("at_most_once: it was acked on receipt")});
        }
        return 1;
    }

    /// It is acked: what nobody handles here is lost, as this mode allows.
    std::uint64_t OnReleased(AckLedger& /*ledger*/,
                             const DeliveryRun::Unclaimed& unclaimed) const override {
        return unclaimed.count;
    }

    std::uint64_t OnResumed(AckLedger& /*ledger*/,
                            DeliveryRun& /*run*/,
                            std::uint64_t /*held_below*/) const override {
        return 0;  // Acked before: it is nobody else's.
    }
};

}  // namespace

const AckPolicy& AtLeastOnce() {
    static const AtLeastOncePolicy* const policy = new AtLeastOncePolicy;  // As `SystemClock`.
    return *policy;
}

const AckPolicy& AtMostOnce() {
    static const AtMostOncePolicy* const policy = new AtMostOncePolicy;
    return *policy;
}

}  // namespace qmq::internal
