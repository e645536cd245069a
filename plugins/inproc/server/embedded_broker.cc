#include "plugins/inproc/server/embedded_broker.h"

#include <future>
#include <utility>
#include <vector>

#include "qmq/clock.h"
#include "qmq/random.h"

#include "plugins/inproc/server/capped_files.h"

namespace qmq::inproc {
namespace {

/// In memory a segment goes as soon as all of it was acked, so small ones keep little that nobody
/// needs; but a batch must fit well into one.
constexpr std::uint64_t kMemorySegmentBytes = 8U << 20;

class PassingSink final : public broker::DeliverySink {
public:
    explicit PassingSink(std::shared_ptr<Sink> sink) : sink_(std::move(sink)) {}
    void OnSubscribed(const SubscribeReply& reply) override { sink_->OnSubscribed(reply); }
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        sink_->OnDelivery(std::move(batches));
    }
    void OnClosed(const Status& status) override { sink_->OnClosed(status); }

private:
    const std::shared_ptr<Sink> sink_;
};

class PassingSession final : public Session {
public:
    explicit PassingSession(std::unique_ptr<broker::Session> session)
        : session_(std::move(session)) {}
    void Grant(Credit credit) override { session_->Grant(credit); }
    void Ack(std::vector<AckItem> items, AckDone done) override {
        session_->Ack(std::move(items), std::move(done));
    }
    void Close() override { session_->Close(); }
    void Detach() override { session_->Detach(); }

private:
    const std::unique_ptr<broker::Session> session_;
};

broker::BrokerOptions ToBrokerOptions(const std::string& directory, const InprocOptions& options) {
    broker::BrokerOptions result;
    result.shards = options.shards;
    if (directory.empty()) {
        result.directory = "memory";
        result.default_durability = Durability::kMemory;
        result.best_durability = Durability::kMemory;
        result.store.segment_bytes = kMemorySegmentBytes;
        result.store.drop_consumed = true;
    } else {
        result.directory = directory;
        result.default_durability = options.durability;
    }
    return result;
}

}  // namespace

EmbeddedBroker::EmbeddedBroker(const InprocOptions& options,
                               std::shared_ptr<EventFan> fan,
                               std::function<void(bool)> release)
    : release_(std::move(release)),
      events_(SystemClock(),
              timers_,
              [fan = std::move(fan)](std::string_view line) {
                  fan->Say("the broker inside this process: " + std::string(line));
              }),
      io_({.threads = options.shards, .name = "qmq-io"}),
      timers_({.threads = 1, .name = "qmq-timer"}) {}

Result<std::unique_ptr<EmbeddedBroker>> EmbeddedBroker::Open(const std::string& directory,
                                                             const InprocOptions& options,
                                                             std::shared_ptr<EventFan> fan,
                                                             std::function<void(bool)> release) {
    std::unique_ptr<EmbeddedBroker> embedded(
        new EmbeddedBroker(options, std::move(fan), std::move(release)));
    if (directory.empty()) {
        embedded->memory_ = CapFiles(env::MakeMemoryFileSystem(), options.memory_bytes);
    }
    env::FileSystem& files = directory.empty() ? *embedded->memory_ : env::RealFileSystem();
    const broker::BrokerOptions broker_options = ToBrokerOptions(directory, options);
    embedded->limits_.max_batch_bytes = broker_options.store.limits.max_batch_bytes;
    auto opened =
        broker::Broker::Open(broker_options,
                             broker::BrokerEnvironment{.files = files,
                                                       .clock = SystemClock(),
                                                       .executor = embedded->timers_,
                                                       .io = embedded->io_,
                                                       .seed = Random::FromSystem().Next(),
                                                       .events = embedded->events_});
    if (!opened.ok()) {
        return opened.status();
    }
    embedded->broker_ = std::move(opened).value();
    return embedded;
}

EmbeddedBroker::~EmbeddedBroker() {
    if (broker_ == nullptr) {
        return;
    }
    std::promise<void> closed;
    // What could not be synced was never promised; there is nobody left to tell.
    broker_->Close([&](const Status&) { closed.set_value(); });
    closed.get_future().wait();
}

std::unique_ptr<Session> EmbeddedBroker::Subscribe(SubscribeRequest request,
                                                   std::shared_ptr<Sink> sink) {
    auto session =
        broker_->Subscribe(std::move(request), std::make_shared<PassingSink>(std::move(sink)));
    return session == nullptr ? nullptr : std::make_unique<PassingSession>(std::move(session));
}

}  // namespace qmq::inproc
