#include "qmq/sql/rows.h"

#include <cmath>

namespace qmq::sql {

std::string_view TypeName(const ValueView& value) {
    constexpr std::string_view kNames[] = {"NULL", "int64", "double", "text", "blob"};
    static_assert(std::size(kNames) == std::variant_size_v<ValueView>);
    return kNames[value.index()];
}

namespace internal {

namespace {

template <typename Held, typename T>
bool Copy(const ValueView& value, T& out) {
    const auto* held = std::get_if<Held>(&value);
    if (held != nullptr) {
        out = T(held->begin(), held->end());
    }
    return held != nullptr;
}

}  // namespace

bool Convert(const ValueView& value, double& out) {
    if (const auto* number = std::get_if<std::int64_t>(&value)) {
        // SQLite stores 5.0 as 5 in some columns. Beyond 2^53 a double may miss the integer.
        constexpr std::int64_t kExact = std::int64_t{1} << std::numeric_limits<double>::digits;
        out = static_cast<double>(*number);
        return *number >= -kExact && *number <= kExact;
    }
    const auto* number = std::get_if<double>(&value);
    if (number != nullptr) {
        out = *number;
    }
    return number != nullptr;
}

bool Convert(const ValueView& value, std::string_view& out) {
    return Copy<std::string_view>(value, out);
}

bool Convert(const ValueView& value, std::string& out) {
    return Copy<std::string_view>(value, out);
}

bool Convert(const ValueView& value, Blob& out) {
    return Copy<Blob>(value, out);
}

bool Convert(const ValueView& value, std::vector<std::byte>& out) {
    return Copy<Blob>(value, out);
}

}  // namespace internal

Result<bool> Rows::Next() {
    on_row_ = false;
    if (!failed_.ok()) {
        return failed_;
    }
    auto more = cursor_->Next();
    failed_ = more.status();
    on_row_ = more.ok() && *more;
    return more;
}

std::string Rows::column_name(std::size_t column) const {
    return column < column_count() ? cursor_->column_name(column) : std::string();
}

Result<ValueView> Rows::Value(std::size_t column) {
    if (!on_row_) {
        return Status::InvalidArgument("there is no current row: Next() must have returned true");
    }
    if (column >= column_count()) {
        return Status::InvalidArgument("column " + std::to_string(column) +
                                       ": the row has columns 0 to " +
                                       std::to_string(column_count() - 1));
    }
    return cursor_->Value(column);
}

Status Rows::Mismatch(std::size_t column, const ValueView& value, std::string_view wanted) const {
    std::string message = "column " + std::to_string(column) + " (" + column_name(column) + ") ";
    if (std::holds_alternative<Null>(value)) {
        return Status::InvalidArgument(
            message.append("is NULL; ")
                .append(wanted)
                .append(" was asked for, which needs std::optional to be NULL"));
    }
    message.append("holds ").append(TypeName(value));
    if (const auto* number = std::get_if<std::int64_t>(&value)) {
        message.append(" ").append(std::to_string(*number));
        if (wanted != "text" && wanted != "blob") {
            return Status::InvalidArgument(
                message.append(", which does not fit in the type asked for"));
        }
    }
    return Status::InvalidArgument(message.append("; ").append(wanted).append(" was asked for"));
}

Status Rows::WrongWidth(std::size_t wanted) const {
    return Status::InvalidArgument("the row has " + std::to_string(column_count()) + " columns; " +
                                   std::to_string(wanted) + " were asked for");
}

}  // namespace qmq::sql
