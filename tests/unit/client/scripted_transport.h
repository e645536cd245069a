#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qmq/transport.h"

#include "tests/support/wrapping_factory.h"

namespace qmq::testing {

/// Carries what another transport carries, and says of its cluster what a test wants.
struct Script {
    /// Of every broker group.
    std::string address = "old";
    /// Routes name each broker group again, at another address.
    bool each_group_twice = false;
    /// Questions for this subject wait in `held`.
    std::string slow_subject;
    std::vector<Task> held;
    /// What connections were made to, in order.
    std::vector<std::string> connected;
    /// Called once, before Connect returns.
    std::function<void()> on_connect;
    /// A connection is told to be ready by this. Else it is at once.
    std::function<void(std::shared_ptr<ConnectionListener>)> on_ready;
    std::chrono::milliseconds connect_timeout{15'000};
};

class ScriptedTransport final : public Transport {
public:
    ScriptedTransport(std::unique_ptr<Transport> inner, std::shared_ptr<Script> script)
        : inner_(std::move(inner)), script_(std::move(script)) {}
    void Discover(DiscoverRequest request,
                  TimePoint deadline,
                  UniqueFunction<void(Result<Route>)> done) override {
        const bool waits = request.subject == script_->slow_subject;
        Task ask = [inner = inner_,
                    script = script_,
                    request = std::move(request),
                    deadline,
                    done = std::move(done)]() mutable {
            inner->Discover(std::move(request),
                            deadline,
                            [script, done = std::move(done)](Result<Route> route) mutable {
                                if (route.ok()) {
                                    route->groups = AsScripted(*script, route->groups);
                                }
                                done(std::move(route));
                            });
        };
        if (waits) {
            script_->held.push_back(std::move(ask));
        } else {
            ask();
        }
    }
    std::unique_ptr<BrokerConnection> Connect(
        const BrokerGroup& group, std::shared_ptr<ConnectionListener> listener) override {
        script_->connected.push_back(group.address);
        const auto hook = std::exchange(script_->on_connect, nullptr);
        auto connection =
            inner_->Connect(group, std::make_shared<Listener>(std::move(listener), script_));
        if (hook) {
            hook();
        }
        return connection;
    }
    std::chrono::milliseconds connect_timeout() const override { return script_->connect_timeout; }

private:
    class Listener final : public ConnectionListener {
    public:
        Listener(std::shared_ptr<ConnectionListener> to, std::shared_ptr<Script> script)
            : to_(std::move(to)), script_(std::move(script)) {}
        void OnReady() override {
            if (script_->on_ready) {
                script_->on_ready(to_);
            } else {
                to_->OnReady();
            }
        }
        void OnClosed(const Status& status) override { to_->OnClosed(status); }

    private:
        const std::shared_ptr<ConnectionListener> to_;
        const std::shared_ptr<Script> script_;
    };

    static std::vector<BrokerGroup> AsScripted(const Script& script,
                                               const std::vector<BrokerGroup>& groups) {
        std::vector<BrokerGroup> scripted;
        for (BrokerGroup group : groups) {
            group.address = script.address;
            scripted.push_back(group);
            if (script.each_group_twice) {
                group.address += "-2";
                scripted.push_back(group);
            }
        }
        return scripted;
    }

    const std::shared_ptr<Transport> inner_;
    const std::shared_ptr<Script> script_;
};

inline std::shared_ptr<TransportFactory> MakeScriptedFactory(
    std::shared_ptr<TransportFactory> inner, std::shared_ptr<Script> script) {
    return std::make_shared<WrappingFactory>(
        std::move(inner), [script = std::move(script)](std::unique_ptr<Transport> transport) {
            return std::make_unique<ScriptedTransport>(std::move(transport), script);
        });
}

}  // namespace qmq::testing
