#include "qmq/sql/driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace qmq::sql::driver {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(RefuseTransactionControlTest, FindsTheWordBehindEverythingThatMayStandBeforeIt) {
    for (const auto* sql : {"BEGIN",
                            "commit;",
                            " \n\t;; Rollback",
                            "-- a comment\nEND",
                            "/* BEGIN */ SAVEPOINT a",
                            "\xEF\xBB\xBFRELEASE a",
                            "# comment\nSTART TRANSACTION",
                            "XA START 'x'"}) {
        EXPECT_EQ(RefuseTransactionControl(sql).code(), StatusCode::kInvalidArgument) << sql;
    }
}

TEST(RefuseTransactionControlTest, LetsAllElsePass) {
    for (const auto* sql : {"SELECT 'COMMIT'",
                            "-- COMMIT\nSELECT 1",
                            "/* COMMIT",
                            "-- COMMIT",
                            "",
                            "beginning",
                            "INSERT INTO commit_log VALUES (?)"}) {
        EXPECT_TRUE(RefuseTransactionControl(sql).ok()) << sql;
    }
}

TEST(CheckParamsTest, CountsAndRefusesWhatIsNotFinite) {
    const Param good[] = {1, 2.5};
    EXPECT_TRUE(CheckParams(good, 2).ok());
    EXPECT_EQ(CheckParams(good, 3).message(), "the statement takes 3 parameters; 2 were given");
    const Param nan[] = {1, std::numeric_limits<double>::quiet_NaN()};
    EXPECT_THAT(std::string(CheckParams(nan, 2).message()), HasSubstr("parameter 1"));
    const Param infinite[] = {-std::numeric_limits<double>::infinity()};
    EXPECT_EQ(CheckParams(infinite, 1).code(), StatusCode::kInvalidArgument);
}

TEST(QuoteWithTest, QuotesBothHalvesAndRefusesWhatIsNoName) {
    EXPECT_EQ(QuoteWith("msg_queue2", '`').value(), "`msg_queue2`");
    EXPECT_EQ(QuoteWith("qmq_produce.qmq_msg_queue", '"').value(),
              "\"qmq_produce\".\"qmq_msg_queue\"");
    for (const auto* name : {"", "1a", "a b", "a\"; DROP TABLE t; --", "a.b.c", ".a", "a.", "é"}) {
        EXPECT_EQ(QuoteWith(name, '"').status().code(), StatusCode::kInvalidArgument) << name;
    }
}

TEST(QuoteUpsertTest, SplitsKeysFromTheOthers) {
    const auto quoted = QuoteUpsert({.table = "t", .columns = {"a", "b", "c"}, .keys = {"b"}}, '"');
    ASSERT_TRUE(quoted.ok()) << quoted.status();
    EXPECT_EQ(quoted->columns, R"("a", "b", "c")");
    EXPECT_EQ(quoted->placeholders, "?, ?, ?");
    EXPECT_EQ(quoted->keys, R"("b")");
    EXPECT_THAT(quoted->key_names, ElementsAre(R"("b")"));
    EXPECT_THAT(quoted->others, ElementsAre(R"("a")", R"("c")"));
}

TEST(QuoteUpsertTest, RefusesNoColumnsNoKeysAndStrangeKeys) {
    EXPECT_FALSE(QuoteUpsert({.table = "t", .columns = {}, .keys = {"a"}}, '"').ok());
    EXPECT_FALSE(QuoteUpsert({.table = "t", .columns = {"a"}, .keys = {}}, '"').ok());
    EXPECT_FALSE(QuoteUpsert({.table = "t", .columns = {"a"}, .keys = {"b"}}, '"').ok());
    EXPECT_FALSE(QuoteUpsert({.table = "t t", .columns = {"a"}, .keys = {"a"}}, '"').ok());
    EXPECT_FALSE(QuoteUpsert({.table = "t", .columns = {"a", "b)"}, .keys = {"a"}}, '"').ok());
}

TEST(ExcerptTest, IsOneLineAndCutsBetweenCharacters) {
    EXPECT_EQ(Excerpt("SELECT 1\n\tFROM t"), "SELECT 1  FROM t");
    const std::string cut = Excerpt(std::string(119, 'x') + "éé");
    EXPECT_EQ(cut, std::string(119, 'x') + "…");
}

}  // namespace
}  // namespace qmq::sql::driver
