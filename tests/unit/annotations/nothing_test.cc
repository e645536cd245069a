#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "qmq/consumer.h"

#include "tests/unit/annotations/silent_client.h"

// A program that declares no consumer.

namespace qmq {
namespace {

TEST(NothingDeclaredTest, ToStartIsRefused) {
    Client client = testing::MakeSilentClient();
    const Status status = StartConsumers(client).status();
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("declared"));
    EXPECT_TRUE(DeclaredConsumers().empty());
}

}  // namespace
}  // namespace qmq
