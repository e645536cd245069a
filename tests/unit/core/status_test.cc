#include "qmq/status.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <sstream>
#include <vector>

#include "qmq/check.h"

namespace qmq {
namespace {

struct Case {
    StatusCode code;
    int number;
    std::string_view name;
    Status (*make)(std::string);
    bool retryable;
};

// The numbers travel on the wire, so they are written out here once more.
const std::vector<Case>& Cases() {
    static const std::vector<Case> cases = {
        {StatusCode::kInvalidArgument, 1, "invalid argument", &Status::InvalidArgument, false},
        {StatusCode::kNotFound, 2, "not found", &Status::NotFound, false},
        {StatusCode::kResourceExhausted, 3, "resource exhausted", &Status::ResourceExhausted, true},
        {StatusCode::kUnavailable, 4, "unavailable", &Status::Unavailable, true},
        {StatusCode::kDeadlineExceeded, 5, "deadline exceeded", &Status::DeadlineExceeded, true},
        {StatusCode::kDataLoss, 6, "data loss", &Status::DataLoss, false},
        {StatusCode::kCancelled, 7, "cancelled", &Status::Cancelled, false},
        {StatusCode::kAlreadyExists, 8, "already exists", &Status::AlreadyExists, false},
        {StatusCode::kFailedPrecondition,
         9,
         "failed precondition",
         &Status::FailedPrecondition,
         false},
        {StatusCode::kPermissionDenied, 10, "permission denied", &Status::PermissionDenied, false},
        {StatusCode::kUnimplemented, 11, "unimplemented", &Status::Unimplemented, false},
        {StatusCode::kInternal, 12, "internal", &Status::Internal, false},
    };
    return cases;
}

TEST(StatusTest, EveryCodeHasItsNumberNameMakerAndAdviceToRetry) {
    for (const Case& c : Cases()) {
        const Status status = c.make("why");
        EXPECT_EQ(static_cast<int>(c.code), c.number);
        EXPECT_EQ(status.code(), c.code);
        EXPECT_EQ(status.message(), "why");
        EXPECT_EQ(ToString(c.code), c.name);
        EXPECT_EQ(status.IsRetryable(), c.retryable) << c.name;
        EXPECT_EQ(status.ToString(), std::string(c.name) + ": why");
    }
}

TEST(StatusTest, OkHasNoMessageAndIsNotRetryable) {
    const Status ok;
    EXPECT_TRUE(ok.ok());
    EXPECT_EQ(ok.code(), StatusCode::kOk);
    EXPECT_EQ(ok.message(), "");
    EXPECT_EQ(ok.ToString(), "ok");
    EXPECT_FALSE(ok.IsRetryable());
    EXPECT_EQ(ok, Status::Ok());
}

TEST(StatusTest, ContextGoesInFrontAndLeavesOkAlone) {
    const Status status = Status::Unavailable("refused").WithContext("broker 127.0.0.1:7000");
    EXPECT_EQ(status.ToString(), "unavailable: broker 127.0.0.1:7000: refused");
    EXPECT_TRUE(Status::Ok().WithContext("anything").ok());
}

TEST(StatusTest, EqualityLooksAtCodeAndMessage) {
    EXPECT_EQ(Status::NotFound("a"), Status::NotFound("a"));
    EXPECT_FALSE(Status::NotFound("a") == Status::NotFound("b"));
    EXPECT_FALSE(Status::NotFound("a") == Status::Internal("a"));
}

TEST(StatusTest, IsPrintedAsItsText) {
    std::ostringstream out;
    out << Status::NotFound("x");
    EXPECT_EQ(out.str(), "not found: x");
}

TEST(ResultTest, HoldsAValueThatCannotBeCopied) {
    Result<std::unique_ptr<int>> result = std::make_unique<int>(4);
    ASSERT_TRUE(result.ok());
    EXPECT_TRUE(result.status().ok());
    const std::unique_ptr<int> taken = std::move(result).value();
    EXPECT_EQ(*taken, 4);
}

TEST(ResultTest, FallsBackOnlyWithoutAValue) {
    EXPECT_EQ(Result<int>(3).value_or(9), 3);
    EXPECT_EQ(Result<int>(Status::NotFound("x")).value_or(9), 9);
}

TEST(ResultDeathTest, TakingAValueThatIsNotThereEndsTheProcessWithTheStatus) {
    const Result<int> result = Status::NotFound("no such subject");
    EXPECT_DEATH((void)result.value(), "not found: no such subject");
}

TEST(ResultDeathTest, AnOkStatusIsNoResult) {
    EXPECT_DEATH((void)Result<int>{Status::Ok()}, "needs a status that is not ok");
}

TEST(CheckDeathTest, ABrokenInvariantSaysWhatWhereAndWhy) {
    const int flushed = 3;
    EXPECT_DEATH(QMQ_CHECK(flushed <= 2, "flushed 3, end 2"),
                 "status_test.cc:[0-9]+: broken invariant: flushed <= 2 \\(flushed 3, end 2\\)");
    QMQ_CHECK(flushed == 3, "an invariant that holds costs nothing");
}

}  // namespace
}  // namespace qmq
