#include "sdk/client/src/send/subject_queue.h"

#include <utility>

namespace qmq::internal {

namespace {

/// Of what subjects without users may cost: this part of what a producer may have pending, and no
/// less than this.
constexpr std::size_t kIdlePart = 4;
constexpr std::size_t kMinIdleBytes = 1U << 20;
/// What a subject costs beside its queues: its slots here, and its route (`Router`).
constexpr std::size_t kOtherBytes = 512;

std::size_t QueueBytes(std::string_view name) {
    return sizeof(SubjectQueue) + sizeof(SubjectDetails) + name.size();
}

}  // namespace

SubjectQueue::SubjectQueue(std::string_view name, std::pmr::memory_resource* memory)
    : name_bytes(name.size()), details(MakeIn<SubjectDetails>(memory, *this, name, memory)) {
    name.copy(name_front.data(), name_front.size());
}

SubjectQueue::~SubjectQueue() = default;

SubjectQueues::SubjectQueues(Budget& budget)
    : budget_(budget),
      max_idle_bytes_(std::max<std::size_t>(budget.max_bytes() / kIdlePart, kMinIdleBytes)) {}

SubjectQueues::~SubjectQueues() {
    for (const Slot& slot : slots_) {
        if (slot.subject != nullptr) {
            InResource<SubjectQueue>{&memory_}(slot.subject);
        }
    }
}

SubjectQueue* SubjectQueues::Find(std::string_view name, std::size_t hash) const {
    for (std::size_t i = hash;; ++i) {
        const Slot& slot = slots_[i & (slots_.size() - 1)];
        if (slot.subject == nullptr || (slot.hash == hash && slot.subject->Is(name))) {
            return slot.subject;
        }
    }
}

SubjectQueue& SubjectQueues::Add(std::string_view name) {
    if ((count_ + 1) * 2 > slots_.size()) {
        Grow();
    }
    SubjectQueue* const added = MakeIn<SubjectQueue>(&memory_, name, &memory_).release();
    ++count_;
    Place({Hash(name), added});
    added->details->users = 1;
    AddFootprint(*added->details, QueueBytes(name) + name.size() + kOtherBytes);
    return *added;
}

SubjectQueue& SubjectQueues::KeyQueueOf(SubjectQueue& subject, std::string_view key) {
    SubjectDetails& details = *subject.details;
    std::size_t bytes = 0;
    if (details.keys == nullptr) {
        details.keys = MakeIn<KeyQueues>(&memory_);
        bytes += sizeof(KeyQueues);
    }
    const std::size_t index = KeyQueues::IndexOf(key);
    ResourcePtr<SubjectQueue>& queue = details.keys->queues[index];
    if (queue == nullptr) {
        queue = MakeIn<SubjectQueue>(&memory_, details.name, &memory_);
        queue->details->owner = &details;
        queue->details->key_index = index;
        queue->details->in_order = MakeIn<InOrder>(&memory_);
        queue->details->route_error = details.route_error;
        AddFootprint(details, bytes + QueueBytes(details.name) + sizeof(InOrder));
    }
    return *queue;
}

void SubjectQueues::AddFootprint(SubjectDetails& subject, std::size_t bytes) {
    subject.footprint += bytes;
    if (subject.users > 0) {
        budget_.Add(bytes);
    } else {
        idle_bytes_ += bytes;
    }
}

void SubjectQueues::Use(const SubjectQueue& queue) {
    SubjectDetails& subject = queue.details->subject();
    if (subject.users++ == 0) {
        subject.idle_hook.Unlink();
        idle_bytes_ -= subject.footprint;
        budget_.Add(subject.footprint);
    }
}

void SubjectQueues::Leave(const SubjectQueue& queue) {
    SubjectDetails& subject = queue.details->subject();
    if (--subject.users == 0) {
        idle_.PushBack(subject.idle_hook);
        idle_bytes_ += subject.footprint;
        budget_.GiveBack(0, subject.footprint);
    }
}

SubjectQueue* SubjectQueues::TooIdle(TimePoint since) const {
    if (idle_.empty()) {
        return nullptr;
    }
    const SubjectDetails& oldest = idle_.front();
    return has_excess() || (count_ > kFew && oldest.used_at <= since) ? &oldest.queue : nullptr;
}

void SubjectQueues::Grow() {
    for (const Slot& slot : std::exchange(slots_, std::vector<Slot>(slots_.size() * 2))) {
        if (slot.subject != nullptr) {
            Place(slot);
        }
    }
    hint_.slots.store(slots_.data(), std::memory_order_relaxed);
    hint_.count.store(slots_.size(), std::memory_order_relaxed);
}

void SubjectQueues::Place(Slot slot) {
    std::size_t i = slot.hash;
    while (slots_[i & (slots_.size() - 1)].subject != nullptr) {
        ++i;
    }
    slots_[i & (slots_.size() - 1)] = slot;
}

std::size_t SubjectQueues::SlotOf(const SubjectQueue& subject) const {
    std::size_t i = Hash(subject.details->name);
    while (slots_[i & (slots_.size() - 1)].subject != &subject) {
        ++i;
    }
    return i & (slots_.size() - 1);
}

void SubjectQueues::Remove(SubjectQueue& subject) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t hole = SlotOf(subject);
    slots_[hole] = {};
    // Those behind the hole move up where their search would else end at it.
    for (std::size_t i = (hole + 1) & mask; slots_[i].subject != nullptr; i = (i + 1) & mask) {
        const std::size_t wanted = slots_[i].hash & mask;
        if (((i - wanted) & mask) >= ((i - hole) & mask)) {
            slots_[hole] = std::exchange(slots_[i], {});
            hole = i;
        }
    }
    idle_bytes_ -= subject.details->footprint;
    InResource<SubjectQueue>{&memory_}(&subject);
    --count_;
}

}  // namespace qmq::internal
