#pragma once

#include <exception>

namespace qmq::internal {

/// The text of an exception of the application's, which may have none: its `what` is free to answer
/// null.
inline const char* TextOf(const std::exception& error) noexcept {
    const char* const text = error.what();
    return text != nullptr ? text : "an exception without a text";
}

}  // namespace qmq::internal
