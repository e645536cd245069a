#include "server/broker/keeper.h"

#include <algorithm>
#include <utility>

#include "qmq/subject.h"

#include "server/broker/mover.h"
#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

/// What one call appends at most, so that the rest of the shard goes on.
constexpr std::uint64_t kMostKeptMessages = 1'024;
constexpr std::uint64_t kMostKeptBytes = 1U << 20U;
/// Each run of them is one read, which may have to wait for the disk.
constexpr std::uint64_t kMostReads = 64;
/// Most bytes of messages, and most messages, in one record.
constexpr std::uint64_t kMostRecordBytes = 256U << 10U;
constexpr std::size_t kMostRecordMessages = 256;

void AddKey(std::vector<PullRange>& keys, std::uint64_t key) {
    if (!keys.empty() && keys.back().last + 1 == key) {
        keys.back().last = key;
    } else {
        keys.push_back(PullRange{key, key});
    }
}

/// How many of `items` lie one after another.
template <typename Item>
std::size_t RunOf(std::span<const Item> items) {
    std::size_t count = 1;
    while (count < items.size() && items[count].sequence == items[count - 1].sequence + 1) {
        ++count;
    }
    return count;
}

/// The keys of `items` that `copied`, which ascends as they do, has not.
template <typename Items>
std::vector<PullRange> WithoutCopy(const Items& items, const std::vector<PullRange>& copied) {
    std::vector<PullRange> missing;
    auto at = copied.begin();
    for (const auto& item : items) {
        while (at != copied.end() && at->last < item.key) {
            ++at;
        }
        if (at == copied.end() || item.key < at->first) {
            AddKey(missing, item.key);
        }
    }
    return missing;
}

}  // namespace

bool Keeper::MayDrop(std::span<const store::StoreListener::Going> going) {
    if (env::Planted(env::PlantedBug::kRetryExpires) || env::Planted(env::PlantedBug::kDropHeld)) {
        return true;
    }
    messages_left_ = kMostKeptMessages;
    bytes_left_ = kMostKeptBytes;
    reads_left_ = kMostReads;
    needed_in_place_ = false;
    bool clear = true;
    for (const store::StoreListener::Going& part : going) {
        if (Subject* subject = core_.state.FindSubject(part.subject->name())) {
            clear = KeepSubject(*subject, part.end_sequence) && clear;
        }
        if (full()) {
            return false;
        }
    }
    told_in_place_ = told_in_place_ && needed_in_place_;
    return clear && MovesAreSynced(going);
}

/// A message that failed has its copy in the retry subject. Until a sync covers that, a power cut
/// would bring the original back, which must still be there then. This comes to an end: what is
/// still to be moved out of a segment becomes less.
bool Keeper::MovesAreSynced(std::span<const store::StoreListener::Going> going) {
    if (going.empty() || env::Planted(env::PlantedBug::kMovesNotSynced)) {
        return true;
    }
    for (const store::StoreListener::Going& part : going) {
        Subject* subject = core_.state.FindSubject(part.subject->name());
        if (subject != nullptr && subject->going_end < part.end_sequence) {
            subject->going_end = part.end_sequence;
            core_.going_moved_end = core_.moved_end;
        }
    }
    // A write that failed may have taken the last moves back.
    if (core_.store->synced() >= std::min(core_.going_moved_end, core_.appended_end)) {
        return true;
    }
    core_.sync_wanted = true;
    return false;
}

bool Keeper::KeepSubject(Subject& subject, std::uint64_t end) {
    bool clear = true;
    for (auto& [name, group] : subject.groups) {
        clear = (group->in_place() ? !NeededInPlace(*group, end)
                                   : KeepOrigin(*group, Origin::kSubject, end)) &&
                clear;
        if (full()) {
            return false;
        }
    }
    if (subject.kind == SubjectKind::kRetry) {
        if (Group* group = core_.state.FindGroup({subject.real_name, subject.group_name})) {
            clear = KeepOrigin(*group, Origin::kRetry, end) && clear;
            clear = KeepOrigin(*group, Origin::kKept, end) && clear;
        }
    }
    return clear;
}

/// Whether the log has grown half as large again as it may, with what cannot be moved.
bool Keeper::IsPinnedTooLong() const {
    const std::uint64_t most = core_.options.store.retention_bytes;
    return most != 0 && core_.store->stored_bytes() > most + most / 2;
}

