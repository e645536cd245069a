#include "tests/anything/hostile.h"

#include <cmath>
#include <limits>

#include "qmq/subject.h"

namespace qmq::anything {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
// What a subject promises hangs on its first letter: see World.
constexpr const char* kSubjects[] = {"f.orders", "f.refunds", "p.views", "m.clicks"};
constexpr const char* kGroups[] = {"billing", "search"};

std::string Repeat(std::string_view piece, std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) {
        text += piece;
    }
    return text;
}

}  // namespace

std::string Hostile::Name() {
    const std::string known = std::string(choices_.Pick(kSubjects));
    const std::string group = std::string(choices_.Pick(kGroups));
    switch (choices_.Below(18)) {
        case 0:
            return "";
        case 1:
            return Repeat("n", kMaxNameLength);
        case 2:
            return Repeat("n", kMaxNameLength + 1);
        case 3:
            return Repeat("\xc3\xbc", kMaxNameLength);
        case 4:
            return Repeat("x", 70'000);
        case 5:
        case 6:
            return RetrySubject(known, group);
        case 7:
        case 8:
            return RetrySubject("fresh" + std::to_string(choices_.Below(9)), group);
        case 9:
            return DeadLetterSubject(known, group);
        case 10:
            return DeadLetterSubject("fresh" + std::to_string(choices_.Below(9)), "nobody");
        case 11:
            return RetrySubject(Repeat("n", kMaxNameLength), Repeat("g", kMaxNameLength + 1));
        case 12:
            return "%RETRY%%";
        case 13:
            return "%";
        case 14:
            return choices_.Percent(50) ? "." : "..";
        case 15:
            return "\xff\xfe bytes";
        case 16:
            return "a/b\r\n";
        default:
            return RetrySubject(RetrySubject(known, group), group);
    }
}

std::string Hostile::Subject() {
    if (choices_.Percent(8)) {
        return Name();
    }
    if (choices_.Percent(4)) {  // A retry of what lies there waits in its place.
        // Mostly one, so that those who send, take and judge meet there.
        return choices_.Percent(70)
                   ? DeadLetterSubject(kSubjects[0], kGroups[0])
                   : DeadLetterSubject(choices_.Pick(kSubjects), choices_.Pick(kGroups));
    }
    return choices_.Percent(5) ? "fresh" + std::to_string(choices_.Below(9))
                               : choices_.Pick(kSubjects);
}

std::string Hostile::Group() {
    return choices_.Percent(4) ? Name() : choices_.Pick(kGroups);
}

std::string Hostile::ConsumerId() {
    if (choices_.Percent(3)) {
        return choices_.Percent(50) ? Repeat("c", 250 + choices_.Below(2)) : Name();
    }
    return "c" + std::to_string(choices_.Below(5));
}

std::string Hostile::Text(std::size_t most_bytes) {
    const std::size_t bytes = choices_.Below(most_bytes + 1);
    return choices_.Percent(10) ? Repeat("\xfe", bytes) : std::string(bytes, 'x');
}

std::string Hostile::Tag() {
    if (choices_.Percent(5)) {
        return choices_.Percent(50) ? Repeat("t", 70'000) : Name();
    }
    return choices_.Percent(50) ? "domestic" : "international";
}

TagFilter Hostile::Filter() {
    TagFilter filter;
    if (choices_.Percent(70)) {
        return filter;
    }
    filter.mode =
        choices_.Percent(5) ? static_cast<TagMode>(9) : static_cast<TagMode>(choices_.Below(3));
    const std::uint64_t count = choices_.Percent(80) ? 1 : choices_.Below(12);
    for (std::uint64_t i = 0; i < count; ++i) {
        filter.tags.push_back(Tag());
    }
    return filter;
}

std::chrono::milliseconds Hostile::Duration() {
    constexpr std::chrono::milliseconds kAll[] = {0ms,
                                                  1ms,
                                                  1s,
                                                  60s,
                                                  1h,
                                                  12h,
                                                  12h + 1ms,
                                                  24h,
                                                  7 * 24h,
                                                  7 * 24h + 1ms,
                                                  365 * 24h,
                                                  365 * 24h + 1ms,
                                                  -1ms,
                                                  std::chrono::milliseconds::max(),
                                                  std::chrono::milliseconds::min()};
    return choices_.Pick(kAll);
}

RetryPolicy Hostile::Policy() {
    constexpr std::uint32_t kAttempts[] = {1, 2, 3, 32, 65'535};
    RetryPolicy policy{choices_.Pick(kAttempts), 20ms, 1.5, 200ms};
    if (choices_.Percent(90)) {
        return policy;
    }
    const double multipliers[] = {0.0,
                                  1.0,
                                  10.0,
                                  10.5,
                                  -1.0,
                                  std::numeric_limits<double>::quiet_NaN(),
                                  std::numeric_limits<double>::infinity(),
                                  std::numeric_limits<double>::max()};
    policy.max_attempts = choices_.Percent(30) ? 0 : choices_.Percent(50) ? 65'536 : ~0U;
    policy.max_attempts = choices_.Percent(50) ? 5 : policy.max_attempts;
    policy.multiplier = choices_.Percent(40) ? choices_.Pick(multipliers) : 2.0;
    policy.initial_backoff = choices_.Percent(30) ? Duration() : 20ms;
    policy.max_backoff = choices_.Percent(60) ? 7 * 24h : Duration();
    return policy;
}

Credit Hostile::GrantedCredit() {
    switch (choices_.Below(8)) {
        case 0:
            return {0, 0};
        case 1:
            return {~0U, kMax};
        case 2:
            return {1, 1};
        case 3:
            return {0, kMax};
        case 4:
            return {~0U, 0};
        default:
            return {1 + static_cast<std::uint32_t>(choices_.Below(40)), 64U << 10U};
    }
}

ConsumerKey Hostile::Key() {
    ConsumeSource source =
        choices_.Percent(80) ? ConsumeSource::kBoth : static_cast<ConsumeSource>(choices_.Below(3));
    if (choices_.Percent(1)) {
        source = static_cast<ConsumeSource>(77);
    }
    return {Subject(), Group(), ConsumerId(), source};
}

StartPosition Hostile::Position() {
    return choices_.Percent(3)    ? static_cast<StartPosition>(choices_.Percent(50) ? 0 : 9)
           : choices_.Percent(75) ? StartPosition::kEarliest
                                  : StartPosition::kLatest;
}

SubscribeRequest Hostile::Subscription() {
    SubscribeRequest request;
    request.key = Key();
    request.filter = Filter();
    request.start = Position();
    request.retry = Policy();
    constexpr std::chrono::milliseconds kLeases[] = {1s, 2s, 60s, 12h};
    request.ack_timeout = choices_.Percent(95) ? choices_.Pick(kLeases) : Duration();
    constexpr std::chrono::milliseconds kGraces[] = {0ms, 1s, 1h};
    request.reconnect_grace = choices_.Percent(95) ? choices_.Pick(kGraces) : Duration();
    if (choices_.Percent(20)) {
        request.resume = ResumePoint{Number(), Number()};
    }
    return request;
}

broker::PullRequest Hostile::PullCall() {
    broker::PullRequest pull;
    pull.consumer = Subscription();
    pull.max_messages =
        choices_.Percent(90) ? 1 + static_cast<std::uint32_t>(choices_.Below(50)) : ~0U;
    pull.max_messages = choices_.Percent(3) ? 0 : pull.max_messages;
    pull.max_bytes = choices_.Percent(90) ? 64U << 10U : Number();
    constexpr std::chrono::milliseconds kWaits[] = {0ms, 0ms, 10ms, 1s};
    pull.max_wait = choices_.Percent(95) ? choices_.Pick(kWaits) : Duration();
    return pull;
}

std::uint64_t Hostile::Number() {
    switch (choices_.Below(8)) {
        case 0:
            return 0;
        case 1:
            return kMax;
        case 2:
            return kMax - choices_.Below(3);
        case 3:
            return std::uint64_t{1} << choices_.Below(64);
        case 4:
            return (std::uint64_t{1} << 40U) + choices_.Below(64);
        case 5:
            return (std::uint64_t{2} << 40U) + choices_.Below(64);
        default:
            return choices_.Below(64);
    }
}

AckVerdict Hostile::Verdict() {
    if (choices_.Percent(2)) {
        return static_cast<AckVerdict>(choices_.Percent(50) ? 6 : 255);
    }
    return choices_.Percent(40) ? AckVerdict::kAck : static_cast<AckVerdict>(choices_.Below(6));
}

Durability Hostile::AnyDurability() {
    return choices_.Percent(2) ? static_cast<Durability>(99)
                               : static_cast<Durability>(choices_.Below(6));
}

AckItem Hostile::Item(const std::vector<std::uint64_t>& around) {
    AckItem item;
    item.verdict = Verdict();
    if (choices_.Percent(5)) {
        item.last = kMax;
        return item;
    }
    if (!around.empty() && choices_.Percent(85)) {
        item.first = choices_.Pick(around);
        item.last = item.first + (choices_.Percent(70) ? 0 : choices_.Below(10));
    } else {
        item.first = Number();
        item.last = choices_.Percent(50) ? item.first : Number();
    }
    if (choices_.Percent(40)) {
        item.delay =
            choices_.Percent(70) ? std::chrono::milliseconds(choices_.Below(500)) : Duration();
    }
    if (choices_.Percent(20)) {
        item.error = Text(choices_.Percent(10) ? 9'000 : 40);
    }
    if (choices_.Percent(30)) {
        item.durability = AnyDurability();
    }
    return item;
}

}  // namespace qmq::anything
