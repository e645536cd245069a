#include "qmq/subject.h"

#include <algorithm>
#include <array>
#include <string>

#include "sdk/core/src/utf8.h"

namespace qmq {

namespace {

using internal::CodePoint;
using internal::Quote;
using internal::ReadCodePoint;

constexpr std::string_view kRetryMarker = "%RETRY%";
constexpr std::string_view kDeadLetterMarker = "%DEAD_RETRY%";
constexpr std::size_t kMaxConsumerIdBytes = 250;

// The names that nearly everybody uses: one look-up a byte, and no code points.
constexpr std::array<bool, 256> kPlain = [] {
    std::array<bool, 256> plain{};
    for (std::size_t c = 0x21; c < 0x7F; ++c) {
        plain[c] = c != '/' && c != '%' && c != '$';
    }
    return plain;
}();

bool IsPlain(std::string_view name) {
    for (const char c : name) {
        if (!kPlain[static_cast<unsigned char>(c)]) {
            return false;
        }
    }
    return !name.empty() && name.size() <= kMaxNameLength && name != "." && name != "..";
}

bool IsSpace(std::uint32_t c) {
    return c == 0x20 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsControl(std::uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0);
}

std::string_view WhyForbidden(std::uint32_t c) {
    if (c == '/' || c == '%' || c == '$') {
        return "one of / % $, which the system keeps for itself";
    }
    if (IsControl(c)) {
        return "a control character";
    }
    return IsSpace(c) ? "white space" : std::string_view();
}

Status Refuse(std::string_view what, std::string_view name, std::string_view why) {
    return Status::InvalidArgument(
        std::string(what).append(" ").append(Quote(name)).append(" ").append(why));
}

Status CheckName(std::string_view what, std::string_view name) {
    std::size_t length = 0;
    for (std::size_t at = 0; at < name.size(); ++length) {
        const CodePoint point = ReadCodePoint(name, at);
        if (point.bytes == 0) {
            return Refuse(what, name, "is not UTF-8 at byte " + std::to_string(at));
        }
        if (const std::string_view why = WhyForbidden(point.value); !why.empty()) {
            return Refuse(what, name, "has at byte " + std::to_string(at) + " " + std::string(why));
        }
        at += point.bytes;
    }
    if (length > kMaxNameLength) {
        return Refuse(what,
                      name,
                      "has " + std::to_string(length) + " characters; at most " +
                          std::to_string(kMaxNameLength) + " are allowed");
    }
    if (name == "." || name == "..") {
        return Refuse(what, name, "means a folder; choose another name");
    }
    return Status::Ok();
}

SubjectKind KindOf(std::string_view subject) {
    if (subject.starts_with("%RETRY")) {
        return SubjectKind::kRetry;
    }
    return subject.starts_with("%DEAD_RETRY") ? SubjectKind::kDeadLetter : SubjectKind::kReal;
}

std::string_view Trim(std::string_view text) {
    constexpr std::string_view kBlanks = " \t\r\n\v\f";
    const std::size_t first = text.find_first_not_of(kBlanks);
    if (first == std::string_view::npos) {
        return {};
    }
    return text.substr(first, text.find_last_not_of(kBlanks) + 1 - first);
}

std::string Derived(std::string_view marker, std::string_view subject, std::string_view group) {
    const std::string_view real = ParseSubject(subject).real_subject;
    std::string name;
    name.reserve(marker.size() + real.size() + 1 + group.size());
    return name.append(marker).append(real).append("%").append(group);
}

}  // namespace

Status ValidateSubject(std::string_view subject) {
    if (IsPlain(subject)) {
        return Status::Ok();
    }
    if (subject.empty()) {
        return Status::InvalidArgument("the subject is empty; it has 1 to 100 characters");
    }
    return CheckName("subject", subject);
}

Status ValidateGroup(std::string_view group) {
    if (IsPlain(group)) {
        return Status::Ok();
    }
    if (group.empty()) {
        return Status::InvalidArgument(
            "the consumer group is empty; it has 1 to 100 characters (for a copy of every message "
            "to each process, use the broadcast option)");
    }
    return CheckName("consumer group", group);
}

Status ValidateStoredSubject(std::string_view subject) {
    if (IsPlain(subject)) {
        return Status::Ok();
    }
    const SubjectParts parts = ParseSubject(subject);
    if (parts.kind == SubjectKind::kReal) {
        return ValidateSubject(subject);
    }
    Status status = ValidateSubject(parts.real_subject);
    if (status.ok()) {
        status = ValidateGroup(parts.group);
    }
    if (!status.ok()) {
        return status.WithContext("in " + Quote(subject));
    }
    const std::string exact = parts.kind == SubjectKind::kRetry
                                  ? RetrySubject(parts.real_subject, parts.group)
                                  : DeadLetterSubject(parts.real_subject, parts.group);
    if (subject != exact) {
        return Refuse("subject", subject, "must be written " + Quote(exact));
    }
    return status;
}

Status ValidateConsumerId(std::string_view consumer_id) {
    if (consumer_id.empty()) {
        return Status::InvalidArgument("the consumer id is empty; it has 1 to 250 bytes");
    }
    if (consumer_id.size() > kMaxConsumerIdBytes) {
        return Refuse(
            "consumer id",
            consumer_id,
            "has " + std::to_string(consumer_id.size()) + " bytes; at most 250 are allowed");
    }
    if (const std::size_t at = consumer_id.find_first_of("/\r\n"); at != std::string_view::npos) {
        return Refuse("consumer id",
                      consumer_id,
                      "has a slash or a line break at byte " + std::to_string(at));
    }
    return Status::Ok();
}

std::string RetrySubject(std::string_view subject, std::string_view group) {
    return Derived(kRetryMarker, subject, group);
}

std::string DeadLetterSubject(std::string_view subject, std::string_view group) {
    return Derived(kDeadLetterMarker, subject, group);
}

SubjectParts ParseSubject(std::string_view subject) {
    const SubjectKind kind = KindOf(subject);
    if (kind == SubjectKind::kReal) {
        return {kind, subject, {}};
    }
    // Other clients split at the per cent signs, trim, and drop what is empty: what they take for a
    // retry subject has to be one here too.
    std::array<std::string_view, 3> parts;
    std::size_t count = 0;
    for (std::size_t at = 0; at <= subject.size();) {
        const std::size_t end = std::min(subject.find('%', at), subject.size());
        if (const std::string_view part = Trim(subject.substr(at, end - at)); !part.empty()) {
            if (count == parts.size()) {
                return {SubjectKind::kReal, subject, {}};
            }
            parts[count++] = part;
        }
        at = end + 1;
    }
    if (count != parts.size()) {
        return {SubjectKind::kReal, subject, {}};
    }
    return {kind, parts[1], parts[2]};
}

}  // namespace qmq
