#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "qmq/protocol.h"

#include "server/broker/broker.h"
#include "tests/simulation/simulation.h"

/// Who is in a simulated world, and what its seed has in store for it.
namespace qmq::simulation {

using namespace std::chrono_literals;

/// One of two tags on this one is not for everybody.
inline constexpr const char* kFilteredSubject = "f.tagged";
inline constexpr std::array<const char*, 4> kSubjects{
    "f.orders", "f.refunds", kFilteredSubject, "p.views"};
/// A group that the audit knows nothing of.
inline constexpr const char* kVisitors = "visitors";
/// This one has few attempts, and its dead letters are read.
inline constexpr const char* kStrict = "strict";
inline constexpr const char* kAuditors = "auditors";  ///< They read the dead letters of it.
inline constexpr const char* kStrictSubject = "f.orders";
/// This one goes, and comes back when groups that have nothing to read would have been forgotten.
inline constexpr const char* kSeasonal = "seasonal";
/// This one never sees a message twice.
inline constexpr const char* kOnceGroup = "once";

inline constexpr std::chrono::nanoseconds kLoadTime = 20s;
inline constexpr std::chrono::nanoseconds kPatience = 20min;
/// After the load everybody is back and idle by then.
inline constexpr std::chrono::nanoseconds kRecovery = 25s;
/// How long idle groups are kept, and when the one that was away comes back: a start in between,
/// and the interval at which the broker looks, are allowed for.
inline constexpr std::chrono::milliseconds kIdleGroupRetention = 60s;
inline constexpr std::chrono::nanoseconds kComesBack = kLoadTime + kIdleGroupRetention + 20s;
/// A wall clock that is wrong for so long is believed a little; for as much longer as a world lets
/// it be, it must not make anything older than `kLongRetention`.
inline constexpr std::chrono::nanoseconds kWrongFor = 10min;
inline constexpr std::chrono::nanoseconds kWrongLonger = 1min;
inline constexpr std::chrono::seconds kLongRetention = 2h;
/// The broker looks for room at least as often.
inline constexpr std::chrono::nanoseconds kLooksForRoom = 1100ms;
/// After each start, and again, it looks for what is old.
inline constexpr std::chrono::nanoseconds kLooksForOld = 10s;
/// For one message when nothing is wrong; less than any time-out that could help it along.
inline constexpr std::chrono::nanoseconds kSoon = 1s;
inline constexpr std::chrono::milliseconds kLongestBackoff = 200ms;
inline constexpr std::chrono::milliseconds kAckTimeout = 2s;
inline constexpr std::chrono::milliseconds kGrace = 2s;
inline constexpr std::chrono::milliseconds kLongestProcessing = 10s;

/// How the handlers of a consumer behave.
enum class Manner : std::uint8_t {
    kMixed,     ///< Acks most, and does everything else now and then.
    kFailing,   ///< Fails so often that messages become dead letters.
    kFaithful,  ///< Acks at once, and never dies.
    kOnce,      ///< Acked on receipt: at most once.
    kAuditor    ///< Reads dead letters.
};

/// One place in a group: when the process in it dies, another one takes it.
struct Seat {
    std::string group;
    std::vector<std::string> subjects;
    TagFilter filter = {};
    std::string filtered_subject = {};  ///< What `filter` is for; elsewhere there is none.
    std::uint32_t max_attempts = 10'000;
    Manner manner = Manner::kMixed;
    bool is_of_mixed_group = false;

    TagFilter FilterOn(const std::string& subject) const {
        return subject == filtered_subject ? filter : TagFilter();
    }
    bool may_die() const {
        return manner == Manner::kMixed || manner == Manner::kFailing || manner == Manner::kOnce;
    }
};

/// What is switched on in the world of one seed.
struct WorldPlan {
    explicit WorldPlan(const SimulationOptions& options);

    bool retention_time = false;   ///< Segments go after some seconds.
    bool retention_bytes = false;  ///< The log has a size.
    bool drop_consumed = false;
    bool small_disk = false;    ///< Its capacity is nearly used up at times.
    bool wall_jumps = false;    ///< The wall clock is set, apart from the steady one.
    bool bit_rot = false;       ///< While no broker runs.
    bool live_rot = false;      ///< While one runs.
    bool bad_folders = false;   ///< Folder operations are slow, and fail.
    bool interleaving = false;  ///< The shards run while a background task is in a step of its own.
    bool operators = false;     ///< Somebody lists and resets.
    bool visitors = false;      ///< Somebody pulls and acks by single calls.
    bool wild_client = false;   ///< Somebody calls anything.
    bool renamed_cuts = false;  ///< Power cuts right after a rename.
    bool clean_closes = false;  ///< Half of the planned restarts.
    bool hung_consumers = false;
    bool mixed_filters = false;  ///< The members of one group ask for different tags.
    bool long_delays = false;    ///< Retries after some seconds.
    bool absences = false;       ///< One group is away for longer than idle ones are kept.
    bool at_most_once = false;   ///< One group is acked on receipt.
    bool kills_only = false;     ///< No power cuts: losses are counted to the last one.
    bool last_restart = false;   ///< When all is healed, the broker starts anew.
    bool outages = false;        ///< All members of a group are gone at the same time.
    bool split_filters = false;  ///< In the group of mixed filters nobody wants everything.
    bool removed_cuts = false;   ///< Power cuts right after a file was removed for good.
    bool unsteady_disk = false;  ///< It is full, and is not, every few milliseconds.
    bool lazy_flush = false;     ///< What nobody waits for is synced half a second later.
    bool unsynced_log = false;   ///< Nobody waits for the disk, and old segments go meanwhile.
    bool wrong_clock = false;    ///< The wall clock stays wrong for more than ten minutes.

    /// That group's attempts are counted to the last one, for which its acks must be synced.
    bool has_strict() const { return !unsynced_log; }
    Durability PromisedBy(const std::string& subject) const {
        return unsynced_log || subject.starts_with("p.") ? Durability::kPageCache
                                                         : Durability::kFsync;
    }
    bool may_lose() const { return retention_time || retention_bytes || bit_rot || live_rot; }
    std::chrono::nanoseconds comes_back() const {
        return wrong_clock ? kLoadTime + kWrongFor + kWrongLonger + 5s : kComesBack;
    }
    broker::BrokerOptions MakeBrokerOptions() const;

private:
    std::uint64_t seed_ = 0;
};

std::vector<Seat> MakeSeats(const WorldPlan& plan);
std::vector<testing::Audit::GroupRules> MakeGroups(const WorldPlan& plan);

}  // namespace qmq::simulation
