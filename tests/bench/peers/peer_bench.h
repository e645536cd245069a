#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// What the clients of other messaging systems share: the jobs, how they are timed and what is
/// printed.
///
/// A client implements `Peer`; `RunPeer` runs one job of it and prints one line of JSON, of the
/// same form as `qmq bench --json`, so that one driver (scripts/bench/compare.py) can put them side
/// by side.
///
/// Failures are exceptions here: these are small programs whose only answer to one is to say so and
/// end.
namespace qmq::bench {

/// The property (a header, where the peer has headers) and the tag that each message carries.
inline constexpr std::string_view kPropertyName = "orderId";
inline constexpr std::string_view kPropertyValue = "order-0000000001";
inline constexpr std::string_view kTagName = "tag";
inline constexpr std::string_view kTagValue = "domestic";

/// Nanoseconds of CLOCK_MONOTONIC.
std::int64_t NowNanos();

/// Counts durations in buckets that are at most 1/64 wide, so that a percentile is right within 1.6
/// %. One thread records; reading is for after that thread has been joined.
class Histogram {
public:
    void Record(std::int64_t nanos);

    std::uint64_t count() const { return count_; }

    /// The upper edge, in microseconds, of the bucket that holds the `percent`th percentile, range
    /// [0, 100]. Nothing when nothing was recorded.
    std::optional<double> PercentileMicros(double percent) const;

private:
    static constexpr unsigned kSubBits = 6;
    static std::size_t BucketOf(std::uint64_t value);
    static std::uint64_t UpperEdge(std::size_t bucket);

    std::array<std::uint64_t, (64 - kSubBits + 1) << kSubBits> buckets_{};
    std::uint64_t count_ = 0;
};

enum class Job { kPublish, kConsume, kBoth, kLatency };

struct Options {
    Job job = Job::kPublish;
    std::uint16_t port = 0;
    /// How long to publish. Not used when `messages` is set.
    std::chrono::milliseconds duration{3000};
    /// Ends the job after so many messages; the backlog of the consume job. 0: `duration` decides.
    std::uint64_t messages = 0;
    /// The latency job's messages a second.
    double rate = 1000;
    /// Range: [16, 1 MiB]; the first 16 bytes hold sequence and time.
    std::size_t body_bytes = 128;
    /// Messages sent and not yet acknowledged. 0: what suits the peer best.
    std::uint64_t window = 0;
    /// Messages read and acknowledged in one request, where the peer has that. 0: what suits it
    /// best.
    std::uint64_t batch = 0;
    /// The server syncs its disk before it acknowledges.
    bool fsync = false;
    /// Settings handed to the peer's library as they are, for producer and for consumer.
    std::vector<std::pair<std::string, std::string>> producer_set;
    std::vector<std::pair<std::string, std::string>> consumer_set;
};

/// Reads the command line after the program's name. Throws std::invalid_argument, which says what
/// is wrong.
Options ParseOptions(std::span<const char* const> arguments);
std::string_view Usage();
std::string_view JobName(Job job);

struct Result {
    std::string peer;
    std::string job;
    /// Messages a second: acknowledged, consumed, or for `both` the slower of the two.
    double rate = 0;
    /// publish: from send to acknowledgement; both and latency: from send to handler; consume:
    /// nothing.
    std::optional<double> p50_us;
    std::optional<double> p99_us;
    std::uint64_t messages = 0;
    double seconds = 0;
    std::string settings;
};

/// One line of JSON, without the end of line.
std::string ToJson(const Result& result);

/// Writes sequence and time into the first 16 bytes of a body, and reads them.
struct Stamp {
    std::uint64_t sequence = 0;
    std::int64_t sent_nanos = 0;
};
void WriteStamp(std::span<char> body, const Stamp& stamp);
/// Throws when `size` is not that of a stamped body.
Stamp ReadStamp(const void* body, std::size_t size);

/// A count that one thread advances and another waits for; either may give up for both.
class Progress {
public:
    /// Called by the counting thread only.
    void Advance(std::uint64_t by = 1) {
        const std::uint64_t now = count_.load(std::memory_order_relaxed) + by;
        // Sequentially consistent together with `WaitFor`: one of both threads sees the other's
        // store.
        count_.store(now);
        if (now >= wanted_.load()) Wake();
    }

    std::uint64_t count() const { return count_.load(); }

