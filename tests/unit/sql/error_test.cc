#include "qmq/sql/error.h"

#include <gtest/gtest.h>

#include <sstream>

namespace qmq::sql {
namespace {

TEST(ErrorClassTest, EachCodeHasTheClassOfTheHeader) {
    EXPECT_EQ(ClassOf(Status::Ok()), ErrorClass::kNone);
    EXPECT_EQ(ClassOf(Status::AlreadyExists("")), ErrorClass::kConstraint);
    EXPECT_EQ(ClassOf(Status::FailedPrecondition("")), ErrorClass::kConstraint);
    EXPECT_EQ(ClassOf(Status::ResourceExhausted("")), ErrorClass::kBusy);
    EXPECT_EQ(ClassOf(Status::Unavailable("")), ErrorClass::kGone);
    EXPECT_EQ(ClassOf(Status::DeadlineExceeded("")), ErrorClass::kGone);
    EXPECT_EQ(ClassOf(Status::Cancelled("")), ErrorClass::kGone);
    EXPECT_EQ(ClassOf(Status::InvalidArgument("")), ErrorClass::kOther);
    EXPECT_EQ(ClassOf(Status::NotFound("")), ErrorClass::kOther);
    EXPECT_EQ(ClassOf(Status::DataLoss("")), ErrorClass::kOther);
    EXPECT_EQ(ClassOf(Status::PermissionDenied("")), ErrorClass::kOther);
    EXPECT_EQ(ClassOf(Status::Unimplemented("")), ErrorClass::kOther);
    EXPECT_EQ(ClassOf(Status::Internal("")), ErrorClass::kOther);
}

TEST(ErrorClassTest, BusyAndLostAreRetryableAndTheOthersAreNot) {
    EXPECT_TRUE(Status::ResourceExhausted("").IsRetryable());
    EXPECT_TRUE(Status::Unavailable("").IsRetryable());
    EXPECT_FALSE(Status::Cancelled("").IsRetryable());
    EXPECT_FALSE(Status::AlreadyExists("").IsRetryable());
    EXPECT_FALSE(Status::FailedPrecondition("").IsRetryable());
    EXPECT_FALSE(Status::InvalidArgument("").IsRetryable());
}

TEST(ErrorClassTest, TheClassSurvivesContext) {
    const auto status = Status::AlreadyExists("id 7").WithContext("insert order");
    EXPECT_EQ(ClassOf(status), ErrorClass::kConstraint);
}

TEST(ErrorClassTest, ClassesAreWrittenAsWords) {
    std::ostringstream out;
    out << ErrorClass::kNone << ' ' << ErrorClass::kConstraint << ' ' << ErrorClass::kBusy << ' '
        << ErrorClass::kGone << ' ' << ErrorClass::kOther;
    EXPECT_EQ(out.str(), "none constraint busy gone other");
}

}  // namespace
}  // namespace qmq::sql
