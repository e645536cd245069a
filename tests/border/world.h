#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "qmq/client.h"

#include "tests/border/owed.h"
#include "tests/border/pairs.h"
#include "tests/border/problems.h"
#include "tests/border/task.h"
#include "tests/border/watchdog.h"

namespace qmq::border {

/// How a world is made.
struct WorldOptions {
    std::uint64_t seed = 1;
    std::string uri;
    std::shared_ptr<TransportFactory> transport;
    /// How the client ends, and where.
    Place ending_place = Place::kThread;
    Thing ending = Thing::kShutdown;
};

/// Counts who is inside of the application's code.
struct Inside {
    explicit Inside(std::atomic<int>& its_count) : count(its_count) { ++count; }
    ~Inside() { --count; }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;
    std::atomic<int>& count;
};

/// A client, and an application around it that does anything from anywhere, until one of its places
/// ends the client. What the application is promised is checked as it goes, and at the end.
///
/// What SDK and application hold of it is shared: it lives until the last callback has gone.
class World : public std::enable_shared_from_this<World> {
public:
    World(WorldOptions options, PairTable& pairs, Problems& problems, Watchdog& watchdog);

    /// Runs it to its end.
    void Run();

    // The application's code, in user_code.cc.

    /// Code of the application runs at `place`: something is done there, which may throw.
    void Visit(Place place);
    /// Nothing is called after the end: whoever is called says so first.
    void Enter(Place place);
    bool InTeardown() const { return teardown_; }

private:
    using Clock = std::chrono::steady_clock;
    struct ProducerBox {
        Producer producer;
        std::int64_t most_pending = 0;
        std::shared_ptr<Tally> tally = std::make_shared<Tally>();
    };
    struct SubscriptionBox {
        std::optional<Subscription> subscription;  // guarded by World::mutex_
        std::atomic<bool> closed{false};
    };
    /// Destroyed after the client, whose destruction ends it.
    struct EndTeller {
        World* world;
        ~EndTeller();
    };
    struct ClientBox {
        ClientBox(World* world, Client made) : teller{world}, client(std::move(made)) {}
        EndTeller teller;
        Client client;
    };
    struct Capture {
        std::shared_ptr<World> world;
        explicit Capture(std::shared_ptr<World> of) : world(std::move(of)) {}
        ~Capture();
    };

    // What is done, in things.cc. False: it could not be, as there was nothing to do it to.
    bool Do(Place place, Thing thing);
    bool DoSend(Thing thing);
    bool DoProducer(Place place, Thing thing);
    bool DoSubscription(Place place, Thing thing);
    bool DoPull(Place place, Thing thing);
    bool DoDelivery(Place place, Thing thing);
    bool DoEnd(Place place, Thing thing);
    bool DestroyCoroutine();
    Thing Choose(Place place) const;
    bool SendCallbackTo(ProducerBox& box);
    bool SendBad(ProducerBox& box);
    void DecideOne(Delivery delivery, int how);
    bool EndByShutdown(Place place, ClientBox& box);
    bool EndByShutdownAsync(Place place, ClientBox& box);
    bool EndByDestruction(Place place, std::shared_ptr<ClientBox> box);
    void Keep(std::vector<Delivery> deliveries);
    UniqueFunction<void(const Status&)> AckCompletion();
    SendCallback MakeSendCallback(const std::shared_ptr<Tally>& tally);
    Task0 AwaitSends(std::shared_ptr<World> self, Producer producer);
    std::shared_ptr<Capture> MaybeCapture();

    // Making things, in user_code.cc.
    ClientOptions MakeClientOptions();
    bool MakeProducer();
    bool MakeSubscription();
    bool MakePuller();
    void HandleIn(SubscriptionBox& box, Place place);
    static bool InsideHandler();

    // Its life, in world.cc.
    void BeginEnd();
    void EndedBy(const ShutdownReport& report, bool may_leave_running);
    void Ended(const ShutdownReport* report);
    void UserThread(std::uint64_t seed);
    void End();
    void TearDown();
    void Judge();
    void JudgeCallbacks(const std::string& what, const Tally& tally);
    void Problem(const std::string& what) { problems_.Add(what); }
    std::shared_ptr<ClientBox> client();
    std::shared_ptr<ProducerBox> AnyProducer();
    std::shared_ptr<PullConsumer> AnyPuller();

    const WorldOptions options_;
    PairTable& pairs_;
    Problems& problems_;
    Watchdog& watchdog_;
    std::unique_ptr<Executor> pool_;
    std::unique_ptr<Executor> executor_;  // Handlers', with the application inside of `Post`.

    std::mutex mutex_;
    std::shared_ptr<ClientBox> client_;                            // guarded by mutex_
    std::vector<std::shared_ptr<ProducerBox>> producers_;          // guarded by mutex_
    std::vector<std::shared_ptr<ProducerBox>> all_producers_;      // guarded by mutex_
    std::vector<std::shared_ptr<SubscriptionBox>> subscriptions_;  // guarded by mutex_
    std::vector<std::shared_ptr<PullConsumer>> pullers_;           // guarded by mutex_
    std::vector<Delivery> deliveries_;                             // guarded by mutex_
    std::vector<SendFuture> futures_;                              // guarded by mutex_
    Lives lives_;
    std::vector<std::thread> threads_;

    std::shared_ptr<Tally> acks_ = std::make_shared<Tally>();
    std::shared_ptr<Tally> pulls_ = std::make_shared<Tally>();
    std::shared_ptr<Tally> shutdowns_ = std::make_shared<Tally>();

    std::atomic<bool> armed_{false};   // The ending is due, at its place.
    std::atomic<int> enders_{0};       // Shutdowns under way.
    std::atomic<bool> ending_{false};  // Somebody has begun to end the client. Under end_mutex_.
    /// What is destroyed under it may end the client.
    std::recursive_mutex end_mutex_;
    /// Made when the end may have begun: once it is over their completions are owed to nobody.
    std::atomic<std::uint64_t> late_decisions_{0};
    std::atomic<int> inside_{0};  // Calls of the application's code that have not returned.
    std::atomic<bool> stop_{false};
    std::atomic<bool> teardown_{false};
    std::atomic<bool> inline_callbacks_{false};
    std::atomic<std::int64_t> ended_at_{0};  // Nanoseconds of the steady clock; 0: not yet.
    std::atomic<bool> may_leave_running_{false};
    std::optional<ShutdownReport> report_;  // Written before ended_at_.
};

/// Chance of this thread.
std::mt19937_64& Chance();
/// Uniform in [0, below).
inline std::uint64_t Pick(std::uint64_t below) {
    return Chance()() % below;
}
inline bool OneIn(std::uint64_t n) {
    return Pick(n) == 0;
}

}  // namespace qmq::border
