#include "sdk/client/src/receive/credit_window.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace qmq::internal {

namespace {

/// A message that waits no longer than this might as well have had others in front of it. Well
/// above the time that credit takes to a broker far away, so that the window does not run dry
/// meanwhile.
constexpr std::chrono::milliseconds kShortWait{100};
/// And one that waits for longer would have been handled sooner by somebody else, if there is one.
constexpr std::chrono::milliseconds kLongWait{400};

}  // namespace

void CreditWindow::SetLimits(const Limits& limits) {
    limits_ = limits;
    max_messages_ = std::clamp(max_messages_, limits.least_messages, limits.most_messages);
    max_bytes_ = limits.bytes;
}

void CreditWindow::OnWaited(std::chrono::nanoseconds longest) {
    const auto unused = std::max<std::int64_t>(granted_messages_, 0);
    if (longest.count() >= 0 && longest < kShortWait &&
        static_cast<std::uint64_t>(unused) <= max_messages_ / 4) {
        widened_ = max_messages_ < limits_.most_messages;
        max_messages_ = std::min(max_messages_ * 2, limits_.most_messages);
    } else if (longest > kLongWait) {
        max_messages_ = std::max(max_messages_ / 2, limits_.least_messages);
    }
}

void CreditWindow::OnDelivered(std::uint64_t messages, std::uint64_t bytes) {
    granted_messages_ -= static_cast<std::int64_t>(messages);
    granted_bytes_ -= static_cast<std::int64_t>(bytes);
    held_messages_ += static_cast<std::int64_t>(messages);
    held_bytes_ += static_cast<std::int64_t>(bytes);
}

void CreditWindow::OnEnded(std::uint64_t messages, std::uint64_t bytes) {
    held_messages_ -= static_cast<std::int64_t>(messages);
    held_bytes_ -= static_cast<std::int64_t>(bytes);
}

Credit CreditWindow::Take() {
    const auto max_messages = static_cast<std::int64_t>(max_messages_);
    const auto max_bytes = static_cast<std::int64_t>(max_bytes_);
    const std::int64_t messages =
        std::max<std::int64_t>(max_messages - granted_messages_ - held_messages_, 0);
    const std::int64_t bytes = std::max<std::int64_t>(max_bytes - granted_bytes_ - held_bytes_, 0);
    const bool worth = (std::exchange(widened_, false) && messages > 0) ||
                       messages >= std::max<std::int64_t>(max_messages / 2, 1) ||
                       bytes >= std::max<std::int64_t>(max_bytes / 2, 1);
    if (!worth || max_messages == 0) {
        return {};
    }
    const auto granted = std::min<std::int64_t>(messages, std::numeric_limits<std::int32_t>::max());
    granted_messages_ += granted;
    granted_bytes_ += bytes;
    return {static_cast<std::uint32_t>(granted), static_cast<std::uint64_t>(bytes)};
}

}  // namespace qmq::internal
