#pragma once

namespace qmq::testing {

/// How many broker groups lead to each broker that is added to a `FakeCluster`, and whether one
/// more stands beside them that may only be read: for suites that run with several.
struct FakeGroups {
    int per_broker = 1;
    bool with_idle = false;
};

/// Of every cluster of this program. Set before anything is made.
inline FakeGroups g_fake_groups;

}  // namespace qmq::testing
