// Kafka through librdkafka: one partition, acks=all, idempotent, no compression. The consumer
// commits offsets once a second; Kafka has no ack for a message outside share groups, and
// librdkafka 2.0 has no share groups.

#include <librdkafka/rdkafka.h>

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
using Conf = std::unique_ptr<rd_kafka_conf_t, Deleter<rd_kafka_conf_destroy>>;
using Handle = std::unique_ptr<rd_kafka_t, Deleter<rd_kafka_destroy>>;
using Queue = std::unique_ptr<rd_kafka_queue_t, Deleter<rd_kafka_queue_destroy>>;
using Topic = std::unique_ptr<rd_kafka_topic_t, Deleter<rd_kafka_topic_destroy>>;
using Partitions = std::unique_ptr<rd_kafka_topic_partition_list_t,
                                   Deleter<rd_kafka_topic_partition_list_destroy>>;
using NewTopic = std::unique_ptr<rd_kafka_NewTopic_t, Deleter<rd_kafka_NewTopic_destroy>>;
using DeleteTopic = std::unique_ptr<rd_kafka_DeleteTopic_t, Deleter<rd_kafka_DeleteTopic_destroy>>;
using AdminOptions =
    std::unique_ptr<rd_kafka_AdminOptions_t, Deleter<rd_kafka_AdminOptions_destroy>>;
using Error = std::unique_ptr<rd_kafka_error_t, Deleter<rd_kafka_error_destroy>>;
using Event = std::unique_ptr<rd_kafka_event_t, Deleter<rd_kafka_event_destroy>>;
using KafkaMessage = std::unique_ptr<rd_kafka_message_t, Deleter<rd_kafka_message_destroy>>;
using KeyValues = std::vector<std::pair<std::string, std::string>>;

constexpr int kAdminMillis = 20'000;
constexpr std::int32_t kPartition = 0;
constexpr std::uint64_t kDefaultReadBatch = 1000;

void Check(rd_kafka_resp_err_t code, std::string_view what) {
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return;
    throw std::runtime_error(std::string(what) + ": " + rd_kafka_err2str(code));
}

std::string Join(const KeyValues& settings) {
    std::string out;
    for (const auto& [key, value] : settings) {
        if (!out.empty()) out += ' ';
        out += key;
        out += '=';
        out += value;
    }
    return out;
}

/// Later settings win, and are shown once.
KeyValues Merge(KeyValues settings, const KeyValues& more) {
    for (const auto& added : more) {
        std::erase_if(settings, [&](const auto& known) { return known.first == added.first; });
        settings.push_back(added);
    }
    return settings;
}

struct KafkaSettings {
    std::string topic = UniqueName();
    Options options;

    bool paced() const { return options.job == Job::kLatency; }

    KeyValues Common() const {
        return {{"bootstrap.servers", "127.0.0.1:" + std::to_string(options.port)},
                {"socket.nagle.disable", "true"},
                // Warnings come at every start, while the broker still looks for its coordinators.
                {"log_level", "3"}};
    }

    KeyValues ForProducer() const {
        KeyValues settings{{"acks", "all"},
                           {"enable.idempotence", "true"},
                           {"compression.type", "none"},
                           // A run in which a message waited that long is no measurement.
                           {"message.timeout.ms", "20000"},
                           {"linger.ms", paced() ? "0" : "5"}};
        if (!paced()) {
            const std::uint64_t window = options.window ? options.window : 100'000;
            settings.emplace_back("batch.size", "1000000");
            settings.emplace_back("batch.num.messages", "10000");
            settings.emplace_back("queue.buffering.max.messages", std::to_string(window));
        }
        return Merge(std::move(settings), options.producer_set);
    }

    KeyValues ForConsumer() const {
        const KeyValues settings{{"group.id", "group"},
                                 {"enable.auto.commit", "true"},
                                 {"auto.commit.interval.ms", "1000"},
                                 {"auto.offset.reset", "earliest"}};
        return Merge(settings, options.consumer_set);
    }
};

