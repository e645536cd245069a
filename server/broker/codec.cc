#include "server/broker/codec.h"

#include <bit>

namespace qmq::broker {

void Writer::Number(std::uint64_t value) {
    while (value >= 0x80) {
        Byte(static_cast<std::uint8_t>(value | 0x80));
        value >>= 7;
    }
    Byte(static_cast<std::uint8_t>(value));
}

void Writer::Filter(const TagFilter& filter) {
    Byte(static_cast<std::uint8_t>(filter.mode));
    Number(filter.tags.size());
    for (const std::string& tag : filter.tags) {
        Text(tag);
    }
}

void Writer::Policy(const RetryPolicy& policy) {
    Number(policy.max_attempts);
    Signed(policy.initial_backoff.count());
    Number(std::bit_cast<std::uint64_t>(policy.multiplier));
    Signed(policy.max_backoff.count());
}

std::uint8_t Reader::Byte() {
    if (failed_ || at_ == bytes_.size()) {
        Fail("ends too early");
        return 0;
    }
    return static_cast<std::uint8_t>(bytes_[at_++]);
}

std::uint64_t Reader::Number() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const std::uint8_t byte = Byte();
        if (failed_) {
            return 0;
        }
        const std::uint64_t part = byte & 0x7FU;
        if (shift == 63 && part > 1) {
            break;
        }
        value |= part << shift;
        if ((byte & 0x80U) == 0) {
            return value;
        }
    }
    Fail("a number of more than 64 bits");
    return 0;
}

std::uint64_t Reader::Bounded(std::uint64_t limit) {
    const std::uint64_t value = Number();
    if (value > limit) {
        Fail("the number " + std::to_string(value) + " is over " + std::to_string(limit));
        return 0;
    }
    return value;
}

std::uint64_t Reader::Count(std::size_t item_bytes) {
    return Bounded((bytes_.size() - at_) / item_bytes);
}

std::string_view Reader::Text() {
    const std::uint64_t size = Number();
    if (failed_ || size > bytes_.size() - at_) {
        Fail("a text of " + std::to_string(size) + " bytes does not fit");
        return {};
    }
    const std::string_view text = bytes_.substr(at_, size);
    at_ += size;
    return text;
}

TagFilter Reader::Filter() {
    TagFilter filter;
    const std::uint8_t mode = Byte();
    if (mode > static_cast<std::uint8_t>(TagMode::kAll)) {
        Fail("unknown tag mode " + std::to_string(mode));
        return filter;
    }
    filter.mode = static_cast<TagMode>(mode);
    const std::uint64_t count = Count(1);
    for (std::uint64_t i = 0; i < count && !failed_; ++i) {
        filter.tags.emplace_back(Text());
    }
    return filter;
}

RetryPolicy Reader::Policy() {
    RetryPolicy policy;
    policy.max_attempts = static_cast<std::uint32_t>(Bounded(UINT32_MAX));
    policy.initial_backoff = std::chrono::milliseconds(Signed());
    policy.multiplier = std::bit_cast<double>(Number());
    policy.max_backoff = std::chrono::milliseconds(Signed());
    return policy;
}

void Reader::Fail(std::string_view reason) {
    if (!failed_) {
        failed_ = true;
        failed_at_ = at_;
        reason_ = reason;
    }
}

Status Reader::Finish() const {
    if (failed_) {
        return Status::DataLoss(std::string(what_) + ": byte " + std::to_string(failed_at_) +
                                " of " + std::to_string(bytes_.size()) + ": " + reason_);
    }
    if (at_ != bytes_.size()) {
        return Status::DataLoss(std::string(what_) + ": " + std::to_string(bytes_.size() - at_) +
                                " bytes too many after byte " + std::to_string(at_));
    }
    return {};
}

}  // namespace qmq::broker
