#pragma once

#include <concepts>
#include <cstddef>
#include <string_view>
#include <type_traits>

namespace qmq {

/// A name that a call is given, as a view: whatever is a text. A null pointer is an empty name, as
/// a mistake is to be told and not to end the process.
class NameView : public std::string_view {
public:
    constexpr NameView() = default;
    // NOLINTNEXTLINE(google-explicit-constructor): it stands where a text is given.
    constexpr NameView(const char* name)
        : std::string_view(name == nullptr ? std::string_view() : std::string_view(name)) {}
    constexpr NameView(const char* name, std::size_t size) : std::string_view(name, size) {}
    template <typename Text>
    requires(std::is_class_v<Text>&& std::convertible_to<const Text&, std::string_view> &&
             !std::same_as<Text, NameView>)
        // NOLINTNEXTLINE(google-explicit-constructor): as above.
        constexpr NameView(const Text& name)
        : std::string_view(name) {}
};

}  // namespace qmq
