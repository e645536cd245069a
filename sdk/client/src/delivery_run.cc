#include "sdk/client/src/delivery_run.h"

#include <algorithm>
#include <utility>

namespace qmq::internal {

DeliveryRun::DeliveryRun(std::shared_ptr<ConsumerStream> stream,
                         MessageReader reader,
                         SequenceRange range,
                         std::uint64_t bytes)
    : stream_(std::move(stream)),
      range_(range),
      remaining_count_(range.count()),
      remaining_bytes_(bytes),
      reader_(std::move(reader)),
      next_(range.first),
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
    std::lock_guard lock(mutex_);
    if (acked.has_value()) {
        AddAcked(*acked);
    }
    if (next_ >= end_) {
        return false;
    }
    std::optional<Message> message = reader_.Next();
    if (!message.has_value()) {
        // The reader was checked when the run was made and cannot end early.
        QMQ_CHECK(false, "a batch that was checked has fewer messages than it says");
    }
    claim->message = std::move(*message);
    claim->sequence = next_++;
    return true;
}

void DeliveryRun::RecordAck(std::uint64_t sequence) {
    std::lock_guard lock(mutex_);
    AddAcked(sequence);
}

std::uint64_t DeliveryRun::unclaimed_count() {
    std::lock_guard lock(mutex_);
    return end_ - next_;
}

std::vector<SequenceRange> DeliveryRun::TakeAcked() {
    std::lock_guard lock(mutex_);
    return std::exchange(acked_, {});
}

std::optional<SequenceRange> DeliveryRun::TakeUnclaimed() {
    std::lock_guard lock(mutex_);
    if (next_ >= end_) {
        return std::nullopt;
    }
    const SequenceRange unclaimed{next_, end_ - 1};
    end_ = next_;
    return unclaimed;
}

void DeliveryRun::Disown(std::uint64_t from) {
    std::lock_guard lock(mutex_);
    owned_end_ = std::min(owned_end_, from);
    end_ = std::max(std::min(end_, from), std::min(next_, end_));
    for (SequenceRange& range : acked_) {
        range.last = std::min(range.last, from - 1);
    }
    std::erase_if(acked_, [from](const SequenceRange& range) { return range.first >= from; });
}

bool DeliveryRun::Owns(std::uint64_t sequence) {
    std::lock_guard lock(mutex_);
    return sequence < owned_end_;
}

std::uint64_t DeliveryRun::End(std::uint64_t count) {
    count = std::min(count, remaining_count_);
    if (count == 0) {
        return 0;
    }
    const std::uint64_t bytes = remaining_bytes_ / remaining_count_ * count;
    remaining_count_ -= count;
    const std::uint64_t given = remaining_count_ == 0 ? remaining_bytes_ : bytes;
    remaining_bytes_ -= given;
    return given;
}

}  // namespace qmq::internal
