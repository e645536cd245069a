#pragma once

#include <string>

#include "qmq/message.h"

namespace qmq::app {

/// For people: id, attempt, tags, properties and body in one line; bytes that are no text are
/// escaped.
std::string ToTextLine(const Message& message);

/// For programs: one JSON object. A body that is not valid UTF-8 is given as "body_base64".
std::string ToJsonLine(const Message& message);

}  // namespace qmq::app
