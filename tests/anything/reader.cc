#include "tests/anything/reader.h"

#include <memory>

namespace qmq::anything {

using namespace std::chrono_literals;

void AllReader::ReadSubjects(const std::set<std::string>& subjects) {
    for (const std::string& subject : subjects) {
        if (read_.insert(subject).second) {
            Join({subject, "reader", "reader", ConsumeSource::kBoth},
                 [&ledger = ledger_, subject](const std::vector<Handed>& messages) {
                     ledger.OnReadAgain(subject, messages);
                 });
        }
    }
}

void AllReader::ReadGroups(const std::vector<std::pair<std::string, std::string>>& groups) {
    for (const auto& [subject, group] : groups) {
        const ConsumerKey key{subject, group, "drain", ConsumeSource::kBoth};
        Join(key, [&ledger = ledger_, key](const std::vector<Handed>& messages) {
            ledger.OnHanded(key, messages);
        });
    }
}

void AllReader::Join(const ConsumerKey& key, std::function<void(const std::vector<Handed>&)> take) {
    SubscribeRequest request;
    request.key = key;
    request.start = StartPosition::kEarliest;
    request.retry.max_attempts = 65'535;
    request.reconnect_grace = 0ms;
    request.ack_timeout = 12h;
    callers_.Trace("after the start " + key.group + " takes all of " + key.subject);
    auto id = std::make_shared<Engine::SubscriptionId>(0);
    Ears ears;
    ears.subscribed = [](const SubscribeReply&) {};
    ears.closed = [&ledger = ledger_, matters = matters_, key](const Status& status) {
        // A name that was taken over from somebody hostile may be none.
        if (matters() && status.code() != StatusCode::kInvalidArgument) {
            ledger.Problem("after the start " + key.subject + " does not serve " + key.group +
                           ": " + status.ToString());
        }
    };
    ears.handed = [&engine = engine_, &callers = callers_, id, key, take = std::move(take)](
                      const std::vector<Handed>& messages, std::uint64_t) {
        std::vector<AckItem> items;
        for (const Handed& handed : messages) {
            callers.Trace("    " + key.group + " of " + key.subject + ": " + handed.id + " at " +
                          std::to_string(handed.sequence) + ", attempt " +
                          std::to_string(handed.attempt));
            AckItem item;
            item.first = item.last = handed.pull;
            items.push_back(item);
        }
        take(messages);
        if (!items.empty()) {
            engine.Ack(*id, std::move(items), [](const Result<AckReply>&) {});
        }
    };
    *id = engine_.Subscribe(0, request, std::move(ears));
    engine_.Grant(*id, {1U << 30U, std::uint64_t{1} << 40U});
}

}  // namespace qmq::anything
