#pragma once

#include <string>
#include <vector>

#include "qmq/protocol.h"

#include "server/broker/broker.h"
#include "tests/anything/choices.h"

namespace qmq::anything {

/// Arguments of calls: mostly such as a client means them, and often enough none that any client
/// should send, at and beyond every limit.
class Hostile {
public:
    explicit Hostile(Choices& choices) : choices_(choices) {}

    std::string Subject();
    std::string Group();
    std::string ConsumerId();
    std::string Name();  ///< One that is at a limit of names, or beyond.
    std::string Tag();
    std::string Text(std::size_t most_bytes);
    TagFilter Filter();
    RetryPolicy Policy();
    Credit GrantedCredit();
    ConsumerKey Key();
    SubscribeRequest Subscription();
    broker::PullRequest PullCall();
    /// `around`: pull sequences that the consumer has seen, which most items mean.
    AckItem Item(const std::vector<std::uint64_t>& around);
    AckVerdict Verdict();
    Durability AnyDurability();
    StartPosition Position();
    std::chrono::milliseconds Duration();
    std::uint64_t Number();

private:
    Choices& choices_;
};

}  // namespace qmq::anything
