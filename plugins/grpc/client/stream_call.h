#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/client_callback.h>

#include <memory>
#include <mutex>
#include <string>

#include "qmq/status.h"

#include "plugins/grpc/client/endpoint.h"
#include "plugins/grpc/codec/byte_buffer.h"

namespace qmq::rpc {

/// One of the two streams of a connection, seen from the client: one write under way at a time, and
/// whatever gathers meanwhile becomes the next frame. So frames are small when there is little to
/// do, and large under load, without a timer.
///
/// Reads, `OnOpened`, `OnFrame` and `OnEnded` come one after another. It keeps itself alive from
/// `Start` until `OnEnded` has returned.
class StreamCall : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                   public std::enable_shared_from_this<StreamCall> {
public:
    void Start(const Wire& wire, const char* method);
    /// `OnEnded` follows soon. Any thread, any number of times.
    void Cancel();

protected:
    /// Runs `change` under the stream's lock, then writes if it can. `change` says false when there
    /// is nothing new.
    template <typename Change>
    bool ChangeAndWrite(Change change) {
        std::unique_lock lock(mutex_);
        if (!change()) {
            return false;
        }
        WriteIfIdle(std::move(lock));
        return true;
    }
    bool ended() const { return ended_; }  // with mutex_ held

    /// With mutex_ held: puts what has gathered into `frame`; nothing when there is nothing.
    virtual void FillFrame(MessageGatherer* frame) = 0;
    /// The server took the call; it may be written to.
    virtual void OnOpened(std::size_t server_max_message_bytes) = 0;
    /// One frame. An error ends the stream with it.
    virtual Status OnFrame(Slice frame) = 0;
    /// Last, once. Never ok: a server that ends a stream properly is going away.
    virtual void OnEnded(const grpc::Status& status) = 0;

    std::mutex mutex_;

private:
    void WriteIfIdle(std::unique_lock<std::mutex> lock);
    void ReadNext();
    void StopReading();

    void OnReadInitialMetadataDone(bool ok) override;
    void OnReadDone(bool ok) override;
    void OnWriteDone(bool ok) override;
    void OnDone(const grpc::Status& status) override;

    std::shared_ptr<StreamCall> self_;  // From Start to OnDone.
    grpc::ClientContext context_;
    std::unique_ptr<grpc::GenericStub> stub_;

    bool open_ = false;              // guarded by mutex_
    bool writing_ = false;           // guarded by mutex_
    bool ended_ = false;             // guarded by mutex_; nothing is written any more.
    MessageGatherer gatherer_;       // guarded by mutex_
    grpc::ByteBuffer write_buffer_;  // The one write under way.
    grpc::ByteBuffer read_buffer_;   // The one read under way.
    Status local_error_;             // Written by the reading side, read in OnDone.
};

}  // namespace qmq::rpc
