// Handing out answers: futures, callbacks, coroutines. All of it without the producer's lock.

#include <utility>

#include "sdk/client/src/send/producer_core.h"

namespace qmq::internal {

namespace {

using StatePtr = std::shared_ptr<ProducerAccess::State>;

}  // namespace

void ProducerCore::HandOut(Answers answers) {
    for (const auto& [link, why] : answers.silent) {
        link->OnUnanswered(why);
    }
    std::vector<StatePtr> with_callbacks;
    std::vector<StatePtr> ready;
    for (Answers::Batch& batch : answers.batches) {
        if (batch.whole.has_value()) {
            batch.state->CompleteAll(std::move(*batch.whole));
        }
        const bool callbacks = !batch.state->callbacks.empty();
        ProducerAccess::State::Publish(batch.state);
        (callbacks ? with_callbacks : ready).push_back(std::move(batch.state));
    }
    if (!with_callbacks.empty()) {
        PostCallbacks(std::move(with_callbacks), answers.from_wire);
    }
    SpareParts::Clean(&ready);
    SpareParts::Clean(&answers.used);
    if (!ready.empty() || !answers.used.empty()) {
        MutexLock lock(mutex_);
        batcher_.spare().Keep(&ready);
        batcher_.spare().Keep(&answers.used);
    }
    for (Task& task : answers.drained) {
        task();
    }
}

/// Posts the callbacks of all of them as one task.
void ProducerCore::PostCallbacks(std::vector<StatePtr> states, bool from_wire) {
    std::uint64_t count = 0;
    for (const StatePtr& state : states) {
        count += state->callbacks.size();
    }
    budget_.owed()->HandOut(count);
    Task run =
        [self = weak_from_this(), owed = budget_.owed(), states = std::move(states)]() mutable {
            const auto wake = [&self] {
                if (auto producer = self.lock()) {
                    MutexLock lock(producer->mutex_);
                    producer->room_.NotifyAll();
                }
            };
            // By number and kept: called again inside of a callback, this takes them all away.
            for (std::size_t at = 0; at < states.size(); ++at) {
                const StatePtr state = states[at];
                state->RunCallbacks(*owed, wake);
            }
            SpareParts::Clean(&states);
            if (auto producer = self.lock()) {
                MutexLock lock(producer->mutex_);
                producer->batcher_.spare().Keep(&states);
            }
            states.clear();
        };
    if (from_wire && runtime_->inline_callbacks()) {
        runtime_->callbacks().PostManyOrRun(std::move(run), count);
    } else {
        runtime_->callbacks().PostMany(std::move(run), count);
    }
}

}  // namespace qmq::internal
