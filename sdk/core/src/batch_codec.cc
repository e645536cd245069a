#include "sdk/core/src/batch_codec.h"

#include <algorithm>

#include "sdk/core/src/little_endian.h"

namespace qmq::internal {

namespace {

constexpr std::uint32_t kMaxAttempt = 0xFFFF;

// What is left of a message's bytes. `Take` checks before anything is read; the views it gives lie
// in the batch.
class Bytes {
public:
    Bytes(const char* begin, const char* end) : at_(begin), end_(end) {}

    bool Has(std::size_t size) const { return static_cast<std::size_t>(end_ - at_) >= size; }
    std::string_view Take(std::size_t size) {
        const std::string_view taken(at_, size);
        at_ += size;
        return taken;
    }
    template <typename T>
    T Number() {
        return Load<T>(Take(sizeof(T)).data());
    }
    const char* at() const { return at_; }
    std::string_view Rest() const { return {at_, static_cast<std::size_t>(end_ - at_)}; }

private:
    const char* at_;
    const char* end_;
};

WallTime TimeOf(std::int64_t milliseconds) {
    return WallTime(std::chrono::milliseconds(milliseconds));
}

Defect DecodeTags(Bytes& bytes, MessageHead& head) {
    const char* begin = bytes.at();
    for (std::uint8_t i = 0; i < head.tag_count; ++i) {
        if (!bytes.Has(2)) {
            return Defect::kFieldsBeyondEnd;
        }
        const std::size_t size = bytes.Number<std::uint16_t>();
        if (size == 0 || size > Message::kMaxNameBytes) {
            return Defect::kTagSize;
        }
        if (!bytes.Has(size)) {
            return Defect::kFieldsBeyondEnd;
        }
        bytes.Take(size);
    }
    head.tags = {begin, static_cast<std::size_t>(bytes.at() - begin)};
    return Defect::kNone;
}

Defect DecodeKey(Bytes& bytes, MessageHead& head) {
    if (!bytes.Has(2)) {
        return Defect::kFieldsBeyondEnd;
    }
    const std::size_t size = bytes.Number<std::uint16_t>();
    if (size == 0 || size > Message::kMaxNameBytes) {
        return Defect::kKeySize;
    }
    if (!bytes.Has(size)) {
        return Defect::kFieldsBeyondEnd;
    }
    head.key = bytes.Take(size);
    return Defect::kNone;
}

// The optional numbers, which are in front of the id so that what has a fixed size is together.
Defect DecodeOptions(Bytes& bytes, std::uint8_t flags, std::size_t id_size, MessageHead& head) {
    const std::size_t size =
        ((flags & kFlagDeliverAt) != 0 ? 8U : 0U) + ((flags & kFlagAttempt) != 0 ? 2U : 0U);
    if (!bytes.Has(size + id_size)) {
        return Defect::kFieldsBeyondEnd;
    }
    head.deliver_at.reset();
    if ((flags & kFlagDeliverAt) != 0) {
        head.deliver_at = TimeOf(bytes.Number<std::int64_t>());
    }
    head.attempt = 1;
    if ((flags & kFlagAttempt) != 0) {
        head.attempt = bytes.Number<std::uint16_t>();
    }
    head.id = bytes.Take(id_size);
    return head.attempt == 0 ? Defect::kAttempt : Defect::kNone;
}

Defect DecodeFields(Bytes& bytes, MessageHead& head) {
    const auto flags = bytes.Number<std::uint8_t>();
    head.tag_count = bytes.Number<std::uint8_t>();
    const std::size_t id_size = bytes.Number<std::uint16_t>();
    head.created = TimeOf(bytes.Number<std::int64_t>());
    if ((flags & ~kKnownFlags) != 0) {
        return Defect::kFlags;
    }
    if (head.tag_count > Message::kMaxTags) {
        return Defect::kTagCount;
    }
    if (id_size == 0 || id_size > kMaxIdBytes) {
        return Defect::kIdSize;
    }
    Defect defect = DecodeOptions(bytes, flags, id_size, head);
    if (defect == Defect::kNone) {
        defect = DecodeTags(bytes, head);
    }
    head.key = {};
    if (defect == Defect::kNone && (flags & kFlagKey) != 0) {
        defect = DecodeKey(bytes, head);
    }
    return defect;
}

}  // namespace

Defect Decode(std::string_view body, std::size_t offset, MessageHead& head, MessageTail& tail) {
    if (offset > body.size() || body.size() - offset < kMessageFixedBytes) {
        return Defect::kCutOff;
    }
    const std::size_t size = Load32(body.data() + offset);
    if (size < kMessageFixedBytes - 4 || size > body.size() - offset - 4) {
        return Defect::kCutOff;
    }
    head.offset = static_cast<std::uint32_t>(offset);
    head.bytes = static_cast<std::uint32_t>(size + 4);
    const char* begin = body.data() + offset + 4;
    Bytes bytes(begin, begin + size);
    if (const Defect defect = DecodeFields(bytes, head); defect != Defect::kNone) {
        return defect;
    }
    if (!bytes.Has(4)) {
        return Defect::kFieldsBeyondEnd;
    }
    const std::size_t properties_size = bytes.Number<std::uint32_t>();
    if (!bytes.Has(properties_size)) {
        return Defect::kPropertiesBeyondEnd;
    }
    tail.properties = bytes.Take(properties_size);
    tail.body = bytes.Rest();
    return Defect::kNone;
}

std::string_view Describe(Defect defect) {
    switch (defect) {
        case Defect::kNone:
            return "nothing is wrong";
        case Defect::kCutOff:
            return "its size reaches beyond the batch, or is too small for a message";
        case Defect::kFlags:
            return "it has flags that this version does not know";
        case Defect::kTagCount:
            return "it has more than 10 tags";
        case Defect::kIdSize:
            return "its id is empty or over 400 bytes";
        case Defect::kAttempt:
            return "its attempt is 0; attempts count from 1";
        case Defect::kTagSize:
            return "a tag is empty or over 32,767 bytes";
        case Defect::kKeySize:
            return "its ordering key is empty or over 32,767 bytes";
        case Defect::kFieldsBeyondEnd:
            return "its fields reach beyond its end";
        case Defect::kPropertiesBeyondEnd:
            return "its property block reaches beyond its end";
    }
    return "it has a defect without a name";
}

std::size_t EncodedBytes(const MessageFields& fields) {
    return kMessageFixedBytes + (fields.deliver_at ? 8U : 0U) + (fields.attempt > 1 ? 2U : 0U) +
           fields.id.size() + fields.tags.size() +
           (fields.key.empty() ? 0U : 2U + fields.key.size()) + 4U + fields.properties.size() +
           fields.extra_properties.size() + fields.body.size();
}

void Append(const MessageFields& fields, std::string& out) {
    const std::size_t begin = out.size();
    out.resize(begin + EncodedBytes(fields));  // Grows by doubling, so the copies are few.
    Encode(fields, out.data() + begin);
}

EncodedMessage Encode(const MessageFields& fields, char* to) {
    const std::size_t bytes = EncodedBytes(fields);
    const bool has_attempt = fields.attempt > 1;
    const int flags = (fields.deliver_at ? kFlagDeliverAt : 0) | (has_attempt ? kFlagAttempt : 0) |
                      (fields.key.empty() ? 0 : kFlagKey);
    to = Store(to, static_cast<std::uint32_t>(bytes - 4));
    to = Store(to, static_cast<std::uint8_t>(flags));
    to = Store(to, fields.tag_count);
    to = Store(to, static_cast<std::uint16_t>(fields.id.size()));
    to = Store(to, static_cast<std::int64_t>(fields.created.time_since_epoch().count()));
    if (fields.deliver_at) {
        to = Store(to, static_cast<std::int64_t>(fields.deliver_at->time_since_epoch().count()));
    }
    if (has_attempt) {
        to = Store(to, static_cast<std::uint16_t>(std::min(fields.attempt, kMaxAttempt)));
    }
    const std::string_view id(to, fields.id.size());
    to = StoreBytes(to, fields.id);
    to = StoreBytes(to, fields.tags);
    if (!fields.key.empty()) {
        to = Store(to, static_cast<std::uint16_t>(fields.key.size()));
        to = StoreBytes(to, fields.key);
    }
    to = Store(
        to, static_cast<std::uint32_t>(fields.properties.size() + fields.extra_properties.size()));
    to = StoreBytes(to, fields.properties);
    to = StoreBytes(to, fields.extra_properties);
    StoreBytes(to, fields.body);
    return {id, bytes};
}

}  // namespace qmq::internal
