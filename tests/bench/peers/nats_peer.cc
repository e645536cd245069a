// NATS JetStream through libnats: a stream on disk with one replica, asynchronous publishes with a
// window, a durable push consumer with an explicit ack for each message.

#include <nats/nats.h>

#include <condition_variable>
#include <mutex>

#include "tests/bench/peers/peer_bench.h"

namespace qmq::bench {
namespace {

template <auto destroy>
struct Deleter {
    template <typename T>
    void operator()(T* object) const {
        destroy(object);
    }
};
using NatsOptions = std::unique_ptr<natsOptions, Deleter<natsOptions_Destroy>>;
using Connection = std::unique_ptr<natsConnection, Deleter<natsConnection_Destroy>>;
using JetStream = std::unique_ptr<jsCtx, Deleter<jsCtx_Destroy>>;
using NatsMessage = std::unique_ptr<natsMsg, Deleter<natsMsg_Destroy>>;
using Subscription = std::unique_ptr<natsSubscription, Deleter<natsSubscription_Destroy>>;

void Check(natsStatus status, std::string_view what, jsErrCode code = static_cast<jsErrCode>(0)) {
    if (status == NATS_OK) return;
    std::string message = std::string(what) + ": " + natsStatus_GetText(status);
    if (code != 0) message += ", JetStream error " + std::to_string(code);
    natsStatus unused = NATS_OK;
    if (const char* detail = nats_GetLastError(&unused)) message += ", " + std::string(detail);
    throw std::runtime_error(message);
}

constexpr std::uint64_t kDefaultWindow = 4096;
constexpr std::int64_t kDefaultMaxAckPending = 20'000;
constexpr std::int64_t kStallMillis = 10'000;

struct NatsSettings {
    std::string subject = UniqueName();
    Options options;

    std::int64_t window() const {
        return static_cast<std::int64_t>(options.window ? options.window : kDefaultWindow);
    }
    std::int64_t max_ack_pending() const {
        return options.batch ? static_cast<std::int64_t>(options.batch) : kDefaultMaxAckPending;
    }
    // Otherwise the library's flusher thread gathers what several calls wrote.
    bool send_asap() const { return options.job == Job::kLatency; }
};

Connection Connect(const NatsSettings& settings) {
    natsOptions* raw_options = nullptr;
    Check(natsOptions_Create(&raw_options), "natsOptions_Create");
    const NatsOptions options(raw_options);
    const std::string url = "nats://127.0.0.1:" + std::to_string(settings.options.port);
    Check(natsOptions_SetURL(options.get(), url.c_str()), "natsOptions_SetURL");
    // A run in which the connection was lost is no measurement.
    Check(natsOptions_SetAllowReconnect(options.get(), false), "natsOptions_SetAllowReconnect");
    Check(natsOptions_SetSendAsap(options.get(), settings.send_asap()), "natsOptions_SetSendAsap");
    natsConnection* connection = nullptr;
    Check(natsConnection_Connect(&connection, options.get()), "connect to " + url);
    return Connection(connection);
}

JetStream MakeJetStream(natsConnection* connection, jsOptions* options) {
    jsCtx* context = nullptr;
    Check(natsConnection_JetStream(&context, connection, options), "natsConnection_JetStream");
    return JetStream(context);
}

class NatsProducer : public Producer {
public:
    NatsProducer(const NatsSettings& settings, Acks& acks)
        : settings_(settings), acks_(acks), connection_(Connect(settings)) {
        jsOptions options;
        Check(jsOptions_Init(&options), "jsOptions_Init");
        options.PublishAsync.MaxPending = settings.window();
        options.PublishAsync.StallWait = kStallMillis;
        options.PublishAsync.AckHandler = &NatsProducer::OnAck;
        options.PublishAsync.AckHandlerClosure = this;
        context_ = MakeJetStream(connection_.get(), &options);
    }

    // After a failure acks may be missing for ever: closing the connection is what ends the
    // callbacks, which use this object.
    ~NatsProducer() override { natsConnection_Close(connection_.get()); }

    void Send(std::span<const char> body) override {
        natsMsg* message = nullptr;
        Check(natsMsg_Create(&message,
                             settings_.subject.c_str(),
                             nullptr,
                             body.data(),
                             static_cast<int>(body.size())),
              "natsMsg_Create");
        NatsMessage guard(message);
        Check(natsMsgHeader_Set(message, kPropertyName.data(), kPropertyValue.data()), "header");
        Check(natsMsgHeader_Set(message, kTagName.data(), kTagValue.data()), "header");
        Check(js_PublishMsgAsync(context_.get(), &message, nullptr), "js_PublishMsgAsync");
        // The library owns it from here and has set `message` to null.
        static_cast<void>(guard.release());
    }

    void Flush() override {
        jsPubOptions options;
        Check(jsPubOptions_Init(&options), "jsPubOptions_Init");
        options.MaxWait = kStallMillis;
        Check(js_PublishAsyncComplete(context_.get(), &options), "js_PublishAsyncComplete");
    }

private:
    static void OnAck(jsCtx*, natsMsg* message, jsPubAck* ack, jsPubAckErr* error, void* closure) {
        const NatsMessage guard(message);
        auto& acks = static_cast<NatsProducer*>(closure)->acks_;
        if (ack == nullptr) {
            acks.progress().Fail(std::string("publish refused: ") +
                                 (error != nullptr ? error->ErrText : "no reason given"));
            return;
        }
        const Stamp stamp = ReadStamp(natsMsg_GetData(message),
                                      static_cast<std::size_t>(natsMsg_GetDataLength(message)));
        acks.OnAck(stamp.sent_nanos, NowNanos());
    }

