#include "qmq/protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace qmq {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

SubscribeRequest GoodRequest() {
    SubscribeRequest request;
    request.key = {"order.paid", "billing", "host-1", ConsumeSource::kBoth};
    return request;
}

struct Wrong {
    std::function<void(SubscribeRequest&)> spoil;
    std::string_view message;
};

void ExpectEachRefused(const std::vector<Wrong>& cases) {
    for (const Wrong& wrong : cases) {
        SubscribeRequest request = GoodRequest();
        wrong.spoil(request);
        const Status status = Validate(request);
        EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << wrong.message;
        EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(wrong.message)));
    }
}

TEST(DurabilityTest, EveryNameReadsBackAndTheDefaultIsNoChoice) {
    for (const Durability durability : {Durability::kMemory,
                                        Durability::kPageCache,
                                        Durability::kFsync,
                                        Durability::kReplicated,
                                        Durability::kReplicatedFsync}) {
        const Result<Durability> parsed = ParseDurability(ToString(durability));
        ASSERT_TRUE(parsed.ok()) << parsed.status();
        EXPECT_EQ(*parsed, durability);
    }
    EXPECT_EQ(ToString(Durability::kDefault), "default");
    EXPECT_EQ(ToString(Durability::kPageCache), "page_cache");
}

TEST(DurabilityTest, AnUnknownNameIsRefusedWithTheChoices) {
    for (const std::string_view name : {"default", "Fsync", "", "disk"}) {
        const Status status = ParseDurability(name).status();
        EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
        EXPECT_THAT(std::string(status.message()),
                    HasSubstr("memory, page_cache, fsync, replicated, replicated_fsync"));
    }
}

TEST(SendOutcomeTest, HasNames) {
    EXPECT_EQ(ToString(SendOutcome::kPersisted), "persisted");
    EXPECT_EQ(ToString(SendOutcome::kRefused), "refused");
    EXPECT_EQ(ToString(SendOutcome::kUnknown), "unknown");
}

