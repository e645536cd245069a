#include "plugins/inproc/client/inproc_transport.h"

#include <utility>

#include "qmq/subject.h"

#include "plugins/inproc/client/inproc_connection.h"
#include "plugins/inproc/client/transport_state.h"

namespace qmq::inproc {
namespace {

class InprocTransportImpl final : public Transport {
public:
    explicit InprocTransportImpl(Broker& broker)
        : state_(std::make_shared<TransportState>(broker)) {}
    ~InprocTransportImpl() override { state_->CloseAll(); }

    void Discover(DiscoverRequest request,
                  TimePoint,
                  UniqueFunction<void(Result<Route>)> done) override {
        const TransportState::CallbackScope scope(*state_);
        if (Status valid = ValidateStoredSubject(request.subject); !valid.ok()) {
            return done(valid);
        }
        done(Route{{{"inproc", "inproc", true, true, state_->broker().limits()}}, true});
    }

    std::unique_ptr<BrokerConnection> Connect(
        const BrokerGroup&, std::shared_ptr<ConnectionListener> listener) override {
        auto core = std::make_shared<ConnectionCore>(state_, std::move(listener));
        auto connection = std::make_unique<InprocConnection>(core);
        core->Start();
        return connection;
    }

private:
    const std::shared_ptr<TransportState> state_;
};

}  // namespace

std::unique_ptr<Transport> MakeTransport(Broker& broker) {
    return std::make_unique<InprocTransportImpl>(broker);
}

}  // namespace qmq::inproc
