#include "qmq/protocol.h"

#include <algorithm>
#include <array>
#include <limits>

#include "qmq/subject.h"

#include "sdk/core/src/utf8.h"
#include "sdk/core/src/value_text.h"

namespace qmq {

using std::chrono::milliseconds;

namespace {

constexpr milliseconds kNone{0};
constexpr milliseconds kDay = std::chrono::hours(24);
constexpr std::size_t kMaxFilterTags = 10;
constexpr std::size_t kMaxTagBytes = 32'767;

template <typename T>
std::string Text(T value) {
    return std::to_string(value);
}
std::string Text(double value) {
    return std::string(internal::NumberText(value).view());
}
std::string Text(milliseconds value) {
    return std::to_string(value.count()) + " ms";
}

template <typename T>
Status InRange(std::string_view field, T value, T lowest, T highest) {
    // Written so that not-a-number lies outside.
    if (value >= lowest && value <= highest) {
        return Status::Ok();
    }
    return Status::InvalidArgument(std::string(field) + " is " + Text(value) + "; its range is [" +
                                   Text(lowest) + ", " + Text(highest) + "]");
}

template <typename Enum>
Status IsOneOf(std::string_view field, Enum value, std::string_view choices, Enum last) {
    if (value <= last) {
        return Status::Ok();
    }
    return Status::InvalidArgument(std::string(field) + " is " +
                                   std::to_string(static_cast<int>(value)) + "; the choices are " +
                                   std::string(choices));
}

// The first that is not ok.
Status FirstOf(std::initializer_list<Status> statuses) {
    for (const Status& status : statuses) {
        if (!status.ok()) {
            return status;
        }
    }
    return Status::Ok();
}

// All that are not ok, as one.
Status AllOf(std::initializer_list<Status> statuses) {
    std::string problems;
    for (const Status& status : statuses) {
        if (!status.ok()) {
            problems += problems.empty() ? "" : "; ";
            problems += status.message();
        }
    }
    return problems.empty() ? Status::Ok() : Status::InvalidArgument(problems);
}

Status CheckFilterTag(std::size_t index, const std::string& tag) {
    if (!tag.empty() && tag.size() <= kMaxTagBytes && internal::IsUtf8(tag)) {
        return Status::Ok();
    }
    return Status::InvalidArgument("filter.tags[" + std::to_string(index) + "] is " +
                                   internal::Quote(tag) + " of " + std::to_string(tag.size()) +
                                   " bytes; a tag is UTF-8 text of 1 to 32767 bytes");
}

}  // namespace

std::string_view ToString(Durability durability) {
    switch (durability) {
        case Durability::kDefault:
            return "default";
        case Durability::kMemory:
            return "memory";
        case Durability::kPageCache:
            return "page_cache";
        case Durability::kFsync:
            return "fsync";
        case Durability::kReplicated:
            return "replicated";
        case Durability::kReplicatedFsync:
            return "replicated_fsync";
    }
    return "unknown";
}

Result<Durability> ParseDurability(std::string_view text) {
    constexpr std::array kChoices = {Durability::kMemory,
                                     Durability::kPageCache,
                                     Durability::kFsync,
                                     Durability::kReplicated,
                                     Durability::kReplicatedFsync};
    std::string names;
    for (const Durability choice : kChoices) {
        if (text == ToString(choice)) {
            return choice;
        }
        names.append(names.empty() ? "" : ", ").append(ToString(choice));
    }
    return Status::InvalidArgument("durability " + internal::Quote(text) +
                                   " is unknown; the choices are " + names);
}

std::string_view ToString(SendOutcome outcome) {
    switch (outcome) {
        case SendOutcome::kPersisted:
            return "persisted";
        case SendOutcome::kRefused:
            return "refused";
        case SendOutcome::kUnknown:
            return "unknown";
    }
    return "unknown";
}

Status Validate(const TagFilter& filter) {
    if (Status status =
            IsOneOf("filter.mode", filter.mode, "0 (none), 1 (any) and 2 (all)", TagMode::kAll);
        !status.ok()) {
        return status;
    }
    const bool is_none = filter.mode == TagMode::kNone;
    const std::size_t fewest = is_none ? 0 : 1;
    const std::size_t most = is_none ? 0 : kMaxFilterTags;  // They would filter nothing.
    if (Status status = InRange("the number of filter.tags", filter.tags.size(), fewest, most);
        !status.ok()) {
        return status;
    }
    for (std::size_t i = 0; i < filter.tags.size(); ++i) {
        if (Status status = CheckFilterTag(i, filter.tags[i]); !status.ok()) {
            return status;
        }
    }
    return Status::Ok();
}

Status Validate(const RetryPolicy& policy) {
    return AllOf(
        {InRange("retry.max_attempts", policy.max_attempts, 1U, 65'535U),
         InRange("retry.initial_backoff", policy.initial_backoff, kNone, kDay),
         InRange("retry.multiplier", policy.multiplier, 1.0, 10.0),
         InRange("retry.max_backoff", policy.max_backoff, policy.initial_backoff, 7 * kDay)});
}

Status Validate(const ConsumerKey& key) {
    return FirstOf(
        {ValidateStoredSubject(key.subject),
         ValidateGroup(key.group),
         ValidateConsumerId(key.consumer_id),
         IsOneOf(
             "source", key.source, "0 (both), 1 (subject) and 2 (retry)", ConsumeSource::kRetry)});
}

Status Validate(const SubscribeRequest& request) {
    const bool known_start =
        request.start == StartPosition::kLatest || request.start == StartPosition::kEarliest;
    return FirstOf({Validate(request.key),
                    Validate(request.filter),
                    known_start
                        ? Status::Ok()
                        : Status::InvalidArgument("start is " +
                                                  std::to_string(static_cast<int>(request.start)) +
                                                  "; the choices are 1 (latest) and 2 (earliest)"),
                    Validate(request.retry),
                    InRange("ack_timeout", request.ack_timeout, milliseconds(1'000), kDay / 2),
                    InRange("reconnect_grace", request.reconnect_grace, kNone, kDay / 24)});
}

void AckReply::AddNotHeld(PullRange range) {
    if (!not_held.empty() && not_held.back().last + 1 == range.first && range.first != 0) {
        not_held.back().last = range.last;
    } else if (not_held.size() < kMostNotHeld) {
        not_held.push_back(range);
    } else {
        PullRange& rest = not_held.back();
        rest = {std::min(rest.first, range.first), std::max(rest.last, range.last)};
    }
}

std::uint64_t AckReply::not_held_count() const {
    constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t sum = 0;
    for (const PullRange& range : not_held) {
        const std::uint64_t size = range.last - range.first;  // Less one.
        sum += std::min(size, kMost - sum);
        sum += sum < kMost ? 1U : 0U;
    }
    return sum;
}

Status Validate(const AckItem& item) {
    if (item.first > item.last) {
        return Status::InvalidArgument("ack item: first is " + std::to_string(item.first) +
                                       " and last " + std::to_string(item.last) +
                                       "; first must not be above last");
    }
    if (item.delay && item.verdict != AckVerdict::kRetry) {
        return Status::InvalidArgument("ack item: delay is " + Text(*item.delay) +
                                       " but the verdict is no retry; leave delay out");
    }
    return FirstOf({IsOneOf("ack item: verdict",
                            item.verdict,
                            "0 (ack), 1 (retry), 2 (dead letter), 3 (renew), 4 (release) and 5 "
                            "(begin)",
                            AckVerdict::kBegin),
                    IsOneOf("ack item: durability",
                            item.durability,
                            "0 (default), 1 (memory), 2 (page_cache), 3 (fsync), 4 (replicated) "
                            "and 5 (replicated_fsync)",
                            Durability::kReplicatedFsync),
                    InRange("ack item: delay", item.delay.value_or(kNone), kNone, 2 * 366 * kDay)});
}

}  // namespace qmq
