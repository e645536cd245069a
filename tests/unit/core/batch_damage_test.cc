#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "qmq/random.h"

#include "tests/unit/core/batch_samples.h"

namespace qmq {
namespace {

using testing::FullMessage;
using ::testing::HasSubstr;
using testing::MakeBatch;
using testing::Put;
using testing::Reseal;

// Where things lie in a batch of one message with id "id", tag "t", key "k", property "n" = "v" and
// body "b", no due time and no attempt.
constexpr std::size_t kSize = BatchHeader::kBytes;
constexpr std::size_t kFlags = kSize + 4;
constexpr std::size_t kTagCount = kSize + 5;
constexpr std::size_t kIdSize = kSize + 6;
constexpr std::size_t kTagSize = kSize + 18;
constexpr std::size_t kKeySize = kSize + 21;
constexpr std::size_t kPropertyBytes = kSize + 24;
constexpr std::size_t kKind = kSize + 28;
constexpr std::size_t kNameSize = kSize + 29;
constexpr std::size_t kValueSize = kSize + 31;

std::string Small() {
    Message message("s");
    message.SetId("id").AddTag("t").SetOrderingKey("k").Set("n", "v").SetBody("b");
    return MakeBatch({message});
}

struct Damage {
    std::function<void(std::string&)> make;
    StatusCode code;
    std::string_view message;
};

void ExpectEach(const std::vector<Damage>& cases, const BatchLimits& limits = {}) {
    for (const Damage& damage : cases) {
        std::string batch = Small();
        damage.make(batch);
        Reseal(batch);
        const Status status = BatchView::Parse(batch, limits).status();
        EXPECT_EQ(status.code(), damage.code) << damage.message;
        EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(damage.message)));
    }
}

constexpr StatusCode kInvalid = StatusCode::kInvalidArgument;

TEST(BatchDamageTest, TheUndamagedBatchIsGood) {
    EXPECT_TRUE(BatchView::Parse(Small(), {}).ok());
    std::string same = Small();
    Reseal(same);
    EXPECT_EQ(same, Small());
}

TEST(BatchDamageTest, EveryTruncationIsRefused) {
    const std::string batch = MakeBatch({FullMessage(), Message("s"), FullMessage()});
    for (std::size_t size = 0; size < batch.size(); ++size) {
        const std::string cut = batch.substr(0, size);
        EXPECT_EQ(BatchView::Parse(cut, {}).status().code(), kInvalid) << size;
    }
    EXPECT_EQ(BatchView::Parse(batch + "x", {}).status().code(), kInvalid);
}

TEST(BatchDamageTest, EveryFlippedBitIsRefused) {
    const std::string batch = MakeBatch({FullMessage(), Message("s")});
    for (std::size_t bit = 0; bit < batch.size() * 8; ++bit) {
        std::string flipped = batch;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
        const Status status = BatchView::Parse(flipped, {}).status();
        const bool in_size_field = bit / 8 >= 12 && bit / 8 < 16;
        EXPECT_EQ(status.code(), in_size_field ? kInvalid : StatusCode::kDataLoss) << bit;
    }
}

// Whatever a peer signs: an answer, and no byte outside of the batch is touched (the sanitizer of
// addresses watches).
TEST(BatchDamageTest, FlippedBitsAndCutsUnderAFittingChecksumNeverCrash) {
    const std::string batch = MakeBatch({FullMessage(), Message("s")});
    for (std::size_t bit = 32; bit < batch.size() * 8; ++bit) {
        std::string flipped = batch;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
        Reseal(flipped);
        (void)DecodeMessages("s", Slice::Own(flipped), 1, {});
    }
    for (std::size_t size = BatchHeader::kBytes; size < batch.size(); ++size) {
        std::string cut = batch.substr(0, size);
        Put(static_cast<std::uint32_t>(size - BatchHeader::kBytes), 12, cut);
        Reseal(cut);
        EXPECT_FALSE(DecodeMessages("s", Slice::Own(cut), 1, {}).ok()) << size;
    }
}

TEST(BatchDamageTest, RandomBytesUnderAFittingChecksumNeverCrash) {
    constexpr std::uint64_t kSeed = 21;
    Random random(kSeed);
    const std::string batch = MakeBatch({FullMessage(), FullMessage()});
    for (int i = 0; i < 20'000; ++i) {
        std::string damaged = batch;
        for (std::uint64_t n = random.Below(8); n < 8; ++n) {
            const std::size_t at = 16 + static_cast<std::size_t>(random.Below(batch.size() - 16));
            damaged[at] = static_cast<char>(random.Next());
        }
        Reseal(damaged);
        (void)DecodeMessages("s", Slice::Own(damaged), 1, {});
    }
}

