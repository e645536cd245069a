// The application's side of a world: what the SDK calls.

#include <stdexcept>
#include <utility>

#include "tests/border/world.h"

namespace qmq::border {

using std::chrono::milliseconds;

namespace {

constexpr int kDeepest = 3;
thread_local int t_depth = 0;

/// Of the visits below on this thread those that are in a handler, or in what stands around one.
thread_local int t_handlers = 0;

/// Likewise those that are in an executor's `Post`.
thread_local int t_posts = 0;

bool IsAroundHandler(Place place) {
    return place == Place::kHandler || place == Place::kOutcomeHandler ||
           place == Place::kManualHandler || place == Place::kFilter ||
           place == Place::kIdempotency || place == Place::kKey;
}

struct Depth {
    explicit Depth(Place place)
        : handlers(static_cast<int>(IsAroundHandler(place))),
          posts(static_cast<int>(place == Place::kExecutor)) {
        ++t_depth;
        t_handlers += handlers;
        t_posts += posts;
    }
    ~Depth() {
        --t_depth;
        t_handlers -= handlers;
        t_posts -= posts;
    }
    const int handlers;
    const int posts;
};

[[noreturn]] void ThrowSomething() {
    switch (Pick(5)) {
        case 0:
            throw std::runtime_error("thrown by the application");
        case 1:
            throw 42;
        case 2:
            throw RetryLater(milliseconds(Pick(30)), "the application wants it later");
        case 3:
            throw Reject("the application wants it never");
        default:
            throw std::string("no std::exception");
    }
}

class VisitingFilter final : public Filter {
public:
    explicit VisitingFilter(std::weak_ptr<World> world) : world_(std::move(world)) {}
    HandlerOutcome Handle(DeliveryContext&, Next& next) override {
        const auto world = world_.lock();
        if (world == nullptr) {
            return next();
        }
        world->Enter(Place::kFilter);
        world->Visit(Place::kFilter);
        if (OneIn(40)) {
            return HandlerOutcome::Retry(milliseconds(Pick(20)), "answered by a filter");
        }
        HandlerOutcome outcome = next();
        if (OneIn(4)) {
            world->Visit(Place::kFilter);
        }
        return outcome;
    }
    void OnSettled(DeliveryContext&, const HandlerOutcome&) override {
        if (const auto world = world_.lock()) {
            world->Enter(Place::kFilter);
            world->Visit(Place::kFilter);
        }
    }

private:
    const std::weak_ptr<World> world_;
};

class VisitingStore final : public IdempotencyStore {
public:
    explicit VisitingStore(std::weak_ptr<World> world) : world_(std::move(world)) {}
    Result<Claim> Start(std::string_view key, milliseconds lease) override {
        Visit();
        return store_->Start(key, lease);
    }
    Status Renew(const Claim& claim) override {
        Visit();
        return store_->Renew(claim);
    }
    Status Finish(const Claim& claim) override {
        Visit();
        return store_->Finish(claim);
    }
    Status Abandon(const Claim& claim) override {
        Visit();
        return store_->Abandon(claim);
    }

private:
    void Visit() {
        if (const auto world = world_.lock()) {
            world->Enter(Place::kIdempotency);
            world->Visit(Place::kIdempotency);
        }
    }
    const std::weak_ptr<World> world_;
    const std::shared_ptr<IdempotencyStore> store_ = MakeMemoryIdempotencyStore();
};

}  // namespace

std::mt19937_64& Chance() {
    static std::atomic<std::uint64_t> next{1};
    thread_local std::mt19937_64 engine{next.fetch_add(1) * 0x9e3779b97f4a7c15ULL};
    return engine;
}

void World::Enter(Place place) {
    const std::int64_t ended = ended_at_.load(std::memory_order_acquire);
    if (ended == 0) {
        return;
    }
    const auto late = Clock::now().time_since_epoch().count() - ended;
    // What had begun when a shutdown gave up waiting may not have come this far before it returned.
    if (!may_leave_running_ || late > 1'000'000'000) {
        Problem(std::string("called after the end: ") + ToString(place) + ", ended by " +
                ToString(options_.ending) + " in " + ToString(options_.ending_place));
    }
}

Thing World::Choose(Place place) const {
    const bool may_block = t_posts == 0;
    if (armed_ && place == options_.ending_place && !ending_ &&
        (may_block || !Blocks(options_.ending))) {
        return options_.ending;
    }
    for (;;) {
        const auto thing = static_cast<Thing>(Pick(kThingCount));
        // Once somebody ends the client others join in; few destroy it, so that it is still there
        // for the place that comes last.
        const std::uint64_t rarity = thing == Thing::kDestroyClient ? 20 : 3;
        if (!IsAllowed(place, thing) || (!may_block && Blocks(thing)) ||
            (IsEnding(thing) && !(ending_ && OneIn(rarity)))) {
            continue;
        }
        return thing;
    }
}

void World::Visit(Place place) {
    if (t_depth >= kDeepest || teardown_ || !IsAllowed(place, Thing::kSend)) {
        return;
    }
    const bool due = armed_ && place == options_.ending_place && !ending_;
    if (!due && place != Place::kThread && place != Place::kShutdownCallback && OneIn(3)) {
        return;
    }
    const Depth depth(place);
    const Inside inside(inside_);
    const int things = place == Place::kShutdownCallback ? 14 : 1;
    for (int i = 0; i < things; ++i) {
        for (int tries = 0; tries < 8; ++tries) {
            // The last of many there, or the others would find no client.
            const bool destroys = things > 1 && i == things - 1 && tries == 0 && OneIn(2);
            const Thing thing = destroys ? Thing::kDestroyClient : Choose(place);
            if (thing == Thing::kThrow) {
                pairs_.Count(place, thing);
                ThrowSomething();
            }
            if (Do(place, thing)) {
                pairs_.Count(place, thing);
                break;
            }
        }
    }
}

World::Capture::~Capture() {
    world->Visit(Place::kDestructor);
}

std::shared_ptr<World::Capture> World::MaybeCapture() {
    return OneIn(6) ? std::make_shared<Capture>(shared_from_this()) : nullptr;
}

namespace {

/// Handlers' threads, with the application inside of `Post`.
class VisitingExecutor final : public Executor {
public:
    VisitingExecutor(Executor& to, World& world) : to_(to), world_(world) {}
    bool Post(Task task) override {
        if (!world_.InTeardown()) {
            world_.Visit(Place::kExecutor);
        }
        return !OneIn(50) && to_.Post(std::move(task));
    }
    TimerId PostAt(TimePoint when, Task task) override { return to_.PostAt(when, std::move(task)); }
    bool Cancel(TimerId timer) override { return to_.Cancel(timer); }

private:
    Executor& to_;
    World& world_;
};

}  // namespace

World::World(WorldOptions options, PairTable& pairs, Problems& problems, Watchdog& watchdog)
    : options_(std::move(options)),
      pairs_(pairs),
      problems_(problems),
      watchdog_(watchdog),
      pool_(std::make_unique<ThreadPool>(ThreadPoolOptions{.threads = 2, .name = "app"})),
      executor_(std::make_unique<VisitingExecutor>(*pool_, *this)) {}

ClientOptions World::MakeClientOptions() {
    ClientOptions options;
    options.uri = options_.uri;
    options.app_code = "anything";
    options.transports = {options_.transport};
    options.handler_threads = 1 + Pick(4);
    options.inline_callbacks = OneIn(3);
    inline_callbacks_ = options.inline_callbacks;
    options.initial_reconnect_backoff = milliseconds(5);
    options.max_reconnect_backoff = milliseconds(100);
    options.route_refresh = milliseconds(1'000);
    options.filters = {std::make_shared<VisitingFilter>(weak_from_this())};
    // The log is the one thing that a client has before it is made.
    options.log = [weak = weak_from_this()](auto&&...) {
        if (const auto world = weak.lock()) {
            world->Enter(Place::kLogSink);
            world->Visit(Place::kLogSink);
        }
    };
    return options;
}

bool World::MakeProducer() {
    const auto client = this->client();
    if (client == nullptr) {
        return false;
    }
    ProducerOptions options;
    options.max_pending_count = 50 + Pick(200);
    options.max_pending_bytes = std::size_t{1} << 20;
    options.max_in_flight_frames = static_cast<std::uint32_t>(1 + Pick(8));
    options.when_full = OneIn(2) ? WhenFull::kBlock : WhenFull::kFail;
    options.timeout = milliseconds(100 + Pick(400));
    options.initial_backoff = milliseconds(2);
    options.max_backoff = milliseconds(50);
    Result<Producer> made = client->client.MakeProducer(options);
    if (!made.ok()) {
        return true;  // It was shut down, which it says.
    }
    auto box = std::make_shared<ProducerBox>();
    box->producer = *made;
    box->most_pending = static_cast<std::int64_t>(options.max_pending_count);
    const std::lock_guard lock(mutex_);
    if (producers_.size() < 4) {
        producers_.push_back(box);
        all_producers_.push_back(box);
    }
    return true;
}

bool World::InsideHandler() {
    return t_handlers > 0;
}

void World::HandleIn(SubscriptionBox& box, Place place) {
    Enter(place);
    if (box.closed && !teardown_) {
        Problem(std::string("called after Close had returned: ") + ToString(place));
    }
    problems_.Count("messages handled");
    Visit(place);
}

bool World::MakeSubscription() {
    const auto client = this->client();
    if (client == nullptr) {
        return false;
    }
    SubscriptionOptions options;
    options.subject = "s" + std::to_string(Pick(4));
    options.group = "g" + std::to_string(Pick(3));
    options.start = StartPosition::kEarliest;
    options.parallelism = static_cast<std::uint32_t>(1 + Pick(4));
    options.prefetch_count = static_cast<std::uint32_t>(1 + Pick(100));
    options.prefetch_bytes = 1U << 20;
    options.ack_timeout = milliseconds(1'000);
    options.retry.initial_backoff = milliseconds(1);
    options.retry.max_backoff = milliseconds(50);
    options.retry.max_attempts = 5;
    options.at_most_once = OneIn(6);
    if (OneIn(2)) {
        options.filters = {std::make_shared<VisitingFilter>(weak_from_this())};
    }
    if (!options.at_most_once && OneIn(2)) {
        options.idempotency = std::make_shared<VisitingStore>(weak_from_this());
        options.idempotency_key = [weak = weak_from_this()](const Message& message) {
            if (const auto world = weak.lock()) {
                world->Enter(Place::kKey);
                world->Visit(Place::kKey);
            }
            return std::string(message.id());
        };
    }
    if (OneIn(3)) {
        options.executor = executor_.get();
    }
    auto box = std::make_shared<SubscriptionBox>();
    auto self = shared_from_this();
    auto capture = MaybeCapture();
    Result<Subscription> made = Status::Internal("not made");
    switch (Pick(3)) {
        case 0:
            made = client->client.Subscribe(std::move(options),
                                            [self, box, capture](const Message&) -> void {
                                                self->HandleIn(*box, Place::kHandler);
                                            });
            break;
        case 1:
            made = client->client.Subscribe(
                std::move(options), [self, box, capture](const Message&) -> HandlerOutcome {
                    self->HandleIn(*box, Place::kOutcomeHandler);
                    switch (Pick(6)) {
                        case 0:
                            return HandlerOutcome::Retry(milliseconds(1), "again");
                        case 1:
                            return HandlerOutcome::DeadLetter("never");
                        case 2:
                            return HandlerOutcome::Later(milliseconds(5), "later");
                        default:
                            return HandlerOutcome::Ack();
                    }
                });
            break;
        default:
            made = client->client.Subscribe(std::move(options),
                                            [self, box, capture](Delivery delivery) -> void {
                                                if (!OneIn(3)) {
                                                    std::vector<Delivery> one;
                                                    one.push_back(std::move(delivery));
                                                    self->Keep(std::move(one));
                                                }
                                                self->HandleIn(*box, Place::kManualHandler);
                                            });
    }
    if (made.ok()) {
        const std::lock_guard lock(mutex_);
        box->subscription = *std::move(made);
        subscriptions_.push_back(std::move(box));
    }
    return true;
}

bool World::MakePuller() {
    const auto client = this->client();
    if (client == nullptr) {
        return false;
    }
    PullConsumerOptions options;
    options.subject = "s" + std::to_string(Pick(4));
    options.group = "p" + std::to_string(Pick(2));
    options.start = StartPosition::kEarliest;
    options.ack_timeout = milliseconds(1'000);
    options.retry.initial_backoff = milliseconds(1);
    options.max_unacked_count = static_cast<std::uint32_t>(1 + Pick(100));
    Result<PullConsumer> made = client->client.MakePullConsumer(options);
    if (made.ok()) {
        const std::lock_guard lock(mutex_);
        pullers_.push_back(std::make_shared<PullConsumer>(*made));
    }
    return true;
}

}  // namespace qmq::border
