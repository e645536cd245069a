#include "plugins/grpc/codec/convert.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <unordered_set>

#include "plugins/grpc/codec/proto_wire.h"

namespace qmq::rpc {
namespace {

constexpr std::uint64_t kCenturyMillis = 3'155'760'000'000;

Status UnknownWord(const char* field, int number) {
    return Status::InvalidArgument(std::string(field) + ": " + std::to_string(number) +
                                   " is not a value that this build knows");
}

}  // namespace

std::chrono::milliseconds MillisFromWire(std::uint64_t millis) {
    return std::chrono::milliseconds(static_cast<std::int64_t>(std::min(millis, kCenturyMillis)));
}

std::uint64_t MillisToWire(std::chrono::milliseconds millis) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(0, millis.count()));
}

Result<Durability> FromProto(proto::Durability durability) {
    if (!proto::Durability_IsValid(durability)) {
        return UnknownWord("durability", durability);
    }
    return static_cast<Durability>(durability);
}

proto::Durability ToProto(Durability durability) {
    return static_cast<proto::Durability>(durability);
}

Result<StartPosition> FromProto(proto::SubscribeRequest::Start start) {
    switch (start) {
        case proto::SubscribeRequest::START_DEFAULT:
        case proto::SubscribeRequest::START_LATEST:
            return StartPosition::kLatest;
        case proto::SubscribeRequest::START_EARLIEST:
            return StartPosition::kEarliest;
        default:
            return UnknownWord("start", start);
    }
}

proto::SubscribeRequest::Start ToProto(StartPosition start) {
    return start == StartPosition::kEarliest ? proto::SubscribeRequest::START_EARLIEST
                                             : proto::SubscribeRequest::START_LATEST;
}

Result<ConsumeSource> FromProto(proto::SubscribeRequest::Source source) {
    if (!proto::SubscribeRequest::Source_IsValid(source)) {
        return UnknownWord("source", source);
    }
    return static_cast<ConsumeSource>(source);
}

proto::SubscribeRequest ToProto(const SubscribeRequest& request) {
    proto::SubscribeRequest message;
    message.set_subject(request.key.subject);
    message.set_group(request.key.group);
    message.set_consumer_id(request.key.consumer_id);
    message.set_source(static_cast<proto::SubscribeRequest::Source>(request.key.source));
    message.set_tag_mode(static_cast<proto::SubscribeRequest::TagMode>(request.filter.mode));
    for (const std::string& tag : request.filter.tags) {
        message.add_tags(tag);
    }
    message.set_start(ToProto(request.start));
    proto::RetryPolicy* retry = message.mutable_retry();
    retry->set_max_attempts(request.retry.max_attempts);
    retry->set_initial_backoff_ms(MillisToWire(request.retry.initial_backoff));
    retry->set_multiplier(request.retry.multiplier);
    retry->set_max_backoff_ms(MillisToWire(request.retry.max_backoff));
    message.set_ack_timeout_ms(MillisToWire(request.ack_timeout));
    message.set_reconnect_grace_ms(MillisToWire(request.reconnect_grace));
    if (request.resume) {
        message.mutable_resume()->set_incarnation(request.resume->incarnation);
        message.mutable_resume()->set_next_pull_sequence(request.resume->next_pull_sequence);
    }
    return message;
}

namespace {

RetryPolicy RetryFromProto(const proto::RetryPolicy& message) {
    RetryPolicy retry;
    if (message.has_max_attempts()) {
        retry.max_attempts = message.max_attempts();
    }
    if (message.has_initial_backoff_ms()) {
        retry.initial_backoff = MillisFromWire(message.initial_backoff_ms());
    }
    if (message.has_multiplier()) {
        retry.multiplier = message.multiplier();
    }
    if (message.has_max_backoff_ms()) {
        retry.max_backoff = MillisFromWire(message.max_backoff_ms());
    }
    return retry;
}

}  // namespace

Result<SubscribeRequest> FromProto(const proto::SubscribeRequest& message) {
    auto source = FromProto(message.source());
    if (!source.ok()) {
        return source.status();
    }
    auto start = FromProto(message.start());
    if (!start.ok()) {
        return start.status();
    }
    if (!proto::SubscribeRequest::TagMode_IsValid(message.tag_mode())) {
        return UnknownWord("tag_mode", message.tag_mode());
    }
    SubscribeRequest request;
    request.key = {message.subject(), message.group(), message.consumer_id(), *source};
    request.filter.mode = static_cast<TagMode>(message.tag_mode());
    request.filter.tags.assign(message.tags().begin(), message.tags().end());
    request.start = *start;
    request.retry = RetryFromProto(message.retry());
    if (message.has_ack_timeout_ms()) {
        request.ack_timeout = MillisFromWire(message.ack_timeout_ms());
    }
    if (message.has_reconnect_grace_ms()) {
        request.reconnect_grace = MillisFromWire(message.reconnect_grace_ms());
    }
    if (message.has_resume()) {
        request.resume =
            ResumePoint{message.resume().incarnation(), message.resume().next_pull_sequence()};
    }
    return request;
}

