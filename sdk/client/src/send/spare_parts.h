#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "sdk/client/src/send/pending_batch.h"

namespace qmq::internal {

/// What was made for a batch and can serve another: in a flood over many subjects the allocator
/// would else be the dearest part, because the thread that frees is another than the one that
/// allocates. It keeps a bounded number of bytes.
class SpareParts {
public:
    using StatePtr = std::shared_ptr<ProducerAccess::State>;

    /// Leaves of `batches` what nobody else holds, as if new. Needs no lock.
    static void Clean(std::vector<BatchPtr>* batches);
    static void Clean(std::vector<StatePtr>* states);
    /// Keeps what is clean, as far as there is room.
    void Keep(std::vector<BatchPtr>* clean);
    void Keep(std::vector<StatePtr>* clean);
    /// Null when there is none.
    BatchPtr TakeBatch();
    StatePtr TakeState();
    /// To write messages to; empty when there is none.
    std::string TakeMemory();

private:
    std::vector<BatchPtr> batches_;
    std::vector<StatePtr> states_;
    std::vector<std::string> memory_;
    std::size_t state_bytes_ = 0;
    std::size_t memory_bytes_ = 0;
};

}  // namespace qmq::internal
