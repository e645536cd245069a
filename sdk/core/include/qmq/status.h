#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>

#include "qmq/check.h"

namespace qmq {

/// Why an operation failed. The numbers travel on the wire: add at the end, never renumber.
enum class StatusCode : std::uint8_t {
    kOk = 0,
    kInvalidArgument = 1,     ///< The call is wrong in any state; fix the caller.
    kNotFound = 2,            ///< No such subject, consumer group, consumer or message.
    kResourceExhausted = 3,   ///< A queue or a disk is full; retry after a back-off.
    kUnavailable = 4,         ///< Nobody can serve this now; retry.
    kDeadlineExceeded = 5,    ///< Outcome unknown: the broker may have stored the message.
    kDataLoss = 6,            ///< Stored bytes fail their checksum; never retried.
    kCancelled = 7,           ///< The handle was closed.
    kAlreadyExists = 8,       ///< A second one of what may exist only once.
    kFailedPrecondition = 9,  ///< The state of the system forbids it; retrying alone does not help.
    kPermissionDenied = 10,   ///< Not authenticated, or not allowed.
    kUnimplemented = 11,      ///< This build or this peer cannot do it.
    kInternal = 12,           ///< A defect of ours. Please report it.
};

/// The name of `code` as it is written in logs: "kUnavailable" is "unavailable".
std::string_view ToString(StatusCode code);

/// Success, or a code that says what the caller should do and a message that says what happened, to
/// what, in numbers.
///
/// Costs one null pointer when ok. Copies share the message. Thread-safe as a `shared_ptr` is.
class [[nodiscard]] Status {
public:
    Status() = default;
    Status(StatusCode code, std::string message);

    static Status Ok() { return {}; }
    static Status InvalidArgument(std::string message) {
        return {StatusCode::kInvalidArgument, std::move(message)};
    }
    static Status NotFound(std::string message) {
        return {StatusCode::kNotFound, std::move(message)};
    }
    static Status ResourceExhausted(std::string message) {
        return {StatusCode::kResourceExhausted, std::move(message)};
    }
    static Status Unavailable(std::string message) {
        return {StatusCode::kUnavailable, std::move(message)};
    }
    static Status DeadlineExceeded(std::string message) {
        return {StatusCode::kDeadlineExceeded, std::move(message)};
    }
    static Status DataLoss(std::string message) {
        return {StatusCode::kDataLoss, std::move(message)};
    }
    static Status Cancelled(std::string message) {
        return {StatusCode::kCancelled, std::move(message)};
    }
    static Status AlreadyExists(std::string message) {
        return {StatusCode::kAlreadyExists, std::move(message)};
    }
    static Status FailedPrecondition(std::string message) {
        return {StatusCode::kFailedPrecondition, std::move(message)};
    }
    static Status PermissionDenied(std::string message) {
        return {StatusCode::kPermissionDenied, std::move(message)};
    }
    static Status Unimplemented(std::string message) {
        return {StatusCode::kUnimplemented, std::move(message)};
    }
    static Status Internal(std::string message) {
        return {StatusCode::kInternal, std::move(message)};
    }

    bool ok() const { return state_ == nullptr; }
    StatusCode code() const { return state_ == nullptr ? StatusCode::kOk : state_->code; }
    std::string_view message() const {
        return state_ == nullptr ? std::string_view() : state_->message;
    }

    /// Whether the same call may succeed later without anybody changing it: kResourceExhausted,
    /// kUnavailable and kDeadlineExceeded. After the last one the first call may have taken effect.
    bool IsRetryable() const;

    /// "ok", or "unavailable: broker 127.0.0.1:7000: connection refused".
    std::string ToString() const;

    /// The same code with `context` and ": " in front of the message. Ok stays ok.
    Status WithContext(std::string_view context) const;

    friend bool operator==(const Status& a, const Status& b) {
        return a.code() == b.code() && a.message() == b.message();
    }
    friend std::ostream& operator<<(std::ostream& out, const Status& status) {
        return out << status.ToString();
    }

private:
    struct State {
        StatusCode code;
        std::string message;
    };
    std::shared_ptr<const State> state_;
};

/// A `T` or a status that is not ok. Read it so: `if (!batch.ok()) return batch.status();`.
template <typename T>
class [[nodiscard]] Result {
public:
    // Implicit on purpose: `return value;` and `return status;` are the point of this class.
    // NOLINTNEXTLINE(google-explicit-constructor)
    Result(T value) : value_(std::move(value)) {}
    // NOLINTNEXTLINE(google-explicit-constructor)
    Result(Status status) : status_(std::move(status)) {
        QMQ_CHECK(!status_.ok(), "a Result without a value needs a status that is not ok");
    }

    bool ok() const { return value_.has_value(); }
    const Status& status() const { return status_; }

    /// The value. The process ends with the status when there is none: check `ok()` first.
    T& value() & {
        QMQ_CHECK(ok(), status_.ToString());
        return *value_;
    }
    const T& value() const& {
        QMQ_CHECK(ok(), status_.ToString());
        return *value_;
    }
    T&& value() && {
        QMQ_CHECK(ok(), status_.ToString());
        return std::move(*value_);
    }
    T value_or(T fallback) && { return ok() ? std::move(*value_) : std::move(fallback); }

    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T&& operator*() && { return std::move(*this).value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }

private:
    Status status_;
    std::optional<T> value_;
};

}  // namespace qmq
