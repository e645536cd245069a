#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "qmq/clock.h"
#include "qmq/function.h"
#include "qmq/protocol.h"
#include "qmq/status.h"

#include "sdk/client/src/base/range_set.h"

namespace qmq::internal {

class DeliveryRun;

using AckCallback = UniqueFunction<void(const Status&)>;

/// What one consumer holds of one broker group, by pull sequence: from its arrival over the
/// decision what becomes of it to the broker's word that this is recorded. Decisions come in any
/// order and leave as ranges.
///
/// A message is undecided, pending (decided, not sent), sent (not confirmed), and then gone. After
/// a reconnection everything that is not the consumer's own any more is forgotten, so that a
/// decision about it cannot touch a newer message with the same number.
///
/// What handlers have begun is told with the next request, unless it is decided by then: so a quick
/// handler costs nothing, and a slow one an item. Not thread-safe.
class AckWindow {
public:
    /// What became of something that somebody waits for.
    struct Answer {
        AckCallback done;  ///< To be called without a lock.
        Status status;
        std::shared_ptr<DeliveryRun> receipt = nullptr;  ///< Or this waits (`AckOnReceipt`).
        std::vector<SequenceRange> not_held = {};        ///< Of the receipt, though it is ok.
    };
    struct Request {
        std::uint64_t token = 0;
        std::vector<AckItem> items;
    };

    /// What a decision is told about a message that is not the consumer's any more.
    static Status NotOurs();

    void OnDelivered(SequenceRange range);
    bool AnyUndecided(SequenceRange range) const;
    /// Handlers have what of `range` is undecided: it is told, and from `now` on, unless it had
    /// begun before, the time that it may take runs.
    void OnBegun(SequenceRange range, TimePoint now);

    /// No handler has it any more, and it stays undecided: its time runs anew from its next begin.
    void OnPutOff(SequenceRange range);

    /// Acks what of `range` is undecided. Returns how many that are.
    std::uint64_t Ack(SequenceRange range);
    /// Decides one message or more. `done` may be empty; it is answered at once (kNotFound) when
    /// nothing of it is undecided.
    std::uint64_t Decide(AckItem item, AckCallback done, std::vector<Answer>* answers);

    /// Acks all of `run`, which never becomes undecided: an answer names it when that is recorded,
    /// as durably as its subject promises its messages, or when that is not to be had.
    void AckOnReceipt(const std::shared_ptr<DeliveryRun>& run);

    /// Sends `item` without asking whether it was delivered: for what never enters the window.
    void Requeue(AckItem item) { AddPending(std::move(item)); }
    /// Takes out of the window what of `range` is undecided. Returns how many.
    std::uint64_t Forget(SequenceRange range);

    std::uint64_t undecided_count() const { return undecided_count_; }
    /// Decided and not confirmed.
    std::uint64_t unconfirmed_count() const;

    /// Everything pending, as one request: what has begun comes first.
    std::optional<Request> Take();
    /// The broker's answer to `token`. A connection that was lost keeps the request for `OnLost`;
    /// an error that a repeat may cure makes it pending again (true is returned: repeat after a
    /// pause); any other error ends it.
    bool OnReply(std::uint64_t token, const Result<AckReply>& reply, std::vector<Answer>* answers);

    /// The connection is gone: what was sent is pending again.
    void OnLost();
    /// The broker says what is still ours: only sequences below `held_below`. What of it had begun
    /// is to be told once more, by `OnBegun`.
    void OnResumed(std::uint64_t held_below, std::vector<Answer>* answers);
    /// No answer will come any more.
    void Abandon(const Status& status, std::vector<Answer>* answers);

    /// Renewals for all that is undecided. What a handler began before `give_up_before` is decided
    /// instead: delivered again, for the reason `give_up_error`; those are appended to `given_up`.
    std::vector<AckItem> Renewals(TimePoint give_up_before,
                                  const std::string& give_up_error,
                                  std::vector<SequenceRange>* given_up);

private:
    struct Held {
        std::uint64_t last = 0;
        std::optional<TimePoint> begun;
    };
    struct Waiter {
        SequenceRange range;
        AckCallback done;
        std::shared_ptr<DeliveryRun> receipt;
        bool resent = false;
        std::vector<SequenceRange> not_held = {};  // Cut off `range` by a resumption.
    };
    struct Sent {
        std::vector<AckItem> items;
        std::vector<Waiter> waiters;
    };

    using Undecided = std::map<std::uint64_t, Held>;  // By the first sequence of the range.

    std::uint64_t TakeUndecided(SequenceRange range, std::vector<SequenceRange>* taken);
    void AddBegun(SequenceRange range, TimePoint now);
    void TakeBegun(std::vector<AckItem>* items);
    void AddPending(AckItem item);
    void PutBack(Sent sent);
    static Answer AnswerTo(Waiter waiter, const RangeSet& not_held);
    static void AnswerAll(std::vector<Waiter> waiters,
                          const Status& status,
                          std::vector<Answer>* answers);

    Undecided undecided_;
    std::uint64_t undecided_count_ = 0;
    RangeSet pending_begun_;  // Some may be decided, or not ours any more.
    RangeSet pending_acks_;
    std::vector<AckItem> pending_other_;
    std::vector<Waiter> pending_waiters_;
    std::map<std::uint64_t, Sent> sent_;  // By token.
    std::uint64_t next_token_ = 1;
};

}  // namespace qmq::internal
