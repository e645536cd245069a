#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/batch.h"
#include "qmq/crc32c.h"
#include "qmq/message.h"

/// Batches for tests.
namespace qmq::testing {

inline WallTime At(std::int64_t milliseconds) {
    return WallTime(std::chrono::milliseconds(milliseconds));
}

inline std::string MakeBatch(const std::vector<Message>& messages) {
    BatchBuilder builder;
    for (const Message& message : messages) {
        builder.Add(message, "generated-" + std::to_string(builder.count()), At(1'000));
    }
    return builder.Finish();
}

/// A message with everything that a message can have.
inline Message FullMessage() {
    Message message("order.paid");
    message.SetId("order-77")
        .Set("orderId", "77")
        .Set("amount", 12.5)
        .Set("express", true)
        .AddTag("domestic")
        .AddTag("paid")
        .SetOrderingKey("customer-5")
        .SetDeliverAt(At(5'000))
        .SetCreatedTime(At(4'000))
        .SetBody("the body");
    return message;
}

/// As a broker hands it out.
inline std::vector<Message> Receive(const std::vector<Message>& messages,
                                    std::uint32_t attempt = 1) {
    return DecodeMessages("order.paid", Slice::Own(MakeBatch(messages)), attempt, {}).value();
}

template <typename T>
void Put(T value, std::size_t at, std::string& bytes) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
        bytes.at(at + i) = static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i));
    }
}

/// Makes the checksum fit again, so that a test reaches what lies behind it.
inline void Reseal(std::string& batch) {
    if (batch.size() >= BatchHeader::kBytes) {
        Put(Crc32c(std::string_view(batch).substr(4)), 0, batch);
    }
}

}  // namespace qmq::testing
