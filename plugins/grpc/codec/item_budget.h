#pragma once

#include <cstddef>
#include <string>

#include "qmq/status.h"

namespace qmq::rpc {

/// Counts what a decoder makes room for, against `FrameLimits`.
class ItemBudget {
public:
    explicit ItemBudget(std::size_t most) : most_(most), left_(most) {}

    bool Take() {
        if (left_ == 0) {
            return false;
        }
        --left_;
        return true;
    }

    Status Exceeded(const char* what) const {
        return Status::InvalidArgument(std::string(what) + ": more than " + std::to_string(most_) +
                                       " items in one frame; send several");
    }

private:
    std::size_t most_;
    std::size_t left_;
};

}  // namespace qmq::rpc
