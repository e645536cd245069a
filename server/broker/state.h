#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "qmq/batch.h"
#include "qmq/status.h"

#include "server/broker/actions.h"
#include "server/broker/broker.h"
#include "server/broker/group.h"

namespace qmq::broker {

class Reader;
class Writer;

/// All that a shard must remember, as a function of its log: the same `Apply` runs when something
/// happens and when the log is replayed, so that both come to the same state.
///
/// It decides nothing and writes nothing. What it changed in the running round it can take back,
/// because a write that fails takes the round's records back.
///
/// Threads: its shard's strand only.
class State {
public:
    explicit State(const BrokerOptions& options) : options_(options) {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    /// The subject, made when it is not known. The views of `name` need not live on.
    Subject& MakeSubject(std::string_view name);
    /// Called with each subject that is made from now on, before anybody else sees it.
    void OnMakeSubject(std::function<void(Subject&)> made) { on_make_subject_ = std::move(made); }
    Subject* FindSubject(std::string_view name);
    /// In the order in which they were made, which is the same in every run.
    const std::vector<std::unique_ptr<Subject>>& subjects() const { return subjects_; }
    Durability Promise(std::string_view real_subject) const;

    Group* FindGroup(const GroupName& name);
    Group& MakeGroup(const GroupName& name);
    Consumer* FindConsumer(const ConsumerName& name);
    Consumer& MakeConsumer(Group& group, std::string_view id, ConsumeSource source);
    void EraseConsumer(Consumer& consumer);
    /// What `consumer` asks for counts in its group from now on.
    void SetTerms(Consumer& consumer, const TagFilter& filter, const RetryPolicy& policy);
    void EraseGroup(Group& group);
    /// The group whose retries wait in `retry`.
    Group& RetryGroup(Subject& retry);

    /// After a replay. `incarnation` counts the processes of this log from 1; no two have the same,
    /// unless a disk loses what was synced.
    void BeginPulls(std::uint64_t incarnation);
    /// The pull sequence that the consumer's next message gets: one that no process before has
    /// given, whatever of its hand-outs a power cut took.
    std::uint64_t NextPull(const Consumer& consumer) const {
        return std::max(consumer.held.next(), least_pull_);
    }

    /// From when the leases of what is handed out are counted.
    void SetNow(ShardMs now_ms, store::RunningTime running) {
        now_ms_ = now_ms;
        running_ms_ = running.count();
    }

    // ---- Changes, each the meaning of one record.

    /// Any of them, of a log that may have lost records to damage: what does not fit is left out.
    void Apply(const Action& action);
    void Place(Group& group, std::uint64_t next_sequence, bool reset);
    /// What is set `aside` is refused by the filters of `refused`. (A replay knows of none: where
    /// the record of a member's filter is damaged, its slot has another one.)
    void HandOut(Consumer& consumer, const HandedOut& action, FilterMask refused);
    void Skip(Group& group, const Skipped& action, FilterMask refused);
    void Ack(Consumer& consumer, PullRange range);
    /// For kLost: of what a handler had `begun` the attempt counts, and of the rest a death.
    void Release(Consumer& consumer,
                 PullRange range,
                 ReleaseCause cause,
                 std::span<const PullRange> begun);
    void Defer(Consumer& consumer, PullRange range, std::int64_t due_ms);
    /// Takes messages out of the redelivery queue.
    void TakeLoose(Group& group, Origin origin, PullRange sequences);
    /// Takes messages out of those that wait for their time.
    void TakeWaiting(Group& group, PullRange sequences);
    /// Takes messages out of wherever they lie in the group.
    void TakeUnheld(Group& group, Origin origin, PullRange sequences);
    /// Messages of a retry subject begin to wait.
    void AddRetries(Subject& retry,
                    std::uint64_t first_sequence,
                    const BatchView& batch,
                    store::RecordTime stored,
                    std::int64_t since_ms);
    /// Messages whose copies take their place in the retry subject of the group: by pull sequence
    /// when `consumer` holds them, else by their sequence in the log of `origin`.
    struct Relocation {
        Group* group = nullptr;
        Consumer* consumer = nullptr;
        MoveCause cause = MoveCause::kKeptHeld;
        Origin origin = Origin::kSubject;
        std::int64_t since_ms = 0;
        std::int64_t due_ms = 0;
        std::vector<PullRange> ranges;
    };
    /// The copies have the sequences from `first_sequence` on, `count` of them.
    void Relocate(const Relocation& move, std::uint64_t first_sequence, std::uint32_t count);
    /// A batch that the replay comes upon, after the action half when it was moved.
    void ReplayMessages(Subject& subject,
                        std::uint64_t first_sequence,
                        const BatchView& batch,
                        store::RecordTime stored);
    /// What it held goes to others.
    void Forget(Consumer& consumer, std::span<const PullRange> begun);

    /// After a replay: what waits has waited while the log ran, and through `downtime`. The log's
    /// running time is behind no record of a wait, so nothing waits longer than was asked, wherever
    /// the wall clock is.
    void ScheduleWaiting(std::chrono::milliseconds downtime);

    // ---- Rounds.

    /// The round that runs changes what `group` has, or `consumer` holds.
    void Touch(Group& group);
    void Touch(Consumer& consumer);
    /// Runs `undo` when the round is taken back.
    void OnTakeBack(UniqueFunction<void()> undo) { undo_.push_back(std::move(undo)); }
    /// What was changed since the last call stays.
    void Keep();
    /// What was changed since `Keep` was not, but for groups and consumers that were made. Whoever
    /// was touched must be looked at again: nothing else may ever come that does.
    struct Touched {
        std::vector<Group*> groups;
        std::vector<Consumer*> consumers;
    };
    Touched TakeBack();

    /// After a replay: a power cut may take a message and leave the record of its hand-out, and
    /// with it the only messages of a retry subject. Entries of messages that the log does not have
    /// go. `lost` is told of each subject that some group knows more of than the log has: its next
    /// message must not get a sequence that the group takes for one it was given.
    void DropUnknown(const std::function<void(Subject&, std::uint64_t end)>& lost);
    /// Entries of messages that retention took go with them. `lost` is told how many a group has
    /// lost: unread, and of others.
    struct Dropped {
        std::uint64_t unread = 0;
        std::uint64_t held = 0;
        std::uint64_t waiting = 0;  ///< For a retry, or for another consumer.
        std::uint64_t count() const { return unread + held + waiting; }
    };
    void DropBelow(Subject& subject, const std::function<void(Group&, const Dropped&)>& lost);
    /// After a replay, and what the log does not have is dropped: the rest of what hand-outs gave
    /// away that the log does not have goes into the redelivery queues.
    void EnterGaps();

    /// Everything, and back. `unapplied` are actions that lie in the log already, but whose
    /// meaning is not in the state yet: they are kept beside it. `Load` is called on an empty state
    /// only.
    std::string Save(std::span<const std::string> unapplied) const;
    Status Load(std::string_view bytes);
    /// Forgets everything: what a `Load` that failed has left.
    void Clear();

    /// All groups, in an order that is the same in every run.
    void ForEachGroup(const std::function<void(Group&)>& visit) const;

private:
    struct NameHash {
        using is_transparent = void;
        std::size_t operator()(std::string_view name) const {
            return std::hash<std::string_view>()(name);
        }
    };

    void Put(Consumer& consumer, const HandOutRun& run, std::int64_t time_ms);
    std::int64_t Take(Group& group,
                      const HandOutRun& run,
                      std::uint64_t sequence,
                      std::int64_t time_ms,
                      std::vector<Loose>& taken);
    void PutBack(Consumer& consumer, const HandOutRun& run, const std::vector<Loose>& taken);
    void SetAside(Group& group, std::span<const SequenceRun> runs, FilterMask refused);
    void SetFilter(Consumer& consumer, const TagFilter& filter);
    void DropFilter(Consumer& consumer);
    static void SetMostAttempts(Group& group);
    void Align(Consumer& consumer, std::uint64_t first_pull_sequence);
    void ListTrim(Consumer& consumer);
    void RelocateOne(const Relocation& move, std::uint64_t key, std::uint64_t copy);
    bool RelocateHeld(Consumer& consumer, std::uint64_t pull, std::uint64_t copy);
    bool RelocateLoose(Group& group, Origin origin, std::uint64_t sequence, std::uint64_t copy);
    bool RelocateWaiting(Group& group, std::uint64_t sequence, std::uint64_t copy);
    ShardMs DueAt(std::int64_t due_ms) const;
    void ForgetTouched();
    void SaveGroup(const Group& group, Writer& writer) const;
    void SaveConsumer(const Consumer& consumer, Writer& writer) const;
    void LoadGroup(Reader& reader);
    void LoadConsumer(Group& group, Reader& reader);

    void Do(const GroupPlaced& action);
    void Do(const GroupGone& action);
    void Do(const Subscribed& action);
    void Do(const HandedOut& action);
    void Do(const Skipped& action);
    void CloseGap(Group& group, std::uint64_t from_sequence);
    std::vector<PullRange> TakeGaps(Group& group, PullRange sequences);
    void EnterGaps(Group& group, Origin origin, PullRange sequences);
    void TakeFromStalePlaces(Group& group, const std::vector<HandOutRun>& runs);
    bool PutInPlace(Group& group, const HandOutRun& run, std::uint64_t sequence);
    void Do(const Acked& action);
    void Do(const Released& action);
    void Do(const Deferred& action);
    void Do(const Moved& action);
    void Do(const ConsumerGone& action);

    const BrokerOptions& options_;
    std::function<void(Subject&)> on_make_subject_ = [](Subject&) {};
    std::vector<std::unique_ptr<Subject>> subjects_;
    // For finding only: its order is never used.
    std::unordered_map<std::string_view, Subject*, NameHash, std::equal_to<>> by_name_;
    std::uint64_t last_serial_ = 0;
    std::uint64_t least_pull_ = 0;  ///< That this process gives.
    ShardMs now_ms_ = 0;
    std::int64_t running_ms_ = 0;
    std::int64_t replay_time_ms_ = 0;       ///< About when what is replayed happened.
    std::optional<Relocation> relocation_;  ///< Whose copies come next in the replay.
    std::int64_t moved_since_ms_ = 0;       ///< Of the move whose messages come next in the replay.
    /// What `CloseGap` has found and nobody has named since: it has no entries while the log is
    /// replayed. What retention takes unread is in no record, so all of it may be gone, and may be
    /// more than memory has room for.
    std::unordered_map<const Group*, std::vector<PullRange>> gaps_;
    std::vector<UniqueFunction<void()>> undo_;
    std::vector<Consumer*> trim_;
    Touched touched_;
};

}  // namespace qmq::broker
