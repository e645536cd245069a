#include "tests/anything/service_engine.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "plugins/grpc/codec/byte_buffer.h"
#include "plugins/grpc/codec/status_map.h"
#include "plugins/grpc/server/broker_service.h"
#include "tests/anything/pipe.h"
#include "tests/anything/wire_engine.h"

namespace qmq::anything {
namespace {

namespace proto = qmq::v1;
using grpc::ByteBuffer;
using Reactor = grpc::ServerBidiReactor<ByteBuffer, ByteBuffer>;

/// In gRPC's place below one stream of the service: it does what it is asked for when `Pump` says
/// so, one thing at a time.
class FakeStream final : public grpc::ServerCallbackReaderWriter<ByteBuffer, ByteBuffer> {
public:
    explicit FakeStream(Pipe::StreamEars ears) : ears_(std::move(ears)) {}

    grpc::CallbackServerContext* context() { return &context_; }
    void Bind(Reactor* made) {
        reactor_ = made;
        BindReactor(made);
    }

    void Deliver(std::string frame) { inbox_.push_back(std::move(frame)); }
    void Cut() { cut_ = true; }
    bool done() const { return done_; }

    bool Pump() {
        if (done_) {
            return false;
        }
        if (cut_ && !std::exchange(cut_told_, true)) {
            reactor_->OnCancel();
        } else if (written_) {
            const Result<Slice> frame = rpc::ToContiguous(*std::exchange(written_, std::nullopt));
            if (frame.ok() && !cut_) {
                ears_.frame(*frame);
            }
            reactor_->OnWriteDone(!cut_);
        } else if (read_into_ != nullptr && (cut_ || finished_)) {
            read_into_ = nullptr;
            reactor_->OnReadDone(false);
        } else if (read_into_ != nullptr && !inbox_.empty()) {
            *std::exchange(read_into_, nullptr) = rpc::ToByteBuffer(inbox_.front());
            inbox_.pop_front();
            reactor_->OnReadDone(true);
        } else if (finished_) {
            done_ = true;
            reactor_->OnDone();
            ears_.ended(rpc::FromGrpc(status_));
        } else {
            return false;
        }
        return true;
    }

    void Finish(grpc::Status status) override {
        finished_ = true;
        status_ = std::move(status);
    }
    void SendInitialMetadata() override {}
    void Read(ByteBuffer* into) override { read_into_ = into; }
    void Write(const ByteBuffer* frame, grpc::WriteOptions) override { written_ = *frame; }
    void WriteAndFinish(const ByteBuffer* frame,
                        grpc::WriteOptions options,
                        grpc::Status status) override {
        Write(frame, options);
        Finish(std::move(status));
    }

private:
    grpc::internal::ServerReactor* reactor() override { return reactor_; }
    void CallOnDone() override {}

    const Pipe::StreamEars ears_;
    grpc::CallbackServerContext context_;
    Reactor* reactor_ = nullptr;
    std::deque<std::string> inbox_;
    ByteBuffer* read_into_ = nullptr;
    std::optional<ByteBuffer> written_;
    grpc::Status status_;
    bool finished_ = false;
    bool cut_ = false;
    bool cut_told_ = false;
    bool done_ = false;
};

/// In gRPC's place below one plain call.
class FakeCall : public grpc::ServerCallbackUnary {
public:
    explicit FakeCall(UniqueFunction<void(Result<std::string>)> done) : told_(std::move(done)) {}

    void Cut() {
        if (reactor_ != nullptr && !status_) {
            reactor_->OnCancel();
        }
    }
    /// gRPC answers itself what is no message of the method.
    void RefuseUnparsed() { told_(Status::Internal("the request cannot be parsed")); }
    bool done() const { return reactor_ == nullptr; }
    bool Pump() {
        if (done() || !status_) {
            return false;
        }
        std::exchange(reactor_, nullptr)->OnDone();
        if (status_->ok()) {
            told_(Reply());
        } else {
            told_(rpc::FromGrpc(*status_));
        }
        return true;
    }

    void Finish(grpc::Status status) override { status_ = std::move(status); }
    void SendInitialMetadata() override {}

protected:
    void Bind(grpc::ServerUnaryReactor* made) {
        reactor_ = made;
        BindReactor(made);
    }
    virtual std::string Reply() const = 0;
    grpc::CallbackServerContext context_;

private:
    grpc::internal::ServerReactor* reactor() override { return reactor_; }
    void CallOnDone() override {}

