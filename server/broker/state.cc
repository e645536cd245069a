#include "server/broker/state.h"

#include <algorithm>
#include <utility>

#include "qmq/subject.h"

#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

bool Fits(std::string_view pattern, std::string_view name) {
    if (pattern.ends_with('*')) {
        return name.starts_with(pattern.substr(0, pattern.size() - 1));
    }
    return pattern == name;
}

}  // namespace

// ---- Names.

Durability State::Promise(std::string_view real_subject) const {
    Durability promise = options_.default_durability;
    std::size_t longest = 0;
    for (const auto& [pattern, durability] : options_.subject_durability) {
        // An exact name counts more than a prefix of the same length.
        const std::size_t weight = pattern.size() * 2 + (pattern.ends_with('*') ? 0 : 1);
        if (weight > longest && Fits(pattern, real_subject)) {
            longest = weight;
            promise = durability;
        }
    }
    return std::min(promise, options_.best_durability);
}

Subject* State::FindSubject(std::string_view name) {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
}

Subject& State::MakeSubject(std::string_view name) {
    if (Subject* known = FindSubject(name)) {
        return *known;
    }
    auto made = std::make_unique<Subject>();
    Subject& subject = *made;
    subject.name = name;
    const SubjectParts parts = ParseSubject(subject.name);
    subject.kind = parts.kind;
    subject.real_name = parts.real_subject;
    subject.group_name = parts.group;
    subject.promise = Promise(subject.real_name);
    subjects_.push_back(std::move(made));
    by_name_.emplace(subject.name, &subject);
    if (subject.kind == SubjectKind::kRetry) {
        if (Group* group = FindGroup({subject.real_name, subject.group_name})) {
            group->retry = &subject;
        }
    }
    return subject;
}

Group* State::FindGroup(const GroupName& name) {
    Subject* subject = FindSubject(name.subject);
    if (subject == nullptr) {
        return nullptr;
    }
    const auto found = subject->groups.find(name.group);
    return found == subject->groups.end() ? nullptr : found->second.get();
}

Group& State::MakeGroup(const GroupName& name) {
    Subject& subject = MakeSubject(name.subject);
    const auto found = subject.groups.find(name.group);
    if (found != subject.groups.end()) {
        return *found->second;
    }
    auto made = std::make_unique<Group>();
    Group& group = *made;
    group.subject = &subject;
    group.name = name.group;
    group.serial = ++last_serial_;
    group.idle_since_ms = now_ms_;
    subject.groups.emplace(group.name, std::move(made));
    if (!group.in_place()) {
        group.retry = FindSubject(RetrySubject(subject.name, group.name));
    }
    return group;
}

Group& State::RetryGroup(Subject& retry) {
    Group& group = MakeGroup({retry.real_name, retry.group_name});
    group.retry = &retry;
    return group;
}

Consumer* State::FindConsumer(const ConsumerName& name) {
    Group* group = FindGroup(name.group);
    if (group == nullptr) {
        return nullptr;
    }
    const auto found =
        group->consumers.find(ConsumerId{std::string(name.consumer_id), name.source});
    return found == group->consumers.end() ? nullptr : found->second.get();
}

Consumer& State::MakeConsumer(Group& group, std::string_view id, ConsumeSource source) {
    std::unique_ptr<Consumer>& slot = group.consumers[ConsumerId{std::string(id), source}];
    if (slot == nullptr) {
        slot = std::make_unique<Consumer>();
        slot->group = &group;
        slot->id = id;
        slot->source = source;
        slot->held.Begin(group.pull_floor);
        slot->born_at = group.pull_floor;
        slot->serial = ++last_serial_;
    }
    return *slot;
}

void State::EraseConsumer(Consumer& consumer) {
    Group& group = *consumer.group;
    std::erase(group.members, &consumer);
    std::erase(trim_, &consumer);
    group.idle_since_ms = now_ms_;
    group.consumers.erase(ConsumerId{consumer.id, consumer.source});
}

void State::EraseGroup(Group& group) {
    Subject& subject = *group.subject;
    subject.groups.erase(subject.groups.find(group.name));
}

void State::ForEachGroup(const std::function<void(Group&)>& visit) const {
    for (const std::unique_ptr<Subject>& subject : subjects_) {
        for (const auto& [name, group] : subject->groups) {
            visit(*group);
        }
    }
}

void State::BeginPulls(std::uint64_t incarnation) {
    // Room for 2^40 hand-outs to one consumer by one process, and for 2^23 processes below the
    // largest signed number, which is what the native protocol has.
    constexpr unsigned kPullBits = 40;
    least_pull_ = (incarnation - 1) << kPullBits;
}

// ---- Changes.

