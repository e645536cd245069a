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

/// Whether one of `ranges`, which ascend, has `pull`.
bool Contains(std::span<const PullRange> ranges, std::uint64_t pull) {
    const auto after = std::upper_bound(
        ranges.begin(), ranges.end(), pull, [](std::uint64_t value, const PullRange& range) {
            return value < range.first;
        });
    const std::uint64_t past = env::Planted(env::PlantedBug::kBegunEndExcluded) ? 1 : 0;
    return after != ranges.begin() && std::prev(after)->last >= pull + past;
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
    on_make_subject_(subject);
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
    if (consumer.known) {
        group.policies.Remove(consumer.policy);
    }
    DropFilter(consumer);
    std::erase(group.members, &consumer);
    std::erase(trim_, &consumer);
    std::erase(touched_.consumers, &consumer);
    group.idle_since_ms = now_ms_;
    group.consumers.erase(ConsumerId{consumer.id, consumer.source});
    SetMostAttempts(group);
}

void State::EraseGroup(Group& group) {
    Subject& subject = *group.subject;
    std::erase(touched_.groups, &group);
    gaps_.erase(&group);
    // Should it be made again, it must not begin anew below what it has given.
    least_pull_ = std::max(least_pull_, group.pull_floor);
    subject.groups.erase(subject.groups.find(group.name));
}

void State::ForEachGroup(const std::function<void(Group&)>& visit) const {
    for (const std::unique_ptr<Subject>& subject : subjects_) {
        for (const auto& [name, group] : subject->groups) {
            visit(*group);
        }
    }
}

void State::Clear() {
    undo_.clear();
    trim_.clear();
    touched_ = {};
    gaps_.clear();
    by_name_.clear();
    subjects_.clear();
    last_serial_ = 0;
    relocation_.reset();
    replay_time_ms_ = 0;
    moved_since_ms_ = 0;
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
    for (LooseQueue& queue : group.redelivery) {
        queue.clear();
    }
    group.waiting.clear();
    gaps_.erase(&group);
    for (auto& [id, consumer] : group.consumers) {
        consumer->held.ForEach(
            [&held = consumer->held](std::uint64_t pull, const Held&) { held.MarkDone(pull); });
        ListTrim(*consumer);
    }
}

void State::Skip(Group& group, const Skipped& action, FilterMask refused) {
    undo_.emplace_back([&group, before = group.next_sequence] { group.next_sequence = before; });
    Touch(group);
    SetAside(group, action.aside, refused);
    LooseQueue& queue = group.redelivery[static_cast<std::size_t>(Origin::kSubject)];
    for (const SequenceRun& run : action.passed) {
        EnterGaps(group, Origin::kSubject, {run.first, run.first + run.count - 1});
        const auto end = queue.lower_bound(run.first + run.count);
        for (auto at = queue.lower_bound(run.first); at != end;) {
            if (!at->second.unseen) {
                ++at;
                continue;
            }
            undo_.emplace_back([&queue, entry = *at] { queue.insert(entry); });
            at = queue.erase(at);
        }
    }
    group.next_sequence = std::max(group.next_sequence, action.next_sequence);
}

/// New ones, which another member wants.
void State::SetAside(Group& group, std::span<const SequenceRun> runs, FilterMask refused) {
    LooseQueue& queue = group.redelivery[static_cast<std::size_t>(Origin::kSubject)];
    for (const SequenceRun& run : runs) {
        for (std::uint32_t i = 0; i < run.count; ++i) {
            queue.emplace(run.first + i, Loose{0, 1, 0, true, refused});
        }
        undo_.emplace_back([&queue, run] {
            queue.erase(queue.lower_bound(run.first), queue.lower_bound(run.first + run.count));
        });
    }
}

void State::HandOut(Consumer& consumer, const HandedOut& action, FilterMask refused) {
    Group& group = *consumer.group;
    Align(consumer, action.first_pull_sequence);
    Touch(consumer);
    undo_.emplace_back([&group, before = group.next_sequence] { group.next_sequence = before; });
    SetAside(group, action.aside, refused);
    for (const HandOutRun& run : action.runs) {
        Put(consumer, run, action.time_ms);
    }
    group.next_sequence = std::max(group.next_sequence, action.next_sequence);
}

