#include "qmq/testing.h"

#include <atomic>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "qmq/batch.h"
#include "qmq/clock.h"
#include "qmq/slice.h"
#include "qmq/subject.h"

namespace qmq::testing {

namespace {

void Require(const Status& status) {
    if (!status.ok()) {
        throw std::invalid_argument("MakeReceived: " + status.ToString());
    }
}

}  // namespace

Message MakeReceived(Message message, const ReceivedOptions& options) {
    static std::atomic<std::uint64_t> made{0};
    ForgetDeliveries(message);
    if (message.id().empty()) {
        message.SetId("test-message-" + std::to_string(++made));
    }
    Require(message.Validate());
    if (options.attempt == 0) {
        Require(Status::InvalidArgument("attempt is 0; the first one is 1"));
    }
    std::string subject(message.subject());
    if (!options.subject.empty()) {
        Require(ValidateStoredSubject(options.subject));
        if (ParseSubject(options.subject).real_subject != subject) {
            Require(Status::InvalidArgument("a message of " + subject + " is never taken from " +
                                            options.subject));
        }
        subject = options.subject;
    }
    // The way that every message takes: encoded by its sender, again by the broker, and decoded.
    const WallTime now = SystemClock().WallNow();
    BatchBuilder builder;
    builder.Add(message, {}, now);
    const std::string sent = builder.Finish();
    const std::string_view body = BatchView::Trusted(sent).body();
    const auto due = options.attempt > 1 ? std::optional(now) : std::nullopt;
    std::string batch =
        EncodeRetry(body, ReadHead(body, 0).value(), options.attempt, due, options.last_error);
    const BatchLimits limits{.max_batch_bytes = batch.size()};
    auto messages =
        DecodeMessages(subject, Slice::Own(std::move(batch)), options.attempt, limits).value();
    return std::move(messages.front());
}

}  // namespace qmq::testing
