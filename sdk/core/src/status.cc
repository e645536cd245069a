#include "qmq/status.h"

#include <cstdio>
#include <cstdlib>

namespace qmq {

namespace internal {

void CheckFailed(const char* expression, const char* file, int line, std::string_view detail) {
    std::fprintf(stderr,
                 "%s:%d: broken invariant: %s (%.*s)\n",
                 file,
                 line,
                 expression,
                 static_cast<int>(detail.size()),
                 detail.data());
    std::abort();
}

}  // namespace internal

std::string_view ToString(StatusCode code) {
    switch (code) {
        case StatusCode::kOk:
            return "ok";
        case StatusCode::kInvalidArgument:
            return "invalid argument";
        case StatusCode::kNotFound:
            return "not found";
        case StatusCode::kResourceExhausted:
            return "resource exhausted";
        case StatusCode::kUnavailable:
            return "unavailable";
        case StatusCode::kDeadlineExceeded:
            return "deadline exceeded";
        case StatusCode::kDataLoss:
            return "data loss";
        case StatusCode::kCancelled:
            return "cancelled";
        case StatusCode::kAlreadyExists:
            return "already exists";
        case StatusCode::kFailedPrecondition:
            return "failed precondition";
        case StatusCode::kPermissionDenied:
            return "permission denied";
        case StatusCode::kUnimplemented:
            return "unimplemented";
        case StatusCode::kInternal:
            return "internal";
    }
    return "unknown";  // A peer may know codes that we do not.
}

Status::Status(StatusCode code, std::string message) {
    if (code != StatusCode::kOk) {
        state_ = std::make_shared<const State>(State{code, std::move(message)});
    }
}

bool Status::IsRetryable() const {
    return code() == StatusCode::kResourceExhausted || code() == StatusCode::kUnavailable ||
           code() == StatusCode::kDeadlineExceeded;
}

std::string Status::ToString() const {
    std::string text(qmq::ToString(code()));
    if (!message().empty()) {
        text.append(": ").append(message());
    }
    return text;
}

Status Status::WithContext(std::string_view context) const {
    if (ok()) {
        return *this;
    }
    return {code(), std::string(context).append(": ").append(message())};
}

}  // namespace qmq
