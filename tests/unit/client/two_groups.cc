// Linked into a suite that then runs with two broker groups in front of each broker.

#include "tests/support/fake_groups.h"

namespace qmq::testing {
namespace {
const bool g_set = (g_fake_groups = {.per_broker = 2}, true);
}  // namespace
}  // namespace qmq::testing
