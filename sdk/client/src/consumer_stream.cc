#include "sdk/client/src/consumer_stream.h"

#include <algorithm>
#include <utility>

#include "qmq/subject.h"

namespace qmq::internal {

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
      half_window_(std::max<std::uint64_t>(config_.credit_messages / 2, 1)),
      credit_(config_.credit_messages, config_.credit_bytes),
      reconnect_(runtime_->reconnect_backoff()),
      random_(runtime_->MakeRandom()),
      reopen_timer_(runtime_->work()),
      linger_timer_(runtime_->work()),
      renew_timer_(runtime_->work()) {}

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
    // The stream's own OnClosed says what there is to say.
}

void ConsumerStream::Discard(std::shared_ptr<DeliveryStream> stream) {
    if (stream != nullptr) {
        // Never inside a call of the transport.
        runtime_->work().Post(
            [link = link_, stream = std::move(stream)]() mutable { stream.reset(); });
    }
}

SubscribeRequest ConsumerStream::MakeRequest() const {
    SubscribeRequest request = config_.request;
    request.resume = resume_;
    return request;
}

/// Subscribes when the link is up and nothing is open.
void ConsumerStream::Sync() {
    std::shared_ptr<BrokerConnection> connection = link_->connection();
    std::uint64_t generation = 0;
    SubscribeRequest request;
    {
        Lock lock(mutex_);
        if (connection == nullptr || opening_ || closed_) {
            return;
        }
        opening_ = true;
        generation = ++generation_;
        reopen_timer_.Cancel();
        request = MakeRequest();
    }
    std::shared_ptr<DeliveryStream> stream = connection->Subscribe(
        std::move(request), std::make_shared<Listener>(weak_from_this(), generation));
    {
        Lock lock(mutex_);
        if (generation != generation_ || closed_) {
            lock.unlock();
            Discard(std::move(stream));  // Closed already.
            return;
        }
        stream_ = std::move(stream);
        credit_.OnNewStream();
    }
    Flush();
    TellRoom();
}

void ConsumerStream::OnSubscribed(std::uint64_t generation, const SubscribeReply& reply) {
    Answers answers;
    {
        Lock lock(mutex_);
        if (generation != generation_) {
            return;
        }
        live_ = true;
        reconnect_.OnUp(runtime_->Now());
        Collect();
        if (!config_.at_most_once) {
            for (const auto& [first, run] : runs_) {
                if (run->range().last < reply.held_below) {
                    continue;
                }
                // Whatever is not ours any more ends here; its handler may go on, but its ack goes
                // nowhere: the number may soon be another message's.
                const SequenceRange gone{std::max(first, reply.held_below), run->range().last};
                const std::uint64_t forgotten = window_.Forget(gone);
                run->Disown(reply.held_below);
                EndMessages(*run, forgotten);
            }
            std::erase_if(runs_, [](const auto& entry) { return entry.second->finished(); });
        }
        window_.OnResumed(reply.held_below, &answers);
        const std::uint64_t next = resume_.has_value() ? resume_->next_pull_sequence : 0;
        resume_ = {reply.incarnation, std::min(next, reply.held_below)};
    }
    RunAnswers(std::move(answers));
    Flush();
    TellRoom();
}

void ConsumerStream::OnClosed(std::uint64_t generation, const Status& status) {
    std::string line;
    {
        Lock lock(mutex_);
        if (generation != generation_ || closed_) {
            return;
        }
        ++generation_;
        Collect();
        DropLocked();
        const TimePoint when = reconnect_.OnDown(runtime_->Now(), random_);
        if (reconnect_.worth_logging() && status.code() != StatusCode::kUnavailable) {
            line = "subject " + subject_ + ", group " + config_.request.key.group +
                   ", broker group " + broker_group() + ": " + status.ToString() +
                   " (trying again)";
            if (status.code() == StatusCode::kAlreadyExists) {
                line += "; another process uses the client id " + runtime_->client_id() +
                        ": give each its own";
            }
        }
        reopen_timer_.ArmBy(when, [this] {
            return [self = weak_from_this()] {
                if (auto stream = self.lock()) {
                    {
                        Lock fired(stream->mutex_);
                        stream->reopen_timer_.OnFired();
                    }
                    stream->Sync();
                }
            };
        });
    }
    if (!line.empty()) {
        runtime_->log().Warning(line);
    }
    CheckClosed();
}

void ConsumerStream::DropLocked() {
    opening_ = false;
    live_ = false;
    window_.OnLost();
    Discard(std::move(stream_));
    stream_ = nullptr;
}

void ConsumerStream::SetAccepting(bool accepting) {
    {
        Lock lock(mutex_);
        accepting_ = accepting && !closing_;
    }
    Flush();
}

void ConsumerStream::SetCreditLimits(std::uint64_t messages, std::uint64_t bytes) {
    half_window_ = std::max<std::uint64_t>(messages / 2, 1);
    {
        Lock lock(mutex_);
        credit_.SetLimits(messages, bytes);
    }
    Flush();
}

void ConsumerStream::BeginClose(Task closed) {
    {
        Lock lock(mutex_);
        accepting_ = false;
        closing_ = true;
        on_closed_ = std::move(closed);
    }
    Flush();
    CheckClosed();
}

/// The end of `BeginClose`, when nothing is held, decided or unconfirmed.
void ConsumerStream::CheckClosed() {
    std::shared_ptr<DeliveryStream> stream;
    Task closed;
    {
        Lock lock(mutex_);
        if (!closing_ || !on_closed_ || !runs_.empty() || receipt_acks_ > 0 ||
            window_.unconfirmed_count() > 0) {
            return;
        }
        closed = std::move(on_closed_);
        on_closed_ = nullptr;
        closed_ = true;
        ++generation_;
        stream = std::move(stream_);
        stream_ = nullptr;
        live_ = false;
        linger_timer_.Cancel();
        renew_timer_.Cancel();
        reopen_timer_.Cancel();
    }
    if (stream != nullptr) {
        stream->Close();
        Discard(std::move(stream));
    }
    closed();
}

ConsumerStream::Left ConsumerStream::Abort(const Status& why) {
    std::shared_ptr<DeliveryStream> stream;
    Answers answers;
    Left left;
    {
        Lock lock(mutex_);
        accepting_ = false;
        closing_ = closed_ = true;
        on_closed_ = nullptr;
        ++generation_;
        Collect();
        left.unconfirmed = window_.unconfirmed_count();
        window_.Abandon(why, &answers);
        for (const auto& [first, run] : runs_) {
            run->Disown(0);
        }
        runs_.clear();
        stream = std::move(stream_);
        stream_ = nullptr;
        live_ = false;
        linger_timer_.Cancel();
        renew_timer_.Cancel();
        reopen_timer_.Cancel();
    }
    RunAnswers(std::move(answers));
    if (stream != nullptr) {
        stream->Close();
        Discard(std::move(stream));
    }
    return left;
}

std::uint64_t ConsumerStream::unconfirmed_count() const {
    Lock lock(mutex_);
    return window_.unconfirmed_count();
}

bool ConsumerStream::live() const {
    Lock lock(mutex_);
    return live_;
}

std::uint64_t ConsumerStream::held_count() const {
    Lock lock(mutex_);
    return static_cast<std::uint64_t>(std::max<std::int64_t>(credit_.held_messages(), 0));
}

std::int64_t ConsumerStream::requested_count() const {
    Lock lock(mutex_);
    return credit_.granted_messages();
}

}  // namespace qmq::internal
