#include <limits>

#include "qmq/message.h"

#include "sdk/core/src/property_block.h"
#include "sdk/core/src/utf8.h"
#include "sdk/core/src/value_text.h"

namespace qmq {

namespace {

// How each type is read, and what to call it when that fails.
template <typename T>
struct Reader;

template <>
struct Reader<bool> {
    static constexpr std::string_view kWhat = "a boolean";
    static std::optional<bool> Read(std::string_view text) { return internal::ParseBool(text); }
};
template <>
struct Reader<std::int32_t> {
    static constexpr std::string_view kWhat = "a whole number in [-2147483648, 2147483647]";
    static std::optional<std::int32_t> Read(std::string_view text) {
        return internal::ParseInt32(text);
    }
};
template <>
struct Reader<std::int64_t> {
    static constexpr std::string_view kWhat = "a whole number of 64 bits";
    static std::optional<std::int64_t> Read(std::string_view text) {
        return internal::ParseInt64(text);
    }
};
template <>
struct Reader<float> {
    static constexpr std::string_view kWhat = "a number that fits a float";
    static std::optional<float> Read(std::string_view text) { return internal::ParseFloat(text); }
};
template <>
struct Reader<double> {
    static constexpr std::string_view kWhat = "a number that fits a double";
    static std::optional<double> Read(std::string_view text) { return internal::ParseDouble(text); }
};
template <>
struct Reader<WallTime> {
    static constexpr std::string_view kWhat = "a time in milliseconds since 1970";
    static std::optional<WallTime> Read(std::string_view text) {
        const std::optional<std::int64_t> milliseconds = internal::ParseInt64(text);
        if (!milliseconds) {
            return std::nullopt;
        }
        return WallTime(std::chrono::milliseconds(*milliseconds));
    }
};
template <>
struct Reader<std::string> {
    static constexpr std::string_view kWhat = "a text";
    static std::optional<std::string> Read(std::string_view text) { return std::string(text); }
};

Status Absent(const Message& message, std::string_view name) {
    std::string text = "message " + internal::Quote(message.id()) + " of subject " +
                       internal::Quote(message.subject()) + " has no property " +
                       internal::Quote(name) + "; it has";
    constexpr std::size_t kShown = 8;
    const std::vector<Property> all = message.properties();
    for (std::size_t i = 0; i < std::min(all.size(), kShown); ++i) {
        text.append(i == 0 ? " " : ", ").append(internal::Quote(all[i].name));
    }
    if (all.size() > kShown) {
        text.append(" and ").append(std::to_string(all.size() - kShown)).append(" more");
    }
    return Status::NotFound(text.append(all.empty() ? " none" : ""));
}

}  // namespace

template <PropertyType T>
std::optional<T> Message::TryGet(std::string_view name) const {
    const std::optional<std::string_view> text = FindText(name);
    if (text) {
        return Reader<T>::Read(*text);
    }
    if constexpr (std::same_as<T, std::string>) {
        return internal::JoinParts(Parts().properties, name);
    }
    return std::nullopt;
}

template <PropertyType T>
Result<T> Message::Find(NameView name) const {
    if (std::optional<T> value = TryGet<T>(name)) {
        return std::move(*value);
    }
    const std::optional<std::string_view> text = FindText(name);
    if (!text && !Has(name)) {
        return Absent(*this, name);
    }
    return Status::InvalidArgument("property " + internal::Quote(name) + " of message " +
                                   internal::Quote(id()) + " is " +
                                   (text ? internal::Quote(*text) : "a text in parts") +
                                   ", which is not " + std::string(Reader<T>::kWhat));
}

template <PropertyType T>
T Message::Get(NameView name) const {
    Result<T> found = Find<T>(name);
    if (!found.ok()) {
        throw PropertyError(std::string(found.status().message()));
    }
    return std::move(*found);
}

template std::optional<bool> Message::TryGet<bool>(std::string_view) const;
template std::optional<std::int32_t> Message::TryGet<std::int32_t>(std::string_view) const;
template std::optional<std::int64_t> Message::TryGet<std::int64_t>(std::string_view) const;
template std::optional<float> Message::TryGet<float>(std::string_view) const;
template std::optional<double> Message::TryGet<double>(std::string_view) const;
template std::optional<WallTime> Message::TryGet<WallTime>(std::string_view) const;
template std::optional<std::string> Message::TryGet<std::string>(std::string_view) const;

template bool Message::Get<bool>(NameView) const;
template std::int32_t Message::Get<std::int32_t>(NameView) const;
template std::int64_t Message::Get<std::int64_t>(NameView) const;
template float Message::Get<float>(NameView) const;
template double Message::Get<double>(NameView) const;
template WallTime Message::Get<WallTime>(NameView) const;
template std::string Message::Get<std::string>(NameView) const;

template Result<bool> Message::Find<bool>(NameView) const;
template Result<std::int32_t> Message::Find<std::int32_t>(NameView) const;
template Result<std::int64_t> Message::Find<std::int64_t>(NameView) const;
template Result<float> Message::Find<float>(NameView) const;
template Result<double> Message::Find<double>(NameView) const;
template Result<WallTime> Message::Find<WallTime>(NameView) const;
template Result<std::string> Message::Find<std::string>(NameView) const;

}  // namespace qmq
