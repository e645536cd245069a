#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qmq/batch.h"
#include "qmq/producer.h"
#include "qmq/protocol.h"

/// What a scripted broker sees of a batch and answers to it, and what senders are told.
namespace qmq::testing {

inline BatchReceipt Refuse(Status why) {
    return {std::move(why), SendOutcome::kRefused, Durability::kDefault, 0};
}

inline std::vector<std::string> IdsOf(const SendBatch& batch) {
    std::vector<std::string> ids;
    auto heads = BatchView::Trusted(batch.batch.bytes()).begin_heads();
    while (const auto head = heads.Next()) {
        ids.emplace_back(head->id);
    }
    return ids;
}

inline bool HasMessage(const SendBatch& batch, std::string_view id) {
    const std::vector<std::string> ids = IdsOf(batch);
    return std::find(ids.begin(), ids.end(), id) != ids.end();
}

/// Of a send that has been answered; does not wait where it has not.
inline SendReceipt ReceiptOf(const SendFuture& future) {
    EXPECT_TRUE(future.ready());
    return future.ready() ? future.Get() : SendReceipt{};
}

}  // namespace qmq::testing
