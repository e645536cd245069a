#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "qmq/sql/value.h"
#include "qmq/status.h"

namespace qmq::sql {

/// The rows of one query as a driver delivers them: implemented by drivers, used through `Rows`.
///
/// Used by one thread at a time, the one that uses its connection.
class Cursor {
public:
    virtual ~Cursor() = default;

    /// Moves to the next row, the first one at first. False: there are no more.
    virtual Result<bool> Next() = 0;
    virtual std::size_t column_count() const = 0;
    /// The name of `column`, which is below `column_count()`.
    virtual std::string column_name(std::size_t column) const = 0;
    /// The value at `column`, below `column_count()`, of the row that `Next` moved to. Its bytes
    /// live until the next call of `Next`.
    virtual Result<ValueView> Value(std::size_t column) = 0;
};

namespace internal {

template <typename T>
struct IsOptional : std::false_type {};
template <typename T>
struct IsOptional<std::optional<T>> : std::true_type {};

template <typename T>
inline constexpr bool kIsView = std::is_same_v<T, std::string_view> || std::is_same_v<T, Blob>;
template <typename T>
inline constexpr bool kIsView<std::optional<T>> = kIsView<T>;

template <typename T>
constexpr std::string_view WantedName() {
    if constexpr (std::is_same_v<T, bool>) {
        return "bool";
    } else if constexpr (std::is_integral_v<T>) {
        return "int64";
    } else if constexpr (std::is_floating_point_v<T>) {
        return "double";
    } else if constexpr (std::is_convertible_v<T, std::string_view>) {
        return "text";
    } else {
        return "blob";
    }
}

/// Each returns whether `value` is of its type and, for numbers, exactly fits.
template <typename T>
requires std::is_integral_v<T>
bool Convert(const ValueView& value, T& out) {
    const auto* number = std::get_if<std::int64_t>(&value);
    if (number == nullptr ||
        !std::in_range<std::conditional_t<std::is_same_v<T, bool>, int, T>>(*number)) {
        return false;
    }
    if constexpr (std::is_same_v<T, bool>) {
        if (*number != 0 && *number != 1) {
            return false;
        }
    }
    out = static_cast<T>(*number);
    return true;
}
bool Convert(const ValueView& value, double& out);
bool Convert(const ValueView& value, std::string_view& out);
bool Convert(const ValueView& value, std::string& out);
bool Convert(const ValueView& value, Blob& out);
bool Convert(const ValueView& value, std::vector<std::byte>& out);

}  // namespace internal

/// The rows that a query found, read one after another:
///
///     auto rows = connection.Query("SELECT id, title FROM orders WHERE paid = ?", {true});
///     if (!rows.ok()) return rows.status();
///     for (;;) {
///         auto more = rows->Next();
///         if (!more.ok()) return more.status();
///         if (!*more) break;
///         auto order = rows->As<std::int64_t, std::string>();
///         …
///     }
///
/// Rows hold their statement, and in SQLite a read lock: let them go soon. They may outlive their
/// connection; `Next` then says kCancelled. Movable; used by one thread at a time, the one that
/// uses the connection.
class Rows {
public:
    /// For drivers.
    explicit Rows(std::unique_ptr<Cursor> cursor) : cursor_(std::move(cursor)) {}

    /// Moves to the next row, the first one at first; false when there are no more. Blocks as long
    /// as the database takes. After an error it gives the same error again.
    ///
    /// Errors: kBusy, kGone and kOther as in `ErrorClass`.
    Result<bool> Next();

    std::size_t column_count() const { return cursor_->column_count(); }
    /// The name of a column, or "" when there is no such column.
    std::string column_name(std::size_t column) const;

    /// The value at `column`, counted from 0, of the current row, exactly as it is stored:
    ///
    /// - bool and integers from an int64 that fits; double from a double, or an int64 that a
    ///   double holds exactly; `std::string` and `std::string_view` from text;
    ///   `std::vector<std::byte>` and `Blob` from a blob. Text that looks like a number is text.
    /// - `std::optional` of any of them is empty for NULL; without it NULL is an error.
    /// - Views live until the next call of `Next`.
    ///
    /// Errors: kInvalidArgument (no current row, no such column, another type, NULL, does not fit);
    /// the message names the column and both types.
    template <typename T>
    Result<T> Get(std::size_t column);

    /// The whole row, which must have exactly as many columns as types are given. Errors as `Get`.
    template <typename... Ts>
    Result<std::tuple<Ts...>> As();

private:
    Result<ValueView> Value(std::size_t column);
    Status Mismatch(std::size_t column, const ValueView& value, std::string_view wanted) const;
    Status WrongWidth(std::size_t wanted) const;

    template <typename T>
    bool Read(std::size_t column, std::optional<T>& out, Status& status) {
        auto value = Get<T>(column);
        status = value.status();
        if (value.ok()) {
            out.emplace(*std::move(value));
        }
        return status.ok();
    }

    std::unique_ptr<Cursor> cursor_;
    bool on_row_ = false;
    Status failed_;
};

template <typename T>
Result<T> Rows::Get(std::size_t column) {
    const auto value = Value(column);
    if (!value.ok()) {
        return value.status();
    }
    if constexpr (internal::IsOptional<T>::value) {
        if (std::holds_alternative<Null>(*value)) {
            return T();
        }
        typename T::value_type out{};
        if (!internal::Convert(*value, out)) {
            return Mismatch(column, *value, internal::WantedName<typename T::value_type>());
        }
        return T(std::move(out));
    } else {
        T out{};
        if (!internal::Convert(*value, out)) {
            return Mismatch(column, *value, internal::WantedName<T>());
        }
        return out;
    }
}

template <typename... Ts>
Result<std::tuple<Ts...>> Rows::As() {
    if (sizeof...(Ts) != column_count()) {
        return WrongWidth(sizeof...(Ts));
    }
    Status status;
    std::tuple<std::optional<Ts>...> read;
    const bool complete = [&]<std::size_t... I>(std::index_sequence<I...>) {
        return (Read(I, std::get<I>(read), status) && ...);
    }
    (std::index_sequence_for<Ts...>());
    if (!complete) {
        return status;
    }
    return std::apply([](auto&... value) { return std::tuple<Ts...>(std::move(*value)...); }, read);
}

}  // namespace qmq::sql
