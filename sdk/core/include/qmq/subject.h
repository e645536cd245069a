#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "qmq/status.h"

namespace qmq {

/// Most characters (Unicode code points) of a subject, a consumer group or a message id that an
/// application chooses.
inline constexpr std::size_t kMaxNameLength = 100;

/// kInvalidArgument with the reason unless `subject` is one that an application may send to: 1 to
/// 100 characters of valid UTF-8, none of them `/`, `%`, `$`, a control character or white space,
/// and neither "." nor "..".
Status ValidateSubject(std::string_view subject);
/// As above for a consumer group: an empty one is refused (ask for broadcast by its option).
Status ValidateGroup(std::string_view group);
/// As `ValidateSubject`, and it also takes well-formed retry and dead-letter subjects: what a
/// broker stores and serves.
Status ValidateStoredSubject(std::string_view subject);
/// A consumer id: 1 to 250 bytes, without `/`, CR or LF.
Status ValidateConsumerId(std::string_view consumer_id);

/// Exactly `%RETRY%<subject>%<group>`. Of a retry or dead-letter subject the real subject is taken
/// first.
std::string RetrySubject(std::string_view subject, std::string_view group);
/// Exactly `%DEAD_RETRY%<subject>%<group>`.
std::string DeadLetterSubject(std::string_view subject, std::string_view group);

enum class SubjectKind : unsigned char { kReal, kRetry, kDeadLetter };

/// What a stored subject is made of. `group` is empty for a real one.
struct SubjectParts {
    SubjectKind kind = SubjectKind::kReal;
    std::string_view real_subject;
    std::string_view group;
};

/// By the marker in front; a name with a marker that does not have exactly three parts is its own
/// real subject with an empty group (as the reference reads it). The views point into `subject`.
SubjectParts ParseSubject(std::string_view subject);

}  // namespace qmq
