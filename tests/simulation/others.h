#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/broker/broker.h"
#include "tests/simulation/sim_scheduler.h"
#include "tests/simulation/world_plan.h"

namespace qmq::simulation {

/// Those whose messages nobody counts: an operator, a group that pulls by single calls, and a
/// client that calls anything with anything. What they do must not disturb those who are counted,
/// nor keep the broker from starting again.
class Others {
public:
    using Count = std::function<void(const std::string& name)>;
    Others(SimScheduler& scheduler, SimExecutor& executor, Count count);

    void Begin(const WorldPlan& plan);
    void End() { ended_ = true; }
    /// Null while it is down.
    void SetBroker(broker::Broker* broker);

private:
    Random& random() { return scheduler_.random(); }
    void After(std::chrono::nanoseconds longest, void (Others::*next)());
    const char* AnySubject();

    /// Somebody looks at the broker, as its tools do.
    void Operate();
    /// A group that pulls and acks by single calls, each verdict in turn.
    void Visit();
    void AckVisit(const ConsumerKey& key, const broker::PullReply& reply);

    // The wild client.
    void BeWild();
    void CallAnything();
    void SubscribeAnyhow();
    void UseSession();
    std::uint64_t AnyNumber();
    std::string AnyName();
    std::string AnyGroup();
    ConsumerKey AnyKey();
    SubscribeRequest AnySubscription();
    std::vector<AckItem> AnyAcks();
    SendBatch AnyBatch();

    SimScheduler& scheduler_;
    SimExecutor& executor_;
    const Count count_;
    broker::Broker* broker_ = nullptr;
    std::vector<std::unique_ptr<broker::Session>> sessions_;
    std::uint64_t sent_ = 0;
    bool ended_ = false;
};

}  // namespace qmq::simulation
