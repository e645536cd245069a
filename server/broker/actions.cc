#include "server/broker/actions.h"

#include <type_traits>

#include "qmq/check.h"

#include "server/broker/codec.h"
#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

/// On disk: add, never renumber.
enum class ActionKind : std::uint8_t {
    kGroupPlaced = 1,
    kGroupGone = 2,
    kSubscribed = 3,
    kHandedOut = 4,
    kSkipped = 5,
    kAcked = 6,
    kReleased = 7,
    kDeferred = 8,
    kMoved = 9,
    kConsumerGone = 10
};
constexpr std::uint8_t kVersion = 2;

void Begin(Writer& writer, ActionKind kind) {
    writer.Byte(static_cast<std::uint8_t>(kind));
    writer.Byte(kVersion);
}

void Put(Writer& writer, const GroupName& name) {
    writer.Text(name.subject);
    writer.Text(name.group);
}

void Put(Writer& writer, const ConsumerName& name) {
    Put(writer, name.group);
    writer.Text(name.consumer_id);
    writer.Byte(static_cast<std::uint8_t>(name.source));
}

// Ranges ascend, so the distance from the one before is short. What does not ascend no start could
// read.
void Put(Writer& writer, const std::vector<PullRange>& ranges) {
    writer.Number(ranges.size());
    std::uint64_t before = 0;
    for (const PullRange& range : ranges) {
        QMQ_CHECK((range.first >= before && range.last >= range.first) ||
                      env::Planted(env::PlantedBug::kUnreadableAck),
                  "ranges of an action ascend");
        writer.Number(range.first - before);
        writer.Number(range.last - range.first);
        before = range.last;
    }
}

void Put(Writer& writer, const std::vector<SequenceRun>& runs) {
    writer.Number(runs.size());
    std::uint64_t before = 0;
    for (const SequenceRun& run : runs) {
        QMQ_CHECK(run.first >= before, "runs of an action ascend");
        writer.Number(run.first - before);
        writer.Number(run.count);
        before = run.first;
    }
}

void Put(Writer& writer, const HandOutRun& run) {
    writer.Byte(static_cast<std::uint8_t>(static_cast<unsigned>(run.origin) |
                                          static_cast<unsigned>(run.from) << 2U |
                                          static_cast<unsigned>(run.deaths) << 4U));
    writer.Number(run.first_sequence);
    writer.Number(run.count);
    writer.Number(run.attempt);
    if (run.from == TakenFrom::kWaiting) {
        writer.Signed(run.due_ms);
    }
}

void Put(Writer& writer, const GroupPlaced& action) {
    Begin(writer, ActionKind::kGroupPlaced);
    Put(writer, action.group);
    writer.Number(action.next_sequence);
    writer.Byte(action.reset ? 1 : 0);
}

void Put(Writer& writer, const GroupGone& action) {
    Begin(writer, ActionKind::kGroupGone);
    Put(writer, action.group);
}

void Put(Writer& writer, const Subscribed& action) {
    Begin(writer, ActionKind::kSubscribed);
    Put(writer, action.consumer);
    writer.Filter(action.filter);
    writer.Policy(action.retry);
    writer.Signed(action.settings.ack_timeout.count());
    writer.Signed(action.settings.reconnect_grace.count());
    writer.Byte(action.settings.sessionless ? 1 : 0);
}

void Put(Writer& writer, const HandedOut& action) {
    Begin(writer, ActionKind::kHandedOut);
    Put(writer, action.consumer);
    writer.Number(action.first_pull_sequence);
    writer.Signed(action.time_ms);
    writer.Number(action.next_sequence);
    writer.Number(action.from_sequence);
    writer.Number(action.runs.size());
    for (const HandOutRun& run : action.runs) {
        Put(writer, run);
    }
    Put(writer, action.aside);
}

void Put(Writer& writer, const Skipped& action) {
    Begin(writer, ActionKind::kSkipped);
    Put(writer, action.group);
    writer.Number(action.next_sequence);
    writer.Number(action.from_sequence);
    Put(writer, action.aside);
    Put(writer, action.passed);
}

void Put(Writer& writer, const Acked& action) {
    Begin(writer, ActionKind::kAcked);
    Put(writer, action.consumer);
    Put(writer, action.ranges);
}

