#include "plugins/grpc/codec/status_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "qmq/v1/broker.pb.h"

namespace qmq::rpc {
namespace {

constexpr int kCodes = 13;

TEST(StatusMapTest, EveryCodeOfOursComesBackFromGrpcAsItself) {
    std::set<grpc::StatusCode> used;
    for (int i = 0; i < kCodes; ++i) {
        const auto code = static_cast<StatusCode>(i);
        EXPECT_EQ(FromGrpcCode(ToGrpcCode(code)), code) << i;
        used.insert(ToGrpcCode(code));
    }
    EXPECT_EQ(used.size(), static_cast<std::size_t>(kCodes));
}

TEST(StatusMapTest, EveryCodeOfGrpcMeansSomethingHere) {
    for (int i = 1; i <= 16; ++i) {
        EXPECT_NE(FromGrpcCode(static_cast<grpc::StatusCode>(i)), StatusCode::kOk) << i;
    }
    EXPECT_EQ(FromGrpcCode(grpc::StatusCode::UNAUTHENTICATED), StatusCode::kPermissionDenied);
}

TEST(StatusMapTest, TheTextTravelsWithTheCode) {
    const Status status = Status::ResourceExhausted("disk of 票 is full");
    EXPECT_EQ(FromGrpc(ToGrpc(status)), status);
    EXPECT_TRUE(FromGrpc(grpc::Status::OK).ok());
}

TEST(StatusMapTest, TheMessageIsTheOneOfTheProtocolForEveryCode) {
    for (int i = 1; i < kCodes; ++i) {
        const Status status(static_cast<StatusCode>(i), "why " + std::to_string(i));
        std::string bytes;
        PutStatusMessage(&bytes, status);
        EXPECT_EQ(bytes.size(), StatusMessageBytes(status));
        qmq::v1::Status message;
        ASSERT_TRUE(message.ParseFromString(bytes));
        EXPECT_EQ(message.code(), i);
        EXPECT_EQ(message.message(), status.message());
        EXPECT_EQ(ReadStatusMessage(bytes), status);
    }
}

TEST(StatusMapTest, ACodeThatThisBuildDoesNotKnowIsAnErrorThatKeepsTheText) {
    qmq::v1::Status message;
    message.set_code(static_cast<qmq::v1::Status::Code>(99));
    message.set_message("from the future");
    const Status read = ReadStatusMessage(message.SerializeAsString());
    EXPECT_EQ(read.code(), StatusCode::kInternal);
    EXPECT_THAT(std::string(read.message()), testing::HasSubstr("from the future"));
    EXPECT_FALSE(ReadStatusMessage("").ok());
}

}  // namespace
}  // namespace qmq::rpc
