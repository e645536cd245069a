// The worked example of docs/design/batch-format.md, read out of the document.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "tests/unit/core/batch_samples.h"

namespace qmq {
namespace {

using testing::At;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::int64_t kCreated = 1'700'000'000'000;

// The bytes between "```hex" and "```". Each line's offset is checked on the way.
std::string ExampleBytes() {
    std::ifstream document(QMQ_SOURCE_DIR "/docs/design/batch-format.md");
    std::string line;
    while (std::getline(document, line) && line != "```hex") {
    }
    std::string bytes;
    while (std::getline(document, line) && line != "```") {
        std::istringstream words(line.substr(0, line.find('#')));
        std::string word;
        words >> word;
        EXPECT_EQ(std::stoul(word, nullptr, 16), bytes.size()) << line;
        while (words >> word) {
            bytes.push_back(static_cast<char>(std::stoi(word, nullptr, 16)));
        }
    }
    return bytes;
}

TEST(BatchFormatTest, TheExampleIsWhatABuilderWrites) {
    Message first("s");
    first.SetId("id-0").SetCreatedTime(At(kCreated)).SetBody("hello");
    Message second("s");
    second.SetId("id-1")
        .SetCreatedTime(At(kCreated + 1))
        .SetDeliverAt(At(kCreated + 60'000))
        .AddTag("domestic")
        .AddTag("paid")
        .SetOrderingKey("c5")
        .Set("orderId", "77")
        .Set("amount", 12.5);
    // Only a broker sets the attempt.
    const std::string sent = testing::MakeBatch({second});
    const BatchView view = BatchView::Trusted(sent);
    const std::string retry =
        EncodeRetry(view.body(), ReadHead(view.body(), 0).value(), 3, At(kCreated + 60'000), "");
    const std::string plain = testing::MakeBatch({first});
    const std::string body =
        std::string(BatchView::Trusted(plain).body()).append(BatchView::Trusted(retry).body());
    EXPECT_EQ(MakeBatchHeader(2, body).append(body), ExampleBytes());
}

TEST(BatchFormatTest, TheExampleReadsAsTheDocumentSays) {
    const auto messages = DecodeMessages("s", Slice::Own(ExampleBytes()), 1, {});
    ASSERT_TRUE(messages.ok()) << messages.status();
    ASSERT_EQ(messages->size(), 2U);
    const Message& first = messages->at(0);
    EXPECT_EQ(first.id(), "id-0");
    EXPECT_EQ(first.created_time(), At(kCreated));
    EXPECT_EQ(first.attempt(), 1U);
    EXPECT_THAT(first.properties(), IsEmpty());
    EXPECT_EQ(first.body(), "hello");
    const Message& second = messages->at(1);
    EXPECT_EQ(second.id(), "id-1");
    EXPECT_EQ(second.created_time(), At(kCreated + 1));
    EXPECT_EQ(second.deliver_at(), At(kCreated + 60'000));
    EXPECT_EQ(second.attempt(), 3U);
    EXPECT_THAT(second.tags(), ElementsAre("domestic", "paid"));
    EXPECT_EQ(second.ordering_key(), "c5");
    EXPECT_EQ(second.Get<std::string>("orderId"), "77");
    EXPECT_EQ(second.Get<double>("amount"), 12.5);
    EXPECT_EQ(second.body(), "");
}

TEST(BatchFormatTest, DecodedMessagesEncodeToTheSameBytes) {
    const std::string example = ExampleBytes();
    const auto messages = DecodeMessages("s", Slice::Borrow(example), 1, {});
    ASSERT_TRUE(messages.ok()) << messages.status();
    EXPECT_EQ(testing::MakeBatch(*messages), example);
}

}  // namespace
}  // namespace qmq