/// The log tells the pull sequences of one process densely, but for jumps (`EraseGroup`). Only
/// where damage took records does the next one lie below.
void State::Align(Consumer& consumer, std::uint64_t first_pull_sequence) {
    if (consumer.held.next() > first_pull_sequence) {
        Release(consumer, PullRange{0, UINT64_MAX}, ReleaseCause::kLost, {});
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
    std::vector<Loose> taken;
    for (std::uint32_t i = 0; i < run.count; ++i) {
        const std::uint64_t sequence = run.first_sequence + i;
        const std::int64_t since = run.from == TakenFrom::kNew
                                       ? time_ms
                                       : Take(*consumer.group, run, sequence, time_ms, taken);
        Held held(run.origin, sequence, run.attempt, since, run.deaths);
        held.set_deadline_ms(now_ms_ + consumer.settings.ack_timeout.count());
        consumer.held.Push(held);
    }
    undo_.emplace_back(
        [this, &consumer, run, taken = std::move(taken)] { PutBack(consumer, run, taken); });
}

/// Removes it from where it waited; when it was first handed out. What `PutBack` cannot know goes
/// into `taken`.
std::int64_t State::Take(Group& group,
                         const HandOutRun& run,
                         std::uint64_t sequence,
                         std::int64_t time_ms,
                         std::vector<Loose>& taken) {
    std::int64_t since = time_ms;
    if (run.from == TakenFrom::kRedelivery) {
        LooseQueue& queue = group.redelivery[static_cast<std::size_t>(run.origin)];
        if (const auto found = queue.find(sequence); found != queue.end()) {
            since = found->second.unseen ? time_ms : found->second.since_ms;
            taken.push_back(found->second);
            queue.erase(found);
        } else {
            taken.push_back(Loose{time_ms, run.attempt, run.deaths});
        }
    } else if (const std::optional<Waiting> waiting = group.waiting.Take(sequence)) {
        since = waiting->since_ms;
    }
    return since;
}

void State::PutBack(Consumer& consumer, const HandOutRun& run, const std::vector<Loose>& taken) {
    Group& group = *consumer.group;
    for (std::uint32_t i = run.count; i-- > 0;) {
        const Held held = consumer.held.Pop();
        if (run.from == TakenFrom::kRedelivery) {
            group.redelivery[static_cast<std::size_t>(run.origin)].emplace(held.sequence(),
                                                                           taken[i]);
        } else if (run.from == TakenFrom::kWaiting) {
            // It was due.
            group.waiting.Insert(
                Waiting{held.sequence(), run.due_ms, held.since_ms(), run.attempt, now_ms_});
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
    Touch(consumer);
    QMQ_CHECK(done == last - first + 1, "an ack is logged for what is held, and nothing else");
    undo_.emplace_back([&consumer, first, last] {
        for (std::uint64_t pull = first; pull <= last; ++pull) {
            consumer.held.MarkHeld(pull);
        }
    });
}

void State::Release(Consumer& consumer,
                    PullRange range,
                    ReleaseCause cause,
                    std::span<const PullRange> begun) {
    Group& group = *consumer.group;
    const bool forgets = env::Planted(env::PlantedBug::kWrongAttempt);
    consumer.held.ForEach(range, [&](std::uint64_t pull, const Held& held) {
        consumer.held.MarkDone(pull);
        Loose loose{held.since_ms(), held.attempt(), held.deaths()};
        if (cause == ReleaseCause::kLost && Contains(begun, pull)) {
            loose.attempt += forgets ? 0U : 1U;
        } else if (cause == ReleaseCause::kLost && loose.deaths < kMostDeaths) {
            ++loose.deaths;
        }
        LooseQueue& queue = group.redelivery[static_cast<std::size_t>(held.origin())];
        queue.emplace(held.sequence(), loose);
        undo_.emplace_back([&consumer, &queue, pull, sequence = held.sequence()] {
            consumer.held.MarkHeld(pull);
            queue.erase(sequence);
        });
    });
    ListTrim(consumer);
    Touch(consumer);
}

void State::Defer(Consumer& consumer, PullRange range, std::int64_t due_ms) {
    Group& group = *consumer.group;
    const bool forgets = env::Planted(env::PlantedBug::kWrongAttempt);
    consumer.held.ForEach(range, [&](std::uint64_t pull, const Held& held) {
        consumer.held.MarkDone(pull);
        group.waiting.Insert(Waiting{held.sequence(),
                                     due_ms,
                                     held.since_ms(),
                                     held.attempt() + (forgets ? 0U : 1U),
                                     DueAt(due_ms)});
        undo_.emplace_back([&consumer, &group, sequence = held.sequence(), pull] {
            group.waiting.Take(sequence);
            consumer.held.MarkHeld(pull);
        });
    });
    ListTrim(consumer);
    Touch(consumer);
}

void State::TakeLoose(Group& group, Origin origin, PullRange sequences) {
    LooseQueue& queue = group.redelivery[static_cast<std::size_t>(origin)];
    EnterGaps(group, origin, sequences);
    Touch(group);
    auto at = queue.lower_bound(sequences.first);
    while (at != queue.end() && at->first <= sequences.last) {
        undo_.emplace_back([&queue, entry = *at] { queue.insert(entry); });
        at = queue.erase(at);
    }
}

void State::TakeWaiting(Group& group, PullRange sequences) {
    Touch(group);
    const auto first_from = [&group](std::uint64_t sequence) {
        const auto& waiting = group.waiting.by_sequence();
        const auto at = waiting.lower_bound(sequence);
        return at == waiting.end() ? std::nullopt : std::optional(at->first);
    };
    for (std::optional<std::uint64_t> at = first_from(sequences.first); at && *at <= sequences.last;
         at = first_from(*at)) {
        undo_.emplace_back(
            [&group, waiting = group.waiting.Take(*at)] { group.waiting.Insert(*waiting); });
    }
}

void State::TakeUnheld(Group& group, Origin origin, PullRange sequences) {
    TakeLoose(group, origin, sequences);
    if (origin == group.waiting_origin()) {
        TakeWaiting(group, sequences);
    }
}

void State::AddRetries(Subject& retry,
                       std::uint64_t first_sequence,
                       const BatchView& batch,
                       store::RecordTime stored,
                       std::int64_t since_ms) {
    Group& group = RetryGroup(retry);
    Touch(group);
    std::uint64_t sequence = first_sequence;
    BatchView::Iterator heads = batch.begin_heads();
    while (const std::optional<MessageHead> head = heads.Next()) {
        // Another client may have sent any time.
        const std::chrono::milliseconds delay =
            head->deliver_at
                ? std::clamp(*head->deliver_at, stored.date, stored.date + kMostRetryDelay) -
                      stored.date
                : options_.retry_delay;
        const std::int64_t due = (stored.running + delay).count();
        const std::uint32_t attempt = std::clamp(head->attempt, 1U, kMostAttempts);
        group.waiting.Insert(Waiting{sequence, due, since_ms, attempt, DueAt(due)});
        undo_.emplace_back([&group, sequence] { group.waiting.Take(sequence); });
        ++sequence;
    }
}

// ---- Copies that take the place of their originals.

void State::Relocate(const Relocation& move, std::uint64_t first_sequence, std::uint32_t count) {
    Touch(*move.group);
    std::uint64_t copy = first_sequence;
    const std::uint64_t end = first_sequence + count;
    for (const PullRange& range : move.ranges) {
        for (std::uint64_t key = range.first; key <= range.last && copy < end; ++key) {
            RelocateOne(move, key, copy++);
        }
    }
}

void State::RelocateOne(const Relocation& move, std::uint64_t key, std::uint64_t copy) {
    Group& group = *move.group;
    bool found = false;
    switch (move.cause) {
        case MoveCause::kVerdict:
            break;
        case MoveCause::kKeptHeld:
            found = move.consumer != nullptr && RelocateHeld(*move.consumer, key, copy);
            break;
        case MoveCause::kKeptRedelivery:
            found = RelocateLoose(group, move.origin, key, copy);
            break;
        case MoveCause::kKeptWaiting:
            found = RelocateWaiting(group, key, copy);
            break;
    }
    if (!found) {
        // Damage took what the log said of it: it comes again, since nobody knows whether it need.
        group.redelivery[static_cast<std::size_t>(KeptOf(move.origin))].emplace(
            copy, Loose{move.since_ms != 0 ? move.since_ms : replay_time_ms_, 2});
    }
}

bool State::RelocateHeld(Consumer& consumer, std::uint64_t pull, std::uint64_t copy) {
    Held* const held = consumer.held.Find(pull);
    if (held == nullptr) {
        return false;
    }
    if (env::Planted(env::PlantedBug::kRelocationNotTakenBack)) {
        held->Relocate(KeptOf(held->origin()), copy);
    }
    undo_.emplace_back([&consumer, pull, origin = held->origin(), sequence = held->sequence()] {
        consumer.held.Find(pull)->Relocate(origin, sequence);
    });
    held->Relocate(KeptOf(held->origin()), copy);
    return true;
}

bool State::RelocateLoose(Group& group, Origin origin, std::uint64_t sequence, std::uint64_t copy) {
    auto& from = group.redelivery[static_cast<std::size_t>(origin)];
    auto& to = group.redelivery[static_cast<std::size_t>(KeptOf(origin))];
    EnterGaps(group, origin, {sequence, sequence});
    const auto found = from.find(sequence);
    if (found == from.end()) {
        return false;
    }
    const Loose loose = found->second;
    from.erase(found);
    to.emplace(copy, loose);
    undo_.emplace_back([&from, &to, sequence, copy, loose] {
        to.erase(copy);
        from.emplace(sequence, loose);
    });
    return true;
}

bool State::RelocateWaiting(Group& group, std::uint64_t sequence, std::uint64_t copy) {
    const std::optional<Waiting> original = group.waiting.Take(sequence);
    if (!original) {
        return false;
    }
    Waiting moved = *original;
    moved.sequence = copy;
    group.waiting.Insert(moved);
    undo_.emplace_back([&group, original, copy] {
        group.waiting.Take(copy);
        group.waiting.Insert(*original);
    });
    return true;
}

ShardMs State::DueAt(std::int64_t due_ms) const {
    return now_ms_ + std::clamp<ShardMs>(due_ms - running_ms_, 0, kMostRetryDelay.count());
}

void State::ScheduleWaiting(std::chrono::milliseconds downtime) {
    ForEachGroup([this, downtime](Group& group) {
        group.waiting.Reschedule([this, downtime](const Waiting& waiting) {
            return std::max(DueAt(waiting.due_ms) - downtime.count(), now_ms_);
        });
    });
}

void State::Forget(Consumer& consumer, std::span<const PullRange> begun) {
    Group& group = *consumer.group;
    if (env::Planted(env::PlantedBug::kGoneConsumerAcks)) {
        Do(Acked{NamesOf(consumer), {{0, UINT64_MAX}}});
    }
    Release(consumer, PullRange{0, UINT64_MAX}, ReleaseCause::kLost, begun);
    group.pull_floor = std::max(group.pull_floor, consumer.held.next());
    // What it was cannot come back: the caller has written the round before.
    Keep();
    EraseConsumer(consumer);
}

// ---- Rounds.

void State::Touch(Group& group) {
    if (!std::exchange(group.touched, true)) {
        touched_.groups.push_back(&group);
    }
}

void State::Touch(Consumer& consumer) {
    Touch(*consumer.group);
    if (!std::exchange(consumer.touched, true)) {
        touched_.consumers.push_back(&consumer);
    }
}

void State::ForgetTouched() {
    for (Group* group : touched_.groups) {
        group->touched = false;
    }
    for (Consumer* consumer : touched_.consumers) {
        consumer->touched = false;
    }
}

void State::Keep() {
    ForgetTouched();
    touched_.groups.clear();
    touched_.consumers.clear();
    undo_.clear();
    for (Consumer* consumer : trim_) {
        consumer->listed_trim = false;
        consumer->held.Trim();
    }
    trim_.clear();
}

State::Touched State::TakeBack() {
    while (!undo_.empty()) {
        undo_.back()();
        undo_.pop_back();
    }
    for (Consumer* consumer : trim_) {
        consumer->listed_trim = false;
    }
    trim_.clear();
    ForgetTouched();
    return std::exchange(touched_, {});
}

void State::DropBelow(Subject& subject, const std::function<void(Group&, const Dropped&)>& lost) {
    const std::uint64_t first = subject.log->first_sequence();
    const auto drop = [&](Group& group, Origin origin, Dropped dropped) {
        auto& queue = group.redelivery[static_cast<std::size_t>(origin)];
        const auto kept = queue.lower_bound(first);
        for (auto at = queue.begin(); at != kept; ++at) {
            (at->second.unseen ? dropped.unread : dropped.waiting) +=
                subject.log->CountGiven(at->first, at->first + 1);
        }
        queue.erase(queue.begin(), kept);
        if (group.waiting_origin() == origin) {
            dropped.waiting += group.waiting.EraseBelow(first);
        }
        for (auto& [id, consumer] : group.consumers) {
            consumer->held.ForEach([&, c = consumer.get()](std::uint64_t pull, const Held& held) {
                if (held.origin() == origin && held.sequence() < first) {
                    c->held.MarkDone(pull);
                    ListTrim(*c);
                    dropped.held += subject.log->CountGiven(held.sequence(), held.sequence() + 1);
                }
            });
        }
        if (dropped.count() > 0) {
            lost(group, dropped);
        }
    };
    for (auto& [name, group] : subject.groups) {
        Dropped dropped;
        if (group->placed && group->next_sequence < first) {
            dropped.unread = subject.log->CountGiven(group->next_sequence, first);
            group->next_sequence = first;
        }
        if (first > 0) {
            for (const PullRange& gap : TakeGaps(*group, {0, first - 1})) {
                dropped.unread += subject.log->CountGiven(gap.first, gap.last + 1);
            }
        }
        drop(*group, Origin::kSubject, dropped);
    }
    if (subject.kind == SubjectKind::kRetry) {
        if (Group* group = FindGroup({subject.real_name, subject.group_name})) {
            drop(*group, Origin::kRetry, {});
            drop(*group, Origin::kKept, {});
        }
    }
}

}  // namespace qmq::broker
