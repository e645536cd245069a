#include "tests/anything/socket_pipe.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <deque>
#include <map>
#include <utility>

#include "plugins/grpc/codec/byte_buffer.h"
#include "plugins/grpc/codec/status_map.h"

namespace qmq::anything {
namespace {

using grpc::ByteBuffer;

/// What a tag of the completion queue names: something that is under way, and is told of its end.
struct Step {
    std::function<void(bool ok)> done;
};

class SocketStream {
public:
    SocketStream(grpc::GenericStub& stub,
                 grpc::CompletionQueue& queue,
                 Pipe::Method method,
                 Pipe::StreamEars ears)
        : ears_(std::move(ears)) {
        call_ = stub.PrepareCall(
            &context_,
            method == Pipe::Method::kPublish ? "/qmq.v1.Broker/Publish" : "/qmq.v1.Broker/Consume",
            &queue);
        started_ = {[this](bool ok) { ok ? Started() : End(); }};
        read_ = {[this](bool ok) { ok ? OnRead() : End(); }};
        write_ = {[this](bool ok) {
            writing_ = false;
            if (ok) {
                outbox_.pop_front();
                WriteNext();
            }
        }};
        finish_ = {[this](bool) {
            over_ = true;
            ears_.ended(rpc::FromGrpc(status_));
        }};
        call_->StartCall(&started_);
    }

    void Write(std::string frame) {
        outbox_.push_back(std::move(frame));
        WriteNext();
    }
    void Cut() { context_.TryCancel(); }
    bool over() const { return over_ && !writing_; }

private:
    void Started() {
        is_started_ = true;
        call_->Read(&in_, &read_);
        WriteNext();
    }
    void WriteNext() {
        if (is_started_ && !ending_ && !writing_ && !outbox_.empty()) {
            writing_ = true;
            call_->Write(rpc::ToByteBuffer(outbox_.front()), &write_);
        }
    }
    void OnRead() {
        if (const Result<Slice> frame = rpc::ToContiguous(in_); frame.ok()) {
            ears_.frame(*frame);
        }
        in_.Clear();
        call_->Read(&in_, &read_);
    }
    void End() {
        ending_ = true;
        call_->Finish(&status_, &finish_);
    }

    const Pipe::StreamEars ears_;
    grpc::ClientContext context_;
    std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
    Step started_, read_, write_, finish_;
    ByteBuffer in_;
    std::deque<std::string> outbox_;
    grpc::Status status_;
    bool is_started_ = false;
    bool writing_ = false;
    bool ending_ = false;
    bool over_ = false;
};

struct PlainCall {
    grpc::ClientContext context;
    std::unique_ptr<grpc::GenericClientAsyncResponseReader> call;
    ByteBuffer reply;
    grpc::Status status;
    Step finished;
    bool over = false;
};

class SocketPipe final : public Pipe {
public:
    explicit SocketPipe(const std::string& address)
        : stub_(grpc::CreateChannel(address, grpc::InsecureChannelCredentials())) {}

    ~SocketPipe() override {
        for (auto& [id, stream] : streams_) {
            stream->Cut();
        }
        for (const auto& call : calls_) {
            call->context.TryCancel();
        }
        while (!streams_.empty() || !calls_.empty()) {
            WaitOnce(std::chrono::milliseconds(100));
        }
        queue_.Shutdown();
        void* tag = nullptr;
        bool ok = false;
        while (queue_.Next(&tag, &ok)) {
        }
    }

    StreamId Open(Method method, StreamEars ears) override {
        streams_[++last_id_] =
            std::make_unique<SocketStream>(stub_, queue_, method, std::move(ears));
        return last_id_;
    }
    void Write(StreamId id, std::string frame) override {
        if (const auto found = streams_.find(id); found != streams_.end()) {
            found->second->Write(std::move(frame));
        }
    }
    void Cut(StreamId id) override {
        if (const auto found = streams_.find(id); found != streams_.end()) {
            found->second->Cut();
        }
    }
    void Call(const std::string& name,
              std::string request,
              UniqueFunction<void(Result<std::string>)> done) override {
        auto call = std::make_unique<PlainCall>();
        call->call = stub_.PrepareUnaryCall(
            &call->context, "/qmq.v1.Broker/" + name, rpc::ToByteBuffer(request), &queue_);
        auto told = std::make_shared<UniqueFunction<void(Result<std::string>)>>(std::move(done));
        call->finished = {[raw = call.get(), told](bool) {
            raw->over = true;
            if (!raw->status.ok()) {
                return (*told)(rpc::FromGrpc(raw->status));
            }
            const Result<Slice> reply = rpc::ToContiguous(raw->reply);
            (*told)(reply.ok() ? Result<std::string>(std::string(reply->bytes()))
                               : Result<std::string>(reply.status()));
        }};
        call->call->StartCall();
        call->call->Finish(&call->reply, &call->status, &call->finished);
        calls_.push_back(std::move(call));
    }
    bool Pump() override { return WaitOnce(std::chrono::milliseconds(2)); }

private:
    bool WaitOnce(std::chrono::milliseconds longest) {
        void* tag = nullptr;
        bool ok = false;
        if (queue_.AsyncNext(&tag, &ok, std::chrono::system_clock::now() + longest) !=
            grpc::CompletionQueue::GOT_EVENT) {
            return false;
        }
        static_cast<Step*>(tag)->done(ok);
        std::erase_if(streams_, [](const auto& entry) { return entry.second->over(); });
        std::erase_if(calls_, [](const auto& call) { return call->over; });
        return true;
    }

    grpc::CompletionQueue queue_;
    grpc::GenericStub stub_;
    StreamId last_id_ = 0;
    std::map<StreamId, std::unique_ptr<SocketStream>> streams_;
    std::deque<std::unique_ptr<PlainCall>> calls_;
};

}  // namespace

std::unique_ptr<Pipe> MakeSocketPipe(const std::string& address) {
    return std::make_unique<SocketPipe>(address);
}

}  // namespace qmq::anything
