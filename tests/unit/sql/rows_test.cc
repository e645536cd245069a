#include "qmq/sql/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

#include "qmq/sql/error.h"

#include "tests/unit/sql/fake_connection.h"

namespace qmq::sql {
namespace {

using testing::FakeCursor;
using ::testing::HasSubstr;

Rows OneRow(std::vector<ValueView> values) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < values.size(); ++i) {
        names.push_back("c" + std::to_string(i));
    }
    Rows rows(std::make_unique<FakeCursor>(std::move(names),
                                           std::vector<std::vector<ValueView>>{std::move(values)}));
    EXPECT_TRUE(rows.Next().value());
    return rows;
}

std::string MessageOf(const Status& status) {
    return std::string(status.message());
}

TEST(RowsTest, EachTypeIsReadBack) {
    auto rows = OneRow({std::int64_t{-7}, 2.5, std::string_view("käse"), BlobOf("b"), Null()});
    EXPECT_EQ(rows.Get<std::int64_t>(0).value(), -7);
    EXPECT_EQ(rows.Get<double>(1).value(), 2.5);
    EXPECT_EQ(rows.Get<std::string>(2).value(), "käse");
    EXPECT_EQ(rows.Get<std::string_view>(2).value(), "käse");
    EXPECT_EQ(rows.Get<std::vector<std::byte>>(3).value().size(), 1U);
    EXPECT_EQ(rows.Get<Blob>(3).value()[0], std::byte{'b'});
    EXPECT_EQ(rows.Get<std::optional<std::int64_t>>(4).value(), std::nullopt);
    EXPECT_EQ(rows.Get<std::optional<std::int64_t>>(0).value(), -7);
}