Conf MakeConf(const KafkaSettings& settings, const KeyValues& more) {
    Conf conf(rd_kafka_conf_new());
    std::array<char, 512> error{};
    for (const auto& [key, value] : Merge(settings.Common(), more)) {
        if (rd_kafka_conf_set(conf.get(), key.c_str(), value.c_str(), error.data(), error.size()) !=
            RD_KAFKA_CONF_OK) {
            throw std::invalid_argument("librdkafka: " + std::string(error.data()));
        }
    }
    return conf;
}

Handle MakeHandle(rd_kafka_type_t type, Conf conf) {
    std::array<char, 512> error{};
    Handle handle(rd_kafka_new(type, conf.get(), error.data(), error.size()));
    if (handle == nullptr) throw std::runtime_error("rd_kafka_new: " + std::string(error.data()));
    static_cast<void>(conf.release());  // The handle owns it now.
    return handle;
}

class KafkaProducer : public Producer {
public:
    KafkaProducer(const KafkaSettings& settings, Acks& acks) : acks_(acks) {
        Conf conf = MakeConf(settings, settings.ForProducer());
        rd_kafka_conf_set_opaque(conf.get(), this);
        rd_kafka_conf_set_dr_msg_cb(conf.get(), &KafkaProducer::OnDelivery);
        handle_ = MakeHandle(RD_KAFKA_PRODUCER, std::move(conf));
        topic_.reset(rd_kafka_topic_new(handle_.get(), settings.topic.c_str(), nullptr));
        if (topic_ == nullptr) Check(rd_kafka_last_error(), "rd_kafka_topic_new");
        PrepareArguments();
    }

    // What is still queued after a failure is given up, for destroying the handle would wait for
    // it.
    ~KafkaProducer() override {
        rd_kafka_purge(handle_.get(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_poll(handle_.get(), 0);
    }

    void Send(std::span<const char> body) override {
        while (!TrySend(body)) {
            rd_kafka_poll(handle_.get(), kFullPollMillis);
            acks_.progress().Check();
        }
        if (++since_poll_ >= kPollEvery) {
            rd_kafka_poll(handle_.get(), 0);
            since_poll_ = 0;
            acks_.progress().Check();
        }
    }

    void Flush() override {
        Check(rd_kafka_flush(handle_.get(), kFlushMillis), "rd_kafka_flush");
        acks_.progress().Check();
    }

private:
    static constexpr int kFullPollMillis = 100;
    static constexpr int kFlushMillis = 60'000;
    static constexpr unsigned kPollEvery = 128;

    // The parts of a message in the order of `arguments_`. As an array because the library's macros
    // for variable arguments are no standard C++.
    enum Part : std::size_t {
        kTopic,
        kPartitionPart,
        kFlags,
        kProperty,
        kTag,
        kBody,
        kSent,
        kParts
    };

    void PrepareArguments() {
        arguments_[kTopic].vtype = RD_KAFKA_VTYPE_RKT;
        arguments_[kTopic].u.rkt = topic_.get();
        arguments_[kPartitionPart].vtype = RD_KAFKA_VTYPE_PARTITION;
        arguments_[kPartitionPart].u.i32 = kPartition;
        arguments_[kFlags].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
        arguments_[kFlags].u.i = RD_KAFKA_MSG_F_COPY;
        SetHeader(kProperty, kPropertyName, kPropertyValue);
        SetHeader(kTag, kTagName, kTagValue);
        arguments_[kBody].vtype = RD_KAFKA_VTYPE_VALUE;
        arguments_[kSent].vtype = RD_KAFKA_VTYPE_OPAQUE;
    }

    void SetHeader(Part part, std::string_view name, std::string_view value) {
        arguments_[part].vtype = RD_KAFKA_VTYPE_HEADER;
        arguments_[part].u.header.name = name.data();
        arguments_[part].u.header.val = value.data();
        arguments_[part].u.header.size = static_cast<ssize_t>(value.size());
    }

    // False when the queue, which is the window, is full.
    bool TrySend(std::span<const char> body) {
        arguments_[kBody].u.mem.ptr = const_cast<char*>(body.data());
        arguments_[kBody].u.mem.size = body.size();
        // The library hands it back with the acknowledgement; it is a number, never followed.
        const std::int64_t sent = ReadStamp(body.data(), body.size()).sent_nanos;
        arguments_[kSent].u.ptr = reinterpret_cast<void*>(sent);
        const Error error(rd_kafka_produceva(handle_.get(), arguments_.data(), kParts));
        if (error == nullptr) return true;
        const rd_kafka_resp_err_t code = rd_kafka_error_code(error.get());
        if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL) Check(code, "rd_kafka_produceva");
        return false;
    }

    // Called by rd_kafka_poll and rd_kafka_flush, in the sending thread.
    static void OnDelivery(rd_kafka_t*, const rd_kafka_message_t* message, void* opaque) {
        auto& acks = static_cast<KafkaProducer*>(opaque)->acks_;
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            acks.OnAck(reinterpret_cast<std::int64_t>(message->_private), NowNanos());
        } else {
            acks.progress().Fail(std::string("not delivered: ") + rd_kafka_err2str(message->err));
        }
    }

