#include "qmq/process_mark.h"

#include <pthread.h>
#include <unistd.h>

#include <string>
#include <utility>

namespace qmq {

std::atomic<std::uint32_t> ProcessMark::forks_{0};

ProcessMark::ProcessMark() {
    static const int registered = pthread_atfork(nullptr, nullptr, &ProcessMark::OnForkedChild);
    QMQ_CHECK(registered == 0, "pthread_atfork: error " + std::to_string(registered));
    generation_ = forks_.load(std::memory_order_relaxed);
    process_ = static_cast<int>(getpid());
}

Status ProcessMark::Refusal(std::string_view what) const {
    return Status::FailedPrecondition(
        std::string(what) + " was made in process " + std::to_string(process_) +
        ", and this is process " + std::to_string(getpid()) +
        ", a child by fork(): its threads are not here, so nothing of it works. Make a client of "
        "its own in the child, after fork() (over gRPC: only if no client was made before it), or "
        "call exec()");
}

void KeepForEver(std::shared_ptr<const void> object) {
    struct Kept {
        std::shared_ptr<const void> object;
        Kept* next;
    };
    // Without a lock, since a fork may have copied one that is held. Reachable for ever, so that
    // nothing is called a leak.
    static std::atomic<Kept*> first{nullptr};
    auto* kept = new Kept{std::move(object), first.load(std::memory_order_relaxed)};
    while (!first.compare_exchange_weak(kept->next, kept, std::memory_order_release)) {
    }
}

}  // namespace qmq
