#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qmq/clock.h"
#include "qmq/protocol.h"
#include "qmq/status.h"

#include "tests/support/audit_story.h"

namespace qmq::testing {

/// Joins what producers were told with what consumers saw and asked for, and says what does not
/// fit. It knows nothing of the system between them, nor of what was done to it, but for what it is
/// told of: power cuts, damage, deaths of consumers and of the broker, and until when something was
/// broken.
///
/// What must hold, for each message (and each of its stored copies, where they are known):
///   1. A message told "persisted" reaches every group that must see it.
///   2. What a group sees was sent, with the body that it was sent with.
///   3. A message told "refused", or that a member's filter does not let through, reaches nobody.
///   4. What one group has seen reaches the others too, whatever the sender was told.
///   5. It is done in a group only when its last delivery was asked to be acked, or it is among the
///      group's dead letters. Until then it must come again: what was failed, forgotten, timed out
///      or held by the dead.
///   6. It comes, and comes again, within its due time and a second, once nothing is broken.
///   7. A copy whose ack was confirmed does not come again, nor is its ack confirmed twice. A
///      message has no more copies than frames, and the receipt names one of them.
///   8. Attempts rise by one where a handler decided; they stay where the consumer died or lost its
///      lease; they never fall, and jump only over hand-outs whose deaths count.
///   9. A dead letter is what was rejected, or has used up its attempts; it has the last error, and
///      nothing comes after it.
///  10. Receipts share no sequence of a subject. A group of one consumer that never fails sees
///      first copies in the order of their sequences.
///  11. What is missing in a group is what it counted as lost, where that is told. What it had been
///      handed, whether or not a handler saw it, is lost only for the reasons that may take it.
///  12. A group that is acked on receipt sees no copy twice, even after a power cut.
///
/// A power cut excuses what was not promised to survive it: messages told less than "fsync" that
/// were not synced by then, and one further delivery of what was not settled. Damage excuses what
/// the message that it hits still had to do.
///
/// Thread-safe.
class Audit {
public:
    explicit Audit(const Clock& clock = SystemClock()) : clock_(clock) {}

    struct GroupRules {
        std::string name;
        /// What it reads. Empty: all.
        std::vector<std::string> subjects = {};
        /// After this many attempts a failed message must be a dead letter. Zero: never.
        std::uint32_t max_attempts = 0;
        /// One consumer, which acks all and never dies: rule 10.
        bool is_ordered = false;
        /// Its members' filters differ: `OnMember` says which are there.
        bool is_mixed = false;
        /// It may leave for long: nothing has to come in time.
        bool may_be_away = false;
        /// Acked on receipt: it sees no copy twice, and may miss some.
        bool is_at_most_once = false;
    };
    /// The group exists from here on: it must see all that is sent later.
    void AddGroup(const std::string& group) { AddGroup(GroupRules{group}); }
    void AddGroup(const GroupRules& rules);

    struct Sending {
        std::string id;
        std::string body;
        /// A group whose filter does not let it through.
        std::string not_for = {};
        /// What its subject promises.
        Durability promised = Durability::kFsync;
        std::string subject = {};
        std::vector<std::string> tags = {};
    };
    /// Before the send.
    void OnSend(const Sending& sending);
    /// The answer. `frames`: how many times it travelled. `reached`: as durable as the receipt
    /// says. `sequence`: of the receipt.
    void OnTold(const std::string& id,
                SendOutcome outcome,
                std::uint32_t frames,
                Durability reached = Durability::kFsync,
                std::optional<std::uint64_t> sequence = std::nullopt);

    /// A frame with the message has come to the system; told only where tests can see it, and then
    /// of every frame. Until that is answered it may have stored a copy.
    void OnArrived(const std::string& id);
    /// What the system answered to such a frame, whether or not that ever comes to the sender.
    void OnStored(const std::string& id, SendOutcome outcome, std::uint64_t sequence);

    /// Where the system gave the message to a consumer; told only where tests can see it, and then
    /// of every hand-out of every group.
    void OnHandedOut(const std::string& group, const std::string& id, Copy copy);

