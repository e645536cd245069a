#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

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
    ShardCore(const BrokerOptions& options_in, const BrokerEnvironment& environment_in)
        : options(options_in),
          environment(environment_in),
          state(options),
          opened_(environment.clock.Now()) {}

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
    /// Writes what was appended and tells everybody; `Shard` sets it.
    std::function<Status()> flush;

    /// The same within a round, so that one round is one moment.
    ShardMs Now();
    std::int64_t WallMs();
    TimePoint ToTimePoint(ShardMs ms) const { return opened_ + std::chrono::milliseconds(ms); }
    void EndRound() { time_known_ = false; }

    /// The subject with its log, made when there is none.
    Subject& OpenSubject(std::string_view name);

    /// Appends to the round.
    Result<store::LogOffset> Append(const Action& action);
    /// Writes the round so far, then appends and writes `actions` by themselves, for what is rare
    /// and cannot be taken back. When it is not ok the caller changes nothing; some of the first
    /// ones may be in the log all the same, so only the last may be one that matters alone.
    Result<store::LogOffset> AppendNow(std::span<const Action> actions);

    /// What `AppendNow` has appended and its caller has not made so yet: for snapshots, which the
    /// store may take as soon as it has written.
    std::span<const std::string> unapplied() const { return unapplied_; }
    /// The caller of `AppendNow` has done what it logged.
    void Applied() { unapplied_.clear(); }

    /// Messages of `subject` below `end_sequence` lie in the log below `end`: they may be handed
    /// out once they are as durable as promised.
    void Appended(Subject& subject, std::uint64_t end_sequence, store::LogOffset end);
    void OnSynced(store::LogOffset synced);
    /// Subjects with more to read since they were last looked at; some more than once.
    std::vector<Subject*> more_readable;

private:
    struct Unsynced {
        store::LogOffset end = 0;
        Subject* subject = nullptr;
        std::uint64_t end_sequence = 0;
    };

    void ReadTime();

    const TimePoint opened_;
    bool time_known_ = false;
    ShardMs now_ms_ = 0;
    std::int64_t wall_ms_ = 0;
    std::string scratch_;
    std::vector<std::string> unapplied_;
    Ring<Unsynced> unsynced_;
};

}  // namespace qmq::broker
