#include "sdk/client/src/receive/delivery_run.h"

#include <algorithm>
#include <utility>

namespace qmq::internal {

DeliveryRun::DeliveryRun(std::shared_ptr<ConsumerStream> stream,
                         MessageReader reader,
                         SequenceRange range,
                         std::uint64_t first_stored,
                         std::uint64_t bytes,
                         TimePoint arrived)
    : stream_(std::move(stream)),
      range_(range),
      first_stored_(first_stored),
      bytes_(bytes),
      arrived_(arrived),
      remaining_count_(range.count()),
      remaining_bytes_(bytes),
      reader_(std::move(reader)),
      next_(range.first),
      reported_(range.first),
      end_(range.last + 1),
      owned_end_(range.last + 1) {}

void DeliveryRun::AddAcked(std::uint64_t sequence) {
    if (sequence >= owned_end_) {
        return;
    }
    if (!acked_.empty() && acked_.back().last + 1 == sequence) {
        acked_.back().last = sequence;
    } else {
        acked_.push_back({sequence, sequence});
    }
}

bool DeliveryRun::Next(std::optional<std::uint64_t> acked, Claim* claim) {
    MutexLock lock(mutex_);
    if (acked.has_value()) {
        AddAcked(*acked);
    }
    while (next_ < end_) {
        std::optional<Message> message = reader_.Next();
        if (!message.has_value()) {
            // The reader was checked when the run was made and cannot end early.
            QMQ_CHECK(false, "a batch that was checked has fewer messages than it says");
        }
        const std::uint64_t sequence = next_++;
        if (IsGone(sequence)) {
            continue;
        }
        claim->message = std::move(*message);
        claim->sequence = sequence;
        return true;
    }
    return false;
}

bool DeliveryRun::IsGone(std::uint64_t sequence) const {
    return std::any_of(gone_.begin(), gone_.end(), [sequence](const SequenceRange& range) {
        return range.first <= sequence && sequence <= range.last;
    });
}

void DeliveryRun::RecordAck(std::uint64_t sequence) {
    MutexLock lock(mutex_);
    AddAcked(sequence);
}

std::uint64_t DeliveryRun::unclaimed_count() {
    MutexLock lock(mutex_);
    return CountOurs(next_, end_);
}

std::uint64_t DeliveryRun::CountOurs(std::uint64_t first, std::uint64_t end) const {
    std::uint64_t count = end - first;
    for (std::uint64_t sequence = first; sequence < end && !gone_.empty(); ++sequence) {
        count -= IsGone(sequence) ? 1U : 0U;
    }
    return count;
}

DeliveryRun::Progress DeliveryRun::TakeProgress() {
    MutexLock lock(mutex_);
    Progress progress{std::exchange(acked_, {}), std::nullopt};
    if (const std::uint64_t end = std::min(next_, owned_end_); reported_ < end) {
        progress.claimed = SequenceRange{reported_, end - 1};
        reported_ = end;
    }
    return progress;
}

void DeliveryRun::ReportClaimsAgain() {
    MutexLock lock(mutex_);
    reported_ = range_.first;
}

std::optional<DeliveryRun::Unclaimed> DeliveryRun::TakeUnclaimed(std::uint64_t keep) {
    MutexLock lock(mutex_);
    std::uint64_t from = next_;
    for (; from < end_ && keep > 0; ++from) {
        keep -= IsGone(from) ? 0U : 1U;
    }
    if (from >= end_) {
        return std::nullopt;
    }
    const Unclaimed unclaimed{{from, end_ - 1}, CountOurs(from, end_)};
    end_ = from;
    return unclaimed;
}

void DeliveryRun::Disown(std::uint64_t from) {
    MutexLock lock(mutex_);
    owned_end_ = std::min(owned_end_, from);
    end_ = std::max(std::min(end_, from), std::min(next_, end_));
    for (SequenceRange& range : acked_) {
        range.last = std::min(range.last, from - 1);
    }
    std::erase_if(acked_, [from](const SequenceRange& range) { return range.first >= from; });
}

std::optional<SequenceRange> DeliveryRun::DisownRange(SequenceRange range) {
    MutexLock lock(mutex_);
    range.first = std::max(range.first, range_.first);
    if (owned_end_ <= range_.first || range.first > std::min(range.last, owned_end_ - 1)) {
        return std::nullopt;
    }
    range.last = std::min(range.last, owned_end_ - 1);
    gone_.push_back(range);
    return range;
}

bool DeliveryRun::Owns(std::uint64_t sequence) {
    MutexLock lock(mutex_);
    return sequence < owned_end_ && !IsGone(sequence);
}

DeliveryRun::Ended DeliveryRun::End(std::uint64_t count) {
    Ended ended;
    ended.count = std::min(count, remaining_count_);
    if (ended.count == 0) {
        return ended;
    }
    ended.bytes = remaining_bytes_ / remaining_count_ * ended.count;
    remaining_count_ -= ended.count;
    if (remaining_count_ == 0) {
        ended.bytes = remaining_bytes_;
    }
    remaining_bytes_ -= ended.bytes;
    return ended;
}

}  // namespace qmq::internal
