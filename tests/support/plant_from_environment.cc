#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "server/env/planted_bug.h"

// Compiled into the unit tests of the engine. With QMQ_PLANT=NAME in the environment that planted
// bug is on in every test, so that `scripts/show mended` can see the test of a mended fault fail
// with the old behaviour. A build without the switches refuses the variable: a test that passes
// there would prove nothing.
namespace qmq {
namespace {

#ifdef QMQ_PLANTED_BUGS
/// Before each test and not once, since the tests of the switches turn all off when they end.
class PlantBeforeEachTest : public ::testing::EmptyTestEventListener {
public:
    explicit PlantBeforeEachTest(env::PlantedBug bug) : bug_(bug) {}
    void OnTestStart(const ::testing::TestInfo&) override { env::Plant(bug_); }

private:
    env::PlantedBug bug_;
};

bool PlantFromEnvironment(const char* name) {
    const Result<env::PlantedBug> bug = env::ParsePlantedBug(name);
    if (!bug.ok()) {
        std::fprintf(stderr, "QMQ_PLANT: %s\n", bug.status().ToString().c_str());
        std::exit(2);
    }
    ::testing::UnitTest::GetInstance()->listeners().Append(new PlantBeforeEachTest(*bug));
    return true;
}
#else
bool PlantFromEnvironment(const char*) {
    std::fprintf(stderr, "QMQ_PLANT: this build has no planted bugs\n");
    std::exit(2);
}
#endif

// As GTest::gtest_main has the main function, the only time before the tests is this one.
[[maybe_unused]] const bool planted =
    std::getenv("QMQ_PLANT") != nullptr && PlantFromEnvironment(std::getenv("QMQ_PLANT"));

}  // namespace
}  // namespace qmq
