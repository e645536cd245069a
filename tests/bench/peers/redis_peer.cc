// Redis streams through hiredis: pipelined XADD, XREADGROUP and XACK, with the append-only file on.

#include <hiredis/hiredis.h>
#include <poll.h>

#include <algorithm>
#include <deque>

#include "tests/bench/peers/peer_bench.h"

namespace qmq::bench {
namespace {

struct ContextDeleter {
    void operator()(redisContext* context) const { redisFree(context); }
};
struct ReplyDeleter {
    void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using Context = std::unique_ptr<redisContext, ContextDeleter>;
using Reply = std::unique_ptr<redisReply, ReplyDeleter>;

constexpr std::uint64_t kDefaultWindow = 1000;
constexpr std::uint64_t kDefaultBatch = 500;
constexpr std::string_view kGroup = "group";
constexpr std::string_view kConsumer = "consumer";

/// One connection. Commands are appended to its buffer and leave together.
class Connection {
public:
    explicit Connection(std::uint16_t port) : context_(redisConnect("127.0.0.1", port)) {
        if (context_ == nullptr) throw std::runtime_error("redisConnect: out of memory");
        // The library sets TCP_NODELAY on its own.
        if (context_->err != 0) Fail("connect to 127.0.0.1:" + std::to_string(port));
        // A reply that does not come ends the run.
        redisSetTimeout(context_.get(), {.tv_sec = 30, .tv_usec = 0});
    }

    void Append(std::span<const std::string_view> words) {
        command_.clear();
        command_ += '*' + std::to_string(words.size()) + "\r\n";
        for (const std::string_view word : words) {
            command_ += '$' + std::to_string(word.size()) + "\r\n";
            command_.append(word).append("\r\n");
        }
        if (redisAppendFormattedCommand(context_.get(), command_.data(), command_.size()) !=
            REDIS_OK) {
            Fail("append");
        }
    }
    void Append(std::initializer_list<std::string_view> words) {
        Append(std::span<const std::string_view>(words.begin(), words.size()));
    }

    /// Writes what was appended.
    void Write() {
        for (int done = 0; done == 0;) {
            if (redisBufferWrite(context_.get(), &done) != REDIS_OK) Fail("write");
        }
    }

    /// The next reply; writes first what was appended. Blocks.
    Reply Read() {
        void* raw = nullptr;
        if (redisGetReply(context_.get(), &raw) != REDIS_OK) Fail("read");
        return Checked(raw);
    }

    /// The next reply if it has come within `timeout`, and otherwise null.
    Reply TryRead(std::chrono::nanoseconds timeout) {
        void* raw = nullptr;
        if (redisGetReplyFromReader(context_.get(), &raw) != REDIS_OK) Fail("read");
        if (raw != nullptr) return Checked(raw);
        if (!Readable(timeout)) return nullptr;
        if (redisBufferRead(context_.get()) != REDIS_OK) Fail("read");
        if (redisGetReplyFromReader(context_.get(), &raw) != REDIS_OK) Fail("read");
        return raw == nullptr ? nullptr : Checked(raw);
    }

    Reply Call(std::initializer_list<std::string_view> words) {
        Append(words);
        return Read();
    }

private:
    bool Readable(std::chrono::nanoseconds timeout) {
        pollfd poll_fd{.fd = context_->fd, .events = POLLIN, .revents = 0};
        const auto nanos = timeout.count();
        const timespec wait{.tv_sec = nanos / 1'000'000'000, .tv_nsec = nanos % 1'000'000'000};
        return ppoll(&poll_fd, 1, &wait, nullptr) > 0;
    }

    Reply Checked(void* raw) {
        Reply reply(static_cast<redisReply*>(raw));
        if (reply->type == REDIS_REPLY_ERROR) {
            throw std::runtime_error("redis: " + std::string(reply->str, reply->len));
        }
        return reply;
    }

    [[noreturn]] void Fail(const std::string& what) {
        throw std::runtime_error("redis: " + what + ": " + context_->errstr);
    }

    Context context_;
    std::string command_;
};

struct RedisSettings {
    std::string stream = UniqueName();
    Options options;

