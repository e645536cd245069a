// Every check of options, in one place. Each names the field, its value and the range, and all
// problems come at once.

#include <set>
#include <string>

#include "qmq/client_options.h"
#include "qmq/producer.h"
#include "qmq/protocol.h"
#include "qmq/pull_consumer.h"
#include "qmq/subject.h"
#include "qmq/subscription.h"

namespace qmq {

namespace {

class Problems {
public:
    template <typename T, typename L, typename H>
    void Range(const char* field, T value, L low, H high, const char* unit, const char* range) {
        if (value < low || value > high) {
            Add(std::string(field) + ": " + Text(value) + unit + " is not in " + range);
        }
    }
    void Add(const std::string& problem) { text_ += (text_.empty() ? "" : "; ") + problem; }
    void Add(const char* field, const Status& status) {
        if (!status.ok()) {
            Add(std::string(field) + ": " + std::string(status.message()));
        }
    }
    Status status(const char* what) const {
        return text_.empty() ? Status::Ok()
                             : Status::InvalidArgument(std::string(what) + ": " + text_);
    }

private:
    template <typename T>
    static std::string Text(T value) {
        if constexpr (requires { value.count(); }) {
            return std::to_string(value.count());
        } else {
            return std::to_string(value);
        }
    }
    std::string text_;
};

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

template <typename Options>
void CheckConsumer(const Options& options, Problems& problems) {
    const SubjectKind kind = ParseSubject(options.subject).kind;
    if (kind == SubjectKind::kRetry) {
        problems.Add("subject: \"" + options.subject +
                     "\" is a retry subject; subscribe to the real one, its retries come with it");
    } else if (kind == SubjectKind::kDeadLetter) {
        problems.Add("subject", ValidateStoredSubject(options.subject));
    } else {
        problems.Add("subject", ValidateSubject(options.subject));
    }
    if (options.broadcast && !options.group.empty()) {
        problems.Add("group: \"" + options.group +
                     "\" is given together with broadcast, where the group is the client's id; "
                     "leave it empty");
    }
    if (!options.broadcast) {
        problems.Add("group", ValidateGroup(options.group));
    }
    problems.Add("tags", Validate(options.tags.filter()));
    problems.Add("retry", Validate(options.retry));
    problems.Range("ack_timeout", options.ack_timeout, seconds(1), hours(12), " ms", "[1 s, 12 h]");
    problems.Range("max_processing_time",
                   options.max_processing_time,
                   options.ack_timeout,
                   hours(24 * 7),
                   " ms",
                   "[ack_timeout, 7 d]");
}

}  // namespace

Status Validate(const ClientOptions& options) {
    Problems problems;
    if (options.app_code.empty()) {
        problems.Add("app_code: is empty; give the name of the application");
    }
    if (options.uri.find(':') == std::string::npos) {
        problems.Add("uri: \"" + options.uri +
                     "\" has no scheme; for instance \"inproc:\" or \"grpc://host:port\"");
    }
    if (!options.client_id.empty()) {
        problems.Add("client_id", ValidateConsumerId(options.client_id));
    }
    problems.Range("handler_threads", options.handler_threads, 1U, 1'024U, "", "[1, 1,024]");
    problems.Range("initial_reconnect_backoff",
                   options.initial_reconnect_backoff,
                   milliseconds(1),
                   minutes(1),
                   " ms",
                   "[1 ms, 1 min]");
    problems.Range("max_reconnect_backoff",
                   options.max_reconnect_backoff,
                   options.initial_reconnect_backoff,
                   minutes(5),
                   " ms",
                   "[initial_reconnect_backoff, 5 min]");
    problems.Range(
        "route_refresh", options.route_refresh, seconds(1), hours(1), " ms", "[1 s, 1 h]");
    for (const auto& filter : options.filters) {
        if (filter == nullptr) {
            problems.Add("filters: one of them is null");
        }
    }
    for (const auto& transport : options.transports) {
        if (transport == nullptr) {
            problems.Add("transports: one of them is null");
        }
    }
    return problems.status("ClientOptions");
}

Status Validate(const ProducerOptions& options) {
    Problems problems;
    problems.Range("linger", options.linger, microseconds(0), seconds(1), " us", "[0, 1 s]");
    problems.Range(
        "max_batch_bytes", options.max_batch_bytes, 1U << 10, 4U << 20, " bytes", "[1 KiB, 4 MiB]");
    problems.Range("max_batch_count", options.max_batch_count, 1U, 65'536U, "", "[1, 65,536]");
    problems.Range(
        "max_in_flight_frames", options.max_in_flight_frames, 1U, 1'024U, "", "[1, 1,024]");
    problems.Range("max_pending_count", options.max_pending_count, 1U, 1U << 24, "", "[1, 2^24]");
    problems.Range("max_pending_bytes",
                   options.max_pending_bytes,
                   std::size_t{64} << 10,
                   std::size_t{16} << 30,
                   " bytes",
                   "[64 KiB, 16 GiB]");
    problems.Range("timeout", options.timeout, milliseconds(1), hours(1), " ms", "[1 ms, 1 h]");
    problems.Range("initial_backoff",
                   options.initial_backoff,
                   milliseconds(1),
                   minutes(1),
                   " ms",
                   "[1 ms, 1 min]");
    problems.Range("max_backoff",
                   options.max_backoff,
                   options.initial_backoff,
                   minutes(5),
                   " ms",
                   "[initial_backoff, 5 min]");
    return problems.status("ProducerOptions");
}

Status Validate(const SubscriptionOptions& options) {
    Problems problems;
    CheckConsumer(options, problems);
    problems.Range("parallelism", options.parallelism, 1U, 1'024U, "", "[1, 1,024]");
    problems.Range("prefetch_count", options.prefetch_count, 0U, 65'536U, "", "[0, 65,536]");
    problems.Range("prefetch_bytes",
                   options.prefetch_bytes,
                   std::size_t{64} << 10,
                   std::size_t{1} << 30,
                   " bytes",
                   "[64 KiB, 1 GiB]");
    problems.Range(
        "ack_linger", options.ack_linger, microseconds(0), seconds(1), " us", "[0, 1 s]");
    for (const auto& filter : options.filters) {
        if (filter == nullptr) {
            problems.Add("filters: one of them is null");
        }
    }
    if (options.idempotency_key && options.idempotency == nullptr) {
        problems.Add("idempotency_key: is set without an idempotency store");
    }
    if (options.at_most_once && options.idempotency != nullptr) {
        problems.Add(
            "at_most_once: is set together with an idempotency store, for which nothing could be "
            "put off while that is away; what is acked on receipt comes once without it");
    }
    return problems.status("SubscriptionOptions");
}

Status Validate(const PullConsumerOptions& options) {
    Problems problems;
    CheckConsumer(options, problems);
    problems.Range("max_unacked_count", options.max_unacked_count, 1U, 65'536U, "", "[1, 65,536]");
    return problems.status("PullConsumerOptions");
}

}  // namespace qmq
