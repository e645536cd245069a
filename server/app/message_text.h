#pragma once

#include <string>
#include <string_view>

#include "qmq/message.h"

namespace qmq::app {

/// `bytes` as text that a terminal only shows: what is no UTF-8, and every character that steers a
/// terminal, becomes \xHH for each of its bytes. So does the backslash.
std::string Printable(std::string_view bytes);

/// For people: id, attempt, tags, properties and body in one line, each `Printable`.
std::string ToTextLine(const Message& message);

/// For programs: one JSON object, in UTF-8. A body that is not valid UTF-8 is given as
/// "body_base64", such a property under "properties_base64"; other texts are `Printable` then.
std::string ToJsonLine(const Message& message);

}  // namespace qmq::app
