#include "qmq/id.h"

#include <unistd.h>

#include <array>
#include <cstring>
#include <string_view>

#include "sdk/core/src/id_text.h"

namespace qmq {

namespace {

// Crockford's: no I, L, O or U, and in the order of ASCII, so that ids sort as their numbers do.
constexpr char kAlphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

constexpr std::size_t kBirthLength = 10;
constexpr std::size_t kRandomLength = 8;
constexpr std::size_t kCounterLength = 8;
constexpr std::uint64_t kCounterBits = 40;
constexpr std::uint64_t kRandomValues = std::uint64_t{1} << 40U;
// Room that the random part keeps above itself for what carries out of the counter.
constexpr std::uint64_t kCarries = std::uint64_t{1} << 24U;

template <std::size_t kLength>
void Encode(std::uint64_t value, char* out) {
    for (std::size_t i = 0; i < kLength; ++i) {
        out[i] = kAlphabet[(value >> (5 * (kLength - 1 - i))) & 31U];
    }
}

std::uint64_t Decode(std::string_view text) {
    std::uint64_t value = 0;
    for (const char c : text) {
        value = value * 32 + std::string_view(kAlphabet).find(c);
    }
    return value;
}

std::string HostName() {
    std::array<char, 256> name{};
    if (gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') {
        return "host";
    }
    constexpr std::size_t kMaxBytes = 64;
    std::string host = std::string(name.data()).substr(0, kMaxBytes);
    for (char& c : host) {
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '-') {
            c = '_';
        }
    }
    return host;
}

}  // namespace

namespace internal {

void WriteId(const char* prefix, std::uint64_t count, char* out) {
    std::memcpy(out, prefix, kIdPrefixLength);
    Encode<kCounterLength>(count, out + kIdPrefixLength);
    // At a few million a second the eight characters are used up in days: an id must not come back.
    if (const std::uint64_t carry = count >> kCounterBits; carry != 0) [[unlikely]] {
        const std::string_view random(prefix + kBirthLength, kRandomLength);
        Encode<kRandomLength>(Decode(random) + carry, out + kBirthLength);
    }
}

}  // namespace internal

MessageIdGenerator::MessageIdGenerator(WallTime birth, Random& random) {
    static_assert(sizeof(prefix_) == internal::kIdPrefixLength);
    static_assert(internal::kIdPrefixLength == kBirthLength + kRandomLength);
    static_assert(kLength == kBirthLength + kRandomLength + kCounterLength);
    Encode<kBirthLength>(static_cast<std::uint64_t>(birth.time_since_epoch().count()), prefix_);
    Encode<kRandomLength>(random.Below(kRandomValues - kCarries), prefix_ + kBirthLength);
}

void MessageIdGenerator::Next(char* out) {
    internal::WriteId(prefix_, counter_.fetch_add(1, std::memory_order_relaxed), out);
}

std::string MessageIdGenerator::Next() {
    std::string id(kLength, '\0');
    Next(id.data());
    return id;
}

std::string MakeClientId() {
    Random random = Random::FromSystem();
    std::array<char, 16> chance{};
    Encode<8>(random.Next(), chance.data());
    Encode<8>(random.Next(), chance.data() + 8);
    std::string id = HostName();
    return id.append("-")
        .append(std::to_string(getpid()))
        .append("-")
        .append(chance.data(), chance.size());
}

}  // namespace qmq
