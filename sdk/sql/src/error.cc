#include "qmq/sql/error.h"

namespace qmq::sql {

ErrorClass ClassOf(const Status& status) {
    switch (status.code()) {
        case StatusCode::kOk:
            return ErrorClass::kNone;
        case StatusCode::kAlreadyExists:
        case StatusCode::kFailedPrecondition:
            return ErrorClass::kConstraint;
        case StatusCode::kResourceExhausted:
            return ErrorClass::kBusy;
        case StatusCode::kUnavailable:
        case StatusCode::kDeadlineExceeded:
        case StatusCode::kCancelled:
            return ErrorClass::kGone;
        case StatusCode::kInvalidArgument:
        case StatusCode::kNotFound:
        case StatusCode::kDataLoss:
        case StatusCode::kPermissionDenied:
        case StatusCode::kUnimplemented:
        case StatusCode::kInternal:
            return ErrorClass::kOther;
    }
    return ErrorClass::kOther;
}

std::string_view ToString(ErrorClass error_class) {
    switch (error_class) {
        case ErrorClass::kNone:
            return "none";
        case ErrorClass::kConstraint:
            return "constraint";
        case ErrorClass::kBusy:
            return "busy";
        case ErrorClass::kGone:
            return "gone";
        case ErrorClass::kOther:
            return "other";
    }
    return "unknown";
}

}  // namespace qmq::sql
