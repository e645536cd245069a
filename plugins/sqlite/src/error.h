#pragma once

#include <sqlite3.h>

#include <string_view>

#include "qmq/status.h"

namespace qmq::sqlite {

/// The status for the result code `rc`, which `handle`'s latest call returned. `what` says what was
/// being done: the beginning of the statement, or "open /path". `handle` may be null.
Status ToStatus(int rc, sqlite3* handle, std::string_view what);

/// Whether a connection that failed so must not be used again.
bool Breaks(int rc);

}  // namespace qmq::sqlite
