#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "tests/unit/house/arrow_check.h"

namespace qmq::house {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

/// Where planted bugs are switched on or off outside of `#ifdef QMQ_PLANTED_BUGS`: a build without
/// the switches, such as a release, does not compile that.
std::vector<std::string> UnguardedPlants(const SourceTree& tree) {
    std::vector<std::string> found;
    for (const auto& [path, text] : tree) {
        if (path.starts_with("server/env/") || path.starts_with("tests/unit/house/")) {
            continue;  // Where they are made, and where they are spoken of.
        }
        std::istringstream lines(text);
        std::vector<bool> guards;
        int number = 0;
        for (std::string line; std::getline(lines, line);) {
            ++number;
            if (line.starts_with("#if")) {
                guards.push_back(line.find("def QMQ_PLANTED_BUGS") != std::string::npos);
            } else if (line.starts_with("#endif") && !guards.empty()) {
                guards.pop_back();
            } else if (line.find("env::Plant(") != std::string::npos &&
                       std::find(guards.begin(), guards.end(), true) == guards.end()) {
                found.push_back(path + ":" + std::to_string(number));
            }
        }
    }
    return found;
}

TEST(PlantedTest, EachUseOfASwitchIsLeftOutOfBuildsWithoutThem) {
    EXPECT_THAT(UnguardedPlants(ReadTree(QMQ_SOURCE_DIR).value()), IsEmpty());
}

// Two tests were not guarded, and no build of the suite was one without the switches: the release
// did not compile as a whole.
TEST(PlantedTest, AUseWithoutGuardIsFound) {
    EXPECT_THAT(UnguardedPlants({{"tests/a.cc",
                                  "#ifdef QMQ_PLANTED_BUGS\n"
                                  "env::Plant(x);\n"
                                  "#endif\n"
                                  "env::Plant(y);\n"}}),
                ElementsAre("tests/a.cc:4"));
}

}  // namespace
}  // namespace qmq::house
