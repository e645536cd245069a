// What the application of a world does, from whatever place.

#include <algorithm>
#include <optional>
#include <utility>

#include "tests/border/world.h"

namespace qmq::border {

using std::chrono::milliseconds;

namespace {

constexpr std::size_t kMostKept = 64;

/// What stays of each kind for the place that comes last, as nothing new is made once the client
/// ends.
std::size_t LeftFor(Place place) {
    return place == Place::kShutdownCallback ? 0 : 2;
}

Message AnyMessage() {
    const std::uint64_t size = OneIn(50) ? Pick(100'000) : Pick(500);
    Message message("s" + std::to_string(Pick(4)));
    message.SetBody(std::string(size, 'x'));
    if (OneIn(3)) {
        message.AddTag("t" + std::to_string(Pick(3)));
    }
    return message;
}

/// What `co_await` waits on. `executor` resumes; null: the callback thread.
SendAwaiter AwaiterOf(const SendFuture& future, Executor* executor) {
    if (executor == nullptr) {
        return future.operator co_await();
    }
    return future.On(*executor);
}

/// Takes any one out of `from`, which the caller has locked.
template <typename T>
std::optional<T> TakeAny(std::vector<T>& from) {
    if (from.empty()) {
        return std::nullopt;
    }
    std::swap(from[Pick(from.size())], from.back());
    std::optional<T> taken(std::move(from.back()));
    from.pop_back();
    return taken;
}

}  // namespace

bool World::Do(Place place, Thing thing) {
    switch (thing) {
        case Thing::kSend:
        case Thing::kSendCallback:
        case Thing::kSendAwait:
        case Thing::kSendGet:
        case Thing::kSendWait:
        case Thing::kSendRefused:
        case Thing::kFlush:
            return DoSend(thing);
        case Thing::kMakeProducer:
        case Thing::kDropProducer:
        case Thing::kWaitReady:
            return DoProducer(place, thing);
        case Thing::kSubscribe:
        case Thing::kClose:
        case Thing::kDropSubscription:
        case Thing::kPause:
        case Thing::kStats:
            return DoSubscription(place, thing);
        case Thing::kMakePuller:
        case Thing::kPull:
        case Thing::kPullAsync:
        case Thing::kClosePuller:
        case Thing::kDropPuller:
            return DoPull(place, thing);
        case Thing::kAck:
        case Thing::kNack:
        case Thing::kRetryIn:
        case Thing::kReject:
        case Thing::kDropDelivery:
            return DoDelivery(place, thing);
        case Thing::kBlock:
            std::this_thread::sleep_for(milliseconds(OneIn(30) ? 150 : 1 + Pick(10)));
            return true;
        case Thing::kThrow:
            return false;  // The place does it.
        case Thing::kDestroyCoroutine:
            return DestroyCoroutine();
        case Thing::kShutdown:
        case Thing::kShutdownAsync:
        case Thing::kDestroyClient:
            return DoEnd(place, thing);
    }
    return false;
}

SendCallback World::MakeSendCallback(const std::shared_ptr<Tally>& tally) {
    return [self = shared_from_this(), owed = Owed(tally), capture = MaybeCapture()](
               const SendReceipt& receipt) mutable {
        owed.Called();
        self->Enter(Place::kSendCallback);
        if (receipt.ok()) {
            self->problems_.Count("messages persisted");
        }
        self->Visit(Place::kSendCallback);
    };
}

bool World::SendCallbackTo(ProducerBox& box) {
    Message message = AnyMessage();
    const std::string body(message.body());
    SendCallback callback = MakeSendCallback(box.tally);
    const Status sent =
        OneIn(3) ? box.producer.TrySend(std::move(message), std::move(callback))
                 : box.producer.Send(
                       std::move(message), milliseconds(50 + Pick(300)), std::move(callback));
    if (sent.ok()) {
        ++box.tally->taken;
    } else {
        ++box.tally->refused;
        // NOLINTNEXTLINE(bugprone-use-after-move): what is refused is still the caller's.
        if (message.body() != body) {
            Problem("a message that was refused is not the caller's any more");
        }
    }
    if (box.tally->outstanding() > box.most_pending) {
        Problem("a producer owes more callbacks than its max_pending_count");
    }
    return true;
}

bool World::SendBad(ProducerBox& box) {
    Message message("no/subject");
    const Status sent =
        box.producer.Send(std::move(message), milliseconds(100), MakeSendCallback(box.tally));
    ++(sent.ok() ? box.tally->taken : box.tally->refused);
    return true;
}

Task0 World::AwaitSends(std::shared_ptr<World> self, Producer producer) {
    Executor* const executor = OneIn(3) ? self->pool_.get() : nullptr;
    const std::shared_ptr<Life> life = self->lives_.Add(executor == nullptr);
    // Tells of the end of the frame, however it ends.
    struct End {
        std::shared_ptr<Life> life;
        ~End() { life->ended = true; }
    } const end{life};
    for (int i = 0; i < 3; ++i) {
        const SendFuture future = producer.Send(AnyMessage(), milliseconds(50 + Pick(300)));
        // Named: g++ 12 destroys what an aggregate in a co_await expression holds twice.
        Watched<SendAwaiter> watched{AwaiterOf(future, executor), life};
        co_await watched;
        life->suspended = false;
        // Else the application's own thread is here, or its executor, which may take its time.
        if (watched.waited && executor == nullptr) {
            self->Enter(Place::kCoroutine);
        }
        self->problems_.Count("coroutines resumed");
        self->Visit(Place::kCoroutine);
    }
}

bool World::DoSend(Thing thing) {
    const auto box = AnyProducer();
    if (box == nullptr) {
        return false;
    }
    switch (thing) {
        case Thing::kSendCallback:
            return SendCallbackTo(*box);
        case Thing::kSendRefused:
            return SendBad(*box);
        case Thing::kSendAwait:
            AwaitSends(shared_from_this(), box->producer);
            return true;
        case Thing::kFlush:
            (void)box->producer.Flush(milliseconds(Pick(40)));
            return true;
        default:
            break;
    }
    SendFuture future = box->producer.Send(AnyMessage(), milliseconds(50 + Pick(150)));
    if (thing == Thing::kSendGet) {
        (void)future.Get();
    } else if (thing == Thing::kSendWait) {
        (void)future.WaitFor(milliseconds(Pick(20)));
    }
    const std::lock_guard lock(mutex_);
    if (futures_.size() >= kMostKept) {
        futures_.erase(futures_.begin());
    }
    futures_.push_back(std::move(future));
    return true;
}

bool World::DestroyCoroutine() {
    // On another thread, and so on the transport's several, one may be resumed at this moment.
    if (inline_callbacks_ || !t_resumes) {
        return false;
    }
    // Whoever ends the client may resume coroutines as well.
    const std::lock_guard lock(end_mutex_);
    return !ending_ && lives_.DestroyOne();
}

bool World::DoProducer(Place place, Thing thing) {
    switch (thing) {
        case Thing::kMakeProducer:
            return MakeProducer();
        case Thing::kDropProducer: {
            std::optional<std::shared_ptr<ProducerBox>> dropped;
            const std::lock_guard lock(mutex_);
            // One stays in any case, so that there is something to do.
            if (producers_.size() > std::max<std::size_t>(1, LeftFor(place))) {
                dropped = TakeAny(producers_);
            }
            return dropped.has_value();
        }
        default: {
            const auto box = client();
            if (box != nullptr) {
                (void)box->client.WaitReady("s" + std::to_string(Pick(4)), milliseconds(Pick(30)));
            }
            return box != nullptr;
        }
    }
}

bool World::DoSubscription(Place place, Thing thing) {
    if (thing == Thing::kSubscribe) {
        {
            const std::lock_guard lock(mutex_);
            if (subscriptions_.size() >= 6) {
                return false;
            }
        }
        return MakeSubscription();
    }
    std::shared_ptr<SubscriptionBox> box;
    std::optional<Subscription> handle;
    {
        const bool goes = thing == Thing::kClose || thing == Thing::kDropSubscription;
        const std::lock_guard lock(mutex_);
        if (subscriptions_.size() <= (goes ? LeftFor(place) : 0)) {
            return false;
        }
        const std::size_t at = Pick(subscriptions_.size());
        box = subscriptions_[at];
        handle = goes ? std::move(box->subscription) : box->subscription;
        if (goes) {
            subscriptions_.erase(subscriptions_.begin() + static_cast<std::ptrdiff_t>(at));
        }
    }
    switch (thing) {
        case Thing::kClose:
            // Inside one of its own handlers it does not wait: that one goes on.
            if (handle->Close(milliseconds(Pick(100))).ok() && !InsideHandler()) {
                box->closed = true;
            }
            return true;
        case Thing::kPause:
            OneIn(2) ? handle->Pause() : handle->Resume();
            if (OneIn(2)) {
                handle->Resume();
            }
            return true;
        case Thing::kStats:
            (void)handle->stats();
            (void)handle->warnings();
            (void)handle->WaitReady(milliseconds(OneIn(2) ? 0 : Pick(20)));
            return true;
        default:
            handle.reset();
            return true;
    }
}

void World::Keep(std::vector<Delivery> deliveries) {
    std::vector<Delivery> too_many;
    const std::lock_guard lock(mutex_);
    for (Delivery& delivery : deliveries) {
        (deliveries_.size() < kMostKept ? deliveries_ : too_many).push_back(std::move(delivery));
    }
}

bool World::DoPull(Place place, Thing thing) {
    if (thing == Thing::kMakePuller) {
        {
            const std::lock_guard lock(mutex_);
            if (pullers_.size() >= 4) {
                return false;
            }
        }
        return MakePuller();
    }
    std::shared_ptr<PullConsumer> puller = AnyPuller();
    if (puller == nullptr) {
        return false;
    }
    PullOptions options;
    options.max_messages = static_cast<std::uint32_t>(1 + Pick(20));
    options.max_wait = milliseconds(Pick(30));
    switch (thing) {
        case Thing::kPull: {
            Result<std::vector<Delivery>> pulled = puller->Pull(options);
            if (pulled.ok()) {
                Keep(std::move(*pulled));
            }
            return true;
        }
        case Thing::kPullAsync: {
            const Status taken = puller->PullAsync(
                options,
                [self = shared_from_this(), owed = Owed(pulls_), capture = MaybeCapture()](
                    Result<std::vector<Delivery>> got) mutable {
                    owed.Called();
                    self->Enter(Place::kPullCallback);
                    if (got.ok() && !OneIn(8)) {
                        self->Keep(std::move(*got));
                    }
                    self->Visit(Place::kPullCallback);
                });
            ++(taken.ok() ? pulls_->taken : pulls_->refused);
            return true;
        }
        default: {
            const std::lock_guard lock(mutex_);
            if (pullers_.size() <= LeftFor(place) || std::erase(pullers_, puller) == 0) {
                return false;
            }
            break;
        }
    }
    if (thing == Thing::kClosePuller) {
        (void)puller->Close(milliseconds(Pick(50)));
    }
    return true;
}

UniqueFunction<void(const Status&)> World::AckCompletion() {
    if (OneIn(3)) {
        return nullptr;
    }
    ++acks_->taken;
    return [self = shared_from_this(), owed = Owed(acks_), capture = MaybeCapture()](
               const Status& status) mutable {
        owed.Called();
        self->Enter(Place::kAckCompletion);
        if (status.ok()) {
            self->problems_.Count("acks recorded");
        }
        self->Visit(Place::kAckCompletion);
    };
}

bool World::DoDelivery(Place place, Thing thing) {
    std::optional<Delivery> delivery;
    {
        const std::lock_guard lock(mutex_);
        if (deliveries_.size() > LeftFor(place)) {
            delivery = TakeAny(deliveries_);
        }
    }
    if (!delivery.has_value()) {
        return false;
    }
    switch (thing) {
        case Thing::kAck:
            delivery->Ack(AckCompletion());
            break;
        case Thing::kNack:
            delivery->Nack("the application failed", AckCompletion());
            break;
        case Thing::kRetryIn:
            delivery->RetryIn(milliseconds(Pick(50)), "later", AckCompletion());
            break;
        case Thing::kReject:
            delivery->Reject("never", AckCompletion());
            break;
        default:
            break;  // Forgotten.
    }
    if (ending_) {
        ++late_decisions_;
    }
    return true;
}

}  // namespace qmq::border