    Acks& acks_;
    Handle handle_;
    Topic topic_;
    std::array<rd_kafka_vu_t, kParts> arguments_{};
    unsigned since_poll_ = 0;
};

class KafkaConsumer : public Consumer {
public:
    explicit KafkaConsumer(const KafkaSettings& settings)
        : batch_(settings.options.batch ? settings.options.batch : kDefaultReadBatch),
          handle_(MakeHandle(RD_KAFKA_CONSUMER, MakeConf(settings, settings.ForConsumer()))) {
        Check(rd_kafka_poll_set_consumer(handle_.get()), "rd_kafka_poll_set_consumer");
        queue_.reset(rd_kafka_queue_get_consumer(handle_.get()));
        // Assigned and not subscribed: there is one consumer, and joining a group is not measured.
        const Partitions partitions(rd_kafka_topic_partition_list_new(1));
        rd_kafka_topic_partition_list_add(partitions.get(), settings.topic.c_str(), kPartition)
            ->offset = RD_KAFKA_OFFSET_BEGINNING;
        Check(rd_kafka_assign(handle_.get(), partitions.get()), "rd_kafka_assign");
    }

    void Run(Handler& handler) override {
        std::vector<rd_kafka_message_t*> messages(batch_);
        while (!handler.done()) {
            const KafkaMessage first(rd_kafka_consumer_poll(handle_.get(), kPollMillis));
            if (first == nullptr) continue;
            HandleOne(*first, handler);
            // The batch call waits for a full batch, so it only takes what is there already.
            const ssize_t count =
                rd_kafka_consume_batch_queue(queue_.get(), 0, messages.data(), messages.size());
            if (count > 0) HandleMany({messages.data(), static_cast<std::size_t>(count)}, handler);
        }
        if (handler.aborted()) {
            Abandon();
            return;
        }
        Check(rd_kafka_commit(handle_.get(), nullptr, /*async=*/0), "rd_kafka_commit");
        Check(rd_kafka_consumer_close(handle_.get()), "rd_kafka_consumer_close");
    }

private:
    // Destroying a consumer waits for its last commit, without end when the broker is gone. The
    // program is about to exit, so it is left to that.
    void Abandon() {
        static_cast<void>(queue_.release());
        static_cast<void>(handle_.release());
    }

    static constexpr int kPollMillis = 100;  // How soon the end of the run is noticed.

    static void HandleOne(const rd_kafka_message_t& message, Handler& handler) {
        Check(message.err, "consume");
        handler.OnMessage(message.payload, message.len);
    }

    static void HandleMany(std::span<rd_kafka_message_t*> messages, Handler& handler) {
        for (rd_kafka_message_t* raw : messages) {
            const KafkaMessage message(raw);
            HandleOne(*message, handler);
        }
    }

