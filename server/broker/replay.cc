#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>

#include "server/broker/codec.h"
#include "server/broker/state.h"
#include "server/env/planted_bug.h"

/// How records and snapshots become state again.
namespace qmq::broker {

namespace {
constexpr std::uint8_t kSnapshotVersion = 2;
/// More than any consumer may hold: a count above it is damage.
constexpr std::uint64_t kMostHeld = 1U << 21U;
}  // namespace

void State::Apply(const Action& action) {
    relocation_.reset();
    std::visit([this](const auto& a) { Do(a); }, action);
    Keep();
}

void State::Do(const GroupPlaced& action) {
    Place(MakeGroup(action.group), action.next_sequence, action.reset);
}

void State::Do(const GroupGone& action) {
    if (Group* group = FindGroup(action.group)) {
        for (auto& [id, consumer] : group->consumers) {
            std::erase(trim_, consumer.get());
        }
        EraseGroup(*group);
    }
}

void State::Do(const Subscribed& action) {
    Consumer& consumer = MakeConsumer(
        MakeGroup(action.consumer.group), action.consumer.consumer_id, action.consumer.source);
    consumer.settings = action.settings;
    SetTerms(consumer, action.filter, action.retry);
}

void State::Do(const HandedOut& action) {
    Group& group = MakeGroup(action.consumer.group);
    replay_time_ms_ = action.time_ms;
    CloseGap(group, action.from_sequence);
    TakeFromStalePlaces(group, action.runs);
    HandOut(MakeConsumer(group, action.consumer.consumer_id, action.consumer.source), action, 0);
}

/// What was handed out from the queue, or because its time had come, was nowhere else then. Where
/// the record that took it from its holder is damaged, the log seems to say that two hold it: the
/// ack of the one would leave it with the other, and it would come again. So it would where the
/// record of the hand-out before is damaged, and what that one had taken seems to be there still.
void State::TakeFromStalePlaces(Group& group, const std::vector<HandOutRun>& runs) {
    std::set<std::pair<Origin, std::uint64_t>> unexplained;
    for (const HandOutRun& run : runs) {
        if (run.from == TakenFrom::kNew) {
            continue;
        }
        const std::uint64_t end = run.first_sequence + run.count;
        EnterGaps(group, run.origin, {run.first_sequence, end - 1});
        for (std::uint64_t at = run.first_sequence; at < end; ++at) {
            if (!PutInPlace(group, run, at)) {
                unexplained.emplace(run.origin, at);
            }
        }
    }
    for (auto at = group.consumers.begin(); !unexplained.empty() && at != group.consumers.end();
         ++at) {
        Consumer& holder = *at->second;
        holder.held.ForEach([&](std::uint64_t pull, const Held& held) {
            if (unexplained.erase({held.origin(), held.sequence()}) > 0) {
                holder.held.MarkDone(pull);
                ListTrim(holder);
            }
        });
    }
}

/// False: it is neither in the queue nor waiting. It goes from the one to the other where the
/// record by which it did is damaged, so that the hand-out finds it.
bool State::PutInPlace(Group& group, const HandOutRun& run, std::uint64_t sequence) {
    LooseQueue& queue = group.redelivery[static_cast<std::size_t>(run.origin)];
    const bool may_wait = run.origin == group.waiting_origin();
    const bool is_waiting = may_wait && group.waiting.Find(sequence) != nullptr;
    const auto found = queue.find(sequence);
    const bool is_queued = found != queue.end();
    if (run.from == TakenFrom::kRedelivery && is_waiting) {
        const std::optional<Waiting> waiting = group.waiting.Take(sequence);
        queue.emplace(sequence, Loose{waiting->since_ms, run.attempt, run.deaths});
    } else if (run.from == TakenFrom::kWaiting && is_queued && may_wait) {
        const std::int64_t since = found->second.unseen ? replay_time_ms_ : found->second.since_ms;
        queue.erase(sequence);
        group.waiting.Insert(Waiting{sequence, run.due_ms, since, run.attempt, DueAt(run.due_ms)});
    }
    return is_queued || is_waiting;
}

void State::Do(const Skipped& action) {
    Group& group = MakeGroup(action.group);
    CloseGap(group, action.from_sequence);
    Skip(group, action, 0);
}

/// The log says how far the group had come. What lies between was handed out by records that are
/// damaged, nobody knows to whom, or was skipped: it goes to whoever wants it, which at-least-once
/// allows.
void State::CloseGap(Group& group, std::uint64_t from_sequence) {
    if (group.placed && group.next_sequence < from_sequence) {
        gaps_[&group].push_back(PullRange{group.next_sequence, from_sequence - 1});
    }
    group.next_sequence = std::max(group.next_sequence, from_sequence);
    // Else the record that placed it is damaged: this is where it was.
    group.placed = true;
}

/// What of `sequences` lies in gaps, which have it no longer.
std::vector<PullRange> State::TakeGaps(Group& group, PullRange sequences) {
    std::vector<PullRange> taken;
    const auto found = gaps_.find(&group);
    if (found == gaps_.end()) {
        return taken;
    }
    std::vector<PullRange> rest;
    for (const PullRange& gap : found->second) {
        const PullRange both{std::max(gap.first, sequences.first),
                             std::min(gap.last, sequences.last)};
        if (both.first > both.last) {
            rest.push_back(gap);
            continue;
        }
        taken.push_back(both);
        if (gap.first < both.first) {
            rest.push_back(PullRange{gap.first, both.first - 1});
        }
        if (both.last < gap.last) {
            rest.push_back(PullRange{both.last + 1, gap.last});
        }
    }
    found->second = std::move(rest);
    return taken;
}

/// Before `sequences` are looked for in the queue of `origin`.
void State::EnterGaps(Group& group, Origin origin, PullRange sequences) {
    if (origin != Origin::kSubject || gaps_.empty()) {
        return;
    }
    LooseQueue& queue = group.redelivery[static_cast<std::size_t>(origin)];
    for (const PullRange& gap : TakeGaps(group, sequences)) {
        for (std::uint64_t sequence = gap.first; sequence <= gap.last; ++sequence) {
            queue.emplace(sequence, Loose{0, 1, 0, true});
        }
    }
}

void State::EnterGaps() {
    ForEachGroup([this](Group& group) {
        EnterGaps(group, Origin::kSubject, PullRange{0, UINT64_MAX});
    });
    gaps_.clear();
}

void State::Do(const Acked& action) {
    if (Consumer* consumer = FindConsumer(action.consumer)) {
        for (const PullRange& range : action.ranges) {
            consumer->held.ForEach(
                range,
                [&held = consumer->held](std::uint64_t pull, const Held&) { held.MarkDone(pull); });
        }
        ListTrim(*consumer);
    }
}

void State::Do(const Released& action) {
    if (Consumer* consumer = FindConsumer(action.consumer)) {
        for (const PullRange& range : action.ranges) {
            Release(*consumer, range, action.cause, action.begun);
        }
    }
}

void State::Do(const Deferred& action) {
    if (Consumer* consumer = FindConsumer(action.consumer)) {
        for (const PullRange& range : action.ranges) {
            Defer(*consumer, range, action.due_ms);
        }
    }
}

void State::Do(const Moved& action) {
    if (action.cause != MoveCause::kVerdict) {
        relocation_ = Relocation{&MakeGroup(action.consumer.group),
                                 FindConsumer(action.consumer),
                                 action.cause,
                                 action.origin,
                                 action.since_ms,
                                 action.due_ms,
                                 action.ranges};
        return;
    }
    moved_since_ms_ = action.since_ms;
    if (!action.consumer.consumer_id.empty()) {
        Do(Acked{action.consumer, action.ranges});
        return;
    }
    if (Group* group = FindGroup(action.consumer.group)) {
        for (const PullRange& range : action.ranges) {
            TakeUnheld(*group, action.origin, range);
        }
    }
}

void State::Do(const ConsumerGone& action) {
    if (Consumer* consumer = FindConsumer(action.consumer)) {
        Forget(*consumer, action.begun);
    }
}

void State::ReplayMessages(Subject& subject,
                           std::uint64_t first_sequence,
                           const BatchView& batch,
                           store::RecordTime stored) {
    const std::int64_t stored_ms = stored.date.time_since_epoch().count();
    const std::int64_t moved_since = std::exchange(moved_since_ms_, 0);
    replay_time_ms_ = stored_ms;
    if (const std::optional<Relocation> move = std::exchange(relocation_, std::nullopt)) {
        move->group->retry = &subject;
        Relocate(*move, first_sequence, batch.count());
        Keep();
        return;
    }
    if (subject.kind == SubjectKind::kRetry) {
        AddRetries(
            subject, first_sequence, batch, stored, moved_since != 0 ? moved_since : stored_ms);
        Keep();
    }
}

void State::DropUnknown(const std::function<void(Subject&, std::uint64_t)>& lost) {
    std::map<std::string, std::uint64_t> named;  // By subject: one more than any group speaks of.
    ForEachGroup([this, &named](Group& group) {
        for (const Origin origin : kOrigins) {
            const Subject* source = group.Log(origin);
            const std::uint64_t end =
                source == nullptr || source->log == nullptr ? 0 : source->log->next_sequence();
            std::uint64_t named_end = origin == Origin::kSubject ? group.next_sequence : 0;
            const auto name = [&named_end](std::uint64_t sequence) {
                named_end = std::max(named_end, sequence + 1);
            };
            auto& queue = group.redelivery[static_cast<std::size_t>(origin)];
            if (!queue.empty()) {
                name(queue.rbegin()->first);
            }
            queue.erase(queue.lower_bound(end), queue.end());
            if (origin == Origin::kSubject) {
                TakeGaps(group, {end, UINT64_MAX});
            }
            if (group.waiting_origin() == origin) {
                if (!group.waiting.empty()) {
                    name(group.waiting.by_sequence().rbegin()->first);
                }
                group.waiting.EraseFrom(end);
            }
            for (auto& [id, consumer] : group.consumers) {
                consumer->held.ForEach([&, c = consumer.get()](std::uint64_t pull, const Held& h) {
                    if (h.origin() == origin && h.sequence() >= end) {
                        name(h.sequence());
                        c->held.MarkDone(pull);
                        ListTrim(*c);
                    }
                });
            }
            if (source != nullptr && named_end > end) {
                std::uint64_t& of_subject = named[source->name];
                of_subject = std::max(of_subject, named_end);
            }
        }
    });
    Keep();
    for (const auto& [subject, end] : named) {
        lost(MakeSubject(subject), end);
    }
}

// ---- Snapshots.

std::string State::Save(std::span<const std::string> unapplied) const {
    QMQ_CHECK(gaps_.empty(), "no snapshot is taken while the log is replayed");
    std::string out;
    Writer writer(out);
    writer.Byte(kSnapshotVersion);
    // In an order of their own, and without those that are nothing but a name: the same state is
    // the same bytes, however it came about.
    std::vector<const Group*> groups;
    ForEachGroup([&groups](const Group& group) {
        if (group.placed || !group.waiting.empty() || !group.consumers.empty()) {
            groups.push_back(&group);
        }
    });
    std::sort(groups.begin(), groups.end(), [](const Group* a, const Group* b) {
        return std::tie(a->subject->name, a->name) < std::tie(b->subject->name, b->name);
    });
    writer.Number(groups.size());
    for (const Group* group : groups) {
        SaveGroup(*group, writer);
    }
    writer.Number(unapplied.size());
    for (const std::string& action : unapplied) {
        writer.Text(action);
    }
    return out;
}

void State::SaveGroup(const Group& group, Writer& writer) const {
    writer.Text(group.subject->name);
    writer.Text(group.name);
    writer.Byte(group.placed ? 1 : 0);
    writer.Number(group.next_sequence);
    writer.Number(group.pull_floor);
    for (const std::uint64_t lost : group.lost_count) {
        writer.Number(lost);
    }
    writer.Policy(group.policy);
    for (const auto& queue : group.redelivery) {
        writer.Number(queue.size());
        for (const auto& [sequence, loose] : queue) {
            writer.Number(sequence);
            writer.Number(loose.attempt);
            writer.Byte(static_cast<std::uint8_t>((loose.unseen ? 1U : 0U) |
                                                  static_cast<unsigned>(loose.deaths) << 1U));
            writer.Signed(loose.since_ms);
        }
    }
    writer.Number(group.waiting.size());
    for (const auto& [sequence, waiting] : group.waiting.by_sequence()) {
        writer.Signed(waiting.due_ms);
        writer.Number(sequence);
        writer.Number(waiting.attempt);
        writer.Signed(waiting.since_ms);
    }
    writer.Number(group.consumers.size());
    for (const auto& [id, consumer] : group.consumers) {
        SaveConsumer(*consumer, writer);
    }
}

/// Entries one after another in the same log are told as one run.
void State::SaveConsumer(const Consumer& consumer, Writer& writer) const {
    writer.Text(consumer.id);
    writer.Byte(static_cast<std::uint8_t>(consumer.source));
    writer.Signed(consumer.settings.ack_timeout.count());
    writer.Signed(consumer.settings.reconnect_grace.count());
    writer.Byte(consumer.settings.sessionless ? 1 : 0);
    writer.Byte(consumer.known ? 1 : 0);
    writer.Filter(consumer.filter);
    writer.Policy(consumer.policy);
    writer.Number(consumer.born_at);
    writer.Number(consumer.held.next());
    struct Run {
        std::uint64_t pull = 0;
        std::uint64_t count = 0;
        Held first;
        Held last;
    };
    std::vector<Run> runs;
    consumer.held.ForEach([&runs](std::uint64_t pull, const Held& held) {
        if (!runs.empty() && runs.back().pull + runs.back().count == pull &&
            runs.back().last.Continues(held) && runs.back().first.since_ms() == held.since_ms()) {
            ++runs.back().count;
            runs.back().last = held;
        } else {
            runs.push_back(Run{pull, 1, held, held});
        }
    });
    writer.Number(runs.size());
    for (const Run& run : runs) {
        writer.Number(run.pull);
        writer.Number(run.count);
        writer.Byte(static_cast<std::uint8_t>(run.first.origin()));
        writer.Number(run.first.sequence());
        writer.Number(run.first.attempt());
        writer.Byte(run.first.deaths());
        writer.Signed(run.first.since_ms());
    }
}

Status State::Load(std::string_view bytes) {
    Reader reader("snapshot of the broker", bytes);
    const std::uint8_t version = reader.Byte();
    if (!reader.failed() && version != kSnapshotVersion) {
        return Status::Unimplemented("snapshot of the broker in version " +
                                     std::to_string(version) +
                                     ": it was written by a newer program");
    }
    const std::uint64_t count = reader.Count(8);
    for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
        LoadGroup(reader);
    }
    const std::uint64_t unapplied_count = reader.Count(1);
    for (std::uint64_t i = 0; i < unapplied_count && !reader.failed(); ++i) {
        Result<Action> action = DecodeAction(reader.Text());
        if (!action.ok()) {
            return action.status().WithContext("snapshot of the broker");
        }
        Apply(*action);
    }
    return reader.Finish();
}

