#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace qmq::internal {

/// How many messages a producer may have taken, and how much memory these may cost: what a message
/// costs us, not its body alone. Room is given back with the answer; for a message with a callback
/// once that has run, with a coroutine that waits for it once that is resumed, because until then
/// we keep it. Under the producer's lock, but for `Owed`.
class Budget {
public:
    /// What callbacks give back, and how many are to come. Thread-safe, because callbacks run
    /// without the producer's lock, and may outlive the producer.
    class Owed {
    public:
        void HandOut(std::uint64_t callbacks) { handed_out_.fetch_add(callbacks); }
        /// One has run: its message counts no more.
        void Ran() { ran_.fetch_add(1); }
        void GiveBack(std::size_t bytes) { bytes_.fetch_add(bytes); }
        /// A coroutine is resumed, which is no callback: its message counts no more.
        void Resumed(std::size_t bytes) {
            resumed_.fetch_add(1);
            GiveBack(bytes);
        }
        /// Whether somebody waits for room.
        bool awaited() const { return waiters_.load() > 0; }
        /// Handed out and not run.
        std::uint64_t callbacks() const {
            // First the one that never overtakes the other.
            const std::uint64_t ran = ran_.load();
            return handed_out_.load() - ran;
        }

    private:
        friend class Budget;
        std::atomic<std::uint64_t> handed_out_{0};
        std::atomic<std::uint64_t> ran_{0};
        std::atomic<std::uint64_t> resumed_{0};
        std::atomic<std::uint64_t> bytes_{0};
        std::atomic<std::uint32_t> waiters_{0};
    };

    Budget(std::uint64_t max_count, std::uint64_t max_bytes)
        : max_count_(max_count), max_bytes_(max_bytes), owed_(std::make_shared<Owed>()) {}

    const std::shared_ptr<Owed>& owed() const { return owed_; }
    /// Whether a message that costs `bytes` may be taken. One that is larger than the bound passes
    /// when it is alone: else it could never be sent. `staged` is what the stage has.
    bool HasRoom(std::size_t bytes, std::size_t staged) {
        if (Fits(bytes, staged)) {
            return true;
        }
        TakeBack();
        return Fits(bytes, staged);
    }
    void AddMessage() { ++count_; }
    void Add(std::size_t bytes) { bytes_ += bytes; }
    /// `*charged` is what somebody was charged for so far, and is `bytes` from now on.
    void Charge(std::size_t* charged, std::size_t bytes) {
        bytes_ += bytes - std::exchange(*charged, bytes);
    }
    void GiveBack(std::uint64_t count, std::size_t bytes) {
        count_ -= count;
        bytes_ -= bytes;
        freed_ = true;
    }
    /// Whether there is more room than when this was last asked.
    bool TakeFreed() { return std::exchange(freed_, false); }

    /// Somebody waits for room, as long as this lives.
    class Waiting {
    public:
        explicit Waiting(Budget& budget) : owed_(budget.owed_) { owed_->waiters_.fetch_add(1); }
        ~Waiting() { owed_->waiters_.fetch_sub(1); }
        Waiting(const Waiting&) = delete;
        Waiting& operator=(const Waiting&) = delete;

    private:
        const std::shared_ptr<Owed> owed_;
    };

    /// What is pending; callbacks that have run count no more.
    std::uint64_t count() {
        TakeBack();
        return count_;
    }
    std::uint64_t bytes() {
        TakeBack();
        return bytes_;
    }
    std::uint64_t max_count() const { return max_count_; }
    std::uint64_t max_bytes() const { return max_bytes_; }

private:
    bool Fits(std::size_t bytes, std::size_t staged) const {
        return count_ < max_count_ && (bytes_ + staged + bytes <= max_bytes_ || count_ == 0);
    }
    void TakeBack() {
        const std::uint64_t gone = owed_->ran_.load() + owed_->resumed_.load();
        count_ -= gone - std::exchange(gone_, gone);
        bytes_ -= owed_->bytes_.exchange(0);
    }

    const std::uint64_t max_count_;
    const std::uint64_t max_bytes_;
    const std::shared_ptr<Owed> owed_;
    std::uint64_t count_ = 0;
    std::uint64_t bytes_ = 0;
    std::uint64_t gone_ = 0;  // Callbacks and coroutines whose messages count no more.
    bool freed_ = false;
};

}  // namespace qmq::internal
