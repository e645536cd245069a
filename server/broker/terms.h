#pragma once

#include <string>
#include <vector>

#include "server/broker/group.h"

namespace qmq::broker {

/// In what another member of its group asks for something else than `consumer` does, and what
/// counts then: a line for the filter, a line for the retry policy, for people. Which of two
/// members asks makes no difference to the words.
std::vector<std::string> CompareTerms(const Consumer& consumer);

}  // namespace qmq::broker
