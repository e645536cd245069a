#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace qmq::store {

/// Everything the store writes begins at a multiple of this.
inline constexpr std::uint64_t kAlignment = 8;

constexpr std::uint64_t RoundUp(std::uint64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Little-endian on disk, whatever the machine is.

template <typename T>
constexpr T LittleEndian(T value) {
    if constexpr (std::endian::native == std::endian::big) {
        T swapped = 0;
        for (std::size_t i = 0; i < sizeof(T); ++i) {
            swapped = static_cast<T>((swapped << 8U) | ((value >> (8U * i)) & 0xFFU));
        }
        return swapped;
    }
    return value;
}

template <typename T>
void Store(char* to, T value) {
    value = LittleEndian(value);
    std::memcpy(to, &value, sizeof value);
}

template <typename T>
T Load(const char* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return LittleEndian(value);
}

template <typename T>
void Put(std::string& to, T value) {
    char bytes[sizeof(T)];
    Store(bytes, value);
    to.append(bytes, sizeof bytes);
}

inline void PutPadding(std::string& to) {
    to.append(RoundUp(to.size()) - to.size(), '\0');
}

/// Takes values off the front of bytes that nobody vouches for. Once something does not fit, `ok()`
/// is false and every value is zero or empty.
class ByteReader {
public:
    explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

    template <typename T>
    T Take() {
        const std::string_view taken = Bytes(sizeof(T));
        return ok_ ? Load<T>(taken.data()) : T{};
    }
    std::string_view Bytes(std::uint64_t count) {
        if (!ok_ || count > bytes_.size() - at_) {
            ok_ = false;
            return {};
        }
        const std::string_view taken = bytes_.substr(at_, static_cast<std::size_t>(count));
        at_ += taken.size();
        return taken;
    }
    /// Skips to the next multiple of 8.
    void Align() { Bytes(RoundUp(at_) - at_); }

    bool ok() const { return ok_; }
    std::size_t at() const { return at_; }
    std::size_t left() const { return bytes_.size() - at_; }

private:
    std::string_view bytes_;
    std::size_t at_ = 0;
    bool ok_ = true;
};

}  // namespace qmq::store
