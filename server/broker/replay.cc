#include <algorithm>
#include <map>
#include <string>
#include <tuple>

#include "server/broker/codec.h"
#include "server/broker/state.h"

/// How records and snapshots become state again.
namespace qmq::broker {

namespace {
constexpr std::uint8_t kSnapshotVersion = 1;
/// More than any consumer may hold: a count above it is damage.
constexpr std::uint64_t kMostHeld = 1U << 21U;
}  // namespace

void State::Apply(const Action& action) {
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
    Group& group = MakeGroup(action.consumer.group);
    group.filter = action.filter;
    group.policy = action.retry;
    MakeConsumer(group, action.consumer.consumer_id, action.consumer.source).settings =
        action.settings;
}

void State::Do(const HandedOut& action) {
    Group& group = MakeGroup(action.consumer.group);
    replay_time_ms_ = action.time_ms;
    CloseGap(group, action.from_sequence);
    HandOut(MakeConsumer(group, action.consumer.consumer_id, action.consumer.source), action);
}

void State::Do(const Skipped& action) {
    Group& group = MakeGroup(action.group);
    CloseGap(group, action.from_sequence);
    if (action.next_sequence > group.next_sequence) {
        Skip(group, action.next_sequence);
    }
}

/// The log says how far the group had come. What lies between was handed out by records that are
/// damaged, nobody knows to whom: it goes out again, which at-least-once allows.
void State::CloseGap(Group& group, std::uint64_t from_sequence) {
    auto& queue = group.redelivery[static_cast<std::size_t>(Origin::kSubject)];
    for (; group.placed && group.next_sequence < from_sequence; ++group.next_sequence) {
        queue.try_emplace(group.next_sequence, Loose{replay_time_ms_, 2, true});
    }
    group.next_sequence = std::max(group.next_sequence, from_sequence);
    // Else the record that placed it is damaged: this is where it was.
    group.placed = true;
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
            Release(*consumer, range, action.counted);
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
    moved_since_ms_ = action.since_ms;
    if (!action.consumer.consumer_id.empty()) {
        Do(Acked{action.consumer, action.ranges});
        return;
    }
    if (Group* group = FindGroup(action.consumer.group)) {
        for (const PullRange& range : action.ranges) {
            TakeLoose(*group, action.origin, range);
        }
    }
}

void State::Do(const ConsumerGone& action) {
    if (Consumer* consumer = FindConsumer(action.consumer)) {
        Forget(*consumer);
    }
}

void State::ReplayMessages(Subject& subject,
                           std::uint64_t first_sequence,
                           const BatchView& batch,
                           std::int64_t stored_ms) {
    const std::int64_t moved_since = std::exchange(moved_since_ms_, 0);
    replay_time_ms_ = stored_ms;
    if (subject.kind == SubjectKind::kRetry) {
        AddRetries(
            subject, first_sequence, batch, stored_ms, moved_since != 0 ? moved_since : stored_ms);
        Keep();
    }
}

void State::DropUnknown(const std::function<void(Subject&, std::uint64_t)>& lost) {
    std::map<std::string, std::uint64_t> named;  // By subject: one more than any group speaks of.
    ForEachGroup([this, &named](Group& group) {
        for (const Origin origin : {Origin::kSubject, Origin::kRetry}) {
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
            if (group.waiting_origin() == origin) {
                for (const Waiting& waiting : group.waiting) {
                    name(waiting.sequence);
                }
                std::erase_if(group.waiting, [end](const Waiting& w) { return w.sequence >= end; });
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
    writer.Policy(group.policy);
    writer.Filter(group.filter);
    for (const auto& queue : group.redelivery) {
        writer.Number(queue.size());
        for (const auto& [sequence, loose] : queue) {
            writer.Number(sequence);
            writer.Number(loose.attempt);
            writer.Byte(loose.unfiltered ? 1 : 0);
            writer.Signed(loose.since_ms);
        }
    }
    writer.Number(group.waiting.size());
    for (const Waiting& waiting : group.waiting) {
        writer.Signed(waiting.due_ms);
        writer.Number(waiting.sequence);
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
    group.policy = reader.Policy();
    group.filter = reader.Filter();
    for (auto& queue : group.redelivery) {
        const std::uint64_t count = reader.Count(4);
        for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
            const std::uint64_t sequence = reader.Number();
            const auto attempt = static_cast<std::uint32_t>(reader.Bounded(UINT32_MAX));
            const bool unfiltered = reader.Byte() != 0;
            queue.emplace_hint(queue.end(), sequence, Loose{reader.Signed(), attempt, unfiltered});
        }
    }
    const std::uint64_t waiting_count = reader.Count(4);
    for (std::uint64_t i = 0; i < waiting_count && !reader.failed(); ++i) {
        Waiting waiting;
        waiting.due_ms = reader.Signed();
        waiting.sequence = reader.Number();
        waiting.attempt = static_cast<std::uint32_t>(reader.Bounded(UINT32_MAX));
        waiting.since_ms = reader.Signed();
        group.waiting.insert(group.waiting.end(), waiting);
    }
    const std::uint64_t consumer_count = reader.Count(8);
    for (std::uint64_t i = 0; i < consumer_count && !reader.failed(); ++i) {
        LoadConsumer(group, reader);
    }
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
    consumer.born_at = reader.Number();
    const std::uint64_t next = reader.Number();
    const std::uint64_t run_count = reader.Count(6);
    for (std::uint64_t i = 0; i < run_count && !reader.failed(); ++i) {
        const std::uint64_t pull = reader.Number();
        const std::uint64_t count = reader.Bounded(kMostHeld);
        const auto origin = static_cast<Origin>(reader.Bounded(1));
        const std::uint64_t sequence = reader.Number();
        const auto attempt = static_cast<std::uint32_t>(reader.Bounded(UINT32_MAX));
        const std::int64_t since = reader.Signed();
        if (i == 0) {
            consumer.held.Begin(pull);
        }
        consumer.held.SkipTo(pull);
        for (std::uint64_t k = 0; k < count && !reader.failed(); ++k) {
            consumer.held.Push(Held(origin, sequence + k, attempt, since));
        }
    }
    if (run_count == 0) {
        consumer.held.Begin(next);
    }
    consumer.held.SkipTo(next);
    consumer.held.Trim();
}

}  // namespace qmq::broker