void Put(Writer& writer, const Released& action) {
    Begin(writer, ActionKind::kReleased);
    Put(writer, action.consumer);
    writer.Byte(static_cast<std::uint8_t>(action.cause));
    Put(writer, action.ranges);
    Put(writer, action.begun);
}

void Put(Writer& writer, const Deferred& action) {
    Begin(writer, ActionKind::kDeferred);
    Put(writer, action.consumer);
    writer.Signed(action.due_ms);
    Put(writer, action.ranges);
}

void Put(Writer& writer, const Moved& action) {
    Begin(writer, ActionKind::kMoved);
    Put(writer, action.consumer);
    writer.Signed(action.since_ms);
    writer.Byte(static_cast<std::uint8_t>(action.origin));
    writer.Byte(static_cast<std::uint8_t>(action.cause));
    writer.Signed(action.due_ms);
    Put(writer, action.ranges);
}

void Put(Writer& writer, const ConsumerGone& action) {
    Begin(writer, ActionKind::kConsumerGone);
    Put(writer, action.consumer);
    Put(writer, action.begun);
}

GroupName GetGroup(Reader& reader) {
    GroupName name;
    name.subject = reader.Text();
    name.group = reader.Text();
    return name;
}

bool GetBool(Reader& reader) {
    const std::uint8_t byte = reader.Byte();
    if (byte > 1) {
        reader.Fail("a flag of " + std::to_string(byte));
    }
    return byte == 1;
}

ConsumerName GetConsumer(Reader& reader) {
    ConsumerName name;
    name.group = GetGroup(reader);
    name.consumer_id = reader.Text();
    const std::uint8_t source = reader.Byte();
    if (source > static_cast<std::uint8_t>(ConsumeSource::kRetry)) {
        reader.Fail("unknown source " + std::to_string(source));
    } else {
        name.source = static_cast<ConsumeSource>(source);
    }
    return name;
}

std::vector<PullRange> GetRanges(Reader& reader) {
    std::vector<PullRange> ranges;
    const std::uint64_t count = reader.Count(2);
    ranges.reserve(count);
    std::uint64_t before = 0;
    for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
        PullRange range;
        range.first = before + reader.Number();
        range.last = range.first + reader.Number();
        if (range.first < before || range.last < range.first) {
            reader.Fail("a range that runs over");
        }
        before = range.last;
        ranges.push_back(range);
    }
    return ranges;
}

std::vector<SequenceRun> GetSequences(Reader& reader) {
    std::vector<SequenceRun> runs;
    const std::uint64_t count = reader.Count(2);
    runs.reserve(count);
    std::uint64_t before = 0;
    for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
        SequenceRun run;
        run.first = before + reader.Number();
        run.count = static_cast<std::uint32_t>(reader.Bounded(UINT32_MAX));
        if (run.first < before || run.first + run.count < run.first) {
            reader.Fail("a run that runs over");
        }
        before = run.first;
        runs.push_back(run);
    }
    return runs;
}

HandOutRun GetRun(Reader& reader) {
    HandOutRun run;
    const std::uint8_t flags = reader.Byte();
    const unsigned origin = flags & 3U;
    const unsigned from = flags >> 2U & 3U;
    if (origin >= kOriginCount || from > static_cast<unsigned>(TakenFrom::kWaiting) ||
        (flags >> 4U) > kMostDeaths) {
        reader.Fail("unknown flags " + std::to_string(flags));
        return run;
    }
    run.origin = static_cast<Origin>(origin);
    run.from = static_cast<TakenFrom>(from);
    run.deaths = static_cast<std::uint8_t>(flags >> 4U);
    run.first_sequence = reader.Number();
    run.count = static_cast<std::uint32_t>(reader.Bounded(UINT32_MAX));
    run.attempt = static_cast<std::uint32_t>(reader.Bounded(UINT32_MAX));
    if (run.from == TakenFrom::kWaiting) {
        run.due_ms = reader.Signed();
    }
    return run;
}

Subscribed GetSubscribed(Reader& reader) {
    Subscribed action;
    action.consumer = GetConsumer(reader);
    action.filter = reader.Filter();
    action.retry = reader.Policy();
    action.settings.ack_timeout = std::chrono::milliseconds(reader.Signed());
    action.settings.reconnect_grace = std::chrono::milliseconds(reader.Signed());
    action.settings.sessionless = GetBool(reader);
    return action;
}

