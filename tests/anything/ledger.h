#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "qmq/protocol.h"

#include "tests/anything/engine.h"

namespace qmq::anything {

/// What a loss of the process takes with it.
enum class Loss : std::uint8_t { kKill, kPowerCut };

/// Which promises of a sequence hold, for what it does may lift some of them.
struct Terms {
    /// No segment goes because of its age, its size or its acks.
    bool all_is_kept = true;
    /// Leases end and what waits is due before the ledger is closed.
    bool time_passes = true;
};

/// Joins what clients were told with what they are handed, before and after the process was lost:
///   1. What was told persisted is there after the start, in the place that the receipt named.
///   2. What is handed out was sent, with this body, and was not told refused.
///   3. A message whose ack was confirmed as durably as the loss asks for does not come to its
///   group
///      again, unless somebody moved the group.
///   4. A message that was handed to a group, and that nobody there said to be done with, comes
///   again
///      or is a dead letter of the group.
/// Clients that call anything break rules 3 and 4 for a group only by what the API says they may.
class Ledger {
public:
    struct Message {
        std::string subject;
        std::string body;
        bool told = false;
        SendOutcome outcome = SendOutcome::kUnknown;
        Durability reached = Durability::kDefault;
        std::uint64_t sequence = 0;
        bool read_again = false;  // After the last start, by a group that is new.
    };
    /// Names one hand-out, for the ack that means it.
    using AckToken = std::vector<std::pair<std::string, std::string>>;  // Group, id.

    explicit Ledger(const Terms& terms) : terms_(terms) {}

    void OnSend(const std::string& id, const std::string& subject, const std::string& body);
    void OnReceipt(const std::string& id, const BatchReceipt& receipt, std::uint64_t place);
    /// Bytes that may or may not be messages have gone to some subject.
    void OnOpaqueSend() { opaque_ = true; }

    void OnHanded(const ConsumerKey& asked, const std::vector<Handed>& messages);
    /// Before the call: whatever becomes of it, these may be done with. Gives what `OnAcked` wants.
    std::uint32_t OnAck(const ConsumerKey& asked, const std::vector<AckItem>& items);
    /// The answer to a call that asked for nothing but acks, all of which were held.
    /// `durably`: it had to be synced before.
    void OnAcked(const ConsumerKey& key,
                 const std::vector<std::string>& ids,
                 bool durably,
                 std::uint32_t since);
    void OnReset(const std::string& subject, const std::string& group);
    void OnResetDone(const std::string& subject, const std::string& group);
    /// The clock has moved so far that groups may have been forgotten.
    void OnGroupsForgotten();

    void OnLoss(Loss loss);

    /// Of the last start: what a group that is new reads of `subject`.
    void OnReadAgain(const std::string& subject, const std::vector<Handed>& messages);
    /// Everybody is served by now.
    void Judge();

    /// Real subjects with groups that were handed something.
    std::vector<std::pair<std::string, std::string>> groups() const;
    std::set<std::string> subjects() const;
    const std::vector<std::string>& problems() const { return problems_; }
    void Problem(const std::string& text);
    /// Whether all that must be there was read.
    bool AllRead() const;
    void CountInto(std::map<std::string, std::uint64_t>& counters) const;

private:
    struct Fate {
        bool open = false;  // Handed out in a life that is over, and must come again.
        bool acked = false;
        bool acked_durably = false;
    };
    struct Book {
        std::map<std::string, Fate> fates;
        std::uint32_t resets = 0;        // Under way.
        std::uint32_t resets_begun = 0;  // Ever.
        bool was_reset = false;
    };
    struct Consumer {
        ConsumerKey key;
        std::vector<std::pair<std::uint64_t, std::string>> handed;
        std::vector<std::pair<std::uint64_t, std::uint64_t>> settled;
    };

    void CheckMessage(const ConsumerKey& key, const Handed& handed);
    bool MustBeThere(const Message& message) const;
    void CheckOpen();

    const Terms terms_;
    Loss worst_loss_ = Loss::kKill;
    bool opaque_ = false;
    std::map<std::string, Message> messages_;
    std::map<std::pair<std::string, std::string>, Book> books_;  // By subject and group.
    std::map<ConsumerKey, Consumer> consumers_;
    std::map<std::string, std::set<std::string>> dead_;  // By dead-letter subject.
    std::vector<std::string> problems_;
    std::uint64_t required_ = 0;
    std::uint64_t acked_ = 0;
    std::uint64_t again_ = 0;
};

}  // namespace qmq::anything
