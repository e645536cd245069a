#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace qmq {

/// Bytes that somebody shares: a view, and what keeps the memory behind it. Copies are cheap; the
/// bytes never change.
class Slice {
public:
    Slice() = default;
    Slice(std::shared_ptr<const void> owner, std::string_view bytes)
        : owner_(std::move(owner)), bytes_(bytes) {}

    /// Takes over `bytes`.
    static Slice Own(std::string bytes) {
        auto owner = std::make_shared<const std::string>(std::move(bytes));
        std::string_view view(*owner);
        return {std::move(owner), view};
    }
    /// For bytes that live longer than every copy, such as literals.
    static Slice Borrow(std::string_view bytes) { return {nullptr, bytes}; }

    std::string_view bytes() const { return bytes_; }
    const char* data() const { return bytes_.data(); }
    std::size_t size() const { return bytes_.size(); }
    bool empty() const { return bytes_.empty(); }
    const std::shared_ptr<const void>& owner() const { return owner_; }

    /// A part of it that keeps the same memory. `offset` and `size` lie within it.
    Slice Sub(std::size_t offset, std::size_t size) const {
        return {owner_, bytes_.substr(offset, size)};
    }

private:
    std::shared_ptr<const void> owner_;
    std::string_view bytes_;
};

}  // namespace qmq