TEST(BatchDamageTest, AWrongHeaderIsRefusedByItsByte) {
    ExpectEach({
        {[](auto& b) { b[4] = 2; }, StatusCode::kUnimplemented, "batch encoding 2 (byte 4)"},
        {[](auto& b) { b[5] = 1; }, kInvalid, "bytes 5 to 7 are reserved"},
        {[](auto& b) { b[6] = 1; }, kInvalid, "bytes 5 to 7 are reserved"},
        {[](auto& b) { b[7] = 1; }, kInvalid, "bytes 5 to 7 are reserved"},
        {[](auto& b) { Put(0U, 8, b); }, kInvalid, "byte 8: a count of 0 messages"},
        {[](auto& b) { Put(2U, 8, b); }, kInvalid, "byte 8: a count of 2 messages, but 1 follow"},
        {[](auto& b) { Put(65'537U, 8, b); }, kInvalid, "1 to 65536 are accepted"},
        {[](auto& b) { Put(1U, 12, b); }, kInvalid, "byte 12: the header says 1 bytes follow it"},
        {[](auto& b) { b.resize(15); }, kInvalid, "the header alone has 16"},
    });
}

TEST(BatchDamageTest, MoreMessagesThanCountedAreRefused) {
    std::string batch = MakeBatch({Message("s"), Message("s")});
    Put(1U, 8, batch);
    Reseal(batch);
    EXPECT_THAT(std::string(BatchView::Parse(batch, {}).status().message()),
                HasSubstr("bytes follow the last of 1 messages"));
}

TEST(BatchDamageTest, WhatIsOverTheLimitsIsRefused) {
    BatchLimits limits;
    limits.max_batch_bytes = Small().size() - 1;
    ExpectEach({{[](auto&) {}, kInvalid, "send smaller batches or raise the limit"}}, limits);
    limits = {};
    limits.max_message_count = 1;
    const std::string two = MakeBatch({Message("s"), Message("s")});
    EXPECT_THAT(std::string(BatchView::Parse(two, limits).status().message()),
                HasSubstr("a count of 2 messages; 1 to 1 are accepted"));
    EXPECT_TRUE(BatchView::Parse(Small(), limits).ok());
}

TEST(BatchDamageTest, EveryPoisonInAMessageIsRefusedWithItsPlace) {
    ExpectEach({
        {[](auto& b) { Put(3U, kSize, b); }, kInvalid, "message 0 of the batch, at byte 16"},
        {[](auto& b) { Put(0xFFFF'FFFFU, kSize, b); }, kInvalid, "reaches beyond the batch"},
        {[](auto& b) { b[kFlags] = 8; }, kInvalid, "flags that this version does not know"},
        {[](auto& b) { b[kTagCount] = 11; }, kInvalid, "more than 10 tags"},
        {[](auto& b) { Put(std::uint16_t{0}, kIdSize, b); }, kInvalid, "id is empty"},
        {[](auto& b) { Put(std::uint16_t{401}, kIdSize, b); }, kInvalid, "id is empty or over 400"},
        {[](auto& b) { Put(std::uint16_t{300}, kIdSize, b); }, kInvalid, "beyond its end"},
        {[](auto& b) { Put(std::uint16_t{0}, kTagSize, b); }, kInvalid, "a tag is empty"},
        {[](auto& b) { Put(std::uint16_t{32'768}, kTagSize, b); }, kInvalid, "a tag is empty or"},
        {[](auto& b) { Put(std::uint16_t{99}, kTagSize, b); }, kInvalid, "beyond its end"},
        {[](auto& b) { Put(std::uint16_t{0}, kKeySize, b); }, kInvalid, "ordering key is empty"},
        {[](auto& b) { Put(std::uint16_t{99}, kKeySize, b); }, kInvalid, "beyond its end"},
        {[](auto& b) { Put(11U, kPropertyBytes, b); }, kInvalid, "property block reaches beyond"},
        {[](auto& b) { Put(0xFFFF'FFFFU, kPropertyBytes, b); }, kInvalid, "property block"},
    });
}

TEST(BatchDamageTest, AnAttemptOfZeroIsRefused) {
    const std::string batch = MakeBatch({FullMessage()});
    const BatchView view = BatchView::Trusted(batch);
    std::string retry = EncodeRetry(view.body(), ReadHead(view.body(), 0).value(), 2, {}, "");
    Put(std::uint16_t{0}, kSize + 16, retry);
    Reseal(retry);
    EXPECT_THAT(std::string(BatchView::Parse(retry, {}).status().message()),
                HasSubstr("its attempt is 0"));
}

// The broker takes these, for it does not look: the consumer says what is wrong.
TEST(BatchDamageTest, MalformedPropertiesPassTheBrokerAndAreRefusedByTheConsumer) {
    const std::vector<Damage> cases = {
        {[](auto& b) { b[kKind] = 6; }, kInvalid, "its kind is unknown"},
        {[](auto& b) { Put(std::uint16_t{0}, kNameSize, b); }, kInvalid, "its name is empty"},
        {[](auto& b) { Put(std::uint16_t{2}, kNameSize, b); }, kInvalid, "reaches beyond"},
        {[](auto& b) { Put(0xFFFF'FFFFU, kValueSize, b); }, kInvalid, "reaches beyond the block"},
        {[](auto& b) { Put(0U, kValueSize, b); }, kInvalid, "property 1 at byte 8 of a block of 9"},
    };
    for (const Damage& damage : cases) {
        std::string batch = Small();
        damage.make(batch);
        Reseal(batch);
        EXPECT_TRUE(BatchView::Parse(batch, {}).ok()) << damage.message;
        for (const Status& status : {DecodeMessages("s", Slice::Own(batch), 1, {}).status(),
                                     MessageReader::Make("s", Slice::Own(batch), 1, {}).status()}) {
            EXPECT_EQ(status.code(), damage.code) << damage.message;
            EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(damage.message)));
            EXPECT_THAT(std::string(status.message()),
                        HasSubstr("message 0 of the batch (id \"id\")"));
        }
    }
}

}  // namespace
}  // namespace qmq
