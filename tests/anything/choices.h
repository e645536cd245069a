#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "qmq/random.h"

namespace qmq::anything {

/// Where a sequence of calls takes its decisions from: a seed, or the bytes of a fuzzer.
class Choices {
public:
    virtual ~Choices() = default;
    /// In [0, bound). `bound` > 0.
    virtual std::uint64_t Below(std::uint64_t bound) = 0;
    /// Whether there is more to come: the bytes of a fuzzer end.
    virtual bool more() const { return true; }

    bool Percent(unsigned percent) { return Below(100) < percent; }
    template <typename T, std::size_t n>
    const T& Pick(const T (&all)[n]) {
        return all[Below(n)];
    }
    template <typename Container>
    auto& Pick(Container& all) {
        return all[static_cast<std::size_t>(Below(all.size()))];
    }
};

class RandomChoices final : public Choices {
public:
    explicit RandomChoices(std::uint64_t seed) : random_(seed) {}
    std::uint64_t Below(std::uint64_t bound) override { return random_.Below(bound); }

private:
    Random random_;
};

/// One byte a choice among few, as many as it takes for one among many. Zero once they are used up.
class ByteChoices final : public Choices {
public:
    explicit ByteChoices(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
    std::uint64_t Below(std::uint64_t bound) override {
        std::uint64_t value = 0;
        for (std::uint64_t reach = 1; reach < bound && more(); reach <<= 8U) {
            value = value << 8U | bytes_[at_++];
            if (reach > (~std::uint64_t{0} >> 8U)) {
                break;
            }
        }
        return value % bound;
    }
    bool more() const override { return at_ < bytes_.size(); }

private:
    std::span<const std::uint8_t> bytes_;
    std::size_t at_ = 0;
};

}  // namespace qmq::anything
