#include "qmq/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>

#include "qmq/id.h"

#include "tests/unit/core/batch_samples.h"

namespace qmq {
namespace {

using testing::At;
using ::testing::ElementsAre;
using testing::FullMessage;
using ::testing::HasSubstr;
using testing::MakeBatch;

std::vector<MessageHead> Heads(const BatchView& view) {
    std::vector<MessageHead> heads;
    BatchView::Iterator iterator = view.begin_heads();
    while (std::optional<MessageHead> head = iterator.Next()) {
        heads.push_back(*head);
    }
    return heads;
}

TEST(BatchBuilderTest, CountsItsBytesAndIsEmptyAgainAfterFinish) {
    BatchBuilder builder;
    EXPECT_TRUE(builder.empty());
    builder.Add(FullMessage(), "", At(1));
    builder.Add(FullMessage(), "", At(1));
    EXPECT_EQ(builder.count(), 2U);
    const std::size_t promised = builder.bytes();
    const std::string first = builder.Finish();
    EXPECT_EQ(first.size(), promised);
    EXPECT_TRUE(builder.empty());
    EXPECT_EQ(builder.bytes(), BatchHeader::kBytes);
    builder.Add(FullMessage(), "", At(1));
    builder.Add(FullMessage(), "", At(1));
    EXPECT_EQ(builder.Finish(), first);
}

TEST(BatchBuilderTest, WhatWasEncodedBeforeMakesTheSameBatch) {
    const std::vector<Message> messages = {Message("s").SetBody("x"), FullMessage()};
    const std::string id(MessageIdGenerator::kLength, 'i');
    BatchBuilder direct;
    BatchBuilder in_steps;
    for (const Message& message : messages) {
        direct.Add(message, id, At(1));
        std::string encoded(message.encoded_bytes(), '\0');
        const EncodedMessage written = EncodeMessage(message, id, At(1), encoded.data());
        EXPECT_EQ(written.id, message.id().empty() ? id : message.id());
        EXPECT_EQ(written.bytes, encoded.size());
        in_steps.AddEncoded(encoded);
    }
    EXPECT_EQ(in_steps.bytes(), direct.bytes());
    EXPECT_EQ(in_steps.Finish(), direct.Finish());
}

TEST(BatchViewTest, ParseSaysWhetherSomeMessageHasADueTime) {
    EXPECT_FALSE(BatchView::Parse(MakeBatch({Message("s")}), {})->may_have_due_times());
    const std::string mixed = MakeBatch({Message("s"), FullMessage(), Message("s")});
    EXPECT_TRUE(BatchView::Parse(mixed, {})->may_have_due_times());
    EXPECT_TRUE(BatchView::Trusted(MakeBatch({Message("s")})).may_have_due_times());
}

TEST(BatchViewTest, GivesTheHeadOfEachMessage) {
    const std::string batch = MakeBatch({Message("s"), FullMessage()});
    const Result<BatchView> view = BatchView::Parse(batch, {});
    ASSERT_TRUE(view.ok()) << view.status();
    EXPECT_EQ(view->count(), 2U);
    EXPECT_EQ(view->header().body_bytes, view->body().size());
    const std::vector<MessageHead> heads = Heads(*view);
    ASSERT_EQ(heads.size(), 2U);
    EXPECT_EQ(heads[0].id, "generated-0");
    EXPECT_EQ(heads[0].created, At(1'000));
    EXPECT_EQ(heads[0].deliver_at, std::nullopt);
    EXPECT_EQ(heads[0].attempt, 1U);
    EXPECT_EQ(heads[0].tag_count, 0);
    EXPECT_EQ(heads[0].key, "");
    EXPECT_EQ(heads[0].offset, 0U);
    EXPECT_EQ(heads[1].id, "order-77");
    EXPECT_EQ(heads[1].deliver_at, At(5'000));
    EXPECT_EQ(heads[1].key, "customer-5");
    EXPECT_EQ(heads[1].tag_count, 2);
    EXPECT_EQ(heads[1].offset, heads[0].bytes);
    EXPECT_EQ(heads[1].offset + heads[1].bytes, view->body().size());
}

TEST(BatchViewTest, TrustedReadsTheSameAsParse) {
    const std::string batch = MakeBatch({FullMessage()});
    const BatchView view = BatchView::Trusted(batch);
    EXPECT_EQ(view.count(), 1U);
    EXPECT_EQ(view.header().crc32c, BatchView::Parse(batch, {})->header().crc32c);
    EXPECT_EQ(Heads(view).at(0).id, "order-77");
}

TEST(BatchViewDeathTest, TrustedWantsAHeader) {
    EXPECT_DEATH((void)BatchView::Trusted("short"), "a batch that was checked has a header");
}

TEST(BatchViewTest, ReadHeadFindsAMessageByItsOffset) {
    const std::string batch = MakeBatch({Message("s"), FullMessage()});
    const BatchView view = BatchView::Trusted(batch);
    const MessageHead second = Heads(view).at(1);
    const Result<MessageHead> read = ReadHead(view.body(), second.offset);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->id, "order-77");
    for (const std::size_t offset : {view.body().size(), view.body().size() + 1, SIZE_MAX}) {
        EXPECT_EQ(ReadHead(view.body(), offset).status().code(), StatusCode::kInvalidArgument);
    }
}

TEST(TagTest, AMaskHasTheBitOfEachTagAndHeadsKnowTheirTags) {
    const std::string batch = MakeBatch({FullMessage(), Message("s")});
    const std::vector<MessageHead> heads = Heads(BatchView::Trusted(batch));
    EXPECT_EQ(TagMask(heads.at(0)), TagBit("domestic") | TagBit("paid"));
    EXPECT_EQ(TagMask(heads.at(1)), 0U);
    EXPECT_TRUE(HeadHasTag(heads.at(0), "paid"));
    EXPECT_FALSE(HeadHasTag(heads.at(0), "pai"));
    EXPECT_FALSE(HeadHasTag(heads.at(1), "paid"));
}

// The mask is stored in indexes: a change of these numbers would hide messages of old files.
TEST(TagTest, TheBitOfATagNeverChanges) {
    EXPECT_EQ(std::countr_zero(TagBit("")), 0);
    EXPECT_EQ(std::countr_zero(TagBit("a")), 10);
    EXPECT_EQ(std::countr_zero(TagBit("domestic")), 11);
    EXPECT_EQ(std::countr_zero(TagBit("international")), 11);
    EXPECT_EQ(std::countr_zero(TagBit("a tag of more than sixteen bytes")), 23);
}

TEST(TagTest, TagsSpreadOverAllBits) {
    std::vector<int> counts(32);
    for (int i = 0; i < 3'200; ++i) {
        const std::uint32_t bit = TagBit("tag" + std::to_string(i));
        ASSERT_TRUE(std::has_single_bit(bit));
        ++counts.at(static_cast<std::size_t>(std::countr_zero(bit)));
    }
    for (const int count : counts) {
        EXPECT_NEAR(count, 100, 50);
    }
}

TEST(MakeBatchHeaderTest, TurnsSomeMessagesOfABatchIntoABatch) {
    const std::string batch = MakeBatch({Message("s"), FullMessage(), Message("s")});
    const BatchView view = BatchView::Trusted(batch);
    const MessageHead middle = Heads(view).at(1);
    const std::string_view part = view.body().substr(middle.offset, middle.bytes);
    const std::string cut = MakeBatchHeader(1, part).append(part);
    const auto messages = DecodeMessages("order.paid", Slice::Own(cut), 1, {});
    ASSERT_TRUE(messages.ok()) << messages.status();
    EXPECT_EQ(messages->at(0).id(), "order-77");
}

TEST(MessageReaderTest, GivesTheMessagesOneByOne) {
    const Slice batch = Slice::Own(MakeBatch({Message("s"), FullMessage()}));
    Result<MessageReader> reader = MessageReader::Make("order.paid", batch, 2, {});
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ(reader->count(), 2U);
    EXPECT_EQ(reader->Next()->id(), "generated-0");
    const std::optional<Message> second = reader->Next();
    EXPECT_EQ(second->id(), "order-77");
    EXPECT_EQ(second->attempt(), 2U);
    EXPECT_FALSE(reader->Next());
    EXPECT_FALSE(reader->Next());
}

class RetryTest : public ::testing::Test {
protected:
    Message Retry(const Message& message, std::string_view error) {
        const std::string batch = MakeBatch({Message("s"), message});
        const BatchView view = BatchView::Trusted(batch);
        const MessageHead head = Heads(view).at(1);
        const std::string retry = EncodeRetry(view.body(), head, 4, At(9'000), error);
        return std::move(DecodeMessages("order.paid", Slice::Own(retry), 1, {}).value().at(0));
    }
};

TEST_F(RetryTest, KeepsTheOriginalAndSetsAttemptDueTimeAndError) {
    const Message retry = Retry(FullMessage(), "no stock");
    EXPECT_EQ(retry.attempt(), 4U);
    EXPECT_EQ(retry.deliver_at(), At(9'000));
    EXPECT_EQ(retry.last_error(), "no stock");
    EXPECT_EQ(retry.id(), "order-77");
    EXPECT_EQ(retry.created_time(), At(4'000));
    EXPECT_THAT(retry.tags(), ElementsAre("domestic", "paid"));
    EXPECT_EQ(retry.ordering_key(), "customer-5");
    EXPECT_EQ(retry.Get<std::string>("orderId"), "77");
    EXPECT_EQ(retry.body(), "the body");
}

TEST_F(RetryTest, TheNewErrorReplacesTheOldAndNoneErasesIt) {
    const Message second = Retry(Retry(FullMessage(), "first"), "second");
    EXPECT_EQ(second.last_error(), "second");
    EXPECT_EQ(second.properties().size(), FullMessage().properties().size() + 1);
    EXPECT_EQ(Retry(second, "").last_error(), "");
}

TEST_F(RetryTest, ALongErrorIsCutBetweenCharacters) {
    std::string error = "x";
    for (int i = 0; i < 3'000; ++i) {
        error.append("é");
    }
    EXPECT_EQ(Retry(FullMessage(), error).last_error(), error.substr(0, 4'095));
    EXPECT_EQ(Retry(FullMessage(), error.substr(1)).last_error(), error.substr(1, 4'096));
}

TEST_F(RetryTest, AnAttemptBeyondItsFieldStaysAtTheHighest) {
    const std::string batch = MakeBatch({FullMessage()});
    const BatchView view = BatchView::Trusted(batch);
    const std::string retry = EncodeRetry(view.body(), Heads(view).at(0), 70'000, {}, "");
    const BatchView again = BatchView::Trusted(retry);
    EXPECT_EQ(Heads(again).at(0).attempt, 65'535U);
    EXPECT_EQ(Heads(again).at(0).deliver_at, std::nullopt);
}

// A broker does not walk properties, so it may meet ones that cannot be walked.
TEST_F(RetryTest, MalformedPropertiesTravelOnForTheConsumerToReport) {
    Message message("s");
    message.SetId("id").Set("name", "value");
    std::string batch = MakeBatch({message});
    const std::size_t property = BatchHeader::kBytes + 16 + 2 + 4;
    testing::Put(std::uint16_t{900}, property + 1, batch);
    testing::Reseal(batch);
    const Result<BatchView> view = BatchView::Parse(batch, {});
    ASSERT_TRUE(view.ok()) << view.status();
    const std::string retry = EncodeRetry(view->body(), Heads(*view).at(0), 2, {}, "failed");
    EXPECT_TRUE(BatchView::Parse(retry, {}).ok());
    const Status status = DecodeMessages("s", Slice::Own(retry), 1, {}).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr("reaches beyond the block"));
}

}  // namespace
}  // namespace qmq
