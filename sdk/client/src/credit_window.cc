#include "sdk/client/src/credit_window.h"

#include <algorithm>
#include <limits>

namespace qmq::internal {

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
    const bool worth = messages >= std::max<std::int64_t>(max_messages / 2, 1) ||
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