HandedOut GetHandedOut(Reader& reader) {
    HandedOut action;
    action.consumer = GetConsumer(reader);
    action.first_pull_sequence = reader.Number();
    action.time_ms = reader.Signed();
    action.next_sequence = reader.Number();
    action.from_sequence = reader.Number();
    const std::uint64_t count = reader.Count(4);
    action.runs.reserve(count);
    for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
        action.runs.push_back(GetRun(reader));
    }
    action.aside = GetSequences(reader);
    return action;
}

Moved GetMoved(Reader& reader) {
    Moved action;
    action.consumer = GetConsumer(reader);
    action.since_ms = reader.Signed();
    action.origin = static_cast<Origin>(reader.Bounded(kOriginCount - 1));
    action.cause =
        static_cast<MoveCause>(reader.Bounded(static_cast<std::uint64_t>(MoveCause::kKeptWaiting)));
    action.due_ms = reader.Signed();
    action.ranges = GetRanges(reader);
    return action;
}

// Braced initialisers read their parts in order, as the wire has them.
Result<Action> GetAction(Reader& reader, ActionKind kind) {
    switch (kind) {
        case ActionKind::kGroupPlaced: {
            const GroupName group = GetGroup(reader);
            const std::uint64_t next = reader.Number();
            return Action(GroupPlaced{group, next, GetBool(reader)});
        }
        case ActionKind::kGroupGone:
            return Action(GroupGone{GetGroup(reader)});
        case ActionKind::kSubscribed:
            return Action(GetSubscribed(reader));
        case ActionKind::kHandedOut:
            return Action(GetHandedOut(reader));
        case ActionKind::kSkipped: {
            const GroupName group = GetGroup(reader);
            const std::uint64_t next_sequence = reader.Number();
            const std::uint64_t from_sequence = reader.Number();
            std::vector<SequenceRun> aside = GetSequences(reader);
            return Action(Skipped{
                group, next_sequence, from_sequence, std::move(aside), GetSequences(reader)});
        }
        case ActionKind::kAcked: {
            const ConsumerName consumer = GetConsumer(reader);
            return Action(Acked{consumer, GetRanges(reader)});
        }
        case ActionKind::kReleased: {
            const ConsumerName consumer = GetConsumer(reader);
            const auto cause = static_cast<ReleaseCause>(
                reader.Bounded(static_cast<std::uint64_t>(ReleaseCause::kLost)));
            std::vector<PullRange> ranges = GetRanges(reader);
            return Action(Released{consumer, cause, std::move(ranges), GetRanges(reader)});
        }
        case ActionKind::kDeferred: {
            const ConsumerName consumer = GetConsumer(reader);
            const std::int64_t due_ms = reader.Signed();
            return Action(Deferred{consumer, due_ms, GetRanges(reader)});
        }
        case ActionKind::kMoved:
            return Action(GetMoved(reader));
        case ActionKind::kConsumerGone: {
            const ConsumerName consumer = GetConsumer(reader);
            return Action(ConsumerGone{consumer, GetRanges(reader)});
        }
    }
    return Status::Unimplemented("action of unknown kind " +
                                 std::to_string(static_cast<unsigned>(kind)) +
                                 ": the log was written by a newer program");
}

}  // namespace

void Encode(const Action& action, std::string& out) {
    out.clear();
    Writer writer(out);
    std::visit([&writer](const auto& a) { Put(writer, a); }, action);
}

Result<Action> DecodeAction(std::string_view bytes) {
    Reader reader("action", bytes);
    const std::uint8_t kind = reader.Byte();
    const std::uint8_t version = reader.Byte();
    if (reader.failed()) {
        return reader.Finish();
    }
    if (version != kVersion) {
        return Status::Unimplemented("action of kind " + std::to_string(kind) + " in version " +
                                     std::to_string(version) +
                                     ": the log was written by a newer program");
    }
    Result<Action> action = GetAction(reader, static_cast<ActionKind>(kind));
    if (!action.ok()) {
        return action;
    }
    if (Status status = reader.Finish(); !status.ok()) {
        return status;
    }
    return action;
}

}  // namespace qmq::broker