    std::uint64_t window() const { return options.window ? options.window : kDefaultWindow; }
    std::uint64_t batch() const { return options.batch ? options.batch : kDefaultBatch; }
    bool paced() const { return options.job == Job::kLatency; }
};

/// Keeps up to two half windows on the way: the server works on one while this thread encodes the
/// other.
class RedisProducer : public Producer {
public:
    RedisProducer(const RedisSettings& settings, Acks& acks)
        : settings_(settings), acks_(acks), connection_(settings.options.port) {}

    void Send(std::span<const char> body) override {
        connection_.Append({"XADD",
                            settings_.stream,
                            "*",
                            "b",
                            {body.data(), body.size()},
                            kPropertyName,
                            kPropertyValue,
                            kTagName,
                            kTagValue});
        outstanding_.push_back(ReadStamp(body.data(), body.size()).sent_nanos);
        ++unwritten_;
        const std::uint64_t half = std::max<std::uint64_t>(1, settings_.window() / 2);
        if (!settings_.paced() && unwritten_ < half) return;
        connection_.Write();
        unwritten_ = 0;
        if (settings_.paced()) return;
        while (outstanding_.size() > settings_.window() - half) TakeAck(connection_.Read());
    }

    void Flush() override {
        connection_.Write();
        unwritten_ = 0;
        while (!outstanding_.empty()) TakeAck(connection_.Read());
    }

    void WaitUntil(std::int64_t until_nanos) override {
        for (std::int64_t now = NowNanos(); now < until_nanos; now = NowNanos()) {
            TakeAck(connection_.TryRead(std::chrono::nanoseconds(until_nanos - now)));
        }
    }

private:
    void TakeAck(const Reply& reply) {
        if (reply == nullptr) return;
        acks_.OnAck(outstanding_.front(), NowNanos());
        outstanding_.pop_front();
    }

    const RedisSettings& settings_;
    Acks& acks_;
    Connection connection_;
    std::deque<std::int64_t> outstanding_;  // When each was sent; replies come in order.
    std::uint64_t unwritten_ = 0;
};

/// Redis answers in order, so what each reply belongs to is known from what was asked.
class RedisConsumer : public Consumer {
public:
    explicit RedisConsumer(const RedisSettings& settings)
        : settings_(settings), connection_(settings.options.port) {}

    void Run(Handler& handler) override {
        TopUpReads();
        while (!handler.aborted() && (!handler.done() || !awaited_acks_.empty())) {
            connection_.Write();
            const Asked asked = asked_.front();
            asked_.pop_front();
            const Reply reply = connection_.Read();
            if (asked == Asked::kAck) {
                CheckAck(*reply);
            } else {
                OnRead(*reply, handler);
            }
        }
    }

private:
    enum class Asked { kRead, kAck };

    // Reads ahead of the one that is handled, so that server and client work at the same time. A
    // paced run reads one at a time, for an ack must not queue behind a read that waits.
    std::size_t Depth() const { return settings_.paced() ? 1 : 2; }

    void OnRead(const redisReply& reply, Handler& handler) {
        --reads_;
        const bool any = Handle(reply, handler);
        if (any) AppendAck();
        if (handler.done()) return;
        if (any) {
            TopUpReads();
        } else if (reads_ == 0) {
            AppendRead(/*wait=*/true);
        }
    }

    void TopUpReads() {
        while (reads_ < Depth()) AppendRead(settings_.paced());
    }

    /// With `wait` for at most 100 ms, so that the end of the run is noticed.
    void AppendRead(bool wait) {
        words_.assign({"XREADGROUP", "GROUP", kGroup, kConsumer, "COUNT", count_});
        if (wait) words_.insert(words_.end(), {"BLOCK", "100"});
        words_.insert(words_.end(), {"STREAMS", settings_.stream, ">"});
        connection_.Append(words_);
        asked_.push_back(Asked::kRead);
        ++reads_;
    }

    void AppendAck() {
        words_.assign({"XACK", settings_.stream, kGroup});
        words_.insert(words_.end(), ids_.begin(), ids_.end());
        connection_.Append(words_);
        asked_.push_back(Asked::kAck);
        awaited_acks_.push_back(ids_.size());
    }