proto::SubjectInfo ToProto(const SubjectInfo& info) {
    proto::SubjectInfo message;
    message.set_subject(info.subject);
    message.set_first_sequence(info.first_sequence);
    message.set_next_sequence(info.next_sequence);
    message.set_stored_bytes(info.stored_bytes);
    message.set_durability(ToProto(info.durability));
    return message;
}

SubjectInfo FromProto(const proto::SubjectInfo& message) {
    SubjectInfo info;
    info.subject = message.subject();
    info.first_sequence = message.first_sequence();
    info.next_sequence = message.next_sequence();
    info.stored_bytes = message.stored_bytes();
    info.durability = FromProto(message.durability()).value_or(Durability::kDefault);
    return info;
}

proto::GroupInfo ToProto(const GroupInfo& info) {
    proto::GroupInfo message;
    message.set_subject(info.subject);
    message.set_group(info.group);
    message.set_next_sequence(info.next_sequence);
    message.set_lag_count(info.lag_count);
    message.set_in_flight_count(info.in_flight_count);
    message.set_waiting_retry_count(info.waiting_retry_count);
    message.set_dead_letter_count(info.dead_letter_count);
    message.set_consumer_count(info.consumer_count);
    if (info.oldest_unacked_age) {
        message.set_oldest_unacked_age_ms(MillisToWire(*info.oldest_unacked_age));
    }
    message.set_set_aside_count(info.set_aside_count);
    message.set_unwanted_count(info.unwanted_count);
    message.set_suspect_count(info.suspect_count);
    message.set_lost_to_retention_count(info.lost_to_retention_count);
    message.set_lost_to_full_disk_count(info.lost_to_full_disk_count);
    message.set_lost_to_damage_count(info.lost_to_damage_count);
    message.set_lost_to_burial_count(info.lost_to_burial_count);
    message.set_waits_for(CleanText(info.waits_for, kMaxErrorTextBytes));
    return message;
}

GroupInfo FromProto(const proto::GroupInfo& message) {
    GroupInfo info;
    info.subject = message.subject();
    info.group = message.group();
    info.next_sequence = message.next_sequence();
    info.lag_count = message.lag_count();
    info.in_flight_count = message.in_flight_count();
    info.waiting_retry_count = message.waiting_retry_count();
    info.dead_letter_count = message.dead_letter_count();
    info.consumer_count = message.consumer_count();
    if (message.has_oldest_unacked_age_ms()) {
        info.oldest_unacked_age = MillisFromWire(message.oldest_unacked_age_ms());
    }
    info.set_aside_count = message.set_aside_count();
    info.unwanted_count = message.unwanted_count();
    info.suspect_count = message.suspect_count();
    info.lost_to_retention_count = message.lost_to_retention_count();
    info.lost_to_full_disk_count = message.lost_to_full_disk_count();
    info.lost_to_damage_count = message.lost_to_damage_count();
    info.lost_to_burial_count = message.lost_to_burial_count();
    info.waits_for = message.waits_for();
    return info;
}

Result<AckItem> FromProto(const proto::AckItem& message) {
    if (!proto::AckItem::Verdict_IsValid(message.verdict())) {
        return UnknownWord("verdict", message.verdict());
    }
    AckItem item;
    item.verdict = static_cast<AckVerdict>(message.verdict());
    item.first = message.first();
    item.last = message.last();
    if (message.has_delay_ms()) {
        item.delay = MillisFromWire(message.delay_ms());
    }
    item.error = message.error().substr(0, kMaxErrorTextBytes);
    if (message.has_durability()) {
        auto durability = FromProto(message.durability());
        if (!durability.ok()) {
            return durability.status();
        }
        item.durability = *durability;
    }
    return item;
}