    const NatsSettings& settings_;
    Acks& acks_;
    Connection connection_;
    JetStream context_;
};

class NatsConsumer : public Consumer {
public:
    explicit NatsConsumer(const NatsSettings& settings)
        : settings_(settings), connection_(Connect(settings)) {
        context_ = MakeJetStream(connection_.get(), nullptr);
    }

    void Run(Handler& handler) override {
        handler_ = &handler;
        const Subscription subscription = Subscribe();
        {
            // Woken by the callback; looks by itself now and then because the target may be set
            // later.
            std::unique_lock lock(mutex_);
            while (!finished_ && !handler.done()) {
                changed_.wait_for(lock, std::chrono::milliseconds(20));
            }
        }
        if (handler.aborted()) return;
        // A round trip on the connection of the acks: the server has read them all.
        Check(natsConnection_Flush(connection_.get()), "natsConnection_Flush");
        const std::int64_t kWait = 5000;
        Check(natsSubscription_Unsubscribe(subscription.get()), "natsSubscription_Unsubscribe");
        static_cast<void>(natsSubscription_WaitForDrainCompletion(subscription.get(), kWait));
    }

private:
    Subscription Subscribe() {
        jsSubOptions options;
        Check(jsSubOptions_Init(&options), "jsSubOptions_Init");
        options.Stream = settings_.subject.c_str();
        options.ManualAck = true;
        options.Config.Durable = "group";
        options.Config.AckPolicy = js_AckExplicit;
        options.Config.DeliverPolicy = js_DeliverAll;
        options.Config.MaxAckPending = settings_.max_ack_pending();
        natsSubscription* subscription = nullptr;
        jsErrCode code{};
        Check(js_Subscribe(&subscription,
                           context_.get(),
                           settings_.subject.c_str(),
                           &NatsConsumer::OnMessage,
                           this,
                           nullptr,
                           &options,
                           &code),
              "js_Subscribe",
              code);
        Subscription guard(subscription);
        Check(natsSubscription_SetPendingLimits(subscription, -1, -1), "SetPendingLimits");
        return guard;
    }

    // Exceptions must not pass through the library, which is C.
    static void OnMessage(natsConnection*, natsSubscription*, natsMsg* message, void* closure) {
        const NatsMessage guard(message);
        auto& self = *static_cast<NatsConsumer*>(closure);
        try {
            self.HandleAndAck(message);
        } catch (const std::exception& error) {
            self.handler_->progress().Fail(error.what());
            self.Finish();
        }
    }

    void HandleAndAck(natsMsg* message) {
        handler_->OnMessage(natsMsg_GetData(message),
                            static_cast<std::size_t>(natsMsg_GetDataLength(message)));
        Check(natsMsg_Ack(message, nullptr), "natsMsg_Ack");
        if (handler_->done()) Finish();
    }

    void Finish() {
        const std::lock_guard lock(mutex_);
        finished_ = true;
        changed_.notify_all();
    }

    const NatsSettings& settings_;
    Connection connection_;
    JetStream context_;
    Handler* handler_ = nullptr;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool finished_ = false;  // guarded by mutex_
};

class NatsPeer : public Peer {
public:
    explicit NatsPeer(const Options& options) {
        if (options.fsync) {
            throw std::invalid_argument(
                "--fsync: nats-server 2.9 cannot sync before it acknowledges (sync_interval: "
                "always came "
                "with 2.10)");
        }
        if (!options.producer_set.empty() || !options.consumer_set.empty()) {
            throw std::invalid_argument("--set: libnats has no settings by name");
        }
        settings_.options = options;
        connection_ = Connect(settings_);
        context_ = MakeJetStream(connection_.get(), nullptr);
    }

    void CreateSubject() override {
        jsStreamConfig config;
        Check(jsStreamConfig_Init(&config), "jsStreamConfig_Init");
        const char* subjects[] = {settings_.subject.c_str()};
        config.Name = settings_.subject.c_str();
        config.Subjects = subjects;
        config.SubjectsLen = 1;
        config.Storage = js_FileStorage;
        config.Replicas = 1;
        jsErrCode code{};
        Check(js_AddStream(nullptr, context_.get(), &config, nullptr, &code), "js_AddStream", code);
    }

    void RemoveSubject() override {
        js_DeleteStream(context_.get(), settings_.subject.c_str(), nullptr, nullptr);
    }

    std::unique_ptr<Producer> MakeProducer(Acks& acks) override {
        return std::make_unique<NatsProducer>(settings_, acks);
    }
    std::unique_ptr<Consumer> MakeConsumer() override {
        return std::make_unique<NatsConsumer>(settings_);
    }

    std::string Settings() const override {
        return std::string("libnats ") + nats_GetVersion() +
               ", file storage, 1 replica, no fsync; async publish, MaxPending " +
               std::to_string(settings_.window()) + "; push, explicit ack each, MaxAckPending " +
               std::to_string(settings_.max_ack_pending()) + "; SendAsap " +
               (settings_.send_asap() ? "on" : "off");
    }

private:
    NatsSettings settings_;
    Connection connection_;
    JetStream context_;
};

std::unique_ptr<Peer> MakeNats(const Options& options) {
    return std::make_unique<NatsPeer>(options);
}

}  // namespace
}  // namespace qmq::bench

int main(int argc, char** argv) {
    return qmq::bench::RunPeer("nats", argc, argv, &qmq::bench::MakeNats);
}
