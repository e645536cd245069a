#include "sdk/client/src/receive/consumer_stream.h"

#include <algorithm>
#include <array>
#include <utility>

#include "qmq/subject.h"

namespace qmq::internal {

namespace {

/// So many warnings are remembered as logged; then all are forgotten, and may be logged once more.
constexpr std::size_t kMostLoggedWarnings = 64;

}  // namespace

/// The transport's view of one stream: knows its consumer only while that lives, and which of its
/// streams it speaks of.
class ConsumerStream::Listener final : public DeliveryListener {
public:
    Listener(std::weak_ptr<ConsumerStream> stream, std::uint64_t generation)
        : stream_(std::move(stream)), generation_(generation) {}
    void OnSubscribed(const SubscribeReply& reply) override {
        if (auto stream = stream_.lock()) {
            stream->OnSubscribed(generation_, reply);
        }
    }
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        if (auto stream = stream_.lock()) {
            stream->OnDelivery(generation_, std::move(batches));
        }
    }
    void OnClosed(const Status& status) override {
        if (auto stream = stream_.lock()) {
            stream->OnClosed(generation_, status);
        }
    }

private:
    std::weak_ptr<ConsumerStream> stream_;
    std::uint64_t generation_;
};

ConsumerStream::ConsumerStream(std::shared_ptr<ClientRuntime> runtime,
                               std::shared_ptr<BrokerLink> link,
                               StreamConfig config,
                               std::weak_ptr<StreamOwner> owner)
    : runtime_(std::move(runtime)),
      link_(std::move(link)),
      config_(std::move(config)),
      owner_(std::move(owner)),
      subject_(config_.request.key.subject),
      half_window_(std::max<std::uint64_t>(config_.credit.least_messages / 2, 1)),
      begin_armed_(!config_.policy->has_leases()),
      books_(*config_.policy, config_.credit),
      reconnect_(runtime_->reconnect_backoff()),
      random_(runtime_->MakeRandom()),
      reopen_timer_(runtime_->work()),
      linger_timer_(runtime_->work()),
      begin_timer_(runtime_->work()),
      renew_timer_(runtime_->work()),
      delayed_timer_(runtime_->work()) {}

ConsumerStream::~ConsumerStream() {
    Discard(std::move(stream_));
}

void ConsumerStream::Start() {
    link_->AddObserver(weak_from_this());
    Sync();
}

void ConsumerStream::OnLinkUp(BrokerLink& /*link*/,
                              std::shared_ptr<BrokerConnection> /*connection*/) {
    Sync();
}

void ConsumerStream::OnLinkDown(BrokerLink& /*link*/, const Status& /*status*/) {
    // The stream's own OnClosed says what there is to say of it; the link may have none.
    TellReadiness();
}

void ConsumerStream::Discard(std::shared_ptr<DeliveryStream> stream) {
    if (stream != nullptr) {
        // Never inside a call of the transport.
        runtime_->work().Post(
            [link = link_, stream = std::move(stream)]() mutable { stream.reset(); });
    }
}

/// Lets `slot` call `fired` at `when`, unless it will do so sooner already.
void ConsumerStream::Arm(TimerSlot ConsumerStream::*slot,
                         TimePoint when,
                         void (ConsumerStream::*fired)()) {
    (this->*slot).ArmBy(when, [this, slot, fired](TimerSlot::Shot shot) {
        return [self = weak_from_this(), slot, fired, shot] {
            if (auto stream = self.lock()) {
                {
                    MutexLock lock(stream->mutex_);
                    (stream.get()->*slot).OnFired(shot);
                }
                (stream.get()->*fired)();
            }
        };
    });
}

/// Those that the executor has refused, at whatever comes next: nothing else would.
void ConsumerStream::RearmRefused() {
    struct Timer {
        TimerSlot ConsumerStream::*slot;
        void (ConsumerStream::*fired)();
    };
    static constexpr std::array kTimers = {
        Timer{&ConsumerStream::reopen_timer_, &ConsumerStream::Sync},
        Timer{&ConsumerStream::linger_timer_, &ConsumerStream::Flush},
        Timer{&ConsumerStream::begin_timer_, &ConsumerStream::OnBeginDue},
        Timer{&ConsumerStream::renew_timer_, &ConsumerStream::Renew},
        Timer{&ConsumerStream::delayed_timer_, &ConsumerStream::OnDelayedDue},
    };
    for (const Timer& timer : kTimers) {
        if ((this->*timer.slot).refused() && !closed_) {
            Arm(timer.slot, (this->*timer.slot).when(), timer.fired);
        }
    }
}

