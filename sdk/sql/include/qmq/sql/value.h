#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace qmq::sql {

using Null = std::monostate;
using Blob = std::span<const std::byte>;

/// One value of a parameter or of a column, without owning its bytes.
using ValueView = std::variant<Null, std::int64_t, double, std::string_view, Blob>;

/// "NULL", "int64", "double", "text" or "blob".
std::string_view TypeName(const ValueView& value);

/// The bytes of `text`, to be stored as a blob.
inline Blob BlobOf(std::string_view text) {
    return std::as_bytes(std::span(text));
}

template <typename T>
concept CharacterType = std::same_as<T, char> || std::same_as<T, wchar_t> ||
    std::same_as<T, char8_t> || std::same_as<T, char16_t> || std::same_as<T, char32_t>;

/// An integer whose every value fits in an int64.
template <typename T>
concept FitsInt64 = std::integral<T> && !CharacterType<T> &&
                    (std::signed_integral<T> || sizeof(T) < sizeof(std::int64_t));

/// A value for one `?` of a statement, made by implicit conversion at the call:
/// `connection.Execute("UPDATE orders SET title = ? WHERE id = ?", {title, id})`.
///
/// Borrows text and blobs: they must live until the call that takes the parameter has returned,
/// which temporaries in its argument list do. Text is UTF-8 and may contain NULs; what is not UTF-8
/// belongs in a blob. A double must be finite: NaN and infinities are refused when they are bound,
/// since databases disagree on them. An unsigned 64-bit integer does not compile: convert it,
/// with a check, to the int64 that databases have.
class Param {
public:
    Param(std::nullptr_t) {}  // NOLINT(google-explicit-constructor): implicit by design, as all.
    Param(Null) {}            // NOLINT(google-explicit-constructor)
    template <FitsInt64 T>
    Param(T value)  // NOLINT(google-explicit-constructor)
        : value_(static_cast<std::int64_t>(value)) {}
    template <std::integral T>
    requires(!FitsInt64<T>) Param(T value)
    = delete;
    template <std::floating_point T>
    requires(sizeof(T) <= sizeof(double)) Param(T value)  // NOLINT(google-explicit-constructor)
        : value_(static_cast<double>(value)) {}
    /// A null pointer is NULL.
    Param(const char* text) {  // NOLINT(google-explicit-constructor)
        if (text != nullptr) {
            value_ = std::string_view(text);
        }
    }
    Param(std::string_view text) : value_(text) {}  // NOLINT(google-explicit-constructor)
    Param(const std::string& text)                  // NOLINT(google-explicit-constructor)
        : value_(std::string_view(text)) {}
    Param(Blob blob) : value_(blob) {}         // NOLINT(google-explicit-constructor)
    Param(const std::vector<std::byte>& blob)  // NOLINT(google-explicit-constructor)
        : value_(Blob(blob)) {}
    /// NULL when there is none.
    template <typename T>
    Param(const std::optional<T>& value) {  // NOLINT(google-explicit-constructor)
        if (value.has_value()) {
            *this = Param(*value);
        }
    }

    const ValueView& value() const { return value_; }

private:
    ValueView value_;
};

}  // namespace qmq::sql
