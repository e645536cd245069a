// A handler that is given its delivery, and what its exceptions mean for that.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/decisions.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::DecisionsAt;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ManualHandlerTest : public testing::ClientFixture {
protected:
    ManualHandlerTest() : client(MakeClient()) {}

    Client client;
    std::vector<Delivery> kept;
    std::vector<std::uint32_t> attempts;
};

TEST_F(ManualHandlerTest, ADeliveryIsMovedAndNeverCopied) {
    EXPECT_TRUE(std::is_nothrow_move_constructible_v<Delivery>);
    EXPECT_TRUE(std::is_nothrow_move_assignable_v<Delivery>);
    EXPECT_FALSE(std::is_copy_constructible_v<Delivery>);
    EXPECT_FALSE(std::is_copy_assignable_v<Delivery>);
    EXPECT_FALSE(std::is_default_constructible_v<Delivery>);
}

TEST_F(ManualHandlerTest, WhatItAsksForByAnExceptionIsDone) {
    const Subscription subscription = MakeSubscription(client, Consumer(), [&](Delivery delivery) {
        attempts.push_back(delivery.message().attempt());
        switch (attempts.size()) {
            case 1:
                throw RetryLater(minutes(5), "locked");
            case 2:
                throw RetryLater("still locked");
            case 3:
                throw Later(seconds(2), "busy");
            case 4:
                throw Reject("no such order");
            default:
                delivery.Ack();
        }
    });
    Append(1);
    Advance(milliseconds(1'999));
    EXPECT_THAT(attempts, ElementsAre(1, 2, 3));
    Advance(seconds(1));
    EXPECT_THAT(attempts, ElementsAre(1, 2, 3, 3));
    const std::vector<AckItem> heard = DecisionsAt(broker());
    ASSERT_THAT(heard, SizeIs(4));
    EXPECT_EQ(heard[0].verdict, AckVerdict::kRetry);
    EXPECT_EQ(heard[0].delay, minutes(5));
    EXPECT_EQ(heard[0].error, "locked");
    EXPECT_EQ(heard[1].verdict, AckVerdict::kRetry);
    EXPECT_FALSE(heard[1].delay.has_value());
    EXPECT_EQ(heard[1].error, "still locked");
    EXPECT_EQ(heard[2].verdict, AckVerdict::kRelease);
    EXPECT_EQ(heard[3].verdict, AckVerdict::kDeadLetter);
    EXPECT_EQ(heard[3].error, "no such order");
    EXPECT_FALSE(Logged("the handler threw"));
}

TEST_F(ManualHandlerTest, WhenItThrowsWhatItHasKeptIsDecidedByThat) {
    const Subscription subscription = MakeSubscription(client, Consumer(), [&](Delivery delivery) {
        attempts.push_back(delivery.message().attempt());
        kept.push_back(std::move(delivery));
        if (attempts.size() == 1) {
            throw std::runtime_error("broken");
        }
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(attempts, ElementsAre(1, 2));
    ASSERT_THAT(kept, SizeIs(2));
    std::vector<StatusCode> told;
    for (Delivery& delivery : kept) {
        delivery.Ack([&told](const Status& status) { told.push_back(status.code()); });
        Advance(milliseconds(10));
    }
    EXPECT_THAT(told, ElementsAre(StatusCode::kNotFound, StatusCode::kOk));
    const std::vector<AckItem> retries = DecisionsAt(broker(), AckVerdict::kRetry);
    ASSERT_THAT(retries, SizeIs(1));
    EXPECT_EQ(retries[0].error, "broken");
    EXPECT_FALSE(retries[0].delay.has_value());
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(ManualHandlerTest, WhatItHasDecidedBeforeItThrowsStands) {
    const Subscription subscription = MakeSubscription(client, Consumer(), [&](Delivery delivery) {
        attempts.push_back(delivery.message().attempt());
        if (delivery.message().body() == "0") {
            delivery.Ack();
        } else {
            delivery.Reject("no such order");
        }
        throw std::runtime_error("broken afterwards");
    });
    Append(2);
    Advance(seconds(10));
    EXPECT_THAT(attempts, ElementsAre(1, 1));
    EXPECT_EQ(broker().acked_count(), 1U);
    ASSERT_THAT(broker().dead_letters(), SizeIs(1));
    EXPECT_EQ(broker().dead_letters()[0].second, "no such order");
    EXPECT_THAT(DecisionsAt(broker(), AckVerdict::kRetry), IsEmpty());
    EXPECT_EQ(subscription.stats().failed_count, 1U);
    EXPECT_TRUE(Logged("broken afterwards"));
}

}  // namespace
}  // namespace qmq
