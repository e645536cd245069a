#include "tests/bench/peers/peer_bench.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <future>
#include <thread>

namespace qmq::bench {
namespace {

using std::chrono::milliseconds;

constexpr std::int64_t kNanosPerSecond = 1'000'000'000;

double Seconds(std::int64_t nanos) {
    return static_cast<double>(nanos) / kNanosPerSecond;
}

double PerSecond(std::uint64_t count, double seconds) {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

std::string Escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    return out;
}

std::string Fixed(double value, int digits) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.*f", digits, value);
    return text.data();
}

std::string NumberOrNull(const std::optional<double>& value) {
    return value ? Fixed(*value, 1) : "null";
}

/// Sends stamped bodies with sequences that go on from call to call.
class Sender {
public:
    Sender(Peer& peer, std::size_t body_bytes)
        : producer_(peer.MakeProducer(acks_)), body_(body_bytes, 'x') {}

    Sender(const Sender&) = delete;
    Sender& operator=(const Sender&) = delete;

    void SendOne() {
        WriteStamp(body_, {sent_++, NowNanos()});
        producer_->Send(body_);
    }

    /// The first message opens connections and fetches metadata, which is not what is measured.
    void WarmUp() {
        SendOne();
        producer_->Flush();
        acks_.progress().WaitFor(sent_);
    }

    /// Sends `messages`, or for `duration` when that is 0.
    void SendMany(std::uint64_t messages, milliseconds duration) {
        const std::int64_t end = NowNanos() + std::chrono::nanoseconds(duration).count();
        const std::uint64_t last = sent_ + messages;
        while (messages != 0 ? sent_ < last : NowNanos() < end) SendOne();
    }

    /// Sends `count` messages at `rate`. Those that are late leave at once, so that a stall is not
    /// hidden by sending less.
    void SendPaced(std::uint64_t count, double rate) {
        const double gap = static_cast<double>(kNanosPerSecond) / rate;
        const std::int64_t start = NowNanos();
        for (std::uint64_t i = 0; i < count; ++i) {
            producer_->WaitUntil(start + std::llround(gap * static_cast<double>(i)));
            SendOne();
        }
    }

    void Flush() {
        producer_->Flush();
        acks_.progress().WaitFor(sent_);
    }

    Acks& acks() { return acks_; }
    std::uint64_t sent() const { return sent_; }

private:
    Acks acks_;
    std::unique_ptr<Producer> producer_;
    std::vector<char> body_;
    std::uint64_t sent_ = 0;
};

/// A consumer on its own thread.
class Receiver {
public:
    explicit Receiver(Peer& peer) : consumer_(peer.MakeConsumer()) {}

    Receiver(const Receiver&) = delete;
    Receiver& operator=(const Receiver&) = delete;

    /// A job that failed half way must not wait for messages that will never come.
    ~Receiver() { handler_.Abort(); }

    void Start() {
        finished_ = std::async(std::launch::async, [this] {
            try {
                consumer_->Run(handler_);
                return NowNanos();
            } catch (const std::exception& error) {
                handler_.progress().Fail(error.what());
                throw;
            }
        });
    }

    /// Returns when the consumer had settled its last acknowledgement.
    std::int64_t Join(std::uint64_t target) {
        handler_.SetTarget(target);
        handler_.progress().WaitFor(target);
        return finished_.get();
    }

