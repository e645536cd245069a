#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace qmq::internal {

/// Sequences `first` to `last`, both included.
struct SequenceRange {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::uint64_t count() const { return last - first + 1; }
    friend bool operator==(const SequenceRange&, const SequenceRange&) = default;
};

/// A set of sequences kept as ranges that neither overlap nor touch.
class RangeSet {
public:
    /// How many of the range were not in it before.
    std::uint64_t Add(SequenceRange range);
    /// Takes the range out. Appends the parts that were in it to `removed` unless that is null.
    /// Returns how many those are.
    std::uint64_t Remove(SequenceRange range, std::vector<SequenceRange>* removed = nullptr);
    bool Contains(std::uint64_t sequence) const { return Intersects({sequence, sequence}); }
    bool Intersects(SequenceRange range) const;
    bool empty() const { return ranges_.empty(); }
    std::uint64_t count() const { return count_; }
    std::vector<SequenceRange> All() const;
    std::vector<SequenceRange> TakeAll();

private:
    std::map<std::uint64_t, std::uint64_t> ranges_;  // First to last.
    std::uint64_t count_ = 0;
};

}  // namespace qmq::internal