    void CheckAck(const redisReply& reply) {
        if (reply.integer != static_cast<long long>(awaited_acks_.front())) {
            throw std::runtime_error("redis: XACK of " + std::to_string(awaited_acks_.front()) +
                                     " messages took " + std::to_string(reply.integer));
        }
        awaited_acks_.pop_front();
    }

    /// The shape is [[stream, [[id, [field, value, …]], …]]], or nil. False when there was no
    /// message.
    bool Handle(const redisReply& reply, Handler& handler) {
        ids_.clear();
        if (reply.type == REDIS_REPLY_NIL || reply.elements == 0) return false;
        const redisReply& messages = *reply.element[0]->element[1];
        for (std::size_t i = 0; i < messages.elements; ++i) {
            const redisReply& id = *messages.element[i]->element[0];
            const redisReply& body = *messages.element[i]->element[1]->element[1];
            handler.OnMessage(body.str, body.len);
            ids_.emplace_back(id.str, id.len);
        }
        return messages.elements > 0;
    }

    const RedisSettings& settings_;
    const std::string count_ = std::to_string(settings_.batch());
    Connection connection_;
    std::deque<Asked> asked_;
    std::deque<std::size_t> awaited_acks_;  // The number of messages of each XACK on the way.
    std::size_t reads_ = 0;                 // XREADGROUPs on the way.
    std::vector<std::string_view> ids_;     // Point into the reply that is handled.
    std::vector<std::string_view> words_;
};

class RedisPeer : public Peer {
public:
    explicit RedisPeer(const Options& options) : connection_(options.port) {
        if (!options.producer_set.empty() || !options.consumer_set.empty()) {
            throw std::invalid_argument("--set: hiredis has no settings by name");
        }
        settings_.options = options;
    }

    void CreateSubject() override {
        connection_.Call({"CONFIG", "SET", "appendonly", "yes"});
        connection_.Call({"CONFIG", "SET", "appendfsync", FsyncMode()});
        connection_.Call({"XGROUP", "CREATE", settings_.stream, kGroup, "0", "MKSTREAM"});
    }

    // The messages are in memory and in the append-only file: frees both, and waits so that the
    // next run does not pay for it.
    void RemoveSubject() override {
        connection_.Call({"DEL", settings_.stream});
        connection_.Call({"BGREWRITEAOF"});
        for (int tries = 0; tries < 300 && Rewriting(); ++tries) {
            // Redis tells nobody when a rewrite ends; BLPOP on a list that never fills is its
            // sleep.
            connection_.Call({"BLPOP", settings_.stream, "0.1"});
        }
    }

    std::unique_ptr<Producer> MakeProducer(Acks& acks) override {
        return std::make_unique<RedisProducer>(settings_, acks);
    }
    std::unique_ptr<Consumer> MakeConsumer() override {
        return std::make_unique<RedisConsumer>(settings_);
    }

    std::string Settings() const override {
        return std::string("hiredis ") + std::to_string(HIREDIS_MAJOR) + "." +
               std::to_string(HIREDIS_MINOR) + ", appendonly, appendfsync " +
               std::string(FsyncMode()) + "; 1 connection, XADD pipelined, window " +
               (settings_.paced() ? "open" : std::to_string(settings_.window())) +
               "; XREADGROUP COUNT " + std::to_string(settings_.batch()) +
               " and one XACK for its messages, " + (settings_.paced() ? "1 read" : "2 reads") +
               " on the way";
    }

private:
    std::string_view FsyncMode() const { return settings_.options.fsync ? "always" : "everysec"; }

    bool Rewriting() {
        const Reply info = connection_.Call({"INFO", "persistence"});
        const std::string_view text(info->str, info->len);
        return text.find("aof_rewrite_in_progress:1") != text.npos ||
               text.find("aof_rewrite_scheduled:1") != text.npos;
    }

    RedisSettings settings_;
    Connection connection_;
};

std::unique_ptr<Peer> MakeRedis(const Options& options) {
    return std::make_unique<RedisPeer>(options);
}

}  // namespace
}  // namespace qmq::bench

int main(int argc, char** argv) {
    return qmq::bench::RunPeer("redis", argc, argv, &qmq::bench::MakeRedis);
}