void State::LoadGroup(Reader& reader) {
    const std::string_view subject = reader.Text();
    const std::string_view name = reader.Text();
    if (reader.failed()) {
        return;
    }
    Group& group = MakeGroup({subject, name});
    group.placed = reader.Byte() != 0;
    group.next_sequence = reader.Number();
    group.pull_floor = reader.Number();
    for (std::uint64_t& lost : group.lost_count) {
        lost = reader.Number();
    }
    group.policy = reader.Policy();
    for (auto& queue : group.redelivery) {
        const std::uint64_t count = reader.Count(4);
        for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
            const std::uint64_t sequence = reader.Number();
            const auto attempt = static_cast<std::uint32_t>(reader.Bounded(UINT32_MAX));
            const std::uint8_t flags = reader.Byte();
            const auto deaths = static_cast<std::uint8_t>(flags >> 1U);
            if (deaths > kMostDeaths) {
                reader.Fail(std::to_string(deaths) + " deaths");
            }
            const std::uint8_t unseen =
                env::Planted(env::PlantedBug::kUnseenAfterRestart) ? flags : flags & 1U;
            queue.emplace(sequence, Loose{reader.Signed(), attempt, deaths, unseen != 0});
        }
    }
    const std::uint64_t waiting_count = reader.Count(4);
    for (std::uint64_t i = 0; i < waiting_count && !reader.failed(); ++i) {
        Waiting waiting;
        waiting.due_ms = reader.Signed();
        waiting.sequence = reader.Number();
        waiting.attempt = static_cast<std::uint32_t>(reader.Bounded(UINT32_MAX));
        waiting.since_ms = reader.Signed();
        group.waiting.Insert(waiting);
    }
    const std::uint64_t consumer_count = reader.Count(8);
    for (std::uint64_t i = 0; i < consumer_count && !reader.failed(); ++i) {
        LoadConsumer(group, reader);
    }
    SetMostAttempts(group);
}

