#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace qmq::border {

/// What went wrong in a round, each kind counted, and counts of what went on. Thread-safe.
class Problems {
public:
    void Add(const std::string& what) {
        const std::lock_guard lock(mutex_);
        ++problems_[what];
    }
    void Count(const std::string& what, std::uint64_t by = 1) {
        const std::lock_guard lock(mutex_);
        counts_[what] += by;
    }
    std::map<std::string, std::uint64_t> problems() const {
        const std::lock_guard lock(mutex_);
        return problems_;
    }
    std::map<std::string, std::uint64_t> counts() const {
        const std::lock_guard lock(mutex_);
        return counts_;
    }

private:
    mutable std::mutex mutex_;
    std::map<std::string, std::uint64_t> problems_;  // guarded by mutex_
    std::map<std::string, std::uint64_t> counts_;    // guarded by mutex_
};

}  // namespace qmq::border
