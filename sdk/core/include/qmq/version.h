#pragma once

#include <string_view>

/// The version of these headers, for `#if`. Before 1.0 a new minor version may break its users.
#define QMQ_VERSION_MAJOR 0
#define QMQ_VERSION_MINOR 1
#define QMQ_VERSION_PATCH 0

namespace qmq {

/// The version of the library that was linked, such as "0.1.0".
std::string_view Version();

}  // namespace qmq
