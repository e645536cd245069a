#include "qmq/version.h"

#include <gtest/gtest.h>

#include <string>

namespace qmq {
namespace {

TEST(VersionTest, TheLibraryHasThatOfItsHeadersAndOfItsPackage) {
    EXPECT_EQ(Version(),
              std::to_string(QMQ_VERSION_MAJOR) + "." + std::to_string(QMQ_VERSION_MINOR) + "." +
                  std::to_string(QMQ_VERSION_PATCH));
    EXPECT_EQ(Version(), QMQ_PACKAGE_VERSION);
}

}  // namespace
}  // namespace qmq
