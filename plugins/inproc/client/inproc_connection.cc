#include "plugins/inproc/client/inproc_connection.h"

#include <utility>

namespace qmq::inproc {

ConnectionCore::ConnectionCore(std::shared_ptr<TransportState> state,
                               std::shared_ptr<ConnectionListener> listener)
    : state_(std::move(state)), listener_(std::move(listener)) {}

void ConnectionCore::Start() {
    is_registered_ = state_->Add(*this);
    if (!is_registered_) {
        return Close();
    }
    const TransportState::CallbackScope scope(*state_);
    listener_->OnReady();
}

void ConnectionCore::Close() {
    std::map<StreamCore*, std::shared_ptr<StreamCore>> streams;
    {
        const std::lock_guard lock(mutex_);
        if (std::exchange(closing_, true)) {
            return;
        }
        streams = streams_;
    }
    for (const auto& [key, stream] : streams) {
        stream->Lose(Closed());
    }
    End();
}

bool ConnectionCore::Begin() {
    const std::lock_guard lock(mutex_);
    if (closing_) {
        return false;
    }
    ++under_way_;
    return true;
}

void ConnectionCore::End() {
    {
        const std::lock_guard lock(mutex_);
        if (--under_way_ > 0) {
            return;
        }
    }
    Report();
}

void ConnectionCore::Report() {
    const auto self = shared_from_this();
    const TransportState::CallbackScope scope(*state_);
    listener_->OnClosed(Status::Cancelled("the connection to inproc: was closed"));
    listener_.reset();
    if (is_registered_) {
        state_->Remove(*this);
    }
}

std::shared_ptr<StreamCore> ConnectionCore::AddStream(std::shared_ptr<DeliveryListener> listener) {
    const std::lock_guard lock(mutex_);
    if (closing_) {
        return nullptr;
    }
    auto stream = std::make_shared<StreamCore>(shared_from_this(), std::move(listener));
    streams_.emplace(stream.get(), stream);
    ++under_way_;
    return stream;
}

void ConnectionCore::StreamEnded(StreamCore* stream) {
    {
        const std::lock_guard lock(mutex_);
        streams_.erase(stream);
    }
    End();
}

template <typename Answer>
UniqueFunction<void(Answer)> InprocConnection::Counted(UniqueFunction<void(Answer)> done) {
    return [core = core_, done = std::move(done)](Answer answer) mutable {
        // The scope outlives what the callback and this closure hold, so that whoever lets go of
        // the last of it knows that it is inside a callback.
        const TransportState::CallbackScope scope(core->state());
        const auto kept = std::move(core);
        done(std::move(answer));
        done = nullptr;
        kept->End();
    };
}

void InprocConnection::Send(std::vector<SendBatch> batches, SendDone done) {
    if (core_->Begin()) {
        return core_->broker().Send(std::move(batches), Counted(std::move(done)));
    }
    BatchReceipt refused;
    refused.outcome = SendOutcome::kRefused;
    refused.status = ConnectionCore::Closed();
    const TransportState::CallbackScope scope(core_->state());
    done(std::vector<BatchReceipt>(batches.size(), refused));
}

namespace {

/// What a subscriber gets whose connection is closed already.
class DeadStream final : public DeliveryStream {
public:
    void Grant(Credit) override {}
    void Ack(std::vector<AckItem>, AckDone done) override { done(ConnectionCore::Closed()); }
    void Close() override {}
};

}  // namespace

std::unique_ptr<DeliveryStream> InprocConnection::Subscribe(
    SubscribeRequest request, std::shared_ptr<DeliveryListener> listener) {
    if (auto stream = core_->AddStream(listener)) {
        stream->Start(std::move(request));
        return std::make_unique<InprocDeliveryStream>(std::move(stream));
    }
    const TransportState::CallbackScope scope(core_->state());
    listener->OnClosed(ConnectionCore::Closed());
    return std::make_unique<DeadStream>();
}

void InprocConnection::ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) {
    if (!core_->Begin()) {
        return done(ConnectionCore::Closed());
    }
    core_->broker().ListSubjects(Counted(std::move(done)));
}

void InprocConnection::ListGroups(std::string subject,
                                  UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) {
    if (!core_->Begin()) {
        return done(ConnectionCore::Closed());
    }
    core_->broker().ListGroups(std::move(subject), Counted(std::move(done)));
}

void InprocConnection::ResetGroup(std::string subject,
                                  std::string group,
                                  StartPosition position,
                                  UniqueFunction<void(Status)> done) {
    if (!core_->Begin()) {
        return done(ConnectionCore::Closed());
    }
    core_->broker().ResetGroup(
        std::move(subject), std::move(group), position, Counted(std::move(done)));
}

}  // namespace qmq::inproc
