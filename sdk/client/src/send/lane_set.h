#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qmq/producer.h"
#include "qmq/random.h"
#include "qmq/transport.h"

#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/link/broker_link.h"
#include "sdk/client/src/send/batcher.h"
#include "sdk/client/src/send/send_window.h"
#include "sdk/client/src/send/subject_queue.h"

namespace qmq::internal {

/// The way of batches to one broker group.
struct Lane : std::enable_shared_from_this<Lane> {
    explicit Lane(std::uint32_t max_frames) : window(max_frames) {}

    std::shared_ptr<BrokerLink> link;
    std::shared_ptr<BrokerConnection> connection;  ///< Null while it is down.
    bool writable = true;
    std::uint32_t subjects = 0;  ///< That have it in their route.
    SendWindow window;
    bool pumping = false;      ///< One thread takes frames and sends them.
    bool handed_over = false;  ///< The work executor goes on with it.
    bool has_news = false;
    TimePoint blocked_until{};  ///< By the circuit breaker.
    BatchList queue;
    BatchList open;  ///< Those that take messages, in the order in which they came.
};

/// Batches on their way to one broker group at once.
struct Frame {
    LanePtr lane;
    std::shared_ptr<BrokerLink> link;
    std::vector<BatchPtr> batches;
    /// As the connection gets them. When their bytes are filled in, which needs no lock, a batch's
    /// time may be over and its subject forgotten.
    std::vector<SendBatch> sends;
    /// Some of them have staged messages, and are "encoding" until these are moved.
    bool staged = false;
    /// The circuit breaker has counted it: once, however many of its batches have no answer.
    std::atomic<bool> counted_unanswered{false};
};

/// The lanes of a producer: which batch takes which, what becomes of batches when routes and links
/// change, and which lanes have *news*, that is, may have become able to send. Whatever changes a
/// lane notes the news itself, so that nobody else has to remember: at the end of each entry the
/// producer asks for the lanes with news and pumps them.
///
/// Under the producer's lock.
class LaneSet {
public:
    LaneSet(ClientRuntime& runtime, const ProducerOptions& options, Batcher& batcher);
    /// A frame that was never answered still has its lane, and is held by the connection.
    ~LaneSet();

    // What batches do.

    /// `queue` has a new open batch.
    void OnOpened(SubjectQueue& queue);
    /// A message came into the open batch of `queue`.
    void OnGathered(const SubjectQueue& queue, TimePoint now);
    /// Closes the open batch of `queue`, if there is one, and queues it.
    void Seal(SubjectQueue& queue);
    /// A batch whose next attempt is due.
    void Retry(const BatchPtr& batch);
    /// The messages of `batch`, which the broker refused as a whole, go singly.
    void Replace(PendingBatch& batch, const std::vector<BatchPtr>& singles);
    /// The batch is answered, or `Replace`d.
    void OnDone(PendingBatch& batch);

    // What routes and links do.

    struct RouteEntry {
        std::shared_ptr<BrokerLink> link;
        bool writable = true;
    };
    void OnRoute(SubjectQueue& subject,
                 const std::vector<RouteEntry>& route,
                 const std::weak_ptr<LinkObserver>& observer);
    /// A subject that is unused and will be forgotten.
    void LeaveRoute(SubjectQueue& subject);
    /// A link is up or down. Notices of a link may overtake each other, so they only say "look
    /// again".
    void OnLink(BrokerLink& link);

    // Pace and time.

    void OnSend(TimePoint now);
    /// The time that sending took is no pause of the sender's.
    void SkipTime(TimePoint now) { pace_.Skip(now); }
    /// Somebody waits, or knows that no more messages will come.
    void EndBurst();
    /// It is `now`: rests may be over, and batches have lingered.
    void OnTime(TimePoint now);
    /// When `OnTime` is due, as far as something has changed since this was last asked.
    /// `TimePoint::max()`: nothing is, or it is known.
    TimePoint TakeDue() { return std::exchange(due_, TimePoint::max()); }
    bool has_due() const { return due_ != TimePoint::max(); }

    // Sending.

    bool has_news() const { return !news_.empty() || became_available_; }
    /// A lane that may have become able to send; null when there is none.
    LanePtr TakeNews();
    void NoteNews(Lane& lane);
    bool CanSend(const Lane& lane, TimePoint now) const;
    /// The next frame. Null when the circuit breaker says no.
    std::shared_ptr<Frame> TakeFrame(const LanePtr& lane, TimePoint now);
    /// Nobody pumps it any more: the time when it next may send is looked at.
    void NoteDue(const Lane& lane, TimePoint now);
    /// A frame is answered; `answered`: by the broker.
    void OnFrameDone(const Frame& frame, bool answered);

    /// Gives up everything.
    void Clear();
    /// Also those on their way to groups that have left every route.
    std::uint64_t in_flight_batches() const { return in_flight_batches_; }
    /// Queues that were looked at to give lanes to what they have. For tests.
    std::uint64_t looked_at() const { return looked_at_; }
    /// Empty, or which batch waits although it could go. Everything has been settled before; what
    /// the timer that is due at `timer` will do may be left.
    std::string FindStuck(TimePoint now, TimePoint timer) const;

private:
    bool HasSlot(const Lane& lane, TimePoint now) const;
    bool MayTakeOpen(const Lane& lane, bool eager, TimePoint now) const;
    bool IsEager(const Lane& lane) const;
    bool IsResting(Lane& lane);
    bool IsAvailable(Lane& lane);
    LanePtr PickLane(SubjectQueue& queue, const Lane* avoid);
    void AssignOpen(SubjectQueue& queue);
    void Place(const BatchPtr& batch, bool first);
    void Assign(SubjectQueue& queue);
    void AssignUnrouted();
    void NoteUnrouted(SubjectQueue& queue);
    void NextInOrder(SubjectQueue& queue);
    void AssignKeys(SubjectQueue& subject);
    static void RouteKeyQueue(SubjectDetails& details);
    void NoteOpen();
    void Reroute(Lane& lane);
    void DropUnusedLanes();

    ClientRuntime& runtime_;
    const ProducerOptions& options_;
    Batcher& batcher_;
    Random random_;
    std::map<std::string, LanePtr> lanes_;
    std::vector<Lane*> news_;
    /// Those that have batches and a route, but no lane that is available.
    HookList<SubjectDetails> unrouted_;
    bool became_available_ = false;  // Some lane, since unrouted_ was looked at.
    std::uint64_t looked_at_ = 0;
    std::uint64_t in_flight_batches_ = 0;
    Pace pace_;
    TimePoint due_ = TimePoint::max();
};

}  // namespace qmq::internal
