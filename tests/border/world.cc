#include "tests/border/world.h"

#include <utility>

namespace qmq::border {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

/// Whether it comes true while what is under way has time to end.
template <typename F>
bool Comes(F&& what) {
    const auto give_up = std::chrono::steady_clock::now() + seconds(10);
    while (!what() && std::chrono::steady_clock::now() < give_up) {
        std::this_thread::sleep_for(milliseconds(2));
    }
    return what();
}

}  // namespace

World::EndTeller::~EndTeller() {
    world->BeginEnd();
    world->may_leave_running_ = true;
    world->Ended(nullptr);
}

void World::Ended(const ShutdownReport* report) {
    const std::lock_guard lock(mutex_);
    if (ended_at_ != 0) {
        return;
    }
    if (report != nullptr) {
        report_ = *report;
    }
    ended_at_.store(Clock::now().time_since_epoch().count(), std::memory_order_release);
}

std::shared_ptr<World::ClientBox> World::client() {
    const std::lock_guard lock(mutex_);
    return client_;
}

std::shared_ptr<World::ProducerBox> World::AnyProducer() {
    const std::lock_guard lock(mutex_);
    return producers_.empty() ? nullptr : producers_[Pick(producers_.size())];
}

std::shared_ptr<PullConsumer> World::AnyPuller() {
    const std::lock_guard lock(mutex_);
    return pullers_.empty() ? nullptr : pullers_[Pick(pullers_.size())];
}

void World::UserThread(std::uint64_t seed) {
    Chance().seed(seed);
    while (!stop_) {
        try {
            Visit(Place::kThread);
        } catch (...) {  // NOLINT(bugprone-empty-catch): it threw to see what comes of it.
        }
        if (!OneIn(8)) {
            std::this_thread::sleep_for(std::chrono::microseconds(Pick(1'000)));
        }
    }
}

void World::Run() {
    Chance().seed(options_.seed);
    watchdog_.Expect("making a client", seconds(60));
    {
        Result<Client> made = Client::Create(MakeClientOptions());
        if (!made.ok()) {
            Problem("no client: " + made.status().ToString());
            return;
        }
        auto box = std::make_shared<ClientBox>(this, std::move(*made));
        const std::lock_guard lock(mutex_);
        client_ = std::move(box);
    }
    watchdog_.Expect("making producers and consumers", seconds(60));
    for (int i = 0; i < 2; ++i) {
        MakeProducer();
        MakeSubscription();
        MakeSubscription();
        MakePuller();
    }
    for (int i = 0; i < 3; ++i) {
        threads_.emplace_back(
            [this, seed = options_.seed * 31 + static_cast<unsigned>(i)] { UserThread(seed); });
    }
    watchdog_.Expect("running", seconds(60));
    std::this_thread::sleep_for(milliseconds(100 + Pick(150)));
    End();
    TearDown();
    Judge();
}

void World::End() {
    armed_ = true;
    const auto give_up = Clock::now() + milliseconds(600);
    while (!ending_ && Clock::now() < give_up) {
        std::this_thread::sleep_for(milliseconds(2));
    }
    if (!ending_) {
        problems_.Count("ends that came from no place in time");
        if (DoEnd(Place::kThread, options_.ending)) {
            pairs_.Count(Place::kThread, options_.ending);
        }
    }
    watchdog_.Expect(std::string("the end of a client, by ") + ToString(options_.ending) + " in " +
                         ToString(options_.ending_place),
                     seconds(60));
    while (ended_at_ == 0) {
        std::this_thread::sleep_for(milliseconds(2));
    }
    // What comes late has time to come.
    std::this_thread::sleep_for(milliseconds(20));
}

void World::TearDown() {
    watchdog_.Expect("calls that began before the end", seconds(60));
    stop_ = true;
    for (std::thread& thread : threads_) {
        thread.join();
    }
    threads_.clear();
    watchdog_.Expect("the destruction of handles", seconds(60));
    std::vector<std::shared_ptr<ProducerBox>> producers;
    std::vector<std::shared_ptr<SubscriptionBox>> subscriptions;
    std::vector<std::shared_ptr<PullConsumer>> pullers;
    std::vector<Delivery> deliveries;
    std::shared_ptr<ClientBox> client;
    {
        const std::lock_guard lock(mutex_);
        producers.swap(producers_);
        subscriptions.swap(subscriptions_);
        pullers.swap(pullers_);
        deliveries.swap(deliveries_);
        client.swap(client_);
    }
    switch (Pick(3)) {  // In any order.
        case 0:
            client.reset();
            break;
        case 1:
            deliveries.clear();
            break;
        default:
            producers.clear();
    }
    for (const auto& box : subscriptions) {
        box->subscription.reset();
    }
}

void World::JudgeCallbacks(const std::string& what, const Tally& tally) {
    if (!Comes([&] { return tally.settled(); })) {
        Problem(what + ": neither called nor destroyed");
    }
    if (tally.twice > 0) {
        Problem(what + ": called twice");
    }
    problems_.Count(what + " called", tally.called);
    problems_.Count(what + " dropped", tally.dropped());
}

void World::Judge() {
    watchdog_.Expect("callbacks that are owed", seconds(60));
    std::vector<std::shared_ptr<ProducerBox>> producers;
    std::vector<SendFuture> futures;
    {
        const std::lock_guard lock(mutex_);
        producers.swap(all_producers_);
        futures.swap(futures_);
    }
    std::uint64_t dropped = 0;
    for (const auto& box : producers) {
        JudgeCallbacks("send callbacks", *box->tally);
        dropped += box->tally->dropped();
    }
    JudgeCallbacks("ack completions", *acks_);
    JudgeCallbacks("pull callbacks", *pulls_);
    JudgeCallbacks("shutdown callbacks", *shutdowns_);
    dropped += acks_->dropped() + pulls_->dropped();
    if (shutdowns_->dropped() > 0) {
        Problem("the callback of ShutdownAsync was never called");
    }
    if (report_.has_value()) {
        const std::uint64_t told = report_->callbacks_dropped;
        if (dropped < told || dropped > told + late_decisions_) {
            Problem(std::string("callbacks that were owed never came, and the report says ") +
                    (told < dropped ? "fewer" : "more"));
        }
    }
    for (const SendFuture& future : futures) {
        if (!future.ready()) {
            Problem("a future was never answered");
        }
    }
    // Those that are resumed on an executor of the application's go on there.
    if (!Comes([this] { return lives_.waiting_count() == 0; })) {
        Problem("a coroutine was never resumed");
    }
    // What began before the end, as the callback of a shutdown, may still be at it.
    if (!Comes([this] { return inside_ == 0; })) {
        Problem("code of the application never returned");
    }
    teardown_ = true;
    problems_.Count("clients");
}

}  // namespace qmq::border