    /// Blocks until `count() >= wanted`. Throws what `Fail` was told, or when 30 s pass without any
    /// advance.
    void WaitFor(std::uint64_t wanted);

    /// Keeps the first reason. Any thread.
    void Fail(std::string reason);

    /// Throws when `Fail` was called.
    void Check();

private:
    void Wake();

    static constexpr std::uint64_t kNone = std::numeric_limits<std::uint64_t>::max();
    std::atomic<std::uint64_t> count_{0};
    std::atomic<std::uint64_t> wanted_{kNone};
    std::mutex mutex_;
    std::condition_variable changed_;
    std::string failure_;  // guarded by mutex_
};

/// Where a producer reports acknowledgements. One thread at a time.
class Acks {
public:
    void OnAck(std::int64_t sent_nanos, std::int64_t now_nanos) {
        if (recording_) latency_.Record(now_nanos - sent_nanos);
        progress_.Advance();
    }

    Progress& progress() { return progress_; }
    const Histogram& latency() const { return latency_; }
    /// Called before the first message that counts; the acks of all before it have arrived.
    void StartRecording() { recording_ = true; }

private:
    Progress progress_;
    Histogram latency_;
    std::atomic<bool> recording_{false};
};

/// Where a consumer reports messages: the handler. It checks that every message comes once and in
/// order. One thread at a time.
class Handler {
public:
    void OnMessage(const void* body, std::size_t size);

    /// True when the last wanted message has come: the consumer then settles its acks and returns.
    bool done() const { return progress_.count() >= target_.load(std::memory_order_relaxed); }
    void SetTarget(std::uint64_t target) { target_.store(target, std::memory_order_relaxed); }

    /// The run has failed: `done`, and there is nothing to settle, perhaps not even a server.
    void Abort() {
        aborted_.store(true);
        SetTarget(0);
    }
    bool aborted() const { return aborted_.load(); }

    Progress& progress() { return progress_; }
    const Histogram& latency() const { return latency_; }
    void StartRecording(std::uint64_t from_sequence) { record_from_.store(from_sequence); }
    std::int64_t first_nanos() const { return first_nanos_; }

private:
    Progress progress_;
    Histogram latency_;
    std::atomic<std::uint64_t> target_{std::numeric_limits<std::uint64_t>::max()};
    std::atomic<std::uint64_t> record_from_{std::numeric_limits<std::uint64_t>::max()};
    std::atomic<bool> aborted_{false};
    std::uint64_t next_sequence_ = 0;
    std::int64_t first_nanos_ = 0;
};

/// One connection that publishes. One thread calls it.
class Producer {
public:
    virtual ~Producer() = default;

    /// Sends a stamped body with the property and the tag. Blocks while the window is full. The
    /// acknowledgement is reported to `Acks` on any thread, perhaps inside a later call.
    virtual void Send(std::span<const char> body) = 0;

    /// Returns when every message sent so far is acknowledged.
    virtual void Flush() = 0;

    /// Waits until `until_nanos`; a producer whose acks are read by its own thread reads them
    /// meanwhile.
    virtual void WaitUntil(std::int64_t until_nanos);
};

/// One connection that consumes.
class Consumer {
public:
    virtual ~Consumer() = default;

    /// Hands messages to `handler` and acknowledges each, until `handler.done()`; returns when the
    /// server has taken the last acknowledgement, or at once when `handler.aborted()`. Has a thread
    /// of its own.
    virtual void Run(Handler& handler) = 0;
};

/// A messaging system. Subjects are made new for each run, so that runs do not see each other.
class Peer {
public:
    virtual ~Peer() = default;

    /// Makes the stream, topic or whatever a subject is there.
    virtual void CreateSubject() = 0;
    /// Removes it with its messages. Called at the end even when the job failed.
    virtual void RemoveSubject() = 0;

    virtual std::unique_ptr<Producer> MakeProducer(Acks& acks) = 0;
    virtual std::unique_ptr<Consumer> MakeConsumer() = 0;

    /// Every setting that differs from the library's or the server's default.
    virtual std::string Settings() const = 0;
};

/// A name for the run's subject that no other run has.
std::string UniqueName();

/// Runs `options.job`. Throws on any failure, on a message lost, doubled or out of order.
Result RunJob(Peer& peer, const Options& options);

/// The body of a client's main function.
int RunPeer(std::string_view name,
            int argc,
            char** argv,
            std::unique_ptr<Peer> (*make)(const Options& options));

}  // namespace qmq::bench