void ConsumerStream::RetryTimers() {
    MutexLock lock(mutex_);
    RearmRefused();
}

/// Subscribes when the link is up and nothing is open.
void ConsumerStream::Sync() {
    std::shared_ptr<BrokerConnection> connection = link_->connection();
    std::uint64_t generation = 0;
    SubscribeRequest request = config_.request;
    {
        MutexLock lock(mutex_);
        if (connection == nullptr || opening_ || closed_) {
            return;
        }
        opening_ = true;
        generation = ++generation_;
        reopen_timer_.Cancel();
        request.resume = resume_;
    }
    std::shared_ptr<DeliveryStream> stream = connection->Subscribe(
        std::move(request), std::make_shared<Listener>(weak_from_this(), generation));
    {
        MutexLock lock(mutex_);
        if (generation == generation_ && !closed_) {
            stream_ = std::move(stream);
            books_.credit().OnNewStream();
        }
    }
    if (stream != nullptr) {
        Discard(std::move(stream));  // Closed already.
        return;
    }
    Flush();
    TellRoom();
}

/// Those that were not logged yet.
std::vector<std::string> ConsumerStream::TakeWarnings(const std::vector<std::string>& warnings) {
    warnings_ = warnings;
    std::vector<std::string> fresh;
    for (const std::string& warning : warnings) {
        if (logged_warnings_.size() >= kMostLoggedWarnings) {
            logged_warnings_.clear();
        }
        if (logged_warnings_.insert(warning).second) {
            fresh.push_back(warning);
        }
    }
    return fresh;
}

std::string ConsumerStream::Name() const {
    return "subject " + subject_ + ", group " + config_.request.key.group + ", broker group " +
           broker_group();
}

void ConsumerStream::OnSubscribed(std::uint64_t generation, const SubscribeReply& reply) {
    News news;
    std::vector<std::string> warnings;
    {
        MutexLock lock(mutex_);
        if (generation != generation_) {
            return;
        }
        const TimePoint now = runtime_->Now();
        warnings = TakeWarnings(reply.warnings);
        live_ = true;
        last_error_ = Status::Ok();
        reconnect_.OnUp(now);
        Collect();
        books_.OnResumed(reply.held_below, &news);
        if (leases_over(now)) {
            (void)GiveUpLeases(now);
        }
        if (books_.any_leased()) {
            // The broker has just said which numbers are still ours. Which of these it holds (some
            // leases may have ended meanwhile) a renewal tells.
            SetLeasesUntil(now + config_.request.ack_timeout);
            Arm(&ConsumerStream::renew_timer_, now, &ConsumerStream::Renew);
        }
        const std::uint64_t next = resume_.has_value() ? resume_->next_pull_sequence : 0;
        resume_ = {reply.incarnation, std::min(next, reply.held_below)};
    }
    for (const std::string& warning : warnings) {
        runtime_->log().Warning(Name() + ": " + warning);
    }
    Tell(std::move(news));
    Flush();
    TellRoom();
    TellConfirmed();
    TellReadiness();
}

/// Empty when it is not worth a line.
std::string ConsumerStream::WhyClosed(const Status& status) const {
    if (status.code() == StatusCode::kUnavailable) {
        return {};
    }
    std::string line = Name() + ": " + status.ToString() + " (trying again)";
    if (status.code() == StatusCode::kAlreadyExists) {
        line +=
            "; another process uses the client id " + runtime_->client_id() + ": give each its own";
    }
    return line;
}

void ConsumerStream::OnClosed(std::uint64_t generation, const Status& status) {
    std::string line;
    std::shared_ptr<DeliveryStream> stream;
    {
        MutexLock lock(mutex_);
        if (generation != generation_ || closed_) {
            return;
        }
        Collect();
        opening_ = false;
        stream = TakeStream();
        books_.OnLost();
        last_error_ = status;
        const TimePoint when = reconnect_.OnDown(runtime_->Now(), random_);
        if (reconnect_.worth_logging()) {
            line = WhyClosed(status);
        }
        Arm(&ConsumerStream::reopen_timer_, when, &ConsumerStream::Sync);
    }
    Discard(std::move(stream));
    if (!line.empty()) {
        runtime_->log().Warning(line);
    }
    CheckClosed();
    TellReadiness();
}

/// From here on nothing of it counts.
std::shared_ptr<DeliveryStream> ConsumerStream::TakeStream() {
    ++generation_;
    live_ = false;
    return std::exchange(stream_, nullptr);
}

