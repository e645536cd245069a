#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "qmq/check.h"

namespace qmq::broker {

/// A queue with access by position that costs 32 bytes while it is empty, where a std::deque takes
/// half a kilobyte: a broker has tens of thousands of consumers and groups with nothing in flight.
template <typename T>
class Ring {
public:
    bool empty() const { return count_ == 0; }
    std::size_t size() const { return count_; }

    T& operator[](std::size_t index) { return slots_[Slot(index)]; }
    const T& operator[](std::size_t index) const { return slots_[Slot(index)]; }
    T& front() { return (*this)[0]; }
    const T& front() const { return (*this)[0]; }
    T& back() { return (*this)[count_ - 1]; }

    void push_back(T value) {
        if (count_ == slots_.size()) {
            Grow();
        }
        slots_[Slot(count_)] = std::move(value);
        ++count_;
    }

    void pop_front() {
        QMQ_CHECK(count_ > 0, "pop_front of an empty ring");
        slots_[begin_] = T();
        begin_ = Slot(1);
        --count_;
        if (count_ == 0 && slots_.size() > kKeptSlots) {
            clear();
        }
    }

    void pop_back() {
        QMQ_CHECK(count_ > 0, "pop_back of an empty ring");
        slots_[Slot(count_ - 1)] = T();
        --count_;
    }

    /// Gives the memory back, too.
    void clear() {
        slots_ = std::vector<T>();
        begin_ = 0;
        count_ = 0;
    }

private:
    static constexpr std::size_t kFirstSlots = 8;
    static constexpr std::size_t kKeptSlots = 256;

    // The number of slots is a power of two or none.
    std::size_t Slot(std::size_t index) const { return (begin_ + index) & (slots_.size() - 1); }

    void Grow() {
        std::vector<T> grown(slots_.empty() ? kFirstSlots : slots_.size() * 2);
        for (std::size_t i = 0; i < count_; ++i) {
            grown[i] = std::move(slots_[Slot(i)]);
        }
        slots_ = std::move(grown);
        begin_ = 0;
    }

    std::vector<T> slots_;
    std::size_t begin_ = 0;
    std::size_t count_ = 0;
};

}  // namespace qmq::broker
