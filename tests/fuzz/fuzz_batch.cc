// Batches from outside. The first bytes of each input are the header's; the checksum is made to
// fit, for no fuzzer finds one, and every other decoder lies behind it.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "qmq/batch.h"
#include "qmq/crc32c.h"

namespace {

using namespace qmq;  // NOLINT(google-build-using-namespace): a program of one file.

void Require(bool condition) {
    if (!condition) {
        std::abort();
    }
}

// Everything that an application can ask of a message from outside.
void Use(const Message& message) {
    std::size_t bytes = message.body().size();
    for (const Property& property : message.properties()) {
        bytes += message.Find<std::string>(property.name).value_or("").size();
        (void)message.Find<std::int64_t>(property.name);
        (void)message.Find<double>(property.name);
    }
    for (const std::string_view tag : message.tags()) {
        Require(message.HasTag(tag));
    }
    Require(message.tags().size() <= Message::kMaxTags);
    Message copy = message;
    copy.Set("added", static_cast<std::int64_t>(bytes));
    Require(copy.Get<std::int64_t>("added") == static_cast<std::int64_t>(bytes));
}

// What was decoded must encode to something that decodes to the same.
void RoundTrip(const std::vector<Message>& messages) {
    BatchBuilder builder;
    for (const Message& message : messages) {
        Use(message);
        builder.Add(message, "unused", WallTime(std::chrono::milliseconds(1)));
    }
    const auto again = DecodeMessages("s", Slice::Own(builder.Finish()), 1, {});
    Require(again.ok());
    Require(again->size() == messages.size());
    for (std::size_t i = 0; i < messages.size(); ++i) {
        Require(again->at(i).id() == messages[i].id() && again->at(i).body() == messages[i].body());
        Require(again->at(i).tags() == messages[i].tags());
        Require(again->at(i).attempt() == messages[i].attempt());
    }
}

void RetryEach(const BatchView& view) {
    BatchView::Iterator heads = view.begin_heads();
    std::uint32_t count = 0;
    while (const std::optional<MessageHead> head = heads.Next()) {
        ++count;
        (void)TagMask(*head);
        const std::string retry = EncodeRetry(view.body(), *head, 2, std::nullopt, "failed");
        Require(BatchView::Parse(retry, {}).ok());
    }
    Require(count == view.count());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string bytes(reinterpret_cast<const char*>(data), size);
    (void)BatchView::Parse(bytes, {});
    (void)ReadHead(bytes, size == 0 ? 0 : data[0]);
    if (bytes.size() >= BatchHeader::kBytes) {
        const std::string_view body = std::string_view(bytes).substr(BatchHeader::kBytes);
        const auto count = static_cast<std::uint8_t>(bytes[8]);
        bytes.replace(0, BatchHeader::kBytes, MakeBatchHeader(count, body));
    }
    const Slice batch = Slice::Own(std::move(bytes));
    if (const auto view = BatchView::Parse(batch.bytes(), {}); view.ok()) {
        RetryEach(*view);
    }
    if (const auto messages = DecodeMessages("s", batch, 1, {}); messages.ok()) {
        RoundTrip(*messages);
    }
    return 0;
}
