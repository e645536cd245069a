#pragma once

#include <cstdint>
#include <ostream>
#include <string_view>

#include "qmq/status.h"

namespace qmq::sql {

/// What a caller of a database should do about a failure.
///
/// The class is a function of the status code, so it survives `WithContext`, a `Result` and every
/// layer that passes a status on. `Status::IsRetryable()` says whether trying again may help at
/// all.
///
/// | class       | codes                                          | what to do |
/// |-------------|------------------------------------------------|-----------------------------------|
/// | kConstraint | kAlreadyExists (unique, primary key),          | never the same again: the data
/// is | |             | kFailedPrecondition (foreign key, not null, …) | refused, the transaction
/// is open  | | kBusy       | kResourceExhausted                             | roll back, back off,
/// run all of   | |             |                                                | the transaction
/// again             | | kGone       | kUnavailable, kDeadlineExceeded, kCancelled    | take
/// another connection           | | kOther      | all others                                     |
/// read the message: fix the caller, | |             | | the rights or the file            |
enum class ErrorClass : std::uint8_t {
    kNone,        ///< The status is ok.
    kConstraint,  ///< The statement broke a rule of the schema and changed nothing.
    kBusy,        ///< What it needs is taken now: a lock, a pooled connection, room on the disk.
    kGone,        ///< The connection is lost or was closed. kCancelled: by us, so not retryable.
                  ///< kDeadlineExceeded: lost during a commit, which may have taken effect.
    kOther,       ///< Syntax, types, rights, damage: the same call fails again.
};

ErrorClass ClassOf(const Status& status);

/// "constraint", "busy", …
std::string_view ToString(ErrorClass error_class);

inline std::ostream& operator<<(std::ostream& out, ErrorClass error_class) {
    return out << ToString(error_class);
}

}  // namespace qmq::sql