    struct Handling {
        std::string group;
        std::string id;
        std::string_view body;
        std::uint32_t attempt = 1;
        /// The process that handles it; for `OnConsumerGone`.
        std::string consumer = {};
        std::optional<Copy> copy = {};
    };
    /// Names one delivery from its handler's begin.
    using DeliveryId = std::uint64_t;
    /// At the begin of the handler.
    DeliveryId OnHandled(const Handling& handling);

    struct Asking {
        /// kRetry for what is forgotten, too.
        AckVerdict verdict = AckVerdict::kAck;
        /// When it should be there again, for kRetry. Unknown: no bound.
        std::optional<TimePoint> due = {};
        std::string error = {};
    };
    /// Before the handler asks for it.
    void OnAsked(DeliveryId delivery, const Asking& asking);
    /// What the broker answered to that: Ok when it has recorded it, kNotFound when the message was
    /// not the consumer's any more, anything else when that is not known.
    void OnAnswered(DeliveryId delivery, const Status& status);
    /// The process of a consumer died, or it hangs from here on: what it had not decided, or had
    /// not been answered, comes again by `due`.
    void OnConsumerGone(const std::string& consumer, std::optional<TimePoint> due = {});

    struct DeadLetter {
        std::string group;
        std::string id;
        std::string_view body;
        std::uint32_t attempt = 1;
        std::string error = {};
        /// Its place in the dead-letter subject.
        std::optional<Copy> copy = {};
    };
    /// Found in the group's dead-letter subject. Each letter may be found more than once.
    void OnDeadLetter(const DeadLetter& letter);

    // Groups whose members differ.

    struct Member {
        std::string group;
        std::string subject;
        std::string consumer;
        TagFilter filter;
    };
    /// From here on the broker knows it.
    void OnMember(const Member& member);
    /// From `when` on the broker may have forgotten it, in all its groups.
    void OnMemberGone(const std::string& consumer, TimePoint when);

    // What was done to the system.

    /// All that was confirmed before the last such point is synced by now.
    void OnDurablePoint();
    /// The broker's machine lost power.
    void OnPowerCut();
    /// The process of the broker ended, however it did: what it had recorded last it may have told
    /// nobody.
    void OnBrokerDied();
    /// The disk has lost what it had of this message.
    void OnDamaged(const std::string& id);
    /// As above, and nothing lies behind it in the log, or says that it was synced. What was not
    /// synced looks like a torn tail, so that its sequence is used again; and what was where the
    /// disk has refused a write since it was sent: then the mark may be missing that says so.
    void OnTailDamaged(const std::string& id, TimePoint last_refusal);
    /// The disk has lost some of what was recorded of the groups, synced or not.
    void OnRecordsDamaged();
    /// Something is broken, or somebody is slow, until then: nothing has to be in time before.
    void OnTrouble(TimePoint until) { OnTrouble(clock_.Now(), until); }
    /// As above, noticed only later.
    void OnTrouble(TimePoint since, TimePoint until);
    struct Losses {
        std::uint64_t count = 0;
        /// No message that is missing may be uncounted, nor the other way round; else the count is
        /// an upper bound.
        bool is_exact = false;
        /// Of these the group may have been handed so many before.
        std::uint64_t seen_count = std::numeric_limits<std::uint64_t>::max();
    };
    /// The group counts so many messages as lost, in all.
    void OnLossCounted(const std::string& group, const Losses& losses);

