#include "tests/simulation/others.h"

#include <array>
#include <limits>
#include <utility>

#include "qmq/batch.h"
#include "qmq/message.h"
#include "qmq/subject.h"

namespace qmq::simulation {

namespace {

/// Takes what it is given, and keeps nothing of it.
class Sink final : public broker::DeliverySink {
public:
    void OnSubscribed(const SubscribeReply&) override {}
    void OnDelivery(std::vector<DeliveredBatch>) override {}
    void OnClosed(const Status&) override {}
};

}  // namespace

Others::Others(SimScheduler& scheduler, SimExecutor& executor, Count count)
    : scheduler_(scheduler), executor_(executor), count_(std::move(count)) {}

void Others::Begin(const WorldPlan& plan) {
    if (plan.operators) {
        Operate();
    }
    if (plan.visitors) {
        Visit();
    }
    if (plan.wild_client) {
        BeWild();
    }
}

void Others::SetBroker(broker::Broker* broker) {
    if (broker == nullptr) {
        sessions_.clear();
    }
    broker_ = broker;
}

void Others::After(std::chrono::nanoseconds longest, void (Others::*next)()) {
    const auto pause =
        std::chrono::nanoseconds(random().Below(static_cast<std::uint64_t>(longest.count())));
    executor_.PostAt(scheduler_.Now() + pause, [this, next] {
        if (!ended_) {
            (this->*next)();
        }
    });
}

const char* Others::AnySubject() {
    return kSubjects[random().Below(kSubjects.size())];
}

void Others::Operate() {
    if (broker_ != nullptr) {
        const char* subject = AnySubject();
        broker_->ListSubjects([this](const Result<std::vector<SubjectInfo>>& subjects) {
            scheduler_.Note(subjects.ok() ? subjects->size() : 0);
        });
        broker_->ListGroups(random().Chance(0.5) ? subject : "",
                            [this](const Result<std::vector<GroupInfo>>& groups) {
                                scheduler_.Note(groups.ok() ? groups->size() : 0);
                            });
        count_("listing");
        if (random().Chance(0.2)) {
            const bool again = random().Chance(0.5);
            count_("reset");
            broker_->ResetGroup(subject,
                                kVisitors,
                                again ? StartPosition::kEarliest : StartPosition::kLatest,
                                [this](const Status& status) {
                                    scheduler_.Note(static_cast<std::uint64_t>(status.code()));
                                });
        }
    }
    After(2s, &Others::Operate);
}

void Others::Visit() {
    if (broker_ != nullptr) {
        broker::PullRequest request;
        request.consumer.key = {AnySubject(),
                                kVisitors,
                                "visitor-" + std::to_string(random().Below(3)),
                                ConsumeSource::kBoth};
        request.consumer.start = StartPosition::kEarliest;
        request.consumer.ack_timeout = 1s;
        request.consumer.retry = {.max_attempts = 3, .initial_backoff = 100ms};
        request.max_messages = static_cast<std::uint32_t>(1 + random().Below(20));
        request.max_wait = std::chrono::milliseconds(random().Below(300));
        const ConsumerKey key = request.consumer.key;
        count_("visit");
        broker_->Pull(std::move(request), [this, key](const Result<broker::PullReply>& reply) {
            if (reply.ok()) {
                AckVisit(key, *reply);
            }
        });
    }
    After(500ms, &Others::Visit);
}

void Others::AckVisit(const ConsumerKey& key, const broker::PullReply& reply) {
    scheduler_.Note(reply.batches.size());
    std::vector<AckItem> items;
    for (const DeliveredBatch& batch : reply.batches) {
        AckItem item;
        item.first = batch.first_pull_sequence;
        item.last = batch.first_pull_sequence + batch.count - 1;
        switch (random().Below(6)) {
            case 0:
                item.verdict = AckVerdict::kRetry;
                item.error = "asked for by a visitor";
                break;
            case 1:
                item.verdict = AckVerdict::kDeadLetter;
                item.error = "not for visitors";
                break;
            case 2:
                item.verdict = AckVerdict::kBegin;
                break;
            case 3:
                continue;  // Forgotten: its lease ends.
            default:
                break;
        }
        items.push_back(std::move(item));
    }
    if (random().Chance(0.2)) {
        // All that it holds, by a range without an end, and once more by one of its own.
        AckItem all;
        all.last = std::numeric_limits<std::uint64_t>::max();
        items.insert(items.begin(), 2, all);
        if (!reply.batches.empty()) {
            items.front().first = items.front().last = reply.batches.front().first_pull_sequence;
        }
    }
    if (broker_ != nullptr && !items.empty()) {
        broker_->Ack(key, std::move(items), [this](const Result<AckReply>& acked) {
            scheduler_.Note(acked.ok() ? acked->not_held_count() : 0);
        });
    }
}

// The wild client.

void Others::BeWild() {
    if (broker_ != nullptr) {
        CallAnything();
    }
    After(300ms, &Others::BeWild);
}

std::uint64_t Others::AnyNumber() {
    constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
    switch (random().Below(8)) {
        case 0:
            return 0;
        case 1:
            return kMost;
        case 2:
            return kMost - random().Below(3);
        case 3:
            return (random().Below(6) << 40U) + random().Below(40);
        case 4:
            return random().Next();
        default:
            return random().Below(50);
    }
}

std::string Others::AnyName() {
    switch (random().Below(9)) {
        case 0:
            return std::string(kMaxNameLength, 'n');
        case 1:
            return std::string(kMaxNameLength + 1, 'n');
        case 2:
            return RetrySubject(AnySubject(), kVisitors);
        case 3:
            return RetrySubject("w.unknown" + std::to_string(random().Below(5)), "nobody");
        case 4:
            return DeadLetterSubject(AnySubject(), kVisitors);
        case 5:
            return "not a / name";
        case 6:
            return "";
        default:
            return "w." + std::to_string(random().Below(4));
    }
}

std::string Others::AnyGroup() {
    switch (random().Below(5)) {
        case 0:
            return std::string(kMaxNameLength, 'g');
        case 1:
            return "wild-" + std::to_string(random().Below(4));
        case 2:
            return "";
        default:
            return kVisitors;
    }
}

ConsumerKey Others::AnyKey() {
    const auto source = static_cast<ConsumeSource>(random().Below(3));
    const bool is_real = random().Chance(0.5);
    return {is_real ? AnySubject() : AnyName(),
            AnyGroup(),
            random().Chance(0.1) ? std::string(250, 'c')
                                 : "visitor-" + std::to_string(random().Below(3)),
            source};
}

SubscribeRequest Others::AnySubscription() {
    SubscribeRequest request;
    request.key = AnyKey();
    request.start = random().Chance(0.5) ? StartPosition::kEarliest : StartPosition::kLatest;
    request.ack_timeout = random().Chance(0.2) ? 12h : 1s;
    request.reconnect_grace = random().Chance(0.2) ? 1h : 0s;
    request.retry.max_attempts = random().Chance(0.2) ? 65'535 : 1;
    request.retry.initial_backoff = random().Chance(0.1) ? 24h : 0ms;
    request.retry.max_backoff = 24h * 7;
    if (random().Chance(0.3)) {
        request.filter = {random().Chance(0.5) ? TagMode::kAny : TagMode::kAll,
                          {"domestic", std::string(200, 't')}};
    }
    if (random().Chance(0.3)) {
        request.resume = ResumePoint{random().Below(5), AnyNumber()};
    }
    return request;
}

std::vector<AckItem> Others::AnyAcks() {
    std::vector<AckItem> items;
    for (std::uint64_t i = 1 + random().Below(4); i > 0; --i) {
        AckItem item;
        item.verdict = static_cast<AckVerdict>(random().Below(6));
        item.first = random().Chance(0.4) ? 0 : AnyNumber();
        item.last = random().Chance(0.4) ? std::numeric_limits<std::uint64_t>::max() : AnyNumber();
        if (random().Chance(0.3)) {
            item.delay = std::chrono::milliseconds(random().Chance(0.5) ? 0 : 7 * 24 * 3'600'000);
        }
        item.error = std::string(random().Below(6'000), 'e');
        item.durability = static_cast<Durability>(random().Below(4));
        items.push_back(std::move(item));
    }
    return items;
}

SendBatch Others::AnyBatch() {
    const std::string subject = AnyName();
    BatchBuilder builder;
    for (std::uint64_t i = 1 + random().Below(3); i > 0; --i) {
        Message message("w.0");
        message.SetBody(std::string(random().Below(3'000), 'w'));
        builder.Add(message, "wild-" + std::to_string(++sent_), scheduler_.WallNow());
    }
    return {subject, Slice::Own(builder.Finish()), static_cast<Durability>(random().Below(4))};
}

void Others::CallAnything() {
    count_("wild_call");
    switch (random().Below(8)) {
        case 0:
            broker_->Send({AnyBatch(), AnyBatch()}, [this](std::vector<BatchReceipt> receipts) {
                scheduler_.Note(receipts.size());
            });
            break;
        case 1:
            broker_->Ack(AnyKey(), AnyAcks(), [this](const Result<AckReply>& reply) {
                scheduler_.Note(static_cast<std::uint64_t>(reply.status().code()));
            });
            break;
        case 2: {
            broker::PullRequest request;
            request.consumer = AnySubscription();
            request.max_messages = static_cast<std::uint32_t>(AnyNumber());
            request.max_bytes = AnyNumber();
            request.max_wait = std::chrono::milliseconds(random().Below(500));
            broker_->Pull(std::move(request), [this](const Result<broker::PullReply>& reply) {
                scheduler_.Note(static_cast<std::uint64_t>(reply.status().code()));
            });
            break;
        }
        case 3:
            broker_->ListGroups(AnyName(), [](const Result<std::vector<GroupInfo>>&) {});
            broker_->ListSubjects([](const Result<std::vector<SubjectInfo>>&) {});
            break;
        case 4:
            broker_->ResetGroup(AnyName(), AnyGroup(), StartPosition::kEarliest, [](Status) {});
            break;
        case 5:
            SubscribeAnyhow();
            break;
        default:
            UseSession();
            break;
    }
}

void Others::SubscribeAnyhow() {
    if (sessions_.size() > 4) {
        sessions_.erase(sessions_.begin());
    }
    sessions_.push_back(broker_->Subscribe(AnySubscription(), std::make_shared<Sink>()));
}

void Others::UseSession() {
    if (sessions_.empty() || !sessions_.back()) {
        return;
    }
    broker::Session& session = *sessions_[random().Below(sessions_.size())];
    session.Grant({static_cast<std::uint32_t>(AnyNumber()), AnyNumber()});
    if (random().Chance(0.7)) {
        session.Ack(AnyAcks(), [this](const Result<AckReply>& reply) {
            scheduler_.Note(reply.ok() ? reply->not_held_count() : 0);
        });
    }
    if (random().Chance(0.1)) {
        session.Close();
    } else if (random().Chance(0.1)) {
        session.Detach();
    }
}

}  // namespace qmq::simulation