namespace {

/// `text` read as `Message::Find` reads it, without a search through a whole message for each.
template <typename T>
Result<T> Read(std::string_view text) {
    return Message("any").Set("value", text).Find<T>("value");
}

/// From the text of a typed value; what does not read as its kind travels as the text it is.
void PutValue(const Property& property, proto::Property* out) {
    switch (property.kind) {
        case PropertyKind::kBool:
            if (auto value = Read<bool>(property.text); value.ok()) {
                return out->set_bool_value(*value);
            }
            break;
        case PropertyKind::kInt:
            if (auto value = Read<std::int64_t>(property.text); value.ok()) {
                return out->set_int_value(*value);
            }
            break;
        case PropertyKind::kDouble:
            if (auto value = Read<double>(property.text); value.ok()) {
                return out->set_double_value(*value);
            }
            break;
        case PropertyKind::kTime:
            if (auto value = Read<WallTime>(property.text); value.ok()) {
                return out->set_time_ms_value(value->time_since_epoch().count());
            }
            break;
        case PropertyKind::kString:
        case PropertyKind::kBytes:
            break;
    }
    if (property.kind != PropertyKind::kBytes && IsUtf8(property.text)) {
        out->set_string_value(std::string(property.text));
    } else {
        out->set_bytes_value(std::string(property.text));
    }
}

void SetValue(const proto::Property& property, Message* message) {
    const std::string& name = property.name();
    switch (property.value_case()) {
        case proto::Property::kBoolValue:
            message->Set(name, property.bool_value());
            break;
        case proto::Property::kIntValue:
            message->Set(name, std::int64_t{property.int_value()});
            break;
        case proto::Property::kDoubleValue:
            message->Set(name, property.double_value());
            break;
        case proto::Property::kTimeMsValue:
            message->Set(name, WallTime(std::chrono::milliseconds(property.time_ms_value())));
            break;
        case proto::Property::kBytesValue:
            message->Set(name, property.bytes_value());
            break;
        case proto::Property::kStringValue:
        case proto::Property::VALUE_NOT_SET:
            message->Set(name, property.string_value());
            break;
    }
}

/// The text that `name` is a part of when it is `<text>#part<N>`, as other clients name them.
std::optional<std::string_view> WholeOf(std::string_view name) {
    constexpr std::string_view kPartMarker = "#part";
    const std::size_t marker = name.rfind(kPartMarker);
    if (marker == std::string_view::npos) {
        return std::nullopt;
    }
    const std::string_view digits = name.substr(marker + kPartMarker.size());
    std::size_t number = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, number);
    const bool leading_zero = digits.size() > 1 && digits[0] == '0';
    if (stop != end || error != std::errc() || leading_zero) {
        return std::nullopt;
    }
    return name.substr(0, marker);
}

using Properties = google::protobuf::RepeatedPtrField<proto::Property>;

/// Of each name the last, and no parts of a text that comes behind them: what is left once each has
/// been set, one after another. To replace one walks through all that were set before.
std::vector<const proto::Property*> LastOfEachName(const Properties& properties) {
    std::vector<const proto::Property*> last;
    std::unordered_set<std::string_view> names;
    for (int i = properties.size(); i-- > 0;) {
        const std::string_view name = properties[i].name();
        const auto whole = WholeOf(name);
        if (names.insert(name).second && !(whole && names.contains(*whole))) {
            last.push_back(&properties[i]);
        }
    }
    std::reverse(last.begin(), last.end());
    return last;
}

std::string AnyText(std::string_view text) {
    return CleanText(text, text.size());
}

}  // namespace

proto::Message ToProto(const Message& message) {
    proto::Message out;
    out.set_id(AnyText(message.id()));
    for (std::string_view tag : message.tags()) {
        out.add_tags(AnyText(tag));
    }
    for (const Property& property : message.properties()) {
        proto::Property* field = out.add_properties();
        field->set_name(AnyText(property.name));
        PutValue(property, field);
    }
    out.set_body(std::string(message.body()));
    out.set_ordering_key(AnyText(message.ordering_key()));
    out.set_created_time_ms(message.created_time().time_since_epoch().count());
    if (auto when = message.deliver_at()) {
        out.set_deliver_at_ms(when->time_since_epoch().count());
    }
    return out;
}

Result<Message> FromProto(const std::string& subject, const proto::Message& message) {
    Message result(subject);
    if (!message.id().empty()) {
        result.SetId(message.id());
    }
    for (const std::string& tag : message.tags()) {
        result.AddTag(tag);
    }
    for (const proto::Property* property : LastOfEachName(message.properties())) {
        SetValue(*property, &result);
    }
    result.SetBody(message.body());
    if (!message.ordering_key().empty()) {
        result.SetOrderingKey(message.ordering_key());
    }
    if (message.created_time_ms() != 0) {
        result.SetCreatedTime(WallTime(std::chrono::milliseconds(message.created_time_ms())));
    }
    if (message.deliver_at_ms() != 0) {
        result.SetDeliverAt(WallTime(std::chrono::milliseconds(message.deliver_at_ms())));
    }
    if (Status valid = result.Validate(); !valid.ok()) {
        return valid;
    }
    return result;
}

}  // namespace qmq::rpc