void State::LoadConsumer(Group& group, Reader& reader) {
    const std::string_view id = reader.Text();
    const auto source = static_cast<ConsumeSource>(
        reader.Bounded(static_cast<std::uint64_t>(ConsumeSource::kRetry)));
    if (reader.failed()) {
        return;
    }
    Consumer& consumer = MakeConsumer(group, id, source);
    consumer.settings.ack_timeout = std::chrono::milliseconds(reader.Signed());
    consumer.settings.reconnect_grace = std::chrono::milliseconds(reader.Signed());
    consumer.settings.sessionless = reader.Byte() != 0;
    const bool known = reader.Byte() != 0;
    const TagFilter filter = reader.Filter();
    consumer.policy = reader.Policy();
    if (known) {
        SetFilter(consumer, filter);
        group.policies.Add(consumer.policy);
    }
    consumer.born_at = reader.Number();
    const std::uint64_t next = reader.Number();
    const std::uint64_t run_count = reader.Count(6);
    for (std::uint64_t i = 0; i < run_count && !reader.failed(); ++i) {
        const std::uint64_t pull = reader.Number();
        const std::uint64_t count = reader.Bounded(kMostHeld);
        const auto origin = static_cast<Origin>(reader.Bounded(kOriginCount - 1));
        const std::uint64_t sequence = reader.Number();
        const auto attempt = static_cast<std::uint32_t>(reader.Bounded(UINT32_MAX));
        const auto deaths = static_cast<std::uint8_t>(reader.Bounded(kMostDeaths));
        const std::int64_t since = reader.Signed();
        if (i == 0) {
            consumer.held.Begin(pull);
        }
        consumer.held.SkipTo(pull);
        for (std::uint64_t k = 0; k < count && !reader.failed(); ++k) {
            consumer.held.Push(Held(origin, sequence + k, attempt, since, deaths));
        }
    }
    if (run_count == 0) {
        consumer.held.Begin(next);
    }
    consumer.held.SkipTo(next);
    consumer.held.Trim();
}

}  // namespace qmq::broker
