#pragma once

#include <string>

#include "tests/anything/choices.h"
#include "tests/anything/world.h"

namespace qmq::anything {

struct ServerUnderTest {
    std::string program;    ///< `qmq`.
    std::string directory;  ///< For its data; made, and removed after a sequence that passed.
    std::string plant;
};

/// As `RunSequence`, against the program itself over a socket: each sequence is ended by kill -9.
/// The order of calls comes from the choices; how they meet in the server does not.
SequenceReport RunSocketSequence(Choices& choices,
                                 const SequenceOptions& options,
                                 const ServerUnderTest& server);

}  // namespace qmq::anything