    /// Messages that must still come or be decided: (group, id) pairs. For waiting until there are
    /// none; looks only at what has changed.
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
        std::uint64_t counted_lost = 0;  ///< Missing, and the group says so.
        std::uint64_t never_sent = 0;
        std::uint64_t dead_letters = 0;
        std::vector<std::string> problems;  ///< The first twenty.
        std::uint64_t problem_count = 0;
        bool ok() const { return problem_count == 0; }
        std::string ToString() const;
    };
    Verdict Judge() const;

private:
    struct Sent {
        std::string id;
        Sending sending;
        TimePoint at{};
        bool told = false;
        SendOutcome outcome = SendOutcome::kUnknown;
        std::uint32_t frames = 0;
        Durability reached = Durability::kFsync;
        std::optional<std::uint64_t> sequence;
        std::uint64_t unanswered_frames = 0;  // Of those that have come to the system.
        std::set<std::uint64_t> stored;       // The sequences that it answered.
        std::uint64_t told_point = 0;         // In durable points.
        TimePoint told_at{};
        std::optional<std::uint64_t> seen_point;
        bool may_be_gone = false;  // It was seen, and a power cut may have taken it.
        bool damaged = false;
        std::optional<TimePoint> tail_damaged;  // And when the disk had last refused a write.
        std::map<std::string, Story, std::less<>> groups;
    };
    struct Span {
        Member member;
        TimePoint from{};
        std::optional<TimePoint> until;
    };
    struct Group {
        GroupRules rules;
        std::vector<Span> members;
        std::map<std::string, std::uint64_t> newest;  // By subject; of ordered ones.
        Losses losses;
    };
    struct Missing {
        std::vector<std::string> texts;
        std::uint64_t seen_count = 0;  // Of these: the group was handed them.
        /// Copies that the group never saw, and need not, or that nobody knows of: it may count
        /// them as lost all the same, since nobody had looked at them.
        std::uint64_t unread_count = 0;
    };
    struct Place {
        Sent* sent = nullptr;  // Null for what nobody sent.
        Group* group = nullptr;
        Story* story = nullptr;
        std::size_t step = 0;
    };
    struct Receipt {
        std::string id;
        Durability reached = Durability::kFsync;
        std::size_t cut_count = 0;
    };

    // All of these with mutex_ held.
    void Changed(Sent& sent) const;
    void Problem(std::string text) { immediate_.push_back(std::move(text)); }
    void CheckReceipt(const Sent& sent);
    /// Whether its sequence may be used again, as damage has made of it what a torn tail is.
    static bool MayLookTorn(const Sent& sent);
    void CheckOrder(Group& group, const Sent& sent, const Story& story, const Copy& copy);
    void CheckOnce(const Group& group, const Story& story, const Handling& handling);
    void CheckMember(const Group& group, const Sent& sent, const Handling& handling);
    static bool LetsThrough(const TagFilter& filter, const std::vector<std::string>& tags);
    StoryRules RulesOf(const Sent& sent, const Group& group) const;
    /// Whether every group must see it in the end.
    static bool MustCome(const Sent& sent);
    static bool Reads(const Group& group, const Sent& sent);
    bool MustReach(const Sent& sent, const Group& group) const;
    bool StaysHandedOut(const Sent& sent, const Group& group) const;
    bool StaysHandedOut(const Story& story, std::uint64_t sequence) const;
    bool IsOpen(const Sent& sent, const Group& group) const;
    bool IsForgotten(const Story& story) const;
    bool HasMissingCopies(const Sent& sent, const Group& group) const;
    static std::set<std::uint64_t> CopiesOf(const Sent& sent);
    std::size_t MostCopiesOf(const Sent& sent) const;
    bool HasSeenAll(const Sent& sent) const;
    void JudgeOne(const Sent& sent, const Group& group, Verdict& verdict, Missing* missing) const;
    static void JudgeLosses(const Group& group, const Missing& missing, Verdict& verdict);

    const Clock& clock_;
    mutable std::mutex mutex_;
    // All below: guarded by mutex_.
    std::map<std::string, Sent, std::less<>> sent_;
    std::map<std::string, Group, std::less<>> groups_;
    std::vector<Place> deliveries_;
    std::map<std::string, std::vector<DeliveryId>> by_consumer_;
    std::map<std::pair<std::string, std::uint64_t>, Receipt> receipts_;  // By subject and sequence.
    std::vector<std::string> immediate_;  // Problems seen as they happened.
    std::uint64_t never_sent_ = 0;
    std::uint64_t told_ = 0;
    History history_;
    bool hand_outs_are_known_ = false;
    mutable std::vector<Sent*> changed_;  // Since the last look.
    mutable std::map<const Sent*, std::uint64_t> open_;
    mutable std::uint64_t open_count_ = 0;
};

}  // namespace qmq::testing
