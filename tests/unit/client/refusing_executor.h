#pragma once

#include <utility>

#include "qmq/executor.h"

namespace qmq::testing {

/// Passes on to another one, and refuses tasks or timers while the test says so.
class RefusingExecutor final : public Executor {
public:
    explicit RefusingExecutor(Executor& inner) : inner_(inner) {}
    bool Post(Task task) override { return !refuses_tasks && inner_.Post(std::move(task)); }
    TimerId PostAt(TimePoint when, Task task) override {
        return refuses_timers ? 0 : inner_.PostAt(when, std::move(task));
    }
    bool Cancel(TimerId timer) override { return inner_.Cancel(timer); }
    bool refuses_tasks = false;
    bool refuses_timers = false;

private:
    Executor& inner_;
};

}  // namespace qmq::testing
