#pragma once

#include <string>
#include <vector>

#include "qmq/protocol.h"
#include "qmq/status.h"

namespace qmq::testing {

/// What a broker says of its subjects and groups, asked over a connection of its own. Blocks for at
/// most ten seconds a call.
Result<std::vector<GroupInfo>> AskGroups(const std::string& uri, const std::string& subject);
Result<std::vector<SubjectInfo>> AskSubjects(const std::string& uri);

/// One line for people.
std::string Describe(const GroupInfo& group);

}  // namespace qmq::testing
