#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace qmq::border {

/// Where code of the application runs.
enum class Place : std::uint8_t {
    kThread,
    kHandler,
    kOutcomeHandler,
    kManualHandler,
    kFilter,
    kIdempotency,
    kKey,
    kExecutor,
    kSendCallback,
    kAckCompletion,
    kPullCallback,
    kShutdownCallback,
    kCoroutine,
    kLogSink,
    kDestructor,
};
inline constexpr std::size_t kPlaceCount = 15;

/// What it does there.
enum class Thing : std::uint8_t {
    kSend,
    kSendCallback,
    kSendAwait,
    kSendGet,
    kSendWait,
    kSendRefused,
    kFlush,
    kMakeProducer,
    kDropProducer,
    kWaitReady,
    kSubscribe,
    kClose,
    kDropSubscription,
    kPause,
    kStats,
    kMakePuller,
    kPull,
    kPullAsync,
    kClosePuller,
    kDropPuller,
    kAck,
    kNack,
    kRetryIn,
    kReject,
    kDropDelivery,
    kBlock,
    kThrow,
    kDestroyCoroutine,
    kShutdown,
    kShutdownAsync,
    kDestroyClient,
};
inline constexpr std::size_t kThingCount = 31;

const char* ToString(Place place);
const char* ToString(Thing thing);

/// Whether the one may be done in the other. What may not: an executor's `Post` returns at once,
/// and so does the destructor of a capture, which may not throw either; and a coroutine is only
/// destroyed where it is certain not to be resumed at that moment: on the thread that resumes it.
bool IsAllowed(Place place, Thing thing);
bool IsEnding(Thing thing);
/// What an executor's `Post`, which returns at once, must not do, nor anything that it calls.
bool Blocks(Thing thing);

/// Leaves a place or a thing out from now on, by its name, to find out what a failure takes. Before
/// any thread is started. False: there is none of that name.
bool LeaveOut(const std::string& name);

/// How often each was done. Thread-safe.
class PairTable {
public:
    void Count(Place place, Thing thing);
    std::uint64_t count(Place place, Thing thing) const;
    void Add(const std::string& place, const std::string& thing, std::uint64_t count);
    /// Pairs that are allowed and were done less often than `least`.
    std::vector<std::pair<Place, Thing>> Below(std::uint64_t least) const;
    /// For people: a line a thing, a column a place.
    std::string Table() const;
    /// For the program that runs the round: "pair PLACE THING COUNT" lines.
    std::string Lines() const;

private:
    std::array<std::atomic<std::uint64_t>, kPlaceCount * kThingCount> counts_{};
};

}  // namespace qmq::border