TEST(RowsTest, NullIsAnErrorThatNamesTheColumnAndTheWayOut) {
    auto rows = OneRow({Null()});
    const auto value = rows.Get<std::int64_t>(0);
    EXPECT_EQ(value.status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(ClassOf(value.status()), ErrorClass::kOther);
    EXPECT_EQ(MessageOf(value.status()),
              "column 0 (c0) is NULL; int64 was asked for, which needs std::optional to be NULL");
}

TEST(RowsTest, NoTypeIsTakenForAnother) {
    auto rows = OneRow({std::int64_t{1}, 2.5, std::string_view("12"), BlobOf("12")});
    EXPECT_EQ(MessageOf(rows.Get<std::int64_t>(2).status()),
              "column 2 (c2) holds text; int64 was asked for");
    EXPECT_EQ(MessageOf(rows.Get<std::string>(3).status()),
              "column 3 (c3) holds blob; text was asked for");
    EXPECT_EQ(MessageOf(rows.Get<std::vector<std::byte>>(2).status()),
              "column 2 (c2) holds text; blob was asked for");
    EXPECT_EQ(MessageOf(rows.Get<std::int64_t>(1).status()),
              "column 1 (c1) holds double; int64 was asked for");
    EXPECT_THAT(MessageOf(rows.Get<std::string>(0).status()), HasSubstr("text was asked for"));
    EXPECT_FALSE(rows.Get<std::optional<std::string>>(0).ok());
}

TEST(RowsTest, NumbersMustFit) {
    constexpr std::int64_t kExact = std::int64_t{1} << 53;
    auto rows = OneRow({std::int64_t{300}, std::int64_t{-1}, std::int64_t{2}, kExact, kExact + 1});
    EXPECT_EQ(rows.Get<std::int16_t>(0).value(), 300);
    EXPECT_EQ(MessageOf(rows.Get<std::uint8_t>(0).status()),
              "column 0 (c0) holds int64 300, which does not fit in the type asked for");
    EXPECT_FALSE(rows.Get<std::uint64_t>(1).ok());
    EXPECT_FALSE(rows.Get<bool>(2).ok());
    EXPECT_EQ(rows.Get<double>(3).value(), 9007199254740992.0);
    EXPECT_FALSE(rows.Get<double>(4).ok());
}

TEST(RowsTest, AWholeRowIsReadAtOnce) {
    auto rows = OneRow({std::int64_t{7}, std::string_view("seven"), Null()});
    const auto row = rows.As<int, std::string, std::optional<double>>();
    ASSERT_TRUE(row.ok()) << row.status();
    EXPECT_EQ(*row, std::make_tuple(7, std::string("seven"), std::optional<double>()));
}

TEST(RowsTest, AWholeRowNeedsTheRightNumberOfColumns) {
    auto rows = OneRow({std::int64_t{7}, std::string_view("seven")});
    EXPECT_EQ(MessageOf(rows.As<int>().status()), "the row has 2 columns; 1 were asked for");
}

TEST(RowsTest, AWholeRowFailsWithItsFirstBadColumn) {
    auto rows = OneRow({std::int64_t{7}, Null(), Null()});
    const auto row = rows.As<int, int, int>();
    EXPECT_THAT(MessageOf(row.status()), HasSubstr("column 1 (c1)"));
}

TEST(RowsTest, ThereIsNothingToReadBeforeTheFirstAndBehindTheLastRow) {
    Rows rows(std::make_unique<FakeCursor>(std::vector<std::string>{"c0"},
                                           std::vector<std::vector<ValueView>>{{std::int64_t{1}}}));
    EXPECT_THAT(MessageOf(rows.Get<int>(0).status()), HasSubstr("no current row"));
    EXPECT_TRUE(rows.Next().value());
    EXPECT_TRUE(rows.Get<int>(0).ok());
    EXPECT_FALSE(rows.Next().value());
    EXPECT_THAT(MessageOf(rows.Get<int>(0).status()), HasSubstr("no current row"));
}

TEST(RowsTest, AColumnThatIsNotThereIsAnError) {
    auto rows = OneRow({std::int64_t{1}});
    EXPECT_EQ(MessageOf(rows.Get<int>(1).status()), "column 1: the row has columns 0 to 0");
    EXPECT_EQ(rows.column_name(0), "c0");
    EXPECT_EQ(rows.column_name(1), "");
}

TEST(RowsTest, AfterAnErrorTheCursorIsNotAskedAgain) {
    auto owned = std::make_unique<FakeCursor>(std::vector<std::string>{"c0"},
                                              std::vector<std::vector<ValueView>>{{Null()}});
    auto* cursor = owned.get();
    cursor->FailWith(Status::Unavailable("lost"));
    Rows rows(std::move(owned));
    EXPECT_EQ(rows.Next().status().code(), StatusCode::kUnavailable);
    EXPECT_EQ(rows.Next().status().code(), StatusCode::kUnavailable);
    EXPECT_EQ(cursor->calls(), 1);
}

TEST(ParamTest, ConversionsKeepTypeAndValue) {
    const auto number = [](const Param& param) { return std::get<std::int64_t>(param.value()); };
    const auto text = [](const Param& param) { return std::get<std::string_view>(param.value()); };
    EXPECT_EQ(number(true), 1);
    EXPECT_EQ(number(0), 0);
    EXPECT_EQ(number(std::uint32_t{4294967295}), 4294967295);
    EXPECT_EQ(number(std::optional<int>(3)), 3);
    EXPECT_EQ(std::get<double>(Param(1.5F).value()), 1.5);
    EXPECT_EQ(text("a"), "a");
    EXPECT_EQ(text(std::string("a\0b", 3)).size(), 3U);
    EXPECT_EQ(std::get<Blob>(Param(BlobOf("x")).value()).size(), 1U);
    EXPECT_EQ(TypeName(Param(std::vector<std::byte>()).value()), "blob");
}

TEST(ParamTest, WhatIsAbsentIsNull) {
    EXPECT_EQ(TypeName(Param(nullptr).value()), "NULL");
    EXPECT_EQ(TypeName(Param(Null()).value()), "NULL");
    EXPECT_EQ(TypeName(Param(std::optional<int>()).value()), "NULL");
    EXPECT_EQ(TypeName(Param(static_cast<const char*>(nullptr)).value()), "NULL");
}

static_assert(!std::is_constructible_v<Param, std::uint64_t>, "would not fit");
static_assert(!std::is_constructible_v<Param, char>, "neither a number nor text");

}  // namespace
}  // namespace qmq::sql