    UniqueFunction<void(Result<std::string>)> told_;
    grpc::ServerUnaryReactor* reactor_ = nullptr;
    std::optional<grpc::Status> status_;
};

template <typename Request, typename ReplyMessage>
class FakeCallOf final : public FakeCall {
public:
    using FakeCall::FakeCall;
    using Method = grpc::ServerUnaryReactor* (rpc::BrokerService::*)(grpc::CallbackServerContext*,
                                                                     const Request*,
                                                                     ReplyMessage*);
    bool Parse(const std::string& bytes) { return request_.ParseFromString(bytes); }
    void Run(rpc::BrokerService& service, Method method) {
        Bind((service.*method)(&context_, &request_, &reply_));
    }

private:
    std::string Reply() const override { return reply_.SerializeAsString(); }
    Request request_;
    ReplyMessage reply_;
};

class FakePipe final : public Pipe {
public:
    FakePipe(broker::Broker& broker, const Clock& clock) : service_(Options(clock), broker) {}

    /// The process is lost; gRPC's part of it ends too, so that nothing is left behind.
    ~FakePipe() override {
        for (auto& [id, stream] : streams_) {
            stream->Cut();
        }
        for (const auto& call : calls_) {
            call->Cut();
        }
        while (Pump()) {
        }
    }

    StreamId Open(Method method, StreamEars ears) override {
        auto stream = std::make_unique<FakeStream>(std::move(ears));
        stream->Bind(method == Method::kPublish ? service_.Publish(stream->context())
                                                : service_.Consume(stream->context()));
        streams_[++last_id_] = std::move(stream);
        return last_id_;
    }
    void Write(StreamId id, std::string frame) override {
        if (const auto found = streams_.find(id); found != streams_.end()) {
            found->second->Deliver(std::move(frame));
        }
    }
    void Cut(StreamId id) override {
        if (const auto found = streams_.find(id); found != streams_.end()) {
            found->second->Cut();
        }
    }
    void Call(const std::string& name,
              std::string bytes,
              UniqueFunction<void(Result<std::string>)> done) override {
        using Service = rpc::BrokerService;
        const auto run = [&](auto call, auto method) {
            if (!call->Parse(bytes)) {
                return Refuse(std::move(call));  // As gRPC does.
            }
            call->Run(service_, method);
            calls_.push_back(std::move(call));
        };
        if (name == "Send") {
            run(Make<proto::SendRequest, proto::SendReply>(done), &Service::Send);
        } else if (name == "Pull") {
            run(Make<proto::PullRequest, proto::PullReply>(done), &Service::Pull);
        } else if (name == "Ack") {
            run(Make<proto::AckRequest, proto::AckReply>(done), &Service::Ack);
        } else if (name == "ResetGroup") {
            run(Make<proto::ResetGroupRequest, proto::ResetGroupReply>(done), &Service::ResetGroup);
        } else if (name == "ListSubjects") {
            run(Make<proto::ListSubjectsRequest, proto::ListSubjectsReply>(done),
                &Service::ListSubjects);
        } else {
            run(Make<proto::ListGroupsRequest, proto::ListGroupsReply>(done), &Service::ListGroups);
        }
    }
    bool Pump() override {
        for (auto at = calls_.begin(); at != calls_.end(); ++at) {
            if ((*at)->Pump()) {
                // What it told may have begun another call, so `at` is no more.
                std::erase_if(calls_, [](const auto& call) { return call->done(); });
                return true;
            }
        }
        for (auto at = streams_.begin(); at != streams_.end(); ++at) {
            FakeStream& stream = *at->second;
            const StreamId id = at->first;
            if (stream.Pump()) {
                if (stream.done()) {
                    streams_.erase(id);
                }
                return true;
            }
        }
        return false;
    }

private:
    static rpc::ServiceOptions Options(const Clock& clock) {
        rpc::ServiceOptions options;
        options.group_name = "group";
        options.max_message_bytes = 4U << 20U;
        options.clock = &clock;
        return options;
    }
    template <typename Request, typename Reply>
    static std::unique_ptr<FakeCallOf<Request, Reply>> Make(
        UniqueFunction<void(Result<std::string>)>& done) {
        return std::make_unique<FakeCallOf<Request, Reply>>(std::move(done));
    }
    template <typename Call>
    static void Refuse(std::unique_ptr<Call> call) {
        call->RefuseUnparsed();
    }

    rpc::BrokerService service_;
    StreamId last_id_ = 0;
    std::map<StreamId, std::unique_ptr<FakeStream>> streams_;
    std::deque<std::unique_ptr<FakeCall>> calls_;
};

}  // namespace

std::unique_ptr<Engine> MakeServiceEngine(broker::Broker& broker, const Clock& clock) {
    return MakeWireEngine(std::make_unique<FakePipe>(broker, clock));
}

}  // namespace qmq::anything