    Handler& handler() { return handler_; }

private:
    Handler handler_;
    std::unique_ptr<Consumer> consumer_;
    std::future<std::int64_t>
        finished_;  // Last, so that its destructor joins while the rest is there.
};

void SetPercentiles(Result& result, const Histogram& latency) {
    result.p50_us = latency.PercentileMicros(50);
    result.p99_us = latency.PercentileMicros(99);
}

Result RunPublish(Peer& peer, const Options& options) {
    Sender sender(peer, options.body_bytes);
    sender.WarmUp();
    sender.acks().StartRecording();
    const std::int64_t start = NowNanos();
    sender.SendMany(options.messages, options.duration);
    sender.Flush();
    Result result;
    result.seconds = Seconds(NowNanos() - start);
    result.messages = sender.sent() - 1;
    result.rate = PerSecond(result.messages, result.seconds);
    SetPercentiles(result, sender.acks().latency());
    return result;
}

// The clock starts at the first message, for joining a group is not what is measured.
Result RunConsume(Peer& peer, const Options& options) {
    {
        Sender sender(peer, options.body_bytes);
        sender.SendMany(options.messages, milliseconds(0));
        sender.Flush();
    }
    Receiver receiver(peer);
    receiver.handler().SetTarget(options.messages);
    receiver.Start();
    const std::int64_t end = receiver.Join(options.messages);
    Result result;
    result.seconds = Seconds(end - receiver.handler().first_nanos());
    result.messages = options.messages;
    result.rate = PerSecond(result.messages, result.seconds);
    return result;
}

// The rate is what both sides had done when the sending ended, so a consumer that lags behind
// counts as such.
Result RunBoth(Peer& peer, const Options& options) {
    Sender sender(peer, options.body_bytes);
    Receiver receiver(peer);
    receiver.Start();
    sender.WarmUp();
    receiver.handler().progress().WaitFor(1);
    receiver.handler().StartRecording(1);
    const std::int64_t start = NowNanos();
    sender.SendMany(options.messages, options.duration);
    if (options.messages != 0) {
        sender.Flush();
        receiver.handler().progress().WaitFor(sender.sent());
    }
    Result result;
    result.seconds = Seconds(NowNanos() - start);
    result.messages =
        std::min(sender.acks().progress().count(), receiver.handler().progress().count()) - 1;
    result.rate = PerSecond(result.messages, result.seconds);
    sender.Flush();
    receiver.Join(sender.sent());
    SetPercentiles(result, receiver.handler().latency());
    return result;
}

Result RunLatency(Peer& peer, const Options& options) {
    const double seconds = std::chrono::duration<double>(options.duration).count();
    const std::uint64_t count =
        options.messages != 0 ? options.messages
                              : static_cast<std::uint64_t>(std::llround(options.rate * seconds));
    // Half a second of the same load first: caches, branch predictors and a peer's JIT compiler.
    const auto warm_up = static_cast<std::uint64_t>(std::llround(options.rate / 2));
    Sender sender(peer, options.body_bytes);
    Receiver receiver(peer);
    receiver.Start();
    sender.WarmUp();
    receiver.handler().progress().WaitFor(1);
    receiver.handler().StartRecording(1 + warm_up);
    sender.SendPaced(warm_up, options.rate);
    const std::int64_t start = NowNanos();
    sender.SendPaced(count, options.rate);
    Result result;
    result.seconds = Seconds(NowNanos() - start);
    sender.Flush();
    receiver.Join(sender.sent());
    result.messages = receiver.handler().latency().count();
    result.rate = PerSecond(result.messages, result.seconds);
    SetPercentiles(result, receiver.handler().latency());
    return result;
}

Result Dispatch(Peer& peer, const Options& options) {
    switch (options.job) {
        case Job::kPublish:
            return RunPublish(peer, options);
        case Job::kConsume:
            return RunConsume(peer, options);
        case Job::kBoth:
            return RunBoth(peer, options);
        case Job::kLatency:
            return RunLatency(peer, options);
    }
    throw std::logic_error("unknown job");
}

// The failure of the job is what its user must read; a server that is gone fails here as well.
void RemoveAfterFailure(Peer& peer) {
    try {
        peer.RemoveSubject();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "the subject was not removed: %s\n", error.what());
    }
}

}  // namespace

std::int64_t NowNanos() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * kNanosPerSecond + now.tv_nsec;
}

std::size_t Histogram::BucketOf(std::uint64_t value) {
    // Values below 2^kSubBits have a bucket each; above, each power of two has 2^kSubBits of them.
    if (value < (1U << kSubBits)) return value;
    const auto shift = static_cast<unsigned>(std::bit_width(value)) - 1 - kSubBits;
    return (static_cast<std::size_t>(shift) << kSubBits) + (value >> shift);
}

std::uint64_t Histogram::UpperEdge(std::size_t bucket) {
    if (bucket < (2U << kSubBits)) return bucket;
    const std::size_t shift = (bucket >> kSubBits) - 1;
    const std::uint64_t top = (bucket & ((1U << kSubBits) - 1)) + (1U << kSubBits);
    return ((top + 1) << shift) - 1;
}

void Histogram::Record(std::int64_t nanos) {
    ++buckets_[BucketOf(static_cast<std::uint64_t>(std::max<std::int64_t>(nanos, 0)))];
    ++count_;
}

std::optional<double> Histogram::PercentileMicros(double percent) const {
    if (count_ == 0) return std::nullopt;
    const double exact = std::ceil(percent / 100 * static_cast<double>(count_));
    const auto wanted = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(exact));
    std::uint64_t seen = 0;
    for (std::size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
        seen += buckets_[bucket];
        if (seen >= wanted) return static_cast<double>(UpperEdge(bucket)) / 1000;
    }
    return std::nullopt;
}

