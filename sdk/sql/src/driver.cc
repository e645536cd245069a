#include "qmq/sql/driver.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace qmq::sql::driver {

namespace {

constexpr bool IsBlank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v' || c == ';';
}

constexpr bool IsDigit(char c) {
    return c >= '0' && c <= '9';
}

constexpr bool IsWordChar(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || IsDigit(c) || c == '_';
}

void SkipThrough(std::string_view& sql, std::string_view end) {
    const auto at = sql.find(end);
    sql.remove_prefix(at == std::string_view::npos ? sql.size() : at + end.size());
}

// Databases take a byte order mark for a blank, and a '#' begins a comment in MySQL.
void SkipBlanksAndComments(std::string_view& sql) {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    while (!sql.empty()) {
        if (IsBlank(sql.front())) {
            sql.remove_prefix(1);
        } else if (sql.starts_with("--") || sql.starts_with('#')) {
            SkipThrough(sql, "\n");
        } else if (sql.starts_with("/*")) {
            sql.remove_prefix(2);
            SkipThrough(sql, "*/");
        } else if (sql.starts_with(kByteOrderMark)) {
            sql.remove_prefix(kByteOrderMark.size());
        } else {
            return;
        }
    }
}

std::string FirstWord(std::string_view sql) {
    SkipBlanksAndComments(sql);
    std::string word;
    for (const char c : sql) {
        if (!IsWordChar(c)) {
            break;
        }
        word.push_back(c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
    }
    return word;
}

bool IsName(std::string_view name) {
    return !name.empty() && !IsDigit(name.front()) && std::ranges::all_of(name, IsWordChar);
}

void AppendListed(std::string& list, std::string_view item) {
    if (!list.empty()) {
        list.append(", ");
    }
    list.append(item);
}

bool Contains(const std::vector<std::string>& names, const std::string& name) {
    return std::ranges::find(names, name) != names.end();
}

Status CheckUpsert(const UpsertSpec& spec) {
    if (spec.columns.empty() || spec.keys.empty()) {
        return Status::InvalidArgument("upsert into " + spec.table +
                                       ": needs at least one column and one key");
    }
    for (const auto& key : spec.keys) {
        if (!Contains(spec.columns, key)) {
            return Status::InvalidArgument("upsert into " + spec.table + ": the key " + key +
                                           " is not among the columns");
        }
    }
    return {};
}

}  // namespace

Status RefuseTransactionControl(std::string_view sql) {
    constexpr std::array<std::string_view, 8> kWords = {
        "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE", "XA"};
    const auto word = FirstWord(sql);
    if (std::ranges::find(kWords, word) == kWords.end()) {
        return {};
    }
    return Status::InvalidArgument(word +
                                   " is not for statements: use qmq::sql::Transaction, which "
                                   "keeps nesting and hooks right");
}

Status CheckParams(std::span<const Param> params, std::size_t wanted) {
    if (params.size() != wanted) {
        return Status::InvalidArgument("the statement takes " + std::to_string(wanted) +
                                       " parameters; " + std::to_string(params.size()) +
                                       " were given");
    }
    for (std::size_t i = 0; i < params.size(); ++i) {
        const auto* number = std::get_if<double>(&params[i].value());
        if (number != nullptr && !std::isfinite(*number)) {
            return Status::InvalidArgument("parameter " + std::to_string(i) +
                                           " (counted from 0) is NaN or infinite, which databases "
                                           "do not agree on");
        }
    }
    return {};
}

Result<std::string> QuoteWith(std::string_view name, char quote) {
    const auto dot = name.find('.');
    const auto first = name.substr(0, dot);
    const auto second = dot == std::string_view::npos ? std::string_view() : name.substr(dot + 1);
    if (!IsName(first) || (dot != std::string_view::npos && !IsName(second))) {
        return Status::InvalidArgument("the name '" + std::string(name) +
                                       "' must be letters, digits and underscores, not beginning "
                                       "with a digit, or two such names with a dot between");
    }
    std::string quoted = quote + std::string(first) + quote;
    if (dot != std::string_view::npos) {
        quoted.append(1, '.').append(1, quote).append(second).append(1, quote);
    }
    return quoted;
}

Result<QuotedUpsert> QuoteUpsert(const UpsertSpec& spec, char quote) {
    if (auto status = CheckUpsert(spec); !status.ok()) {
        return status;
    }
    auto table = QuoteWith(spec.table, quote);
    if (!table.ok()) {
        return table.status();
    }
    QuotedUpsert quoted{.table = *std::move(table),
                        .columns = {},
                        .placeholders = {},
                        .keys = {},
                        .key_names = {},
                        .others = {}};
    for (const auto& column : spec.columns) {
        auto name = QuoteWith(column, quote);
        if (!name.ok()) {
            return name.status();
        }
        AppendListed(quoted.columns, *name);
        AppendListed(quoted.placeholders, "?");
        if (Contains(spec.keys, column)) {
            AppendListed(quoted.keys, *name);
            quoted.key_names.push_back(*std::move(name));
        } else {
            quoted.others.push_back(*std::move(name));
        }
    }
    return quoted;
}

std::string Excerpt(std::string_view sql) {
    constexpr std::size_t kMaxBytes = 120;
    auto end = std::min(sql.size(), kMaxBytes);
    while (end > 0 && end < sql.size() && (static_cast<unsigned char>(sql[end]) & 0xC0) == 0x80) {
        --end;  // Not inside a character.
    }
    std::string line(sql.substr(0, end));
    std::ranges::replace_if(
        line, [](char c) { return c == '\n' || c == '\r' || c == '\t' || c == '\0'; }, ' ');
    if (end < sql.size()) {
        line.append("…");
    }
    return line;
}

}  // namespace qmq::sql::driver
