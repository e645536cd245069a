#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "qmq/producer.h"

namespace qmq::internal {

class StageChunk;

/// A message that waits for its batch to be taken, and behind it in memory its encoded bytes.
struct StagedMessage {
    StagedMessage* before = nullptr;  ///< The one of the same batch that came before.
    StageChunk* chunk = nullptr;
    std::uint32_t bytes = 0;
    std::uint16_t id_at = 0;
    std::uint16_t id_bytes = 0;
    SendCallback callback;

    std::string_view encoded() const { return {reinterpret_cast<const char*>(this + 1), bytes}; }
    std::string_view id() const { return encoded().substr(id_at, id_bytes); }
};

/// The staged messages of one batch, and their owner.
class StagedMessages {
public:
    StagedMessages() = default;
    StagedMessages(StagedMessages&& other) noexcept
        : last_(std::exchange(other.last_, nullptr)), count_(std::exchange(other.count_, 0)) {}
    StagedMessages& operator=(StagedMessages&& other) noexcept {
        StagedMessages before(std::move(*this));
        std::swap(last_, other.last_);
        std::swap(count_, other.count_);
        return *this;
    }
    StagedMessages(const StagedMessages&) = delete;
    StagedMessages& operator=(const StagedMessages&) = delete;
    ~StagedMessages();

    bool empty() const { return last_ == nullptr; }
    std::uint32_t count() const { return count_; }
    StagedMessage* last() const { return last_; }
    void Add(StagedMessage* message) {
        message->before = std::exchange(last_, message);
        ++count_;
    }
    /// Of messages that the caller drops.
    void Forget() {
        last_ = nullptr;
        count_ = 0;
    }

private:
    StagedMessage* last_ = nullptr;
    std::uint32_t count_ = 0;
};

/// Where the messages of a flood over many subjects wait: one behind the other in the order in
/// which they came, so that taking one writes where the cache expects it, whichever of the
/// thousands of open batches it is for. Memory is given back in pieces of 64 KiB, so a few messages
/// that wait for long can keep much of it: hence the bound. `Take`, `HasRoom` and `Trim`
/// need the producer's lock; `Drop` needs none.
class MessageStage {
public:
    explicit MessageStage(std::size_t max_bytes);
    MessageStage(const MessageStage&) = delete;
    MessageStage& operator=(const MessageStage&) = delete;
    ~MessageStage();

    /// Room for a message of so many encoded bytes, to be written to `bytes`.
    struct Room {
        StagedMessage* message = nullptr;
        char* bytes = nullptr;
    };
    Room Take(std::size_t bytes);
    /// Whether a message of so many bytes fits in below `max_bytes`.
    bool HasRoom(std::size_t bytes) const;
    /// Memory in use: also that of messages that are gone, while others lie beside them. Needs no
    /// lock.
    std::size_t used_bytes() const;
    /// Gives back what is kept for later messages, the begun chunk's rest included.
    void Trim();
    /// Of a message that was taken.
    static void Drop(StagedMessage* message);

    class Spares;

private:
    static std::size_t Needed(std::size_t bytes);
    std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }
    void Begin(std::size_t bytes);

    const std::size_t max_bytes_;
    const std::shared_ptr<Spares> spares_;
    StageChunk* chunk_ = nullptr;
    char* at_ = nullptr;
    char* end_ = nullptr;
    std::int64_t taken_ = 0;  // Of chunk_.
};

/// Gives the memory of many messages back, when all of them are destroyed: at once for those that
/// lie side by side, as those of one time do, whatever batches they are for.
class DroppedMessages {
public:
    DroppedMessages() = default;
    DroppedMessages(const DroppedMessages&) = delete;
    DroppedMessages& operator=(const DroppedMessages&) = delete;
    ~DroppedMessages();

    void Add(const StagedMessage& message) {
        if (runs_.empty() || runs_.back().first != message.chunk) {
            runs_.emplace_back(message.chunk, 0);
        }
        ++runs_.back().second;
    }

private:
    std::vector<std::pair<StageChunk*, std::int64_t>> runs_;
};

}  // namespace qmq::internal
