// Sequences of calls, a loss of the process and a start that is audited: the bytes decide what
// tests/anything decides by a seed. The first one chooses what is called.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "tests/anything/choices.h"
#include "tests/anything/world.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace qmq::anything;
    if (size == 0) {
        return 0;
    }
    const Target target = data[0] % 2 == 0 ? Target::kBroker : Target::kService;
    ByteChoices choices(std::span(data + 1, size - 1));
    const SequenceReport report = RunSequence(choices, SequenceOptions{.target = target});
    if (!report.problems.empty()) {
        ByteChoices again(std::span(data + 1, size - 1));
        RunSequence(again, SequenceOptions{.target = target, .trace = true});
        for (const std::string& problem : report.problems) {
            std::fprintf(stderr, "problem: %s\n", problem.c_str());
        }
        std::abort();
    }
    return 0;
}