void State::Place(Group& group, std::uint64_t next_sequence, bool reset) {
    group.next_sequence = next_sequence;
    group.placed = true;
    if (!reset) {
        return;
    }
    group.redelivery[0].clear();
    group.redelivery[1].clear();
    group.waiting.clear();
    for (auto& [id, consumer] : group.consumers) {
        consumer->held.ForEach(
            [&held = consumer->held](std::uint64_t pull, const Held&) { held.MarkDone(pull); });
        ListTrim(*consumer);
    }
}

void State::Skip(Group& group, std::uint64_t next_sequence) {
    undo_.emplace_back([&group, before = group.next_sequence] { group.next_sequence = before; });
    group.skipped_count += next_sequence - group.next_sequence;
    group.next_sequence = next_sequence;
}

void State::HandOut(Consumer& consumer, const HandedOut& action) {
    Group& group = *consumer.group;
    Align(consumer, action.first_pull_sequence);
    undo_.emplace_back([&group, before = group.next_sequence] { group.next_sequence = before; });
    for (const HandOutRun& run : action.runs) {
        Put(consumer, run, action.time_ms);
    }
    group.next_sequence = std::max(group.next_sequence, action.next_sequence);
}

/// The log tells the pull sequences of one process densely. Only where damage took records does the
/// next one lie below.
void State::Align(Consumer& consumer, std::uint64_t first_pull_sequence) {
    if (consumer.held.next() > first_pull_sequence) {
        Release(consumer, PullRange{0, UINT64_MAX}, true);
        Keep();
        consumer.held = HeldTable();
        consumer.held.Begin(first_pull_sequence);
    }
    if (const std::uint64_t before = consumer.held.next(); before < first_pull_sequence) {
        undo_.emplace_back([&consumer, before] { consumer.held.SkipBack(before); });
        consumer.held.SkipTo(first_pull_sequence);
    }
}

void State::Put(Consumer& consumer, const HandOutRun& run, std::int64_t time_ms) {
    for (std::uint32_t i = 0; i < run.count; ++i) {
        const std::uint64_t sequence = run.first_sequence + i;
        const std::int64_t since =
            run.from == TakenFrom::kNew ? time_ms : Take(*consumer.group, run, sequence, time_ms);
        Held held(run.origin, sequence, run.attempt, since);
        held.set_deadline_ms(now_ms_ + consumer.settings.ack_timeout.count());
        consumer.held.Push(held);
    }
    undo_.emplace_back([this, &consumer, run] { PutBack(consumer, run); });
}

/// Removes it from where it waited; when it was first handed out.
std::int64_t State::Take(Group& group,
                         const HandOutRun& run,
                         std::uint64_t sequence,
                         std::int64_t otherwise) {
    std::int64_t since = otherwise;
    if (run.from == TakenFrom::kRedelivery) {
        auto& queue = group.redelivery[static_cast<std::size_t>(run.origin)];
        if (const auto found = queue.find(sequence); found != queue.end()) {
            since = found->second.since_ms;
            queue.erase(found);
        }
    } else if (const auto found = group.waiting.find(Waiting{run.due_ms, sequence, 0, 0});
               found != group.waiting.end()) {
        since = found->since_ms;
        group.waiting.erase(found);
    }
    return since;
}

void State::PutBack(Consumer& consumer, const HandOutRun& run) {
    Group& group = *consumer.group;
    for (std::uint32_t i = run.count; i-- > 0;) {
        const Held held = consumer.held.Pop();
        if (run.from == TakenFrom::kRedelivery) {
            group.redelivery[static_cast<std::size_t>(run.origin)].emplace(
                held.sequence(), Loose{held.since_ms(), run.attempt, false});
        } else if (run.from == TakenFrom::kWaiting) {
            group.waiting.insert(
                Waiting{run.due_ms, held.sequence(), held.since_ms(), run.attempt});
        }
    }
}

void State::ListTrim(Consumer& consumer) {
    if (!std::exchange(consumer.listed_trim, true)) {
        trim_.push_back(&consumer);
    }
}

void State::Ack(Consumer& consumer, PullRange range) {
    std::uint64_t done = 0;
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    consumer.held.ForEach(range, [&](std::uint64_t pull, const Held&) {
        consumer.held.MarkDone(pull);
        first = done++ == 0 ? pull : first;
        last = pull;
    });
    if (done == 0) {
        return;
    }
    ListTrim(consumer);
    QMQ_CHECK(done == last - first + 1, "an ack is logged for what is held, and nothing else");
    undo_.emplace_back([&consumer, first, last] {
        for (std::uint64_t pull = first; pull <= last; ++pull) {
            consumer.held.MarkHeld(pull);
        }
    });
}

