#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "qmq/clock.h"
#include "qmq/protocol.h"

#include "sdk/client/src/receive/ack_policy.h"
#include "sdk/client/src/receive/ack_window.h"
#include "sdk/client/src/receive/credit_window.h"
#include "sdk/client/src/receive/delayed_releases.h"
#include "sdk/client/src/receive/delivery_run.h"

namespace qmq::internal {

/// What one consumer holds of one broker group: the runs, the acks on their way, the credit. It is
/// told what arrived, what handlers have done and what the broker said, and answers what is to be
/// sent. It knows no stream, timer or thread. Not thread-safe: under its stream's lock, and it
/// takes the runs' locks.
class StreamBooks {
public:
    using RunPtr = std::shared_ptr<DeliveryRun>;
    using Runs = std::vector<RunPtr>;

    /// What is to be told, once the lock is gone.
    struct News {
        std::vector<AckWindow::Answer> answers;
        Runs ready;  ///< Handlers may have these now.
    };

    StreamBooks(const AckPolicy& policy, const CreditWindow::Limits& limits)
        : policy_(policy), credit_(limits) {}

    CreditWindow& credit() { return credit_; }
    const CreditWindow& credit() const { return credit_; }
    std::uint64_t acked_count() const { return ledger_.acked_count; }
    std::uint64_t failed_count() const { return ledger_.failed_count; }
    std::uint64_t later_count() const { return later_count_; }
    std::uint64_t unconfirmed_count() const { return ledger_.window.unconfirmed_count(); }
    /// Under a lease, and not decided.
    bool any_leased() const { return ledger_.window.undecided_count() > 0; }
    /// Nothing is held, decided or unconfirmed.
    bool empty() const { return runs_.empty() && unconfirmed_count() == 0; }

    // Messages in.

    /// Takes a run that has arrived. When handlers may have it at once it is in `news`.
    void Enter(const RunPtr& run, News* news);
    /// Counts messages that have arrived and are not handled here: `item` says what becomes of
    /// them.
    void TurnAway(AckItem item, std::uint64_t bytes);

    // What handlers do.

    /// Brings what runners have done into the window. True when a handler has begun something that
    /// it has not ended: tell the time by `NoteBegun`, or forget it.
    bool Collect();
    void NoteBegun(TimePoint now);
    void ForgetBegun() { begun_.clear(); }
    void Decide(DeliveryRun& run, AckItem item, AckCallback done, News* news);
    /// A handler has put a message off: unless `until` is past already or it cannot be kept, it
    /// stays here, undecided and renewed, until it is taken by `TakeDelayed` to be decided.
    bool PutOff(DeliveryRun& run, TimePoint until, AckItem& item, AckCallback& done);
    std::optional<TimePoint> next_delayed() const { return delayed_.next(); }
    std::vector<DelayedReleases::Entry> TakeDelayed(TimePoint now) { return delayed_.Take(now); }
    /// Takes away what nobody has claimed. Returns how many messages: others get them, or nobody
    /// where the policy has no leases.
    std::uint64_t ReleaseUnclaimed();
    /// Gives back what arrived before and was not claimed, but for the first `keep`; nothing where
    /// the broker cannot take it back. Returns how many messages.
    std::uint64_t GiveBack(TimePoint arrived_before, std::uint64_t keep);

    // Leases.

    struct Renewals {
        std::vector<AckItem> items;
        std::uint64_t given_up_count = 0;
    };
    /// What is to be renewed. What a handler began before `give_up_before` is given up instead,
    /// with `error`: what the handler says later goes nowhere.
    Renewals TakeRenewals(TimePoint give_up_before, const std::string& error);
    /// The broker does not hold these for us: they are never handled, or what their handlers say
    /// goes nowhere. Returns how many were undecided.
    std::uint64_t Lose(const std::vector<PullRange>& ranges);

    // The stream.

    std::optional<AckWindow::Request> TakeRequest() { return ledger_.window.Take(); }
    /// True: repeat after a pause.
    bool OnReply(std::uint64_t token, const Result<AckReply>& reply, News* news);
    void OnLost() { ledger_.window.OnLost(); }
    void OnResumed(std::uint64_t held_below, News* news);
    /// The end: no answer will come. Returns how many acks were unconfirmed.
    std::uint64_t Abandon(const Status& why, News* news);

private:
    void Keep(const RunPtr& run);
    RunPtr Find(const DeliveryRun& run) const;
    void End(DeliveryRun& run, std::uint64_t count);
    std::uint64_t Release(DeliveryRun& run, const DeliveryRun::Unclaimed& unclaimed);
    void GiveUp(const SequenceRange& range);
    void DropFinished();
    void TakeReceipts(News* news);

    const AckPolicy& policy_;
    AckLedger ledger_;
    CreditWindow credit_;
    DelayedReleases delayed_;
    std::uint64_t later_count_ = 0;
    std::map<std::uint64_t, RunPtr> runs_;  // By their number here, in the order of arrival.
    std::uint64_t last_number_ = 0;
    std::vector<SequenceRange> begun_;  // Collected, and the time is not told yet.
};

}  // namespace qmq::internal
