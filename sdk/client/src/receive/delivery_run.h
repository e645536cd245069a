#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "qmq/batch.h"
#include "qmq/clock.h"
#include "qmq/message.h"

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/range_set.h"

namespace qmq::internal {

class ConsumerStream;

/// One delivered batch on its way through handlers. Runners claim its messages one by one, so that
/// none is stuck behind a slow handler while another runner is free; completing one message and
/// claiming the next is one short lock, which is all that a message costs here.
class DeliveryRun {
public:
    DeliveryRun(std::shared_ptr<ConsumerStream> stream,
                MessageReader reader,
                SequenceRange range,
                std::uint64_t first_stored,
                std::uint64_t bytes,
                TimePoint arrived);

    ConsumerStream& stream() const { return *stream_; }
    const std::shared_ptr<ConsumerStream>& shared_stream() const { return stream_; }
    const SequenceRange& range() const { return range_; }
    /// The sequence of a message in its subject, or its group's retry subject.
    std::uint64_t StoredSequence(std::uint64_t sequence) const {
        return first_stored_ + (sequence - range_.first);
    }
    std::uint64_t bytes() const { return bytes_; }
    TimePoint arrived() const { return arrived_; }

    struct Claim {
        Message message;
        std::uint64_t sequence = 0;
    };
    /// Records that `acked` is done with, if given, and claims the next message. False when there
    /// is none left.
    bool Next(std::optional<std::uint64_t> acked, Claim* claim);
    /// Records only.
    void RecordAck(std::uint64_t sequence);

    std::uint64_t unclaimed_count();

    // For its stream, under the stream's lock.

    /// What has happened since the last call.
    struct Progress {
        std::vector<SequenceRange> acked;
        std::optional<SequenceRange> claimed;  ///< Of what is ours.
    };
    Progress TakeProgress();
    /// The next `TakeProgress` reports all that was claimed once more.
    void ReportClaimsAgain();
    struct Unclaimed {
        SequenceRange range;
        std::uint64_t count = 0;  ///< Of those that were not disowned one by one.
    };
    /// Takes away what nobody has claimed, but for the first `keep`; nothing when there is no more.
    std::optional<Unclaimed> TakeUnclaimed(std::uint64_t keep);
    /// From now on, sequences from `from` are not ours: their acks are ignored, and what is
    /// unclaimed of them is never handled.
    void Disown(std::uint64_t from);
    /// Of `range` what is ours here is so no longer. Returns that part.
    std::optional<SequenceRange> DisownRange(SequenceRange range);
    bool Owns(std::uint64_t sequence);
    struct Ended {
        std::uint64_t count = 0;
        std::uint64_t bytes = 0;
    };
    /// `count` messages have ended. Returns how much that gives back.
    Ended End(std::uint64_t count);
    bool finished() const { return remaining_count_ == 0; }
    /// Chosen by the books that keep it; zero before that.
    std::uint64_t number() const { return number_; }
    void set_number(std::uint64_t number) { number_ = number; }

private:
    void AddAcked(std::uint64_t sequence) QMQ_REQUIRES(mutex_);
    bool IsGone(std::uint64_t sequence) const QMQ_REQUIRES(mutex_);
    std::uint64_t CountOurs(std::uint64_t first, std::uint64_t end) const QMQ_REQUIRES(mutex_);

    const std::shared_ptr<ConsumerStream> stream_;
    const SequenceRange range_;
    const std::uint64_t first_stored_;
    const std::uint64_t bytes_;
    const TimePoint arrived_;
    // Under the stream's lock.
    std::uint64_t remaining_count_;
    std::uint64_t remaining_bytes_;
    std::uint64_t number_ = 0;

    Mutex mutex_;
    MessageReader reader_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t next_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t reported_ QMQ_GUARDED_BY(mutex_);  // Claims below were reported.
    std::uint64_t end_ QMQ_GUARDED_BY(mutex_);       // One past the last.
    std::uint64_t owned_end_ QMQ_GUARDED_BY(mutex_);
    std::vector<SequenceRange> acked_ QMQ_GUARDED_BY(mutex_);
    std::vector<SequenceRange> gone_ QMQ_GUARDED_BY(mutex_);  // Disowned one by one.
};

}  // namespace qmq::internal
