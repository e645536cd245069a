#include "server/app/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "server/app/server_node.h"

namespace qmq::app {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ConfigTest, AnEmptyFileGivesTheDefaults) {
    const Result<ServerConfig> config = ParseConfig("", "broker.properties");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->store_root, "/data");
    EXPECT_EQ(config->grpc_port, 7777);
    EXPECT_EQ(config->retention, std::chrono::hours(72));
    EXPECT_EQ(config->default_durability, Durability::kFsync);
}

TEST(ConfigTest, KeysValuesCommentsAndBlanksAreRead) {
    const Result<ServerConfig> config = ParseConfig(
        "# a comment\n! another\n\n  store.root =  /var/lib/qmq "
        "\r\ngrpc.port=0\ndurability.default = page_cache\n"
        "durability.subject.order.* = fsync\nmessagelog.retention.hours = \n",
        "broker.properties");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->store_root, "/var/lib/qmq");
    EXPECT_EQ(config->grpc_port, 0);
    EXPECT_EQ(config->default_durability, Durability::kPageCache);
    EXPECT_THAT(config->subject_durability,
                ElementsAre(std::pair<std::string, Durability>("order.*", Durability::kFsync)));
    EXPECT_EQ(config->retention, std::chrono::hours(72));  // Blank counts as absent.
}

TEST(ConfigTest, ARetentionInSecondsIsReadBesideTheOneInHours) {
    const Result<ServerConfig> config = ParseConfig("store.retention.seconds = 10\n", "f");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->short_retention, std::chrono::seconds(10));
    EXPECT_EQ(config->retention, std::chrono::hours(72));
    EXPECT_FALSE(ParseConfig("store.retention.seconds = -1\n", "f").ok());
}

TEST(ConfigTest, AnUnknownKeyIsRefusedWithTheNearestKnownOne) {
    const Result<ServerConfig> config = ParseConfig("\ngrpc.prot = 1\n", "broker.properties");
    EXPECT_EQ(config.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(config.status().message(),
                HasSubstr("broker.properties:2: grpc.prot = 1: unknown key"));
    EXPECT_THAT(config.status().message(), HasSubstr("grpc.port"));
}

TEST(ConfigTest, EveryProblemIsReportedAtOnceWithItsLine) {
    const Result<ServerConfig> config =
        ParseConfig("grpc.port = 70000\nno equals sign\ndurability.default = sometimes\n", "f");
    EXPECT_THAT(config.status().message(),
                HasSubstr("f:1: grpc.port = 70000: is no number in [0, 65535]"));
    EXPECT_THAT(config.status().message(),
                HasSubstr("f:2: no equals sign: is not of the form key = value"));
    EXPECT_THAT(config.status().message(), HasSubstr("f:3: durability.default = sometimes"));
}

TEST(ConfigTest, AKeyOfTheReferenceWithoutAMeaningHereIsIgnoredWithAWarning) {
    const Result<ServerConfig> config = ParseConfig("wait.slave.wrote = true\n", "f");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_THAT(config->warnings, ElementsAre(HasSubstr("wait.slave.wrote")));
}

TEST(ConfigTest, ACertificateWithoutItsKeyIsRefused) {
    const Result<ServerConfig> config = ParseConfig("grpc.tls.certificate = /etc/c.pem\n", "f");
    EXPECT_THAT(config.status().message(), HasSubstr("belong together"));
}

TEST(ConfigTest, TheDescriptionIsAConfigurationWithTheDefaults) {
    const Result<ServerConfig> config = ParseConfig(DescribeConfig(), "description");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->grpc_listen, ServerConfig().grpc_listen);
    EXPECT_EQ(config->segment_bytes, ServerConfig().segment_bytes);
    EXPECT_EQ(config->disk_high_water_percent, ServerConfig().disk_high_water_percent);
}

// It was read as an empty file, and the defaults were served.
TEST(ConfigTest, ADirectoryIsNoConfiguration) {
    const Result<ServerConfig> config = LoadConfig(testing::TempDir());
    EXPECT_EQ(config.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(config.status().message(), HasSubstr(testing::TempDir()));
}

// No comparison with a bound says that it lies outside.
TEST(ConfigTest, NotANumberIsNoPercentage) {
    for (const char* text : {"nan", "-nan", "inf"}) {
        EXPECT_FALSE(ParseConfig(std::string("store.disk.high_water.percent = ") + text, "f").ok())
            << text;
    }
}

// Such a file let everybody in: it is read, and then there is no token.
TEST(ServerNodeTest, ATokenFileOfNothingButLineEndsIsRefused) {
    ServerConfig config;
    config.memory = true;
    config.grpc_port = 0;
    config.allow_token_without_tls = true;
    config.token_file = testing::TempDir() + "qmq-empty-token-" + std::to_string(getpid());
    for (const char* text : {"\n", "\r\n", "\n\n"}) {
        std::ofstream(config.token_file, std::ios::trunc) << text;
        const auto node = ServerNode::Start(config);
        EXPECT_EQ(node.status().code(), StatusCode::kInvalidArgument);
        EXPECT_THAT(node.status().message(), HasSubstr("grpc.token.file"));
    }
    std::filesystem::remove(config.token_file);
}

TEST(ConfigTest, AMissingFileIsNamed) {
    const Result<ServerConfig> config = LoadConfig("/nonexistent/broker.properties");
    EXPECT_EQ(config.status().code(), StatusCode::kNotFound);
    EXPECT_THAT(config.status().message(), HasSubstr("/nonexistent/broker.properties"));
}

}  // namespace
}  // namespace qmq::app
