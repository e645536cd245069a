#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "qmq/client.h"

#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/client_end.h"
#include "sdk/client/src/link/broker_link.h"
#include "sdk/client/src/link/router.h"
#include "sdk/client/src/receive/handler_chain.h"
#include "sdk/client/src/roster.h"

namespace qmq::internal {

/// Everything of one client: makes its producers and consumers over one runtime, router and pool of
/// links, writes them into the roster, and hands the end to `ClientEnd`. Thread-safe.
class ClientCore final {
public:
    static Result<std::shared_ptr<ClientCore>> Create(ClientOptions options);
    ~ClientCore();

    Result<Producer> MakeProducer(const ProducerOptions& options);
    Result<Subscription> Subscribe(SubscriptionOptions options, Handler handler);
    Result<PullConsumer> MakePullConsumer(PullConsumerOptions options);
    Status WaitReady(const std::string& subject, std::chrono::milliseconds timeout);
    ShutdownReport Shutdown(std::chrono::milliseconds timeout) { return end_->Run(timeout); }
    void ShutdownAsync(std::chrono::milliseconds timeout,
                       UniqueFunction<void(const ShutdownReport&)> done) {
        end_->RunAsync(timeout, std::move(done));
    }

    const std::string& client_id() const { return runtime_->client_id(); }
    const ProcessMark& process() const { return runtime_->process(); }

private:
    ClientCore(ClientOptions options,
               std::shared_ptr<ClientRuntime> runtime,
               std::shared_ptr<Transport> transport);
    Status ResolveGroup(bool broadcast, std::string* group) const;

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::vector<std::shared_ptr<Filter>> filters_;
    const std::shared_ptr<LinkPool> links_;
    const std::shared_ptr<Router> router_;
    const std::shared_ptr<Roster> roster_;
    const std::shared_ptr<ClientEnd> end_;
};

}  // namespace qmq::internal
