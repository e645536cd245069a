#pragma once

#include "server/broker/planner.h"

namespace qmq::broker {

/// Decides who is handed a message that may kill its consumer, and when: alone, to a consumer that
/// holds nothing of the group, so that it takes no other message with it.
///
/// Whoever holds nothing takes a suspect before anything else. While all members are at work, one
/// at a time is chosen to *drain*: it is given nothing until it holds nothing. The others go on. A
/// member that a long handler keeps from draining is let off after a few seconds and left alone for
/// a while: its other handlers have work to do. Each time it is given longer. That is the member's,
/// and not the session's or the pull's: who pulls for a second each time drains as well.
class Suspects {
public:
    Suspects(ShardCore& core, const Planner& planner) : core_(core), planner_(planner) {}

    enum class Turn : std::uint8_t {
        kAnything,
        kSuspect,  ///< A suspect, if there is one after all; else anything.
        kNothing
    };
    /// What `consumer`, which has room, may be handed now.
    Turn TurnOf(Consumer& consumer);

    /// Lets off who has drained for too long.
    void EndDrain(Group& group);

    /// `consumer` is not there any more. Whether another one may drain in its place.
    static bool Forget(const Consumer& consumer);

    /// When the group is to be looked at again; -1: no need.
    static ShardMs WakeAt(const Group& group, ShardMs now);

private:
    bool MayDrain(const Consumer& consumer) const;

    ShardCore& core_;
    const Planner& planner_;
};

}  // namespace qmq::broker
