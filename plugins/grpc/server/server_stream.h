#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "qmq/slice.h"
#include "qmq/status.h"

#include "plugins/grpc/codec/byte_buffer.h"
#include "plugins/grpc/codec/publish_frames.h"
#include "plugins/grpc/server/poller_rest.h"

namespace qmq::rpc {

class ServerStream;

/// The streams of a server that are open, so that it can end them, and what they share.
/// Thread-safe.
class StreamRegistry {
public:
    void Add(ServerStream* stream);
    void Remove(ServerStream* stream);
    /// Ends all of them, and those that come later.
    void DrainAll();
    PollerRest& poller_rest() { return poller_rest_; }

private:
    PollerRest poller_rest_;
    std::mutex mutex_;
    bool draining_ = false;            // guarded by mutex_
    std::set<ServerStream*> streams_;  // guarded by mutex_
};

/// A stream seen from the server: frames come in one after another as long as there is room, and
/// answers gather while a write is under way.
///
/// Answers come from the broker's threads, perhaps long after the client has gone: they hold a
/// reference on the stream, and are dropped once it has finished.
class ServerStream : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                     public std::enable_shared_from_this<ServerStream> {
public:
    explicit ServerStream(std::shared_ptr<StreamRegistry> registry)
        : registry_(std::move(registry)) {}

    /// Begins to serve, and keeps itself alive until it has ended.
    void Start(grpc::CallbackServerContext* context, std::size_t max_message_bytes);
    /// Takes no more frames, writes the answers that are due, and ends with kUnavailable.
    void Drain();

protected:
    /// One frame, from one thread at a time. An error ends the stream with it.
    virtual Status OnFrame(Slice frame) = 0;
    /// With mutex_ held: whether another frame may be read.
    virtual bool HasRoom() const = 0;
    /// With mutex_ held: whether answers are due.
    virtual bool OwesAnswers() const = 0;
    /// A write has gone out: all that was appended up to this many bytes since the stream began.
    virtual void OnWritten(std::uint64_t /*bytes*/) {}
    /// The stream is over, and nothing of it runs any more.
    virtual void OnStreamEnded() {}

    /// Runs `change(gatherer)` under the lock, where it appends an answer of `size`, and then does
    /// what has become possible: write, read on, finish. Nothing once the stream has finished.
    template <typename Change>
    void Answer(PieceSize size, Change change) {
        std::unique_lock lock(mutex_);
        if (!finished_) {
            MessageGatherer* frame = Room(size);
            const std::size_t before = frame->bytes();
            change(frame);
            appended_bytes_ += frame->bytes() - before;
            Advance(std::move(lock));
        }
    }

    /// What may wait to be written before no more frames are read: who reads no answers is not to
    /// have ever more of them made.
    static constexpr std::uint64_t kMostUnwrittenBytes = 4U << 20;
    /// With mutex_ held.
    std::uint64_t unwritten_bytes() const { return appended_bytes_ - written_bytes_; }

    std::mutex mutex_;
    std::uint64_t appended_bytes_ = 0;  // guarded by mutex_; since the stream began.

private:
    enum class Reading { kIdle, kUnderWay, kEnded };

    MessageGatherer* Room(PieceSize size);            // with mutex_ held
    void Advance(std::unique_lock<std::mutex> lock);  // with mutex_ held, which it gives up
    void OnReadDone(bool ok) final;
    void OnWriteDone(bool ok) final;
    void OnCancel() final;
    void OnDone() final;
    void End(const grpc::Status& status);

    const std::shared_ptr<StreamRegistry> registry_;
    std::shared_ptr<ServerStream> self_;  // From Start to OnDone.
    grpc::ByteBuffer read_buffer_;        // The one read under way.
    grpc::ByteBuffer write_buffer_;       // The one write under way.

    Reading reading_ = Reading::kUnderWay;  // guarded by mutex_
    int starting_reads_ = 0;                // guarded by mutex_; about to tell gRPC.
    bool handling_ = false;                 // guarded by mutex_; a frame is in OnFrame.
    bool writing_ = false;                  // guarded by mutex_
    bool ending_ = false;                   // guarded by mutex_; finishes once it owes nothing.
    bool broken_ = false;                   // guarded by mutex_; the client is gone.
    bool finished_ = false;                 // guarded by mutex_
    grpc::Status end_status_;               // guarded by mutex_
    std::deque<MessageGatherer> frames_;    // guarded by mutex_
    std::size_t last_frame_items_ = 0;      // guarded by mutex_; of the last of `frames_`.
    std::uint64_t written_bytes_ = 0;       // guarded by mutex_; since the stream began.
};

}  // namespace qmq::rpc
