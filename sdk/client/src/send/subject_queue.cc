#include "sdk/client/src/send/subject_queue.h"

#include <utility>

namespace qmq::internal {

void SubjectQueue::Assign(std::string_view name) {
    name_front = {};
    name.copy(name_front.data(), name_front.size());
    name_bytes = name.size();
    details = std::make_unique<SubjectDetails>(name);
}

bool SubjectDetails::IsUnused() const {
    if (outstanding > 0 || waits_for_lane) {
        return false;
    }
    return keys == nullptr ||
           std::none_of(keys->queues.begin(), keys->queues.end(), [](const auto& queue) {
               return queue != nullptr && queue->details->waits_for_lane;
           });
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
    if (free_.empty()) {
        blocks_.push_back(std::make_unique<SubjectQueue[]>(kBlock));
        for (std::size_t i = kBlock; i-- > 0;) {
            free_.push_back(&blocks_.back()[i]);
        }
    }
    if ((count_ + 1) * 2 > slots_.size()) {
        Grow();
    }
    SubjectQueue& added = *free_.back();
    free_.pop_back();
    added.Assign(name);
    ++count_;
    Place({Hash(name), &added});
    return added;
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
    subject.details.reset();
    subject.name_bytes = 0;
    free_.push_back(&subject);
    --count_;
}

}  // namespace qmq::internal
