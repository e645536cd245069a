#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "qmq/batch.h"
#include "qmq/message.h"

#include "sdk/client/src/range_set.h"

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
                std::uint64_t bytes);

    ConsumerStream& stream() const { return *stream_; }
    const std::shared_ptr<ConsumerStream>& shared_stream() const { return stream_; }
    const SequenceRange& range() const { return range_; }

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

    /// What was acked since the last call.
    std::vector<SequenceRange> TakeAcked();
    /// Takes away what nobody has claimed; nothing when all is claimed.
    std::optional<SequenceRange> TakeUnclaimed();
    /// From now on, sequences from `from` are not ours: their acks are ignored, and what is
    /// unclaimed of them is never handled.
    void Disown(std::uint64_t from);
    bool Owns(std::uint64_t sequence);
    /// `count` messages have ended. Returns the bytes that they give back.
    std::uint64_t End(std::uint64_t count);
    bool finished() const { return remaining_count_ == 0; }

private:
    void AddAcked(std::uint64_t sequence);

    const std::shared_ptr<ConsumerStream> stream_;
    const SequenceRange range_;
    // Under the stream's lock.
    std::uint64_t remaining_count_;
    std::uint64_t remaining_bytes_;

    std::mutex mutex_;
    MessageReader reader_;              // guarded by mutex_
    std::uint64_t next_;                // guarded by mutex_
    std::uint64_t end_;                 // guarded by mutex_: one past the last.
    std::uint64_t owned_end_;           // guarded by mutex_
    std::vector<SequenceRange> acked_;  // guarded by mutex_
};

}  // namespace qmq::internal
