#include "sdk/client/src/send/message_stage.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace qmq::internal {
namespace {

constexpr std::size_t kMaxBytes = 64U << 20;

/// Stages `text`; `alive` counts the callbacks that exist.
StagedMessage* Put(MessageStage& stage, const std::string& text, std::shared_ptr<int> alive) {
    const auto [message, bytes] = stage.Take(text.size());
    std::memcpy(bytes, text.data(), text.size());
    message->callback = [alive = std::move(alive)](const SendReceipt&) {};
    return message;
}

TEST(MessageStageTest, EachMessageKeepsItsBytesHoweverLargeTheyAre) {
    const auto alive = std::make_shared<int>();
    MessageStage stage(kMaxBytes);
    std::vector<std::string> texts;
    std::vector<StagedMessage*> messages;
    for (std::size_t i = 0; i < 2'000; ++i) {
        // Some larger than any chunk of memory, some empty.
        texts.emplace_back(i % 100 == 99 ? 200'000 : i * 7 % 300, static_cast<char>('a' + i % 26));
        messages.push_back(Put(stage, texts.back(), alive));
    }
    EXPECT_EQ(alive.use_count(), 2'001);
    for (std::size_t i = 0; i < texts.size(); ++i) {
        EXPECT_EQ(messages[i]->encoded(), texts[i]);
        MessageStage::Drop(messages[i]);
    }
    EXPECT_EQ(alive.use_count(), 1);
}

TEST(MessageStageTest, MessagesThatNobodyTakesAreDroppedWithTheirBatch) {
    const auto alive = std::make_shared<int>();
    MessageStage stage(kMaxBytes);
    {
        StagedMessages of_batch;
        for (int i = 0; i < 1'000; ++i) {
            of_batch.Add(Put(stage, std::string(200, 'x'), alive));
        }
        EXPECT_EQ(of_batch.count(), 1'000U);
        StagedMessages moved(std::move(of_batch));
        EXPECT_EQ(moved.count(), 1'000U);
        EXPECT_EQ(alive.use_count(), 1'001);
    }
    EXPECT_EQ(alive.use_count(), 1);
}

TEST(MessageStageTest, AMessageMayOutliveTheStage) {
    const auto alive = std::make_shared<int>();
    StagedMessages of_batch;
    {
        MessageStage stage(kMaxBytes);
        for (int i = 0; i < 1'000; ++i) {
            of_batch.Add(Put(stage, "text", alive));
        }
    }
    EXPECT_EQ(of_batch.last()->encoded(), "text");
    of_batch = StagedMessages();
    EXPECT_EQ(alive.use_count(), 1);
}

TEST(MessageStageTest, ThereIsRoomForAsManyBytesAsItMayTake) {
    const auto alive = std::make_shared<int>();
    MessageStage stage(1U << 20);
    StagedMessages of_batch;
    const std::string text(1'000, 'x');
    while (stage.HasRoom(text.size()) && of_batch.count() < 2'000) {
        of_batch.Add(Put(stage, text, alive));
    }
    EXPECT_GT(of_batch.count(), 800U);
    EXPECT_LT(of_batch.count(), 1'049U);
    EXPECT_FALSE(stage.HasRoom(1U << 20));
    of_batch = StagedMessages();
    EXPECT_TRUE(stage.HasRoom(text.size()));
}

}  // namespace
}  // namespace qmq::internal
