#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "qmq/message.h"
#include "qmq/name_view.h"
#include "qmq/protocol.h"

namespace qmq {

/// Tags that are known when the program is compiled: what `AnyOf` and `AllOf` make of string
/// literals. For the declarations of `QMQ_CONSUMER`; everything else takes them as `Tags`.
class LiteralTags {
public:
    constexpr LiteralTags() = default;
    /// Any of them.
    constexpr LiteralTags(std::initializer_list<const char*> names)
        : LiteralTags(TagMode::kAny, names) {}
    constexpr LiteralTags(TagMode mode, std::initializer_list<const char*> names) : mode_(mode) {
        for (const char* name : names) {
            if (count_ < names_.size()) {
                names_[count_] = name;
            }
            ++count_;  // One too many is told where the consumer starts.
        }
    }

    constexpr TagMode mode() const { return mode_; }
    /// As given: it may be more than `Message::kMaxTags`, and only so many are kept.
    constexpr std::size_t count() const { return count_; }
    constexpr const char* name(std::size_t index) const { return names_[index]; }

private:
    TagMode mode_ = TagMode::kNone;
    std::size_t count_ = 0;
    std::array<const char*, Message::kMaxTags> names_{};
};

/// Which messages of a subject a consumer asks for: all of them, those with any of some tags, or
/// those with all of some tags.
///
///     options.tags = {"domestic", "international"};        // Any of them.
///     options.tags = qmq::AllOf("domestic", region);       // Both.
class Tags {
public:
    /// All messages.
    Tags() = default;
    /// Those with any of 1 to 10 tags.
    Tags(std::initializer_list<NameView> any) : filter_{TagMode::kAny, {any.begin(), any.end()}} {}
    // NOLINTNEXTLINE(google-explicit-constructor): both are made by AnyOf and AllOf.
    Tags(const LiteralTags& literal) : filter_{literal.mode(), {}} {
        for (std::size_t i = 0; i < literal.count() && i < Message::kMaxTags; ++i) {
            filter_.tags.emplace_back(NameView(literal.name(i)));
        }
        filter_.tags.resize(literal.count());  // Too many are refused where the consumer is made.
    }
    explicit Tags(TagFilter filter) : filter_(std::move(filter)) {}

    const TagFilter& filter() const { return filter_; }
    friend bool operator==(const Tags&, const Tags&) = default;

private:
    TagFilter filter_;
};

/// Messages that have at least one of these 1 to 10 tags.
template <std::size_t... kSizes>
requires(sizeof...(kSizes) > 0) constexpr LiteralTags AnyOf(const char (&... names)[kSizes]) {
    return {TagMode::kAny, {names...}};
}
/// Messages that have every one of these 1 to 10 tags.
template <std::size_t... kSizes>
requires(sizeof...(kSizes) > 0) constexpr LiteralTags AllOf(const char (&... names)[kSizes]) {
    return {TagMode::kAll, {names...}};
}

namespace internal {
/// Names of which at least one is no literal.
template <typename... Names>
concept RuntimeTags = (sizeof...(Names) > 0) &&
                      (std::convertible_to<const Names&, NameView> && ...) &&
                      !(std::is_array_v<std::remove_reference_t<Names>> && ...);
}  // namespace internal

template <typename... Names>
requires internal::RuntimeTags<Names...> Tags AnyOf(const Names&... names) {
    return Tags(TagFilter{TagMode::kAny, {std::string(NameView(names))...}});
}
template <typename... Names>
requires internal::RuntimeTags<Names...> Tags AllOf(const Names&... names) {
    return Tags(TagFilter{TagMode::kAll, {std::string(NameView(names))...}});
}
inline Tags AnyOf(std::vector<std::string> names) {
    return Tags(TagFilter{TagMode::kAny, std::move(names)});
}
inline Tags AllOf(std::vector<std::string> names) {
    return Tags(TagFilter{TagMode::kAll, std::move(names)});
}

}  // namespace qmq
