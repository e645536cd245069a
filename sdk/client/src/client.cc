#include "qmq/client.h"

#include <utility>

#include "qmq/check.h"

#include "sdk/client/src/client_core.h"

namespace qmq {

namespace {

void CheckLive(const std::shared_ptr<internal::ClientCore>& core) {
    QMQ_CHECK(core != nullptr, "a Client is used that was moved from");
}

/// Ok, or kFailedPrecondition in a process that was forked from the client's.
Status CheckHere(const std::shared_ptr<internal::ClientCore>& core) {
    CheckLive(core);
    return core->process().foreign() ? core->process().Refusal("the client") : Status::Ok();
}

/// Ends a client whose handle goes. In a process that was forked meanwhile it is left alone.
void End(std::shared_ptr<internal::ClientCore> core) {
    if (core == nullptr) {
        return;
    }
    if (core->process().foreign()) {
        KeepForEver(std::move(core));
        return;
    }
    (void)core->Shutdown(std::chrono::milliseconds(0));
}

ShutdownReport RefusedReport(Status status) {
    ShutdownReport report;
    report.drained = false;
    report.status = std::move(status);
    return report;
}

}  // namespace

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
        End(std::move(core_));
        core_ = std::move(other.core_);
    }
    return *this;
}

Client::~Client() {
    End(std::move(core_));
}

Result<Producer> Client::MakeProducer(ProducerOptions options) {
    if (Status status = CheckHere(core_); !status.ok()) {
        return status;
    }
    return core_->MakeProducer(options);
}

Result<Subscription> Client::Subscribe(SubscriptionOptions options, Handler handler) {
    if (Status status = CheckHere(core_); !status.ok()) {
        return status;
    }
    return core_->Subscribe(std::move(options), std::move(handler));
}

Result<PullConsumer> Client::MakePullConsumer(PullConsumerOptions options) {
    if (Status status = CheckHere(core_); !status.ok()) {
        return status;
    }
    return core_->MakePullConsumer(std::move(options));
}

Status Client::WaitReady(const std::string& subject, std::chrono::milliseconds timeout) {
    if (Status status = CheckHere(core_); !status.ok()) {
        return status;
    }
    // Held, since a callback that runs meanwhile may move or destroy this handle.
    const std::shared_ptr<internal::ClientCore> core = core_;
    return core->WaitReady(subject, timeout);
}

ShutdownReport Client::Shutdown(std::chrono::milliseconds timeout) {
    if (Status status = CheckHere(core_); !status.ok()) {
        return RefusedReport(std::move(status));
    }
    const std::shared_ptr<internal::ClientCore> core = core_;  // Held, as above.
    return core->Shutdown(timeout);
}

void Client::ShutdownAsync(std::chrono::milliseconds timeout,
                           UniqueFunction<void(const ShutdownReport&)> done) {
    Status status = CheckHere(core_);
    if (status.ok()) {
        const std::shared_ptr<internal::ClientCore> core = core_;  // Held, as above.
        core->ShutdownAsync(timeout, std::move(done));
    } else if (done) {
        done(RefusedReport(std::move(status)));
    }
}

const std::string& Client::client_id() const {
    CheckLive(core_);
    return core_->client_id();
}

}  // namespace qmq