std::string ToJson(const Result& result) {
    return "{\"peer\":\"" + Escaped(result.peer) + "\",\"job\":\"" + Escaped(result.job) +
           "\",\"rate\":" + Fixed(result.rate, 1) + ",\"p50_us\":" + NumberOrNull(result.p50_us) +
           ",\"p99_us\":" + NumberOrNull(result.p99_us) +
           ",\"messages\":" + std::to_string(result.messages) +
           ",\"seconds\":" + Fixed(result.seconds, 3) + ",\"settings\":\"" +
           Escaped(result.settings) + "\"}";
}

void WriteStamp(std::span<char> body, const Stamp& stamp) {
    std::memcpy(body.data(), &stamp, sizeof stamp);
}

Stamp ReadStamp(const void* body, std::size_t size) {
    if (size < sizeof(Stamp)) {
        throw std::runtime_error("a body of " + std::to_string(size) + " bytes is not ours");
    }
    Stamp stamp;
    std::memcpy(&stamp, body, sizeof stamp);
    return stamp;
}

void Progress::WaitFor(std::uint64_t wanted) {
    constexpr std::chrono::seconds kPatience{30};
    std::unique_lock lock(mutex_);
    wanted_.store(wanted);
    std::uint64_t before = count_.load();
    while (failure_.empty() && count_.load() < wanted) {
        const bool woken = changed_.wait_for(lock, kPatience) == std::cv_status::no_timeout;
        const std::uint64_t now = count_.load();
        if (!woken && now == before && failure_.empty()) {
            failure_ = "no progress for 30 s: " + std::to_string(now) + " of " +
                       std::to_string(wanted) + " messages";
        }
        before = now;
    }
    wanted_.store(kNone);
    if (!failure_.empty()) throw std::runtime_error(failure_);
}

void Progress::Fail(std::string reason) {
    const std::lock_guard lock(mutex_);
    if (failure_.empty()) failure_ = std::move(reason);
    changed_.notify_all();
}

void Progress::Check() {
    const std::lock_guard lock(mutex_);
    if (!failure_.empty()) throw std::runtime_error(failure_);
}

void Progress::Wake() {
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
}

void Handler::OnMessage(const void* body, std::size_t size) {
    const Stamp stamp = ReadStamp(body, size);
    if (stamp.sequence != next_sequence_) {
        throw std::runtime_error("message " + std::to_string(stamp.sequence) + " came when " +
                                 std::to_string(next_sequence_) +
                                 " was due: lost, doubled or out of order");
    }
    if (next_sequence_++ == 0) first_nanos_ = NowNanos();
    if (stamp.sequence >= record_from_.load(std::memory_order_relaxed)) {
        latency_.Record(NowNanos() - stamp.sent_nanos);
    }
    progress_.Advance();
}

void Producer::WaitUntil(std::int64_t until_nanos) {
    const timespec until{.tv_sec = until_nanos / kNanosPerSecond,
                         .tv_nsec = until_nanos % kNanosPerSecond};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
    }
}

std::string UniqueName() {
    return "qmq-bench-" + std::to_string(getpid()) + "-" + std::to_string(NowNanos());
}

Result RunJob(Peer& peer, const Options& options) {
    peer.CreateSubject();
    try {
        Result result = Dispatch(peer, options);
        peer.RemoveSubject();
        result.job = JobName(options.job);
        result.settings = peer.Settings();
        return result;
    } catch (...) {
        RemoveAfterFailure(peer);
        throw;
    }
}

int RunPeer(std::string_view name,
            int argc,
            char** argv,
            std::unique_ptr<Peer> (*make)(const Options& options)) {
    try {
        const Options options = ParseOptions(
            std::span<const char* const>(argv, static_cast<std::size_t>(argc)).subspan(1));
        const std::unique_ptr<Peer> peer = make(options);
        Result result = RunJob(*peer, options);
        result.peer = name;
        std::puts(ToJson(result).c_str());
        return 0;
    } catch (const std::invalid_argument& error) {
        std::fprintf(stderr,
                     "peer_%s: %s\n\nusage: peer_%s %s",
                     std::string(name).c_str(),
                     error.what(),
                     std::string(name).c_str(),
                     std::string(Usage()).c_str());
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "peer_%s: %s\n", std::string(name).c_str(), error.what());
        return 1;
    }
}

}  // namespace qmq::bench
