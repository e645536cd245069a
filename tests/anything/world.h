#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/anything/choices.h"

namespace qmq::anything {

enum class Target : std::uint8_t { kBroker, kService };

struct SequenceOptions {
    Target target = Target::kBroker;
    bool trace = false;  ///< Print each call before it is made.
};

using Counters = std::map<std::string, std::uint64_t>;

struct SequenceReport {
    std::vector<std::string> problems;
    Counters counters;
};

/// One sequence: clients call anything, the process is lost, and the next start is audited.
SequenceReport RunSequence(Choices& choices, const SequenceOptions& options);

}  // namespace qmq::anything