void State::Release(Consumer& consumer, PullRange range, bool counted) {
    Group& group = *consumer.group;
    const bool forgets = env::Planted(env::PlantedBug::kWrongAttempt);
    consumer.held.ForEach(range, [&](std::uint64_t pull, const Held& held) {
        consumer.held.MarkDone(pull);
        auto& queue = group.redelivery[static_cast<std::size_t>(held.origin())];
        queue.emplace(
            held.sequence(),
            Loose{held.since_ms(), held.attempt() + (counted && !forgets ? 1U : 0U), false});
        undo_.emplace_back([&consumer, &queue, pull, sequence = held.sequence()] {
            consumer.held.MarkHeld(pull);
            queue.erase(sequence);
        });
    });
    ListTrim(consumer);
}

void State::Defer(Consumer& consumer, PullRange range, std::int64_t due_ms) {
    Group& group = *consumer.group;
    const bool forgets = env::Planted(env::PlantedBug::kWrongAttempt);
    consumer.held.ForEach(range, [&](std::uint64_t pull, const Held& held) {
        consumer.held.MarkDone(pull);
        const Waiting waiting{
            due_ms, held.sequence(), held.since_ms(), held.attempt() + (forgets ? 0U : 1U)};
        group.waiting.insert(waiting);
        undo_.emplace_back([&consumer, &group, waiting, pull] {
            group.waiting.erase(waiting);
            consumer.held.MarkHeld(pull);
        });
    });
    ListTrim(consumer);
}

void State::TakeLoose(Group& group, Origin origin, PullRange sequences) {
    auto& queue = group.redelivery[static_cast<std::size_t>(origin)];
    auto at = queue.lower_bound(sequences.first);
    while (at != queue.end() && at->first <= sequences.last) {
        undo_.emplace_back([&queue, entry = *at] { queue.insert(entry); });
        at = queue.erase(at);
    }
}

void State::AddRetries(Subject& retry,
                       std::uint64_t first_sequence,
                       const BatchView& batch,
                       std::int64_t stored_ms,
                       std::int64_t since_ms) {
    Group& group = RetryGroup(retry);
    std::uint64_t sequence = first_sequence;
    BatchView::Iterator heads = batch.begin_heads();
    while (const std::optional<MessageHead> head = heads.Next()) {
        const std::int64_t due = head->deliver_at ? head->deliver_at->time_since_epoch().count()
                                                  : stored_ms + options_.retry_delay.count();
        const Waiting waiting{due, sequence++, since_ms, std::max(head->attempt, 1U)};
        group.waiting.insert(waiting);
        undo_.emplace_back([&group, waiting] { group.waiting.erase(waiting); });
    }
}

void State::Forget(Consumer& consumer) {
    Group& group = *consumer.group;
    Release(consumer, PullRange{0, UINT64_MAX}, true);
    group.pull_floor = std::max(group.pull_floor, consumer.held.next());
    // What it was cannot come back: the caller has written the round before.
    Keep();
    EraseConsumer(consumer);
}

// ---- Rounds.

void State::Keep() {
    undo_.clear();
    for (Consumer* consumer : trim_) {
        consumer->listed_trim = false;
        consumer->held.Trim();
    }
    trim_.clear();
}

void State::TakeBack() {
    while (!undo_.empty()) {
        undo_.back()();
        undo_.pop_back();
    }
    for (Consumer* consumer : trim_) {
        consumer->listed_trim = false;
    }
    trim_.clear();
}

std::uint64_t State::DropBelow(Subject& subject) {
    const std::uint64_t first = subject.log->first_sequence();
    std::uint64_t dropped = 0;
    const auto drop = [&](Group& group, Origin origin) {
        auto& queue = group.redelivery[static_cast<std::size_t>(origin)];
        const auto kept = queue.lower_bound(first);
        auto count = static_cast<std::uint64_t>(std::distance(queue.begin(), kept));
        queue.erase(queue.begin(), kept);
        if (group.waiting_origin() == origin) {
            count += std::erase_if(group.waiting,
                                   [first](const Waiting& w) { return w.sequence < first; });
        }
        for (auto& [id, consumer] : group.consumers) {
            consumer->held.ForEach([&, c = consumer.get()](std::uint64_t pull, const Held& held) {
                if (held.origin() == origin && held.sequence() < first) {
                    c->held.MarkDone(pull);
                    ListTrim(*c);
                    ++count;
                }
            });
        }
        group.expired_count += count;
        dropped += count;
    };
    for (auto& [name, group] : subject.groups) {
        if (group->placed && group->next_sequence < first) {
            const std::uint64_t unseen = first - group->next_sequence;
            group->expired_count += unseen;
            dropped += unseen;
            group->next_sequence = first;
        }
        drop(*group, Origin::kSubject);
    }
    if (subject.kind == SubjectKind::kRetry) {
        if (Group* group = FindGroup({subject.real_name, subject.group_name})) {
            drop(*group, Origin::kRetry);
        }
    }
    return dropped;
}

}  // namespace qmq::broker
