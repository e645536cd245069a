#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "qmq/client.h"
#include "qmq/random.h"

#include "tests/crash/copies.h"
#include "tests/crash/events.h"

namespace qmq::testing {

/// How the members of a group behave.
struct GroupPlan {
    std::string subject;
    std::string group;
    std::uint32_t max_attempts = 60'000;
    std::chrono::milliseconds backoff{10};
    /// Longest delay that its handlers ask for.
    std::chrono::milliseconds longest_retry{10};
    /// Some messages, always the same ones, fail each time or are rejected.
    bool has_hopeless = false;
    /// They fail now and then.
    bool is_fallible = true;
};

/// The groups of the test: two whose messages come until they are handled, one with few attempts,
/// and one that reads the dead letters of that one.
inline constexpr const char* kSubject = "order.paid";
inline constexpr const char* kFewAttempts = "refunds";
inline constexpr const char* kAuditor = "auditor";
/// Reads them once more from the first to the last, when nothing is broken.
inline constexpr const char* kInventory = "inventory";
inline constexpr std::uint32_t kAttempts = 3;
const std::vector<GroupPlan>& GroupPlans();
/// Not among them.
GroupPlan InventoryPlan();

/// What a handler says with its verdict.
std::string ErrorOf(MemberEvent::Verdict verdict);

/// What a handler keeps for a while before it ends it. Thread-safe.
class Shelf {
public:
    Shelf();
    /// What is left is ended at once.
    ~Shelf();
    void Put(std::chrono::milliseconds time, UniqueFunction<void()> end);

private:
    void Run();

    std::mutex mutex_;
    std::condition_variable changed_;
    std::multimap<TimePoint, UniqueFunction<void()>> kept_;  // guarded by mutex_
    bool stop_ = false;                                      // guarded by mutex_
    std::thread thread_;
};

/// One client with a member in each of `plans`. Most is acked, some of it late; and now and then a
/// handler fails, asks for a retry, or forgets. All that it sees and asks is written before it has
/// an effect.
class Member {
public:
    Member(const std::string& uri,
           std::string name,
           std::string client_id,
           std::vector<GroupPlan> plans,
           std::uint64_t seed,
           EventWriter& events);
    void Stop();

private:
    void Handle(const GroupPlan& plan, Delivery delivery);
    void Ack(const MemberEvent& about, Delivery delivery);
    void Say(MemberEvent about, MemberEvent::Verdict verdict, std::chrono::milliseconds delay);
    /// Writes what the broker answers.
    UniqueFunction<void(const Status&)> Hear(MemberEvent about);
    std::uint64_t Dice(std::uint64_t bound);

    const std::string name_;
    const std::vector<GroupPlan> plans_;
    EventWriter& events_;
    std::atomic<std::uint64_t> serial_{0};
    std::mutex mutex_;
    Random random_;  // guarded by mutex_
    CopyBook copies_;
    std::unique_ptr<Shelf> shelf_ = std::make_unique<Shelf>();
    Client client_;
};

/// The life of a process that is a `Member` and nothing else, until SIGTERM. Its exit code.
int RunMemberProcess(const std::string& uri,
                     const std::string& name,
                     const std::string& client_id,
                     std::uint64_t seed,
                     const std::string& pipe);

}  // namespace qmq::testing
