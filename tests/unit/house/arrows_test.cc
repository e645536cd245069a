#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/unit/house/arrow_check.h"

namespace qmq::house {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;

std::string RuleText() {
    std::ifstream in(QMQ_SOURCE_DIR "/tests/unit/house/arrows.txt");
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

/// The tree under test: the project, or a copy of it that scripts/show has planted something in.
std::string Top() {
    const char* other = std::getenv("QMQ_HOUSE_TREE");
    return other != nullptr ? other : QMQ_SOURCE_DIR;
}

Arrows Rules() {
    return Arrows::Parse(RuleText()).value();
}

/// A small house without a fault, for tests to plant one in.
SourceTree SmallHouse() {
    return {
        {"sdk/core/include/qmq/status.h", "#include <string>\n"},
        {"sdk/core/src/status.cc", "#include \"qmq/status.h\"\n"},
        {"sdk/core/src/secret.h", "#pragma once\n"},
        {"sdk/client/include/qmq/client.h", "#include \"qmq/status.h\"\n"},
        {"server/store/log.h", "#include <vector>\n#include \"qmq/status.h\"\n"},
        {"server/broker/broker.h", "#include \"server/store/log.h\"\n"},
        {"plugins/grpc/codec/codec.h", "#include <google/protobuf/message.h>\n"},
        {"plugins/grpc/client/include/qmq/grpc.h", "#include \"qmq/client.h\"\n"},
        {"plugins/grpc/codec/qmq/v1/wire.proto", "import \"google/protobuf/any.proto\";\n"},
        {"plugins/grpc/client/transport.cc",
         "#include \"plugins/grpc/codec/codec.h\"\n#include \"qmq/v1/wire.grpc.pb.h\"\n"},
        {"plugins/grpc/server/service.cc", "#include \"server/broker/broker.h\"\n"},
        {"samples/quickstart/main.cc", "#include \"qmq/client.h\"\n"},
    };
}

TEST(HouseTest, EveryIncludeAndLinkFollowsTheArrows) {
    const SourceTree tree = ReadTree(Top()).value();
    ASSERT_TRUE(tree.contains("sdk/core/include/qmq/status.h")) << "read the wrong folder";
    EXPECT_THAT(Check(Rules(), tree), IsEmpty());
}

TEST(HouseTest, APlantedWrongIncludeInTheRealTreeIsFound) {
    SourceTree tree = ReadTree(Top()).value();
    tree["sdk/client/src/planted.cc"] =
        "#include \"server/planted/x.h\"\n#include <grpcpp/grpcpp.h>\n";
    EXPECT_THAT(
        Check(Rules(), tree),
        IsSupersetOf({HasSubstr("planted.cc:1: "), HasSubstr("planted.cc:2: sdk must not")}));
}

TEST(ArrowCheckTest, ASmallHouseWithoutFaultPasses) {
    EXPECT_THAT(Check(Rules(), SmallHouse()), IsEmpty());
}

/// One wrong line in one file, and what must be said about it.
struct Fault {
    const char* name;
    const char* path;
    const char* text;
    const char* said;
};

class PlantedFaultTest : public testing::TestWithParam<Fault> {};

TEST_P(PlantedFaultTest, IsReportedOnceWithItsFile) {
    SourceTree tree = SmallHouse();
    tree[GetParam().path] = GetParam().text;
    EXPECT_THAT(Check(Rules(), tree),
                ElementsAre(AllOf(HasSubstr(GetParam().path), HasSubstr(GetParam().said))));
}

INSTANTIATE_TEST_SUITE_P(
    All,
    PlantedFaultTest,
    testing::Values(
        Fault{"SdkIncludesServer",
              "sdk/client/src/a.cc",
              "\n#include \"server/store/log.h\"\n",
              ":2: sdk must not include server/store/log.h, which belongs to store"},
        Fault{"CoreIncludesSdk",
              "sdk/core/src/a.cc",
              "#include \"qmq/client.h\"\n",
              "core must not include sdk/client/include/qmq/client.h"},
        Fault{"CoreIncludesALibrary",
              "sdk/core/src/a.cc",
              "# include <boost/asio.hpp>\n",
              "core must not include <boost/asio.hpp>"},
        Fault{"PrivateHeaderByPath",
              "sdk/client/src/a.cc",
              "#include \"sdk/core/src/secret.h\"\n",
              "is private to core"},
        Fault{"PrivateHeaderByDots",
              "sdk/client/src/a.cc",
              "#include \"../../core/src/secret.h\"\n",
              "is private to core"},
        Fault{"ClientHalfIncludesServerHalf",
              "plugins/grpc/client/a.cc",
              "#include \"plugins/grpc/server/generated.pb.h\"\n",
              "which belongs to grpc_server"},
        Fault{"EngineIncludesGeneratedHeader",
              "server/broker/a.cc",
              "#include \"qmq/v1/wire.pb.h\"\n",
              "which belongs to grpc_codec"},
        Fault{"ClientHalfIncludesEngine",
              "plugins/grpc/client/a.cc",
              "#include \"server/broker/broker.h\"\n",
              "which belongs to broker"},
        Fault{"EngineIncludesPlugin",
              "server/broker/a.cc",
              "#include \"plugins/grpc/codec/codec.h\"\n",
              "which belongs to grpc_codec"},
        Fault{"EngineStartsThreads",
              "server/broker/a.cc",
              "#include <thread>\nstd::thread::id me;\n// std::thread\nstd::thread worker;\n",
              ":4: broker must not use std::thread"},
        Fault{"EngineAsksTheTime",
              "server/store/a.cc",
              "auto now = std::chrono::steady_clock::now();\n",
              "store must not use steady_clock::now"},
        Fault{"EngineIncludesSockets",
              "server/store/a.cc",
              "#include <sys/socket.h>\n",
              "store must not include <sys/socket.h>"},
        Fault{"ComponentIncludesTests",
              "server/store/a.cc",
              "#include \"tests/support/fake.h\"\n",
              "store must not include"},
        Fault{"NoSuchPublicHeader",
              "sdk/client/src/a.cc",
              "#include \"qmq/clinet.h\"\n",
              "is in no component's include/"},
        Fault{"MacroInclude", "sdk/client/src/a.cc", "#include HEADER\n", "cannot be checked"},
        Fault{"FileOutsideTheTable", "utils/a.cc", "", "lies in no component"},
        Fault{"LinkAgainstTheArrow",
              "plugins/grpc/CMakeLists.txt",
              "qmq_component(grpc SOURCES a.cc\n PRIVATE qmq::sdk $<LINK_ONLY:qmq::broker>)\n",
              "grpc must not link qmq::broker"},
        Fault{"ComponentOutsideTheTable",
              "utils/CMakeLists.txt",
              "qmq_component(utils SOURCES a.cc)\n",
              "utils is not in arrows.txt"}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(ArrowsTest, WhatADependencyMayUseIsAllowed) {
    const Arrows arrows = Arrows::Parse("a x -> |\nb y -> a |\nc z -> b |\n").value();
    EXPECT_THAT(arrows.components().at("c").allowed, ElementsAre("a", "b", "c"));
}

TEST(ArrowsTest, AnArrowToALaterLineIsRefusedSoThereIsNoCycle) {
    EXPECT_THAT(Arrows::Parse("a x -> b |\nb y -> a |\n").status().message(),
                HasSubstr("line 1: a may use b, which does not stand above it"));
}

TEST(ArrowsTest, ALineWithoutArrowIsRefused) {
    EXPECT_THAT(Arrows::Parse("a x -> |\n\nb y c\n").status().message(), HasSubstr("line 3"));
}

TEST(ArrowsTest, TheInnermostFolderOwnsAFile) {
    const Arrows arrows = Arrows::Parse("a x -> |\nb x/y -> |\n").value();
    EXPECT_EQ(arrows.OwnerOf("x/y/z.h")->name, "b");
    EXPECT_EQ(arrows.OwnerOf("x/yy/z.h")->name, "a");
    EXPECT_EQ(arrows.OwnerOf("w/z.h"), nullptr);
}

}  // namespace
}  // namespace qmq::house
