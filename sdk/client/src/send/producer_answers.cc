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
    const bool run =
        !with_callbacks.empty() && PostCallbacks(std::move(with_callbacks), answers.from_wire);
    EndHandOut(answers, std::move(ready));
    for (Task& task : answers.drained) {
        task();
    }
    if (run) {
        runtime_->callbacks().Run();
    }
}

void ProducerCore::EndHandOut(Answers& answers, std::vector<StatePtr> ready) {
    SpareParts::Clean(&ready);
    SpareParts::Clean(&answers.used);
    batcher_.spare().Keep(&ready);
    batcher_.spare().Keep(&answers.used);
    if (answers.number > 0 && hand_outs_.End(answers.number)) {
        MutexLock lock(mutex_);
        answered_.NotifyAll();
        if (IsDrained()) {
            answers.drained = std::exchange(drained_, {});
        }
    }
}

void ProducerCore::OnResumed(std::size_t bytes) {
    budget_.owed()->Resumed(bytes);
    if (budget_.owed()->awaited()) {
        MutexLock lock(mutex_);
        room_.NotifyAll();
    }
}

/// Posts the callbacks of all of them as one task. True: the caller runs it (`CallbackQueue::Run`).
bool ProducerCore::PostCallbacks(std::vector<StatePtr> states, bool from_wire) {
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
                producer->batcher_.spare().Keep(&states);
            }
            states.clear();
        };
    if (from_wire && runtime_->inline_callbacks()) {
        return runtime_->callbacks().PostManyToRun(std::move(run), count);
    }
    runtime_->callbacks().PostMany(std::move(run), count);
    return false;
}

}  // namespace qmq::internal