/// Whether somebody holds some of it, or may still be given it. What nobody is there to take pins
/// no segment.
bool Keeper::NeededInPlace(const Group& group, std::uint64_t end) {
    const auto below = [end](const auto& queue) {
        return !queue.empty() && queue.begin()->first < end;
    };
    bool needed = !group.members.empty() &&
                  (below(group.redelivery[0]) || below(group.waiting.by_sequence()));
    for (auto at = group.waiting.by_sequence().begin();
         !needed && at != group.waiting.by_sequence().end() && at->first < end;
         ++at) {
        needed = core_.DueAt(at->second) > core_.Now();
    }
    for (const auto& [id, consumer] : group.consumers) {
        consumer->held.ForEach([&needed, end](std::uint64_t, const Held& held) {
            needed = needed || held.sequence() < end;
        });
    }
    needed = needed && !IsPinnedTooLong();
    needed_in_place_ = needed_in_place_ || needed;
    if (needed && !std::exchange(told_in_place_, true)) {
        core_.Tell(env::EventKind::kLimit,
                   &group,
                   "messages that are held or wait here cannot be moved: retention waits for them",
                   0);
    }
    return needed;
}

std::vector<Keeper::Batch> Keeper::Collect(Group& group, Origin origin, std::uint64_t end) const {
    std::vector<Batch> batches;
    std::uint64_t room = messages_left_;
    const auto& queue = group.redelivery[static_cast<std::size_t>(origin)];
    Batch loose{nullptr, origin, MoveCause::kKeptRedelivery, 0, 0, {}};
    for (auto at = queue.begin(); at != queue.end() && at->first < end && room > 0; ++at) {
        // What was never handed out goes like all that nobody has read.
        if (!at->second.unseen) {
            loose.items.push_back(Item{at->first, at->first});
            --room;
        }
    }
    batches.push_back(std::move(loose));
    if (group.waiting_origin() == origin) {
        const auto& waiting = group.waiting.by_sequence();
        for (auto at = waiting.begin(); at != waiting.end() && at->first < end && room > 0;
             ++at, --room) {
            const Waiting& entry = at->second;
            if (batches.back().cause != MoveCause::kKeptWaiting ||
                batches.back().due_ms != entry.due_ms) {
                batches.push_back(Batch{
                    nullptr, origin, MoveCause::kKeptWaiting, entry.since_ms, entry.due_ms, {}});
            }
            batches.back().items.push_back(Item{at->first, at->first});
        }
    }
    for (auto& [id, consumer] : group.consumers) {
        Batch held{consumer.get(), origin, MoveCause::kKeptHeld, 0, 0, {}};
        consumer->held.ForEach([&](std::uint64_t pull, const Held& entry) {
            if (room > 0 && entry.origin() == origin && entry.sequence() < end) {
                held.items.push_back(Item{pull, entry.sequence()});
                --room;
            }
        });
        batches.push_back(std::move(held));
    }
    return batches;
}

/// Else what the last member of a group held would be appended anew for ever.
bool Keeper::IsAbandoned(const Group& group) {
    const ShardMs keep = std::max(std::chrono::duration_cast<std::chrono::milliseconds>(
                                      core_.options.idle_group_retention),
                                  kMostRetryDelay)
                             .count();
    return group.consumers.empty() && core_.Now() - group.idle_since_ms >= keep;
}

bool Keeper::KeepOrigin(Group& group, Origin origin, std::uint64_t end) {
    if (group.Log(origin) == nullptr || IsAbandoned(group)) {
        return true;
    }
    bool clear = true;
    for (const Batch& batch : Collect(group, origin, end)) {
        if (!batch.items.empty()) {
            clear = MoveAll(group, batch) && clear;
        }
    }
    return clear;
}

/// Whether nothing was moved, and nothing is left that could be.
bool Keeper::MoveAll(Group& group, const Batch& batch) {
    const std::uint64_t before = messages_left_;
    std::span<const Item> items(batch.items);
    while (!items.empty() && !full()) {
        Result<std::size_t> done = MoveSome(group, batch, items);
        if (!done.ok()) {
            return false;  // Nothing can be read or written now.
        }
        items = items.subspan(*done);
    }
    return items.empty() && messages_left_ == before;
}

Result<std::size_t> Keeper::MoveSome(Group& group,
                                     const Batch& batch,
                                     std::span<const Item> items) {
    const std::size_t most =
        std::min<std::size_t>(kMostRecordMessages, core_.options.store.limits.max_message_count);
    const std::span<const Item> run = items.first(std::min(RunOf(items), most));
    --reads_left_;
    Result<Copies> copies = Copy(*group.Log(batch.origin), run);
    if (!copies.ok()) {
        return copies.status();
    }
    const auto done = std::min<std::size_t>(
        static_cast<std::size_t>(copies->next - run.front().sequence), run.size());
    if (done == 0) {
        return Status::Internal("a read at sequence " + std::to_string(run.front().sequence) +
                                " made no progress");
    }
    const std::vector<PullRange> damaged = WithoutCopy(run.first(done), copies->keys);
    if (copies->count > 0) {
        const std::vector<PullRange> keys = copies->keys;
        const std::uint64_t count = copies->count;
        const std::uint64_t bytes = copies->body.size();
        Status status = Log(group, batch, *std::move(copies));
        if (status.code() == StatusCode::kInvalidArgument) {
            status = GiveUp(group,
                            batch,
                            keys,
                            LossCause::kBurial,
                            "what is needed of a segment that goes cannot be kept: " +
                                std::string(status.message()));
        } else {
            messages_left_ -= std::min(messages_left_, count);
            bytes_left_ -= std::min(bytes_left_, bytes);
        }
        if (!status.ok()) {
            return status;
        }
    }
    if (!damaged.empty()) {
        Status status = GiveUp(group,
                               batch,
                               damaged,
                               LossCause::kDamage,
                               "messages that are held or wait are damaged");
        if (!status.ok()) {
            return status;
        }
    }
    return done;
}

