#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace qmq::border {

/// What became of callbacks of one kind. In the end taken + refused = called + destroyed.
struct Tally {
    std::atomic<std::uint64_t> taken{0};    ///< By a call that said so.
    std::atomic<std::uint64_t> refused{0};  ///< By a call that said that it took nothing.
    std::atomic<std::uint64_t> called{0};
    std::atomic<std::uint64_t> destroyed{0};  ///< Without having been called.
    std::atomic<std::uint64_t> twice{0};

    bool settled() const { return taken + refused == called + destroyed; }
    /// Owed and destroyed.
    std::uint64_t dropped() const { return destroyed > refused ? destroyed - refused : 0; }
    std::int64_t outstanding() const {
        const std::uint64_t done = called;
        return static_cast<std::int64_t>(taken) - static_cast<std::int64_t>(done);
    }
};

/// Captured by a callback: tells a tally whether it was called, and when it was destroyed instead.
class Owed {
public:
    explicit Owed(std::shared_ptr<Tally> tally) : tally_(std::move(tally)) {}
    Owed(Owed&& other) noexcept
        : tally_(std::move(other.tally_)), called_(std::exchange(other.called_, false)) {}
    Owed& operator=(Owed&&) = delete;
    ~Owed() {
        if (tally_ != nullptr && !called_) {
            ++tally_->destroyed;
        }
    }

    void Called() {
        if (std::exchange(called_, true)) {
            ++tally_->twice;
        } else {
            ++tally_->called;
        }
    }

private:
    std::shared_ptr<Tally> tally_;
    bool called_ = false;
};

}  // namespace qmq::border
