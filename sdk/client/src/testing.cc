#include "qmq/testing.h"

#include <optional>
#include <stdexcept>
#include <string>
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
    if (message.id().empty()) {
        message.SetId("test-message");
    }
    Require(message.Validate());
    if (options.attempt == 0) {
        Require(Status::InvalidArgument("attempt is 0; the first one is 1"));
    }
    std::string subject(message.subject());
    if (!options.subject.empty()) {
        Require(ValidateStoredSubject(options.subject));
        subject = options.subject;
    }
    // The way that every message takes: encoded, encoded again when it failed, and decoded.
    BatchBuilder builder;
    builder.Add(message, {}, SystemClock().WallNow());
    std::string batch = builder.Finish();
    if (!options.last_error.empty()) {
        const auto sent = BatchView::Trusted(batch);
        std::string again = EncodeRetry(sent.body(),
                                        ReadHead(sent.body(), 0).value(),
                                        options.attempt,
                                        std::nullopt,
                                        options.last_error);
        batch = std::move(again);
    }
    const BatchLimits limits{.max_batch_bytes = batch.size()};
    auto messages =
        DecodeMessages(subject, Slice::Own(std::move(batch)), options.attempt, limits).value();
    return std::move(messages.front());
}

}  // namespace qmq::testing