    const std::size_t batch_;
    Handle handle_;
    Queue queue_;
};

class KafkaPeer : public Peer {
public:
    explicit KafkaPeer(const Options& options) {
        settings_.options = options;
        handle_ = MakeHandle(RD_KAFKA_PRODUCER, MakeConf(settings_, {}));
        queue_.reset(rd_kafka_queue_new(handle_.get()));
    }

    void CreateSubject() override {
        std::array<char, 512> error{};
        NewTopic topic(
            rd_kafka_NewTopic_new(settings_.topic.c_str(), 1, 1, error.data(), error.size()));
        if (topic == nullptr) throw std::runtime_error("NewTopic: " + std::string(error.data()));
        if (settings_.options.fsync) {
            Check(rd_kafka_NewTopic_set_config(topic.get(), "flush.messages", "1"),
                  "flush.messages");
        }
        rd_kafka_NewTopic_t* topics[] = {topic.get()};
        const AdminOptions options = MakeAdminOptions(RD_KAFKA_ADMIN_OP_CREATETOPICS);
        rd_kafka_CreateTopics(handle_.get(), topics, 1, options.get(), queue_.get());
        const Event event = NextEvent("CreateTopics");
        std::size_t count = 0;
        const auto* results = rd_kafka_CreateTopics_result_topics(
            rd_kafka_event_CreateTopics_result(event.get()), &count);
        for (std::size_t i = 0; i < count; ++i) {
            Check(rd_kafka_topic_result_error(results[i]), "create topic " + settings_.topic);
        }
    }

    void RemoveSubject() override {
        DeleteTopic topic(rd_kafka_DeleteTopic_new(settings_.topic.c_str()));
        rd_kafka_DeleteTopic_t* topics[] = {topic.get()};
        const AdminOptions options = MakeAdminOptions(RD_KAFKA_ADMIN_OP_DELETETOPICS);
        rd_kafka_DeleteTopics(handle_.get(), topics, 1, options.get(), queue_.get());
        static_cast<void>(NextEvent("DeleteTopics"));
    }

    std::unique_ptr<Producer> MakeProducer(Acks& acks) override {
        return std::make_unique<KafkaProducer>(settings_, acks);
    }
    std::unique_ptr<Consumer> MakeConsumer() override {
        return std::make_unique<KafkaConsumer>(settings_);
    }

    std::string Settings() const override {
        return std::string("librdkafka ") + rd_kafka_version_str() + ", 1 partition" +
               (settings_.options.fsync ? ", flush.messages=1" : ", no fsync") + "; producer " +
               Join(settings_.ForProducer()) + "; consumer " + Join(settings_.ForConsumer()) +
               ", no ack for each message (librdkafka 2.0 has no share groups)";
    }

private:
    AdminOptions MakeAdminOptions(rd_kafka_admin_op_t operation) {
        AdminOptions options(rd_kafka_AdminOptions_new(handle_.get(), operation));
        std::array<char, 512> error{};
        for (const auto set : {&rd_kafka_AdminOptions_set_request_timeout,
                               &rd_kafka_AdminOptions_set_operation_timeout}) {
            Check(set(options.get(), kAdminMillis, error.data(), error.size()), error.data());
        }
        return options;
    }

    Event NextEvent(std::string_view what) {
        Event event(rd_kafka_queue_poll(queue_.get(), kAdminMillis + 1000));
        if (event == nullptr) throw std::runtime_error(std::string(what) + ": no answer");
        Check(rd_kafka_event_error(event.get()), what);
        return event;
    }

    KafkaSettings settings_;
    Handle handle_;
    Queue queue_;
};

std::unique_ptr<Peer> MakeKafka(const Options& options) {
    return std::make_unique<KafkaPeer>(options);
}

}  // namespace
}  // namespace qmq::bench

int main(int argc, char** argv) {
    return qmq::bench::RunPeer("kafka", argc, argv, &qmq::bench::MakeKafka);
}