Status Keeper::GiveUp(Group& group,
                      const Batch& batch,
                      const std::vector<PullRange>& keys,
                      LossCause cause,
                      const std::string& why) {
    Moved gone;
    gone.consumer =
        batch.consumer != nullptr ? NamesOf(*batch.consumer) : ConsumerName{group.names(), {}};
    gone.ranges = keys;
    gone.origin = batch.origin;
    if (Status status = core_.Append(gone).status(); !status.ok()) {
        return status;
    }
    std::uint64_t count = 0;
    for (const PullRange& range : keys) {
        count += range.last - range.first + 1;
        if (batch.consumer != nullptr) {
            core_.state.Ack(*batch.consumer, range);
        } else if (batch.cause == MoveCause::kKeptWaiting) {
            core_.state.TakeWaiting(group, range);
        } else {
            core_.state.TakeLoose(group, batch.origin, range);
        }
    }
    core_.Lose(group, cause, count, why);
    delivery_.MarkReady(group);  // Who held it may have room now.
    return {};
}

/// Copies, byte for byte, as many of `items` as one record takes. What is damaged has no copy.
Result<Keeper::Copies> Keeper::Copy(Subject& source, std::span<const Item> items) {
    const std::uint64_t first = items.front().sequence;
    const std::uint64_t most =
        std::min(kMostRecordBytes, core_.store->most_record_bytes() - kRetryReserveBytes);
    store::ReadRequest request;
    request.from = first;
    request.end = std::min(items.back().sequence + 1, source.log->next_sequence());
    request.max_messages = static_cast<std::uint32_t>(items.size());
    request.max_bytes = most;
    Copies copies;
    copies.first = first;
    copies.next = items.back().sequence + 1;
    if (request.from >= request.end) {
        return copies;
    }
    Result<store::ReadReply> reply = core_.store->Read(*source.log, request);
    if (!reply.ok()) {
        return reply.status();
    }
    copies.next = reply->next;
    for (const store::MessageRun& run : reply->runs) {
        std::size_t offset = 0;
        for (std::uint32_t i = 0; i < run.count; ++i) {
            Result<MessageHead> head = ReadHead(run.body.bytes(), offset);
            if (!head.ok()) {
                break;  // So it will stay: as what is damaged.
            }
            const bool readable = IsReadable(run.body.bytes(), *head);
            if (copies.count > 0 && (copies.body.size() + head->bytes > most || !readable)) {
                copies.next = run.first_sequence + i;
                return copies;
            }
            copies.body.append(run.body.bytes().substr(head->offset, head->bytes));
            AddKey(copies.keys, items[run.first_sequence + i - first].key);
            ++copies.count;
            if (!readable) {
                copies.next = run.first_sequence + i + 1;
                return copies;  // Clients read a batch whole or not at all: it lies alone.
            }
            offset = head->offset + head->bytes;
        }
    }
    return copies;
}

Status Keeper::Log(Group& group, const Batch& batch, Copies copies) {
    Subject& target = core_.OpenSubject(RetrySubject(group.subject->name, group.name));
    Moved moved;
    moved.consumer =
        batch.consumer != nullptr ? NamesOf(*batch.consumer) : ConsumerName{group.names(), {}};
    moved.since_ms = batch.since_ms;
    moved.ranges = std::move(copies.keys);
    moved.origin = batch.origin;
    moved.cause = batch.cause;
    moved.due_ms = batch.due_ms;
    std::string action;
    ShardCore::EncodeAction(moved, action);
    const Slice messages =
        Slice::Own(MakeBatchHeader(copies.count, copies.body) + std::move(copies.body));
    Result<store::ShardStore::Appended> appended =
        core_.store->AppendMove(action, *target.log, messages);
    if (!appended.ok()) {
        return appended.status();
    }
    core_.state.Relocate(State::Relocation{&group,
                                           batch.consumer,
                                           moved.cause,
                                           moved.origin,
                                           moved.since_ms,
                                           moved.due_ms,
                                           moved.ranges},
                         appended->first_sequence,
                         copies.count);
    core_.Moved(target,
                appended->first_sequence + copies.count,
                appended->end,
                *group.Log(batch.origin),
                copies.first);
    // The original goes once the copy is safe, whatever the subject promises.
    core_.sync_wanted = true;
    return {};
}

}  // namespace qmq::broker
