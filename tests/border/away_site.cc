#include "tests/border/away_site.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <thread>

#include "qmq/grpc.h"

#include "tests/border/broker_process.h"
#include "tests/support/fake_transport.h"
#include "tests/support/manual_executor.h"

namespace qmq::border {

using std::chrono::milliseconds;

namespace {

class RealSite final : public Site {
public:
    explicit RealSite(const CaseOptions& options) : broker_(options.program, options.directory) {
        Back();
    }
    void Prepare(ClientOptions& options) override {
        options.uri = broker_.uri();
        options.transports = {GrpcTransport()};
    }
    void Away() override { broker_.Kill(); }
    void Back() override {
        if (const Status started = broker_.Start(); !started.ok()) {
            std::printf("FAIL away: the broker did not start: %s\n", started.ToString().c_str());
            std::fflush(stdout);
            std::_Exit(2);
        }
    }
    void Pass(milliseconds time) override { std::this_thread::sleep_for(time); }
    ShutdownReport Shutdown(Client& client, milliseconds timeout) override {
        return client.Shutdown(timeout);
    }

private:
    BrokerProcess broker_;
};

/// Callbacks run on a thread of their own, so that slow ones hold up nobody's clock.
class VirtualSite final : public Site {
public:
    VirtualSite() {
        broker_.SetSendHook([this](const SendBatch& batch) {
            BatchReceipt receipt;
            receipt.outcome = SendOutcome::kPersisted;
            receipt.durability = Durability::kMemory;
            receipt.first_sequence = next_.fetch_add(1);
            (void)batch;  // Nothing is kept, so that what grows is the client.
            return std::optional(receipt);
        });
        cluster_.SetEverySubject(true);
    }
    void Prepare(ClientOptions& options) override {
        options.uri = "fake:";
        options.transports = {cluster_.factory()};
        options.runtime = {&time_.clock, &time_.executor, &callbacks_, &callbacks_, 1};
    }
    void Away() override {
        broker_.SetConnectError(Status::Unavailable("away"));
        broker_.Cut();
        time_.Settle();
    }
    void Back() override { broker_.SetConnectError(Status::Ok()); }
    void Pass(milliseconds time) override {
        constexpr milliseconds kStep{10};
        for (milliseconds passed{0}; passed < time; passed += kStep) {
            time_.Advance(kStep);
            // Who sends at full speed has a moment for it.
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
    }
    ShutdownReport Shutdown(Client& client, milliseconds timeout) override {
        std::optional<ShutdownReport> report;
        client.ShutdownAsync(timeout, [&](const ShutdownReport& done) { report = done; });
        while (!report.has_value()) {
            Pass(milliseconds(10));
        }
        return *report;
    }

private:
    testing::ManualTime time_;
    testing::FakeCluster cluster_{&time_.executor};
    testing::FakeBroker& broker_ = cluster_.AddBroker("a");
    ThreadPool callbacks_{{.threads = 1, .name = "callbacks"}};
    std::atomic<std::uint64_t> next_{0};
};

}  // namespace

std::unique_ptr<Site> MakeRealSite(const CaseOptions& options) {
    return std::make_unique<RealSite>(options);
}
std::unique_ptr<Site> MakeVirtualSite() {
    return std::make_unique<VirtualSite>();
}

}  // namespace qmq::border
