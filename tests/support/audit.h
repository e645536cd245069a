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
/// nothing of the system between them, nor of what was done to it, but for the power cuts and the
/// damage that it is told of.
///
/// What must hold:
///   1. A message told "persisted" reaches every group whose filter lets it through (nothing is
///   lost).
///   2. What a group sees was sent (nothing is made up), with the body that it was sent with.
///   3. A message told "refused", or that the group's filter does not let through, reaches nobody.
///   4. What one group has seen reaches the others too, whatever the sender was told: it is handed
///   out only when it
///      is as durable as promised.
///   5. A group sees a message again only for a reason: its producer sent it more than once, or its
///   last ack was
///      never confirmed.
///   6. The attempts of one stored message rise with each delivery.
///
/// A power cut excuses what was not promised to survive it: messages told less than "fsync", and,
/// for a message and group whose ack was not confirmed and synced by then, rules 5 and 6 from then
/// on: of what happened to it any part may be forgotten. Damage excuses the message that it hits
/// from rules 1 and 4.
///
/// Thread-safe.
class Audit {
public:
    struct Sending {
        std::string id;
        std::string body;
        /// A group whose filter does not let it through.
        std::string not_for = {};
        /// What its subject promises.
        Durability promised = Durability::kFsync;
    };
    /// Before the send.
    void OnSend(const Sending& sending);
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
    /// All that was confirmed before the last such point is synced by now.
    void OnDurablePoint();
    /// The broker's machine lost power.
    void OnPowerCut();
    /// The disk has lost what it had of this message.
    void OnDamaged(const std::string& id);
    /// The group exists from here on: it must see all that is sent later.
    void AddGroup(const std::string& group);

    /// Messages that must still come: (group, id) pairs. For waiting until there are none; walks
    /// all messages.
    std::uint64_t missing_count() const;
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
        bool ack_confirmed = false;
        std::uint64_t confirmed_at = 0;  // In durable points.
    };
    struct Seen {
        std::vector<Delivery> deliveries;
        bool forgiven = false;  // A power cut may have taken part of its story.
    };
    struct Sent {
        std::string body;
        std::string not_for;
        Durability promised = Durability::kFsync;
        bool told = false;
        SendOutcome outcome = SendOutcome::kUnknown;
        std::uint32_t frames = 0;
        Durability reached = Durability::kFsync;
        bool may_be_gone = false;  // It was seen, and a power cut may have taken it.
        bool damaged = false;
        std::map<std::string, Seen> groups;
    };

    /// Whether every group must see it in the end.
    static bool MustCome(const Sent& sent);
    static void Problem(Verdict& verdict, std::string text);
    static void JudgeDeliveries(const std::string& id,
                                const Sent& sent,
                                const std::string& group,
                                Verdict& verdict);

    mutable std::mutex mutex_;
    std::map<std::string, Sent> sent_;    // guarded by mutex_
    std::vector<std::string> groups_;     // guarded by mutex_
    std::vector<std::string> immediate_;  // guarded by mutex_; problems seen as they happened
    std::uint64_t never_sent_ = 0;        // guarded by mutex_
    std::uint64_t told_ = 0;              // guarded by mutex_
    std::uint64_t durable_points_ = 0;    // guarded by mutex_
};

}  // namespace qmq::testing
