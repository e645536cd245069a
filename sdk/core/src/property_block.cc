#include "sdk/core/src/property_block.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <map>
#include <system_error>
#include <utility>

#include "sdk/core/src/batch_codec.h"
#include "sdk/core/src/little_endian.h"

namespace qmq::internal {

namespace {

constexpr std::string_view kPartMarker = "#part";

// The N of a `candidate` that is `<name>#part<N>`.
std::optional<std::size_t> PartNumber(std::string_view candidate, std::string_view name) {
    if (candidate.size() <= name.size() + kPartMarker.size() || !candidate.starts_with(name) ||
        !candidate.substr(name.size()).starts_with(kPartMarker)) {
        return std::nullopt;
    }
    const std::string_view digits = candidate.substr(name.size() + kPartMarker.size());
    std::size_t number = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, number);
    const bool leading_zero = digits.size() > 1 && digits[0] == '0';
    if (stop != end || error != std::errc() || leading_zero) {
        return std::nullopt;
    }
    return number;
}

}  // namespace

bool IsReservedName(std::string_view name) {
    static constexpr std::array<std::string_view, 12> kReserved = {"qmq_createTime",
                                                                   "qmq_expireTime",
                                                                   "qmq_consumerGroupName",
                                                                   "qmq_scheduleReceiveTime",
                                                                   "qmq_times",
                                                                   "qmq_maxRetryNum",
                                                                   "qmq_appCode",
                                                                   "qmq_pullOffset",
                                                                   "qmq_corruptData",
                                                                   "qmq_env",
                                                                   "qmq_subEnv",
                                                                   kLastErrorName};
    return name.starts_with("qmq_") &&
           std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end();
}

std::optional<Property> PropertyReader::Next() {
    const std::string_view rest = block_.substr(at_);
    if (rest.empty() || !malformed_.empty()) {
        return std::nullopt;
    }
    if (rest.size() < kPropertyFixedBytes) {
        malformed_ = "it is cut off before its sizes";
        return std::nullopt;
    }
    const auto kind = static_cast<std::uint8_t>(rest[0]);
    const std::size_t name_size = Load16(rest.data() + 1);
    const std::size_t value_size = Load32(rest.data() + 3);
    if (kind > static_cast<std::uint8_t>(PropertyKind::kBytes)) {
        malformed_ = "its kind is unknown";
    } else if (name_size == 0 || name_size > Message::kMaxNameBytes) {
        malformed_ = "its name is empty or over 32,767 bytes";
    } else if (name_size + value_size > rest.size() - kPropertyFixedBytes) {
        malformed_ = "its name or value reaches beyond the block";
    }
    if (!malformed_.empty()) {
        return std::nullopt;
    }
    begin_ = at_;
    at_ += kPropertyFixedBytes + name_size + value_size;
    return Property{rest.substr(kPropertyFixedBytes, name_size),
                    static_cast<PropertyKind>(kind),
                    rest.substr(kPropertyFixedBytes + name_size, value_size)};
}

Status CheckProperties(std::string_view block) {
    PropertyReader reader(block);
    std::size_t count = 0;
    while (reader.Next()) {
        ++count;
    }
    if (reader.malformed().empty()) {
        return Status::Ok();
    }
    return Status::InvalidArgument("property " + std::to_string(count) + " at byte " +
                                   std::to_string(reader.end()) + " of a block of " +
                                   std::to_string(block.size()) +
                                   " bytes: " + std::string(reader.malformed()));
}

std::optional<Property> FindProperty(std::string_view block, std::string_view name) {
    std::optional<Property> found;
    PropertyReader reader(block);
    while (const std::optional<Property> property = reader.Next()) {
        if (property->name == name) {
            found = property;
        }
    }
    return found;
}

std::optional<std::string> JoinParts(std::string_view block, std::string_view name) {
    // One walk, whatever the order: a lookup for each part would let a peer's message of many
    // parts cost the square of its size.
    std::map<std::size_t, std::string_view> parts;
    PropertyReader reader(block);
    while (const std::optional<Property> property = reader.Next()) {
        if (const auto number = PartNumber(property->name, name)) {
            parts[*number] = property->text;
        }
    }
    std::string joined;
    std::size_t expected = 0;
    for (const auto& [number, text] : parts) {
        if (number != expected) {
            break;
        }
        joined.append(text);
        ++expected;
    }
    return expected == 0 ? std::nullopt : std::optional(std::move(joined));
}

void AppendProperty(std::string_view name,
                    PropertyKind kind,
                    std::string_view text,
                    std::string& block) {
    const std::size_t begin = block.size();
    block.resize(begin + kPropertyFixedBytes + name.size() + text.size());
    char* to = block.data() + begin;
    to = Store(to, static_cast<std::uint8_t>(kind));
    to = Store(to, static_cast<std::uint16_t>(name.size()));
    to = Store(to, static_cast<std::uint32_t>(text.size()));
    to = StoreBytes(to, name);
    StoreBytes(to, text);
}

void EraseProperty(std::string_view name, std::string& block) {
    std::size_t at = 0;
    for (;;) {
        PropertyReader reader(std::string_view(block).substr(at));
        const std::optional<Property> property = reader.Next();
        if (!property) {
            return;
        }
        if (property->name == name || PartNumber(property->name, name)) {
            block.erase(at, reader.end());
        } else {
            at += reader.end();
        }
    }
}

bool PropertyNames::Look(std::string_view name, std::string_view block) {
    if (hashes_ == nullptr) {
        hashes_ = std::make_unique<std::unordered_set<std::size_t>>();
        PropertyReader reader(block);
        while (const std::optional<Property> property = reader.Next()) {
            AddKnown(property->name);
        }
    }
    return hashes_->contains(std::hash<std::string_view>()(name));
}

void PropertyNames::AddKnown(std::string_view name) {
    hashes_->insert(std::hash<std::string_view>()(name));
    // A part goes with the text that it is a part of.
    const std::string_view whole = name.substr(0, name.rfind(kPartMarker));
    if (PartNumber(name, whole)) {
        hashes_->insert(std::hash<std::string_view>()(whole));
    }
}

void PropertyNames::Remove(std::string_view name) {
    if (hashes_ != nullptr) {
        // The names of its parts stay, which costs a walk when one of them is set.
        hashes_->erase(std::hash<std::string_view>()(name));
    }
}

}  // namespace qmq::internal