void ConsumerStream::SetAccepting(std::uint64_t version, bool accepting) {
    {
        MutexLock lock(mutex_);
        if (version < accepting_version_) {
            return;
        }
        accepting_version_ = version;
        accepting_ = accepting;
    }
    Flush();
}

void ConsumerStream::SetCreditLimits(const CreditWindow::Limits& limits) {
    {
        MutexLock lock(mutex_);
        books_.credit().SetLimits(limits);
    }
    Flush();
}

void ConsumerStream::BeginClose(Task closed) {
    MarkClosing(std::move(closed));
    GoOnClosing();
}

void ConsumerStream::MarkClosing(Task closed) {
    MutexLock lock(mutex_);
    closing_ = true;
    on_closed_ = std::move(closed);
}

void ConsumerStream::GoOnClosing() {
    std::vector<DelayedReleases::Entry> delayed;
    {
        MutexLock lock(mutex_);
        if (!closing_) {
            return;  // Taken back.
        }
        delayed = books_.TakeDelayed(TimePoint::max());
    }
    Release(std::move(delayed));
    Flush();
}

void ConsumerStream::CancelClose() {
    MutexLock lock(mutex_);
    if (!closed_) {
        closing_ = false;
        on_closed_ = nullptr;
    }
}

/// The end of `BeginClose`, when nothing is held, decided or unconfirmed.
void ConsumerStream::CheckClosed() {
    std::shared_ptr<DeliveryStream> stream;
    Task closed;
    {
        MutexLock lock(mutex_);
        if (!closing_ || !on_closed_ || !books_.empty()) {
            return;
        }
        closed = std::exchange(on_closed_, nullptr);
        closed_ = true;
        stream = TakeStream();
        CancelTimers();
    }
    if (stream != nullptr) {
        stream->Close();
        Discard(std::move(stream));
    }
    closed();
}

void ConsumerStream::CancelTimers() {
    linger_timer_.Cancel();
    begin_timer_.Cancel();
    renew_timer_.Cancel();
    delayed_timer_.Cancel();
    reopen_timer_.Cancel();
}

std::uint64_t ConsumerStream::Abort(const Status& why) {
    std::shared_ptr<DeliveryStream> stream;
    News news;
    std::uint64_t unconfirmed = 0;
    {
        MutexLock lock(mutex_);
        closing_ = closed_ = true;
        on_closed_ = nullptr;
        Collect();
        unconfirmed = books_.Abandon(why, &news);
        stream = TakeStream();
        CancelTimers();
    }
    Tell(std::move(news));
    if (stream != nullptr) {
        stream->Close();
        Discard(std::move(stream));
    }
    return unconfirmed;
}

std::uint64_t ConsumerStream::unconfirmed_count() const {
    MutexLock lock(mutex_);
    return books_.unconfirmed_count();
}

std::uint64_t ConsumerStream::undecided_count() const {
    return static_cast<std::uint64_t>(
        std::max<std::int64_t>(undecided_.load(std::memory_order_relaxed), 0));
}

std::uint64_t ConsumerStream::acked_count() const {
    MutexLock lock(mutex_);
    return books_.acked_count();
}

std::uint64_t ConsumerStream::failed_count() const {
    MutexLock lock(mutex_);
    return books_.failed_count();
}

std::uint64_t ConsumerStream::later_count() const {
    MutexLock lock(mutex_);
    return books_.later_count();
}

std::vector<std::string> ConsumerStream::warnings() const {
    MutexLock lock(mutex_);
    return warnings_;
}

Status ConsumerStream::ready() const {
    Status own;
    {
        MutexLock lock(mutex_);
        if (live_) {
            return Status::Ok();
        }
        own = last_error_;
    }
    const std::string context = "broker group " + broker_group();
    if (link_->connection() == nullptr) {
        const Status why = link_->last_error();
        if (!why.ok()) {
            return why.WithContext(context);
        }
    }
    return own.ok() ? Status::Unavailable(context + ": has not confirmed the subscription yet")
                    : own.WithContext(context);
}

void ConsumerStream::TellReadiness() {
    if (auto owner = owner_.lock()) {
        owner->OnReadinessChanged();
    }
}

bool ConsumerStream::live() const {
    MutexLock lock(mutex_);
    return live_;
}

std::uint64_t ConsumerStream::held_count() const {
    MutexLock lock(mutex_);
    return static_cast<std::uint64_t>(std::max<std::int64_t>(books_.credit().held_messages(), 0));
}

}  // namespace qmq::internal
