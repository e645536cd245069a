#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/protocol.h"

namespace qmq::testing {

/// Joins what producers were told with what consumers saw, and says what does not fit. It knows
/// nothing of the system between them, nor of what was done to it, but for the crashes that it is
/// told of.
///
/// What must hold:
///   1. A message told "persisted" reaches every group (nothing is lost).
///   2. What a group sees was sent (nothing is made up), with the body that it was sent with.
///   3. A message told "refused", or that the group's filter does not let through, reaches nobody.
///   4. A group sees a message again only for a reason: its producer sent it more than once, or its
///   last ack was never confirmed.
///   5. The attempts of one stored message rise with each delivery; only a crash of the broker that
///   may forget unsynced hand-outs
///      (a power cut) lets a number come again.
///
/// Thread-safe.
class Audit {
public:
    /// Before the send. `not_for`: a group whose filter does not let it through.
    void OnSend(const std::string& id, std::string_view body, const std::string& not_for = {});
    /// The answer. `frames`: how many times it travelled. `reached`: as durable as the receipt
    /// says.
    void OnTold(const std::string& id,
                SendOutcome outcome,
                std::uint32_t frames,
                Durability reached = Durability::kFsync);
    /// At the begin of the handler.
    void OnHandled(const std::string& group,
                   const std::string& id,
                   std::string_view body,
                   std::uint32_t attempt);
    /// The broker has recorded the ack of a message of this group.
    void OnAckConfirmed(const std::string& group, const std::string& id);
    /// The broker's machine lost power: hand-outs that were not synced are forgotten, and messages
    /// told less than "fsync" may be.
    void OnPowerCut();
    /// The group exists from here on: it must see all that is sent later.
    void AddGroup(const std::string& group);

    /// Messages that must still come: (group, id) pairs, told persisted and not seen. For waiting
    /// until it is empty.
    std::uint64_t missing_count() const;
    /// Told persisted or unknown.
    std::uint64_t persisted_count() const;
    std::uint64_t told_count() const;

    struct Verdict {
        std::uint64_t sent = 0;
        std::uint64_t persisted = 0;
        std::uint64_t unknown = 0;
        std::uint64_t refused = 0;
        std::uint64_t handled = 0;
        std::uint64_t duplicates = 0;  ///< All explained when `problems` is empty.
        std::uint64_t lost = 0;
        std::uint64_t never_sent = 0;
        std::vector<std::string> problems;  ///< The first twenty.
        std::uint64_t problem_count = 0;
        bool ok() const { return problem_count == 0; }
        std::string ToString() const;
    };
    Verdict Judge() const;

private:
    struct Delivery {
        std::uint32_t attempt = 0;
        std::uint32_t power_cuts = 0;  // That had happened by then.
        bool ack_confirmed = false;
    };
    struct Sent {
        std::string body;
        std::string not_for;
        bool told = false;
        SendOutcome outcome = SendOutcome::kUnknown;
        std::uint32_t frames = 0;
        Durability reached = Durability::kFsync;
        std::map<std::string, std::vector<Delivery>> deliveries;  // By group.
    };

    /// Groups of `sent` that have not seen it.
    std::uint64_t MissingGroups(const Sent& sent) const;
    void Problem(Verdict& verdict, std::string text) const;
    void JudgeDeliveries(const std::string& id,
                         const Sent& sent,
                         const std::string& group,
                         Verdict& verdict) const;

    mutable std::mutex mutex_;
    std::map<std::string, Sent> sent_;    // guarded by mutex_
    std::vector<std::string> groups_;     // guarded by mutex_
    std::vector<std::string> immediate_;  // guarded by mutex_; problems seen as they happened
    std::uint64_t never_sent_ = 0;        // guarded by mutex_
    std::uint64_t missing_ = 0;           // guarded by mutex_
    std::uint64_t told_ = 0;              // guarded by mutex_
    std::uint64_t persisted_ = 0;         // guarded by mutex_
    std::uint32_t power_cuts_ = 0;        // guarded by mutex_
};

}  // namespace qmq::testing
