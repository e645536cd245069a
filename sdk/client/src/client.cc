#include "qmq/client.h"

#include <utility>

#include "sdk/client/src/client_core.h"

namespace qmq {

Result<Client> Client::Create(ClientOptions options) {
    Result<std::shared_ptr<internal::ClientCore>> core =
        internal::ClientCore::Create(std::move(options));
    if (!core.ok()) {
        return core.status();
    }
    return Client(std::move(*core));
}

Client::Client(std::shared_ptr<internal::ClientCore> core) : core_(std::move(core)) {}
Client::Client(Client&&) noexcept = default;

Client& Client::operator=(Client&& other) noexcept {
    if (this != &other) {
        if (core_ != nullptr) {
            core_->Shutdown(std::chrono::milliseconds(0));
        }
        core_ = std::move(other.core_);
    }
    return *this;
}

Client::~Client() {
    if (core_ != nullptr) {
        core_->Shutdown(std::chrono::milliseconds(0));
    }
}

Result<Producer> Client::MakeProducer(ProducerOptions options) {
    return core_->MakeProducer(options);
}

Result<Subscription> Client::Subscribe(SubscriptionOptions options, Handler handler) {
    return core_->Subscribe(std::move(options), std::move(handler));
}

Result<Subscription> Client::SubscribeManual(SubscriptionOptions options, ManualHandler handler) {
    return core_->Subscribe(std::move(options), std::move(handler));
}

Result<Subscription> Client::SubscribeOutcome(SubscriptionOptions options, OutcomeHandler handler) {
    return core_->Subscribe(std::move(options), std::move(handler));
}

Result<PullConsumer> Client::MakePullConsumer(PullConsumerOptions options) {
    return core_->MakePullConsumer(std::move(options));
}

Status Client::WaitReady(const std::string& subject, std::chrono::milliseconds timeout) {
    return core_->WaitReady(subject, timeout);
}

ShutdownReport Client::Shutdown(std::chrono::milliseconds timeout) {
    return core_->Shutdown(timeout);
}

void Client::ShutdownAsync(std::chrono::milliseconds timeout,
                           UniqueFunction<void(const ShutdownReport&)> done) {
    core_->ShutdownAsync(timeout, std::move(done));
}

const std::string& Client::client_id() const {
    return core_->client_id();
}

}  // namespace qmq
