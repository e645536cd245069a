#include "sdk/client/src/send/message_stage.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <new>

#include "sdk/client/src/base/address_sanitizer.h"
#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/prefetch.h"

namespace qmq::internal {

namespace {

constexpr std::size_t kChunkBytes = 64U << 10;
constexpr std::size_t kMaxSpares = 64;
constexpr std::size_t kAlignment = alignof(std::max_align_t);

constexpr std::size_t Aligned(std::size_t bytes) {
    return (bytes + kAlignment - 1) & ~(kAlignment - 1);
}

}  // namespace

/// Memory of the stage: this, and the messages behind it.
class alignas(std::max_align_t) StageChunk {
public:
    StageChunk(const StageChunk&) = delete;
    StageChunk& operator=(const StageChunk&) = delete;

    /// Apart from the heap: there what is smaller would fill the place of one that is gone, and the
    /// next one would not find any.
    static StageChunk* Make(std::size_t bytes) {
        if (kAddressSanitizer) {
            return ::new (::operator new(bytes)) StageChunk(bytes);
        }
        void* const memory =
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            throw std::bad_alloc();
        }
        return ::new (memory) StageChunk(bytes);
    }
    static void Delete(StageChunk* chunk) {
        const std::size_t bytes = chunk->bytes_;
        chunk->~StageChunk();
        if (kAddressSanitizer) {
            ::operator delete(chunk);
        } else if (munmap(chunk, bytes) != 0) {
            // The system has no room to note that there is a hole. Its pages go all the same.
            (void)madvise(chunk, bytes, MADV_DONTNEED);
        }
    }

    char* begin() { return reinterpret_cast<char*>(this + 1); }
    char* end() { return reinterpret_cast<char*>(this) + bytes_; }
    std::size_t bytes() const { return bytes_; }

    void Open(std::shared_ptr<MessageStage::Spares> spares) {
        spares_ = std::move(spares);
        users_.store(kOpen, std::memory_order_relaxed);
    }
    /// So many of its messages are dropped.
    void Leave(std::int64_t messages) { Change(-messages); }
    /// No more messages come than these.
    void Close(std::int64_t messages) { Change(messages - kOpen); }

private:
    // More than messages can be in it: so one that is open is never without users.
    static constexpr std::int64_t kOpen = std::numeric_limits<std::int64_t>::max() / 2;

    explicit StageChunk(std::size_t bytes) : bytes_(bytes) {}
    ~StageChunk() = default;
    void Change(std::int64_t by);

    const std::size_t bytes_;
    std::atomic<std::int64_t> users_{0};
    std::shared_ptr<MessageStage::Spares> spares_;
};

/// Chunks that nobody uses. Thread-safe. Lives until the last message is dropped.
class MessageStage::Spares {
public:
    Spares() = default;
    Spares(const Spares&) = delete;
    Spares& operator=(const Spares&) = delete;
    ~Spares() { std::for_each(chunks_.begin(), chunks_.end(), StageChunk::Delete); }

    /// Of so many bytes, which are `kChunkBytes` but for a message that is larger.
    StageChunk* Take(std::size_t bytes) {
        StageChunk* chunk = nullptr;
        if (bytes == kChunkBytes) {
            const MutexLock lock(mutex_);
            if (!chunks_.empty()) {
                chunk = chunks_.back();
                chunks_.pop_back();
            }
        }
        chunk = chunk == nullptr ? StageChunk::Make(bytes) : chunk;
        used_bytes_.fetch_add(bytes, std::memory_order_relaxed);
        return chunk;
    }
    void Keep(StageChunk* chunk) {
        used_bytes_.fetch_sub(chunk->bytes(), std::memory_order_relaxed);
        if (chunk->bytes() == kChunkBytes) {
            const MutexLock lock(mutex_);
            if (chunks_.size() < kMaxSpares) {
                chunks_.push_back(chunk);
                return;
            }
        }
        StageChunk::Delete(chunk);
    }
    void Trim() {
        std::vector<StageChunk*> chunks;
        {
            const MutexLock lock(mutex_);
            chunks.swap(chunks_);
        }
        std::for_each(chunks.begin(), chunks.end(), StageChunk::Delete);
    }
    std::size_t used_bytes() const { return used_bytes_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::size_t> used_bytes_{0};  // Of chunks that are not here.
    Mutex mutex_;
    std::vector<StageChunk*> chunks_ QMQ_GUARDED_BY(mutex_);
};

void StageChunk::Change(std::int64_t by) {
    if (users_.fetch_add(by, std::memory_order_acq_rel) + by == 0) {
        const auto spares = std::exchange(spares_, nullptr);
        spares->Keep(this);
    }
}

StagedMessages::~StagedMessages() {
    while (last_ != nullptr) {
        MessageStage::Drop(std::exchange(last_, last_->before));
    }
}

DroppedMessages::~DroppedMessages() {
    for (const auto& [chunk, messages] : runs_) {
        chunk->Leave(messages);
    }
}

MessageStage::MessageStage(std::size_t max_bytes)
    : max_bytes_(max_bytes), spares_(std::make_shared<Spares>()) {}

MessageStage::~MessageStage() {
    if (chunk_ != nullptr) {
        chunk_->Close(taken_);
    }
}

std::size_t MessageStage::Needed(std::size_t bytes) {
    return Aligned(sizeof(StagedMessage) + bytes);
}

bool MessageStage::HasRoom(std::size_t bytes) const {
    const std::size_t needed = Needed(bytes);
    return needed <= left() ||
           spares_->used_bytes() + std::max(kChunkBytes, sizeof(StageChunk) + needed) <= max_bytes_;
}

void MessageStage::Trim() {
    if (chunk_ != nullptr) {
        std::exchange(chunk_, nullptr)->Close(std::exchange(taken_, 0));
        at_ = end_ = nullptr;
    }
    spares_->Trim();
}

std::size_t MessageStage::used_bytes() const {
    return spares_->used_bytes();
}

MessageStage::Room MessageStage::Take(std::size_t bytes) {
    const std::size_t needed = Needed(bytes);
    if (needed > left()) {
        Begin(needed);
    }
    auto* const message = ::new (static_cast<void*>(at_)) StagedMessage;
    message->chunk = chunk_;
    message->bytes = static_cast<std::uint32_t>(bytes);
    at_ += needed;
    ++taken_;
    // The next one's, which is likely as large: it is there by then.
    PrefetchToWrite(at_, std::min(needed, left()));
    return {message, reinterpret_cast<char*>(message + 1)};
}

void MessageStage::Begin(std::size_t bytes) {
    StageChunk* const next = spares_->Take(std::max(kChunkBytes, sizeof(StageChunk) + bytes));
    if (chunk_ != nullptr) {
        chunk_->Close(std::exchange(taken_, 0));
    }
    chunk_ = next;
    chunk_->Open(spares_);
    at_ = chunk_->begin();
    end_ = chunk_->end();
}

void MessageStage::Drop(StagedMessage* message) {
    StageChunk* const chunk = message->chunk;
    message->~StagedMessage();
    chunk->Leave(1);
}

}  // namespace qmq::internal
