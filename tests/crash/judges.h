#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "qmq/clock.h"

#include "tests/crash/events.h"
#include "tests/support/audit.h"

namespace qmq::testing {

/// The machine's clock; but while an event of a member is looked at, the time when it happened.
class EventClock final : public Clock {
public:
    TimePoint Now() const override;
    WallTime WallNow() const override { return SystemClock().WallNow(); }
    /// On the calling thread, for as long as it lives.
    class At {
    public:
        explicit At(std::int64_t at_us);
        ~At();
        At(const At&) = delete;
        At& operator=(const At&) = delete;
    };
};

/// Tells the audit what the members of the groups say. Thread-safe.
class Judges {
public:
    /// How long the broker keeps what a lost consumer holds for it, and how long all have to come
    /// back after it has started.
    static constexpr std::chrono::seconds kGrace{2};
    static constexpr std::chrono::seconds kComeBack{5};
    /// After the machine stood still, for what has gathered.
    static constexpr std::chrono::seconds kCatchUp{1};

    Judges();

    void On(const MemberEvent& event);
    /// The server was killed, has started, or finds no room, just now.
    void OnTrouble();
    /// The machine itself stood still.
    void OnStall(TimePoint from, TimePoint until);

    Audit& audit() { return audit_; }
    const Audit& audit() const { return audit_; }
    /// Times that a message came again although nothing was broken: each had to be in time.
    std::uint64_t timed_count() const { return timed_; }
    /// Dead letters that are stored and that the group of auditors has not acked.
    std::uint64_t unaudited_count() const;

private:
    /// One delivery: of whom, and its serial there.
    using Hold = std::pair<std::string, std::uint64_t>;

    void OnMembers(const MemberEvent& event);
    void OnAuditor(const MemberEvent& event);
    void OnInventory(const MemberEvent& event);
    static Audit::Asking AskingOf(const MemberEvent& event);

    EventClock clock_;
    Audit audit_{clock_};
    std::atomic<std::uint64_t> timed_{0};
    std::map<Hold, Audit::DeliveryId> deliveries_;  // Of the thread that reads events.
    mutable std::mutex mutex_;
    TimePoint calm_from_{};            // guarded by mutex_
    std::set<std::string> unaudited_;  // guarded by mutex_
    std::set<std::string> audited_;    // guarded by mutex_
};

}  // namespace qmq::testing
