#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "qmq/protocol.h"
#include "qmq/status.h"

namespace qmq::broker {

/// Appends the broker's own words to a string: LEB128 numbers, strings with their length in front.
class Writer {
public:
    explicit Writer(std::string& out) : out_(out) {}
    void Byte(std::uint8_t value) { out_.push_back(static_cast<char>(value)); }
    void Number(std::uint64_t value);
    /// Also negative, which is dear: ten bytes.
    void Signed(std::int64_t value) { Number(static_cast<std::uint64_t>(value)); }
    void Text(std::string_view text) {
        Number(text.size());
        out_.append(text);
    }
    void Filter(const TagFilter& filter);
    void Policy(const RetryPolicy& policy);

private:
    std::string& out_;
};

/// Reads what `Writer` wrote. After the first mistake every read gives zero or nothing, and
/// `Finish` says where it was: the reading code needs no checks of its own but for counts.
class Reader {
public:
    Reader(std::string_view what, std::string_view bytes) : what_(what), bytes_(bytes) {}

    std::uint8_t Byte();
    std::uint64_t Number();
    std::int64_t Signed() { return static_cast<std::int64_t>(Number()); }
    /// A number that is at most `limit`.
    std::uint64_t Bounded(std::uint64_t limit);
    /// How many items of at least `item_bytes` each follow: never more than the bytes can hold.
    std::uint64_t Count(std::size_t item_bytes);
    std::string_view Text();
    TagFilter Filter();
    RetryPolicy Policy();

    bool failed() const { return failed_; }
    void Fail(std::string_view reason);
    /// kDataLoss when something was wrong or bytes are left.
    Status Finish() const;

private:
    std::string_view what_;
    std::string_view bytes_;
    std::size_t at_ = 0;
    bool failed_ = false;
    std::size_t failed_at_ = 0;
    std::string reason_;
};

}  // namespace qmq::broker
