// Linked into a suite that then runs with two broker groups in front of each broker, and an idle
// one beside them.

#include "tests/support/fake_groups.h"

namespace qmq::testing {
namespace {
const bool g_set = (g_fake_groups = {.per_broker = 2, .with_idle = true}, true);
}  // namespace
}  // namespace qmq::testing
