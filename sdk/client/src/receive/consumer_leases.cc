// What keeps messages a consumer's: renewals, the word that a handler has begun, and what handlers
// have put off.

#include <algorithm>
#include <utility>

#include "sdk/client/src/receive/consumer_stream.h"
#include "sdk/client/src/receive/delivery_core.h"

namespace qmq::internal {

namespace {

/// A handler that runs for longer is told about by itself, when no other flush has told of it. It
/// bounds what that costs to as many timers a second, however many messages there are; of what
/// dies sooner the broker finds out by itself, at the price of one death more.
constexpr std::chrono::milliseconds kBeginLinger{10};

}  // namespace

void ConsumerStream::ArmBegin() {
    if (begin_armed_.exchange(true, std::memory_order_relaxed)) {
        return;
    }
    MutexLock lock(mutex_);
    if (!closed_) {
        Arm(&ConsumerStream::begin_timer_,
            runtime_->Now() + kBeginLinger,
            &ConsumerStream::OnBeginDue);
        if (begin_timer_.refused()) {
            begin_armed_.store(false, std::memory_order_relaxed);  // The next claim tries again.
        }
    }
}

void ConsumerStream::OnBeginDue() {
    // Before the flush looks into the runs: what is claimed from here on arms it anew.
    begin_armed_.store(false, std::memory_order_relaxed);
    Flush();
}

/// From the first message that is under a lease until there is none. Only the first one says how
/// long leases last: when others are here the oldest counts.
void ConsumerStream::ArmRenewal(TimePoint now, bool first) {
    if (closed_ || !books_.any_leased()) {
        return;
    }
    if (first) {
        SetLeasesUntil(now + config_.request.ack_timeout);
    }
    Arm(&ConsumerStream::renew_timer_,
        now + config_.request.ack_timeout / 3,
        &ConsumerStream::Renew);
}

void ConsumerStream::Renew() {
    std::shared_ptr<DeliveryStream> stream;
    StreamBooks::Renewals renewals;
    std::uint64_t released = 0;
    std::uint64_t generation = 0;
    const TimePoint now = runtime_->Now();
    {
        MutexLock lock(mutex_);
        Collect();
        RearmRefused();
        released = leases_over(now) ? GiveUpLeases(now) : 0;
        renewals =
            books_.TakeRenewals(now - config_.max_processing_time,
                                "not finished within max_processing_time (" +
                                    std::to_string(config_.max_processing_time.count()) + " ms)");
        if (books_.any_leased() && !closed_) {
            Arm(&ConsumerStream::renew_timer_,
                now + config_.request.ack_timeout / 3,
                &ConsumerStream::Renew);
        }
        generation = generation_;
        stream = live_ ? stream_ : nullptr;
    }
    if (stream != nullptr && !renewals.items.empty()) {
        stream->Ack(std::move(renewals.items),
                    [weak = weak_from_this(), generation, now](const Result<AckReply>& reply) {
                        if (auto self = weak.lock()) {
                            self->OnRenewed(generation, now, reply);
                        }
                    });
    }
    if (renewals.given_up_count > 0) {
        runtime_->log().Warning("subject " + subject_ +
                                ": messages were not finished within max_processing_time and are "
                                "delivered again");
    }
    if (renewals.given_up_count > 0 || released > 0) {
        Flush();
        TellRoom();
    }
}

/// What was held when the renewal left is ours for one time-out from then on, but for what the
/// broker says it does not hold for us: that is never handled here, and if a handler has it, what
/// that says goes nowhere.
void ConsumerStream::OnRenewed(std::uint64_t generation,
                               TimePoint sent_at,
                               const Result<AckReply>& reply) {
    std::uint64_t lost = 0;
    {
        MutexLock lock(mutex_);
        if (generation != generation_ || !reply.ok()) {
            return;
        }
        const TimePoint until = sent_at + config_.request.ack_timeout;
        if (leases_over(until)) {  // Else another one, sent later, was answered before.
            SetLeasesUntil(until);
        }
        if (!reply->not_held.empty()) {
            Collect();
            lost = books_.Lose(reply->not_held);
        }
    }
    if (lost > 0) {
        runtime_->log().Warning(Name() + ": the leases of " + std::to_string(lost) +
                                " messages were lost; others have them");
        Flush();
        TellRoom();
    }
}

/// No renewal was answered for as long as a lease lasts: what nobody has begun is not handled here,
/// since others may have it. Returns how many messages that are.
std::uint64_t ConsumerStream::GiveUpLeases(TimePoint now) {
    // What comes from now on has leases of its own.
    SetLeasesUntil(now + config_.request.ack_timeout);
    return books_.ReleaseUnclaimed();
}

void ConsumerStream::OnLeasesOver(TimePoint now) {
    // Also when a renewal has been answered since the caller looked: it may have put aside by now
    // what waited, and nobody would come for that.
    std::uint64_t released = 0;
    {
        MutexLock lock(mutex_);
        Collect();
        released = GiveUpLeases(now);
    }
    if (released > 0) {
        Flush();
        TellRoom();
    }
}

void ConsumerStream::LogDeadLetter(const Message& message, std::string_view why) const {
    if (!config_.policy->has_leases()) {
        return;  // It was acked on receipt: nothing becomes a dead letter.
    }
    runtime_->log().Warning(DeadLetterLine(subject_, config_.request.key.group, message, why));
}

/// Whether `item` is a release that waits: then it is taken, and comes again without its delay.
bool ConsumerStream::PutOff(DeliveryRun& run, AckItem& item, AckCallback& done) {
    if (item.verdict != AckVerdict::kRelease || !item.delay.has_value()) {
        return false;
    }
    const auto delay = std::min(*item.delay, config_.max_processing_time / 2);
    item.delay.reset();
    item.error.clear();
    Collect();
    if (!books_.PutOff(run, closing_ ? TimePoint() : runtime_->Now() + delay, item, done)) {
        return false;
    }
    ArmDelayed();
    return true;
}

void ConsumerStream::ArmDelayed() {
    if (const std::optional<TimePoint> next = books_.next_delayed()) {
        Arm(&ConsumerStream::delayed_timer_, *next, &ConsumerStream::OnDelayedDue);
    }
}

void ConsumerStream::OnDelayedDue() {
    std::vector<DelayedReleases::Entry> due;
    {
        MutexLock lock(mutex_);
        due = books_.TakeDelayed(runtime_->Now());
        ArmDelayed();
    }
    Release(std::move(due));
}

void ConsumerStream::Release(std::vector<DelayedReleases::Entry> entries) {
    for (DelayedReleases::Entry& entry : entries) {
        Decide(*entry.run, std::move(entry.item), std::move(entry.done));
    }
}

}  // namespace qmq::internal