TEST(ValidateTest, TheDefaultsAndTheEdgesOfTheRangesAreGood) {
    SubscribeRequest request = GoodRequest();
    EXPECT_TRUE(Validate(request).ok()) << Validate(request);
    request.filter = {TagMode::kAll, std::vector<std::string>(10, "t")};
    request.retry = {1, milliseconds(0), 1.0, milliseconds(0)};
    request.ack_timeout = std::chrono::hours(12);
    request.reconnect_grace = milliseconds(0);
    EXPECT_TRUE(Validate(request).ok()) << Validate(request);
    request.retry = {65'535, std::chrono::hours(24), 10.0, std::chrono::hours(7 * 24)};
    request.ack_timeout = std::chrono::seconds(1);
    request.reconnect_grace = std::chrono::hours(1);
    request.key.subject = "%RETRY%order.paid%billing";
    EXPECT_TRUE(Validate(request).ok()) << Validate(request);
}

TEST(ValidateTest, AConsumerKeyIsRefusedForEachOfItsFields) {
    ExpectEachRefused({
        {[](auto& r) { r.key.subject = "a/b"; }, "subject \"a/b\""},
        {[](auto& r) { r.key.group = ""; }, "consumer group is empty"},
        {[](auto& r) { r.key.consumer_id = "a/b"; }, "consumer id \"a/b\""},
        {[](auto& r) { r.key.source = static_cast<ConsumeSource>(3); }, "source is 3"},
    });
}

TEST(ValidateTest, ATagFilterIsRefusedForItsModeItsNumberAndEachTag) {
    const std::string long_tag(32'768, 't');
    ExpectEachRefused({
        {[](auto& r) { r.filter.mode = static_cast<TagMode>(3); }, "filter.mode is 3"},
        {[](auto& r) { r.filter.mode = TagMode::kAny; }, "is 0; its range is [1, 10]"},
        {[](auto& r) {
             r.filter = {TagMode::kAll, std::vector<std::string>(11, "t")};
         },
         "is 11; its range is [1, 10]"},
        {[](auto& r) {
             r.filter = {TagMode::kAny, {"a", ""}};
         },
         "filter.tags[1] is \"\""},
        {[](auto& r) {
             r.filter = {TagMode::kAny, {"\xFF"}};
         },
         "filter.tags[0] is \"\\xff\""},
        {[&](auto& r) {
             r.filter = {TagMode::kAny, {long_tag}};
         },
         "of 32768 bytes"},
    });
}

TEST(ValidateTest, ARetryPolicyIsRefusedForEachFieldWithItsValueAndRange) {
    ExpectEachRefused({
        {[](auto& r) { r.retry.max_attempts = 0; },
         "retry.max_attempts is 0; its range is [1, 65535]"},
        {[](auto& r) { r.retry.max_attempts = 65'536; }, "retry.max_attempts is 65536"},
        {[](auto& r) { r.retry.initial_backoff = milliseconds(-1); },
         "retry.initial_backoff is -1 ms; its range is [0 ms, 86400000 ms]"},
        {[](auto& r) { r.retry.initial_backoff = milliseconds(86'400'001); },
         "retry.initial_backoff is 86400001 ms"},
        {[](auto& r) { r.retry.multiplier = 0.5; }, "retry.multiplier is 0.5"},
        {[](auto& r) { r.retry.multiplier = 10.5; }, "retry.multiplier is 10.5"},
        {[](auto& r) { r.retry.multiplier = std::numeric_limits<double>::quiet_NaN(); },
         "retry.multiplier is NaN"},
        {[](auto& r) { r.retry.max_backoff = milliseconds(4'999); },
         "retry.max_backoff is 4999 ms; its range is [5000 ms, 604800000 ms]"},
        {[](auto& r) { r.retry.max_backoff = milliseconds(604'800'001); },
         "retry.max_backoff is 604800001 ms"},
    });
}

TEST(ValidateTest, ASubscribeRequestIsRefusedForItsOwnFields) {
    ExpectEachRefused({
        {[](auto& r) { r.start = static_cast<StartPosition>(0); }, "start is 0"},
        {[](auto& r) { r.ack_timeout = milliseconds(999); },
         "ack_timeout is 999 ms; its range is [1000 ms, 43200000 ms]"},
        {[](auto& r) { r.ack_timeout = milliseconds(43'200'001); }, "ack_timeout is 43200001 ms"},
        {[](auto& r) { r.reconnect_grace = milliseconds(-1); }, "reconnect_grace is -1 ms"},
        {[](auto& r) { r.reconnect_grace = milliseconds(3'600'001); },
         "reconnect_grace is 3600001 ms; its range is [0 ms, 3600000 ms]"},
    });
}

TEST(ValidateTest, AnAckItemIsRefusedForWhatMakesNoSense) {
    AckItem item{AckVerdict::kRetry, 3, 3, milliseconds(0), ""};
    EXPECT_TRUE(Validate(item).ok()) << Validate(item);
    item.delay = milliseconds(-1);
    EXPECT_THAT(std::string(Validate(item).message()), HasSubstr("delay is -1 ms"));
    item = {AckVerdict::kAck, 4, 3, std::nullopt, ""};
    EXPECT_THAT(std::string(Validate(item).message()), HasSubstr("first is 4 and last 3"));
    item = {AckVerdict::kAck, 3, 3, milliseconds(1), ""};
    EXPECT_THAT(std::string(Validate(item).message()), HasSubstr("the verdict is no retry"));
    item = {static_cast<AckVerdict>(6), 3, 3, std::nullopt, ""};
    EXPECT_THAT(std::string(Validate(item).message()), HasSubstr("verdict is 6"));
    item = {AckVerdict::kBegin, 3, 4, std::nullopt, "", Durability::kDefault};
    EXPECT_TRUE(Validate(item).ok()) << Validate(item);
    item.durability = static_cast<Durability>(6);
    EXPECT_THAT(std::string(Validate(item).message()), HasSubstr("durability is 6"));
}

}  // namespace
}  // namespace qmq
