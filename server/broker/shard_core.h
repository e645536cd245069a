#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "qmq/check.h"
#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/status.h"

#include "server/broker/actions.h"
#include "server/broker/broker.h"
#include "server/broker/ring.h"
#include "server/broker/state.h"
#include "server/broker/timer_queue.h"
#include "server/store/shard_store.h"

namespace qmq::broker {

/// What the parts of a shard share: its state, its log, its time, and the round that runs.
///
/// Everything that a round appends is written at its end by one call, and only then does anybody
/// outside hear of it. A write that fails takes all of it back.
class ShardCore {
public:
    ShardCore(std::uint32_t index,
              const BrokerOptions& options_in,
              const BrokerEnvironment& environment_in)
        : place("shard " + std::to_string(index)),
          options(options_in),
          environment(environment_in),
          state(options),
          opened_(environment.clock.Now()) {}

    const std::string place;  ///< As people are told of it.
    const BrokerOptions options;
    const BrokerEnvironment environment;
    State state;
    TimerQueue timers;
    std::unique_ptr<store::ShardStore> store;
    /// Not ok: no new work is taken, and this is why.
    Status stopped;
    /// Somebody waits for a sync of what was appended.
    bool sync_wanted = false;
    /// Something was appended since the last write.
    bool dirty = false;
    /// The end of the last record that we appended. The store adds marks of its own, which need no
    /// sync.
    store::LogOffset appended_end = 0;
    /// The end of the last move: its copies must be safe before the originals go.
    store::LogOffset moved_end = 0;
    /// As `moved_end`, of the moves whose originals were to go already.
    store::LogOffset going_moved_end = 0;
    /// Writes what was appended and tells everybody; `Shard` sets it.
    std::function<Status()> flush;

    /// The same within a round, so that one round is one moment.
    ShardMs Now();
    /// The date by the log's own clock, which never goes back: for people.
    std::int64_t LogMs() { return LogTime().date.time_since_epoch().count(); }
    /// The log's running time: what outlives the process and lasts is counted by it.
    std::int64_t RunningMs() { return LogTime().running.count(); }
    store::RecordTime LogTime();
    /// When `waiting` is due.
    ShardMs DueAt(const Waiting& waiting) const;
    /// The first that waits in `group` and is not due yet. Null: none.
    const Waiting* NextDue(const Group& group) const;
    TimePoint ToTimePoint(ShardMs ms) const { return opened_ + std::chrono::milliseconds(ms); }
    void EndRound() { time_known_ = false; }

    /// From now on each subject that is made has its log from its first moment; those that the
    /// replay has made get theirs.
    void OpenSubjects();
    Subject& OpenSubject(std::string_view name);

    /// The bytes of `action`. Builds with planted bugs read them again, so that no test writes what
    /// no start could read.
    static void EncodeAction(const Action& action, std::string& out);
    /// Appends to the round.
    Result<store::LogOffset> Append(const Action& action);
    /// Writes the round so far, then appends and writes `actions` by themselves, for what is rare
    /// and cannot be taken back. All of them are logged or none: when it is not ok the caller
    /// changes nothing.
    Result<store::LogOffset> AppendNow(std::span<const Action> actions);

    /// What `AppendNow` has appended and its caller has not made so yet: for snapshots, which the
    /// store may take as soon as it has written.
    std::span<const std::string> unapplied() const { return unapplied_; }
    /// The caller of `AppendNow` has done what it logged.
    void Applied() { unapplied_.clear(); }

    /// Messages of `subject` below `end_sequence` lie in the log below `end`: they may be handed
    /// out once they are as durable as promised.
    void Appended(Subject& subject, std::uint64_t end_sequence, store::LogOffset end);
    /// As `Appended`, for the copies of a move, whose originals begin at `first` of `source`.
    void Moved(Subject& subject,
               std::uint64_t end_sequence,
               store::LogOffset end,
               const Subject& source,
               std::uint64_t first);
    void OnSynced(store::LogOffset synced);

    /// `count` messages that `group` still needed are gone: counted as a part of the round, and
    /// told once that is written.
    void Lose(Group& group, LossCause cause, std::uint64_t count, std::string_view text);
    /// Tells people, with `group` (or null) in the place.
    void Tell(env::EventKind kind, const Group* group, std::string text, std::uint64_t count) const;
    /// The round was written, or taken back.
    void TellLosses(bool written);
    /// Subjects with more to read since they were last looked at; some more than once.
    std::vector<Subject*> more_readable;

private:
    struct Unsynced {
        store::LogOffset end = 0;
        Subject* subject = nullptr;
        std::uint64_t end_sequence = 0;
    };

    void ReadTime();
    void DropRound();
    void OpenLog(Subject& subject);

    const TimePoint opened_;
    bool time_known_ = false;
    ShardMs now_ms_ = 0;
    store::RecordTime log_time_;
    /// What the wall clock was ahead of the running time at the start: for a planted bug.
    std::optional<std::int64_t> wall_ahead_ms_;
    std::string scratch_;
    std::vector<std::string> unapplied_;
    Ring<Unsynced> unsynced_;
    std::vector<env::Event> losses_;  ///< Of the round.
};

}  // namespace qmq::broker
