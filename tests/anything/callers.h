#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/anything/choices.h"
#include "tests/anything/engine.h"
#include "tests/anything/hostile.h"
#include "tests/anything/ledger.h"
#include "tests/anything/world.h"

namespace qmq::anything {

/// Several clients that call anything, one call at a time, and tell the ledger of it.
class Callers {
public:
    Callers(Choices& choices, Ledger& ledger, Counters& counters, const SequenceOptions& options)
        : choices_(choices),
          hostile_(choices),
          ledger_(ledger),
          counters_(counters),
          options_(options) {}

    /// The process that they talk to. What they had with the one before is gone.
    void Connect(Engine& engine, WallTime now);
    void Call();
    /// So that they have the time in messages.
    void SetTime(WallTime now) { now_ = now; }
    void Trace(const std::string& text) const;

private:
    struct Seen {
        std::uint64_t pull = 0;
        std::string id;
    };
    /// A subscription or a consumer of plain calls.
    struct Member {
        ConsumerKey key;
        Engine::SubscriptionId id = 0;
        bool closed = false;
        std::vector<Seen> seen;
    };

    void Send();
    SendBatch MakeBatch(std::vector<std::string>& ids);
    std::string Opaque();
    void Subscribe();
    void Grant();
    void Ack();
    void Leave();
    void Pull();
    void PlainAck();
    void Reset();
    void List();
    void Garbage();
    std::shared_ptr<Member> AnyMember();
    std::vector<AckItem> Items(const Member& member);
    AckDone Judge(const std::shared_ptr<Member>& member,
                  const std::vector<AckItem>& items,
                  bool trusted);
    void Note(const char* call, const Status& status);

    Choices& choices_;
    Hostile hostile_;
    Ledger& ledger_;
    Counters& counters_;
    const SequenceOptions options_;
    Engine* engine_ = nullptr;
    WallTime now_{};
    std::uint64_t last_message_ = 0;
    std::vector<std::shared_ptr<Member>> members_;
    std::map<ConsumerKey, std::shared_ptr<Member>> pullers_;
};

}  // namespace qmq::anything
