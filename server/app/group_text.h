#pragma once

#include <string>
#include <vector>

#include "qmq/protocol.h"

namespace qmq::app {

/// The table of `qmq tools groups`: its heading, and one line for each group.
std::string GroupHeading();
std::string GroupLine(const GroupInfo& group);

/// What the table has no room for, below it: why the group waits, what of its lag nobody takes just
/// now, and what it has lost to what. Empty for most groups.
std::vector<std::string> GroupNotes(const GroupInfo& group);

}  // namespace qmq::app
