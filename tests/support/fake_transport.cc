#include "tests/support/fake_transport.h"

#include <algorithm>

#include "tests/support/fake_groups.h"

namespace qmq::testing {

class FakeStream final : public DeliveryStream {
public:
    FakeStream(std::shared_ptr<FakeBroker> broker, std::uint64_t id)
        : broker_(std::move(broker)), id_(id) {}
    ~FakeStream() override { broker_->CloseStream(id_, Status::Cancelled("destroyed")); }
    void Grant(Credit credit) override { broker_->Grant(id_, credit); }
    void Ack(std::vector<AckItem> items, AckDone done) override {
        broker_->Ack(id_, std::move(items), std::move(done));
    }
    void Close() override {
        broker_->RunCloseHook();
        broker_->CloseStream(id_, Status::Cancelled("closed"));
    }

private:
    std::shared_ptr<FakeBroker> broker_;
    std::uint64_t id_;
};

class FakeConnection final : public BrokerConnection {
public:
    FakeConnection(std::shared_ptr<FakeBroker> broker, std::uint64_t id)
        : broker_(std::move(broker)), id_(id) {}
    ~FakeConnection() override {
        broker_->CloseConnection(id_, Status::Cancelled("the connection was destroyed"));
    }
    void Send(std::vector<SendBatch> batches, SendDone done) override {
        broker_->Send(id_, std::move(batches), std::move(done));
    }
    std::unique_ptr<DeliveryStream> Subscribe(SubscribeRequest request,
                                              std::shared_ptr<DeliveryListener> listener) override {
        return std::make_unique<FakeStream>(
            broker_, broker_->Subscribe(id_, std::move(request), std::move(listener)));
    }
    void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) override {
        done(Status::Unimplemented("not in the fake"));
    }
    void ListGroups(std::string,
                    UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) override {
        done(Status::Unimplemented("not in the fake"));
    }
    void ResetGroup(std::string,
                    std::string,
                    StartPosition,
                    UniqueFunction<void(Status)> done) override {
        done(Status::Unimplemented("not in the fake"));
    }

private:
    std::shared_ptr<FakeBroker> broker_;
    std::uint64_t id_;
};

class FakeTransport final : public Transport {
public:
    explicit FakeTransport(FakeCluster& cluster) : cluster_(cluster) {}
    void Discover(DiscoverRequest request,
                  TimePoint,
                  UniqueFunction<void(Result<Route>)> done) override {
        cluster_.Discover(std::move(request), std::move(done));
    }
    std::unique_ptr<BrokerConnection> Connect(
        const BrokerGroup& group, std::shared_ptr<ConnectionListener> listener) override {
        return cluster_.broker(group.name).Connect(std::move(listener));
    }

private:
    FakeCluster& cluster_;
};

namespace {

class FakeFactory final : public TransportFactory {
public:
    explicit FakeFactory(FakeCluster& cluster) : cluster_(cluster) {}
    std::vector<std::string> Schemes() const override { return {"fake"}; }
    Result<std::unique_ptr<Transport>> Make(const std::string& uri,
                                            const TransportContext&) override {
        if (uri != "fake:") {
            return Status::InvalidArgument("uri \"" + uri + "\": the fake takes \"fake:\"");
        }
        return std::unique_ptr<Transport>(std::make_unique<FakeTransport>(cluster_));
    }

private:
    FakeCluster& cluster_;
};

}  // namespace

void FakeBroker::Run(Calls calls) {
    for (Task& call : calls) {
        if (executor_ != nullptr) {
            (void)executor_->Post(std::move(call));
        } else {
            call();
        }
    }
}

std::unique_ptr<BrokerConnection> FakeBroker::Connect(
    std::shared_ptr<ConnectionListener> listener) {
    std::uint64_t id = 0;
    Calls calls;
    {
        std::lock_guard lock(mutex_);
        ++connect_count_;
        id = next_id_++;
        if (!connect_error_.ok()) {
            calls.push_back([listener, why = connect_error_] { listener->OnClosed(why); });
        } else {
            connections_[id] = {std::move(listener), false};
            calls = MakeReady();
        }
    }
    auto connection = std::make_unique<FakeConnection>(shared_from_this(), id);
    Run(std::move(calls));
    return connection;
}

FakeBroker::Calls FakeBroker::MakeReady() {
    Calls calls;
    for (auto& [id, connection] : connections_) {
        if (connectable_ && !connection.ready) {
            connection.ready = true;
            calls.push_back([listener = connection.listener] { listener->OnReady(); });
        }
    }
    return calls;
}

void FakeBroker::SetConnectable(bool connectable) {
    Calls calls;
    {
        std::lock_guard lock(mutex_);
        connectable_ = connectable;
        calls = MakeReady();
    }
    Run(std::move(calls));
}

void FakeBroker::SetConnectError(Status status) {
    std::lock_guard lock(mutex_);
    connect_error_ = std::move(status);
}
void FakeBroker::SetHoldSends(bool hold) {
    std::lock_guard lock(mutex_);
    hold_sends_ = hold;
}
void FakeBroker::SetSendHook(SendHook hook) {
    std::lock_guard lock(mutex_);
    send_hook_ = std::move(hook);
}
void FakeBroker::SetCloseHook(std::function<void()> hook) {
    std::lock_guard lock(mutex_);
    close_hook_ = std::move(hook);
}
void FakeBroker::RunCloseHook() {
    std::function<void()> hook;
    {
        std::lock_guard lock(mutex_);
        hook = close_hook_;
    }
    if (hook) {
        hook();
    }
}
void FakeBroker::SetHoldAcks(bool hold) {
    std::lock_guard lock(mutex_);
    hold_acks_ = hold;
}
void FakeBroker::SetAckError(Status status) {
    std::lock_guard lock(mutex_);
    ack_error_ = std::move(status);
}
void FakeBroker::SetKeepHeld(bool keep) {
    std::lock_guard lock(mutex_);
    keep_held_ = keep;
}

void FakeBroker::SetWarnings(std::vector<std::string> warnings) {
    std::lock_guard lock(mutex_);
    warnings_ = std::move(warnings);
}

std::vector<BatchReceipt> FakeBroker::Store(const std::vector<SendBatch>& batches) {
    std::vector<BatchReceipt> receipts;
    for (const SendBatch& batch : batches) {
        std::optional<BatchReceipt> scripted = send_hook_ ? send_hook_(batch) : std::nullopt;
        if (scripted.has_value()) {
            receipts.push_back(*scripted);
            continue;
        }
        const Result<BatchView> view = BatchView::Parse(
            batch.batch.bytes(), BatchLimits{.max_batch_bytes = Message::kMaxMessageBytes});
        if (!view.ok()) {
            receipts.push_back({view.status(), SendOutcome::kRefused, Durability::kDefault, 0});
            continue;
        }
        std::uint64_t& next = next_sequence_[batch.subject];
        receipts.push_back({Status::Ok(), SendOutcome::kPersisted, Durability::kMemory, next});
        next += view->count();
        auto heads = view->begin_heads();
        while (const auto head = heads.Next()) {
            const std::string_view body = view->body().substr(head->offset, head->bytes);
            stored_.push_back({batch.subject,
                               std::string(head->id),
                               MakeBatchHeader(1, body) + std::string(body),
                               false});
        }
    }
    return receipts;
}

void FakeBroker::Send(std::uint64_t connection, std::vector<SendBatch> batches, SendDone done) {
    Calls calls;
    {
        std::lock_guard lock(mutex_);
        frame_sizes_.push_back(batches.size());
        if (!connections_.contains(connection)) {
            calls.push_back([done = std::move(done), count = batches.size()]() mutable {
                done(std::vector<BatchReceipt>(count,
                                               {Status::Unavailable("the connection is closed"),
                                                SendOutcome::kRefused,
                                                Durability::kDefault,
                                                0}));
            });
        } else if (hold_sends_) {
            held_frames_.push_back({connection, std::move(batches), std::move(done)});
        } else {
            calls.push_back([done = std::move(done), receipts = Store(batches)]() mutable {
                done(std::move(receipts));
            });
            Pump(&calls);
        }
    }
    Run(std::move(calls));
}

bool FakeBroker::AnswerHeld() {
    Calls calls;
    {
        std::lock_guard lock(mutex_);
        if (held_frames_.empty()) {
            return false;
        }
        HeldFrame frame = std::move(held_frames_.front());
        held_frames_.pop_front();
        calls.push_back([done = std::move(frame.done), receipts = Store(frame.batches)]() mutable {
            done(std::move(receipts));
        });
        Pump(&calls);
    }
    Run(std::move(calls));
    return true;
}

std::uint64_t FakeBroker::Subscribe(std::uint64_t connection,
                                    SubscribeRequest request,
                                    std::shared_ptr<DeliveryListener> listener) {
    Calls calls;
    std::uint64_t id = 0;
    {
        std::lock_guard lock(mutex_);
        id = next_id_++;
        subscribes_.push_back(request);
        if (!connections_.contains(connection)) {
            calls.push_back([listener] {
                listener->OnClosed(Status::Unavailable("the connection is closed"));
            });
        } else {
            Group& group = groups_[{request.key.subject, request.key.group}];
            auto& held = group.held[request.key.consumer_id];
            std::uint64_t& next = group.next_sequence[request.key.consumer_id];
            std::uint64_t held_below = next;
            const bool keep = keep_held_ && request.resume.has_value();
            const std::uint64_t arrived = keep ? request.resume->next_pull_sequence : 0;
            held_below = keep ? std::min(next, arrived) : 0;
            for (auto it = held.lower_bound(held_below); it != held.end(); it = held.erase(it)) {
                group.again.push_back({it->second.index, it->second.attempt + 1});
            }
            if (!keep_held_) {
                next = 0;  // Numbers are used again: the hardest case for a client.
            }
            calls.push_back([listener, reply = SubscribeReply{1, held_below, warnings_}] {
                listener->OnSubscribed(reply);
            });
            streams_[id] = {std::move(request), std::move(listener), connection, 0, 0};
        }
    }
    Run(std::move(calls));
    return id;
}

void FakeBroker::Pump(Calls* calls) {
    for (auto& [id, stream] : streams_) {
        Group& group = groups_[{stream.request.key.subject, stream.request.key.group}];
        auto& held = group.held[stream.request.key.consumer_id];
        std::uint64_t& sequence = group.next_sequence[stream.request.key.consumer_id];
        std::vector<DeliveredBatch> batches;
        while (stream.messages > 0 && stream.bytes > 0) {
            std::optional<Pending> pending;
            if (!group.again.empty()) {
                pending = group.again.front();
                group.again.pop_front();
            }
            while (!pending.has_value() && group.next < stored_.size()) {
                if (stored_[group.next].subject == stream.request.key.subject) {
                    pending = Pending{group.next, 1};
                }
                ++group.next;
            }
            if (!pending.has_value()) {
                break;
            }
            const StoredMessage& message = stored_[pending->index];
            DeliveredBatch batch;
            batch.first_pull_sequence = sequence;
            batch.first_sequence = pending->index;
            batch.count = 1;
            batch.attempt = pending->attempt;
            batch.from_retry = pending->attempt > 1;
            batch.body = Slice::Own(message.batch);
            stream.messages -= 1;
            stream.bytes -= static_cast<std::int64_t>(message.batch.size());
            held[sequence++] = *pending;
            batches.push_back(std::move(batch));
        }
        if (!batches.empty()) {
            calls->push_back([listener = stream.listener, batches = std::move(batches)]() mutable {
                listener->OnDelivery(std::move(batches));
            });
        }
    }
}

void FakeBroker::Grant(std::uint64_t stream, Credit credit) {
    Calls calls;
    {
        std::lock_guard lock(mutex_);
        auto found = streams_.find(stream);
        if (found == streams_.end()) {
            return;
        }
        granted_ += credit.messages;
        found->second.messages += credit.messages;
        found->second.bytes += static_cast<std::int64_t>(credit.bytes);
        Pump(&calls);
    }
    Run(std::move(calls));
}

void FakeBroker::ApplyAck(Stream& stream, const AckItem& item, AckReply* reply) {
    Group& group = groups_[{stream.request.key.subject, stream.request.key.group}];
    auto& held = group.held[stream.request.key.consumer_id];
    for (std::uint64_t sequence = item.first; sequence <= item.last; ++sequence) {
        auto found = held.find(sequence);
        if (found == held.end()) {
            if (item.verdict != AckVerdict::kBegin) {
                reply->AddNotHeld({sequence, sequence});
            }
            continue;
        }
        const Pending pending = found->second;
        switch (item.verdict) {
            case AckVerdict::kRenew:
            case AckVerdict::kBegin:
                continue;
            case AckVerdict::kAck:
                ++acked_count_;
                break;
            case AckVerdict::kRetry:
                if (pending.attempt >= stream.request.retry.max_attempts) {
                    dead_letters_.emplace_back(stored_[pending.index].id, item.error);
                } else {
                    group.again.push_back({pending.index, pending.attempt + 1});
                }
                break;
            case AckVerdict::kDeadLetter:
                dead_letters_.emplace_back(stored_[pending.index].id, item.error);
                break;
            case AckVerdict::kRelease:
                group.again.push_back(pending);
                break;
        }
        held.erase(found);
    }
}

void FakeBroker::Ack(std::uint64_t stream, std::vector<AckItem> items, AckDone done) {
    Calls calls;
    {
        std::lock_guard lock(mutex_);
        auto found = streams_.find(stream);
        if (found == streams_.end()) {
            calls.push_back([done = std::move(done)]() mutable {
                done(Status::Unavailable("the stream is closed"));
            });
        } else if (!ack_error_.ok()) {
            calls.push_back([done = std::move(done), why = ack_error_]() mutable { done(why); });
        } else {
            AckReply reply;
            for (const AckItem& item : items) {
                acks_.push_back(item);
                ApplyAck(found->second, item, &reply);
            }
            if (hold_acks_) {
                held_acks_.push_back({found->second.connection, std::move(done)});
            } else {
                calls.push_back([done = std::move(done), reply = std::move(reply)]() mutable {
                    done(std::move(reply));
                });
            }
            Pump(&calls);
        }
    }
    Run(std::move(calls));
}

void FakeBroker::CloseStream(std::uint64_t stream, const Status& why) {
    Calls calls;
    {
        std::lock_guard lock(mutex_);
        auto found = streams_.find(stream);
        if (found == streams_.end()) {
            return;
        }
        const SubscribeRequest& request = found->second.request;
        Group& group = groups_[{request.key.subject, request.key.group}];
        for (const auto& [sequence, pending] : group.held[request.key.consumer_id]) {
            group.again.push_back({pending.index, pending.attempt + 1});
        }
        group.held[request.key.consumer_id].clear();
        calls.push_back([listener = found->second.listener, why] { listener->OnClosed(why); });
        streams_.erase(found);
        Pump(&calls);
    }
    Run(std::move(calls));
}

void FakeBroker::CloseLocked(std::uint64_t id, const Status& why, Calls* calls) {
    auto connection = connections_.find(id);
    if (connection == connections_.end()) {
        return;
    }
    for (auto it = held_frames_.begin(); it != held_frames_.end();) {
        if (it->connection != id) {
            ++it;
            continue;
        }
        calls->push_back([done = std::move(it->done), count = it->batches.size(), why]() mutable {
            done(std::vector<BatchReceipt>(count,
                                           {why, SendOutcome::kUnknown, Durability::kDefault, 0}));
        });
        it = held_frames_.erase(it);
    }
    for (auto it = held_acks_.begin(); it != held_acks_.end();) {
        if (it->connection != id) {
            ++it;
            continue;
        }
        calls->push_back([done = std::move(it->done), why]() mutable { done(why); });
        it = held_acks_.erase(it);
    }
    for (auto it = streams_.begin(); it != streams_.end();) {
        if (it->second.connection != id) {
            ++it;
            continue;
        }
        calls->push_back([listener = it->second.listener, why] { listener->OnClosed(why); });
        it = streams_.erase(it);
    }
    calls->push_back([listener = connection->second.listener, why] { listener->OnClosed(why); });
    connections_.erase(connection);
}

void FakeBroker::CloseConnection(std::uint64_t connection, const Status& why) {
    Calls calls;
    {
        std::lock_guard lock(mutex_);
        CloseLocked(connection, why, &calls);
    }
    Run(std::move(calls));
}

void FakeBroker::Cut(Status why) {
    Calls calls;
    {
        std::lock_guard lock(mutex_);
        while (!connections_.empty()) {
            CloseLocked(connections_.begin()->first, why, &calls);
        }
    }
    Run(std::move(calls));
}

void FakeBroker::Append(const Message& message) {
    Calls calls;
    {
        std::lock_guard lock(mutex_);
        BatchBuilder builder;
        const std::string id = "stored-" + std::to_string(stored_.size());
        builder.Add(message, id, WallTime(std::chrono::hours(1)));
        stored_.push_back({std::string(message.subject()),
                           message.id().empty() ? id : std::string(message.id()),
                           builder.Finish(),
                           false});
        Pump(&calls);
    }
    Run(std::move(calls));
}

void FakeBroker::AppendUndecodable(const std::string& subject) {
    Calls calls;
    {
        std::lock_guard lock(mutex_);
        BatchBuilder builder;
        builder.Add(Message(subject).SetBody("x"), "bad", WallTime(std::chrono::hours(1)));
        std::string batch = builder.Finish();
        batch.back() = static_cast<char>(batch.back() ^ 0x55);
        stored_.push_back({subject, "bad", std::move(batch), true});
        Pump(&calls);
    }
    Run(std::move(calls));
}

void FakeBroker::AppendForGroup(const std::string& subject, const std::string& group) {
    // The name is reserved, so the message is made with one of the same length and patched.
    const std::string reserved = "qmq_consumerGroupName";
    const std::string stand_in(reserved.size(), 'Q');
    BatchBuilder builder;
    builder.Add(Message(subject).SetBody(group).Set(stand_in, group),
                "for-" + group,
                WallTime(std::chrono::hours(1)));
    std::string body = builder.Finish().substr(BatchHeader::kBytes);
    body.replace(body.find(stand_in), stand_in.size(), reserved);
    Calls calls;
    {
        std::lock_guard lock(mutex_);
        stored_.push_back({subject, "for-" + group, MakeBatchHeader(1, body) + body, false});
        Pump(&calls);
    }
    Run(std::move(calls));
}

void FakeBroker::EndLeases(std::uint64_t first, std::uint64_t last) {
    std::lock_guard lock(mutex_);
    for (auto& [key, group] : groups_) {
        for (auto& [consumer, held] : group.held) {
            for (auto it = held.lower_bound(first); it != held.end() && it->first <= last;) {
                group.again.push_back(it->second);
                it = held.erase(it);
            }
        }
    }
}

void FakeBroker::CloseStreams(const Status& why) {
    std::vector<std::uint64_t> ids;
    {
        std::lock_guard lock(mutex_);
        for (const auto& [id, stream] : streams_) {
            ids.push_back(id);
        }
    }
    for (const std::uint64_t id : ids) {
        CloseStream(id, why);
    }
}

std::vector<StoredMessage> FakeBroker::stored() const {
    std::lock_guard lock(mutex_);
    return stored_;
}
std::size_t FakeBroker::frame_count() const {
    std::lock_guard lock(mutex_);
    return frame_sizes_.size();
}
std::vector<std::size_t> FakeBroker::frame_sizes() const {
    std::lock_guard lock(mutex_);
    return frame_sizes_;
}
std::size_t FakeBroker::held_frame_count() const {
    std::lock_guard lock(mutex_);
    return held_frames_.size();
}
std::size_t FakeBroker::connect_count() const {
    std::lock_guard lock(mutex_);
    return connect_count_;
}
std::size_t FakeBroker::connection_count() const {
    std::lock_guard lock(mutex_);
    return connections_.size();
}
std::size_t FakeBroker::subscriber_count() const {
    std::lock_guard lock(mutex_);
    return streams_.size();
}
std::vector<AckItem> FakeBroker::acks() const {
    std::lock_guard lock(mutex_);
    return acks_;
}
std::uint64_t FakeBroker::acked_count() const {
    std::lock_guard lock(mutex_);
    return acked_count_;
}
std::vector<std::pair<std::string, std::string>> FakeBroker::dead_letters() const {
    std::lock_guard lock(mutex_);
    return dead_letters_;
}
std::uint64_t FakeBroker::held_count() const {
    std::lock_guard lock(mutex_);
    std::uint64_t count = 0;
    for (const auto& [key, group] : groups_) {
        for (const auto& [consumer, held] : group.held) {
            count += held.size();
        }
    }
    return count;
}
std::vector<SubscribeRequest> FakeBroker::subscribes() const {
    std::lock_guard lock(mutex_);
    return subscribes_;
}
std::uint64_t FakeBroker::granted_messages() const {
    std::lock_guard lock(mutex_);
    return granted_;
}

namespace {

/// Another broker group of the broker `name`; 0 is the idle one.
std::string Companion(const std::string& name, int number) {
    return name + "-" + std::to_string(number + 1);
}

}  // namespace

FakeBroker& FakeCluster::AddBroker(const std::string& name, bool writable) {
    std::lock_guard lock(mutex_);
    BrokerGroup group{name, "fake-" + name, true, writable};
    route_[name] = group;
    auto& broker = brokers_[name];
    if (broker == nullptr) {
        broker = std::make_shared<FakeBroker>(group, executor_);
    }
    for (int i = 1; i < g_fake_groups.per_broker; ++i) {
        const std::string other = Companion(name, i);
        route_[other] = BrokerGroup{other, "fake-" + other, true, writable};
        brokers_[other] = broker;
    }
    if (g_fake_groups.with_idle) {
        const std::string idle = Companion(name, 0);
        route_[idle] = BrokerGroup{idle, "fake-" + idle, true, false};
        brokers_[idle] = std::make_shared<FakeBroker>(route_[idle], executor_);
    }
    return *broker;
}

FakeBroker& FakeCluster::broker(const std::string& name) {
    std::lock_guard lock(mutex_);
    return *brokers_.at(name);
}

void FakeCluster::RemoveBroker(const std::string& name) {
    std::lock_guard lock(mutex_);
    route_.erase(name);
    for (int i = 0; i < g_fake_groups.per_broker; ++i) {
        route_.erase(Companion(name, i));
    }
}

void FakeCluster::SetLimits(const std::string& name, BrokerLimits limits) {
    std::lock_guard lock(mutex_);
    route_.at(name).limits = limits;
}

void FakeCluster::SetDiscoverError(Status status) {
    std::lock_guard lock(mutex_);
    discover_error_ = std::move(status);
}

void FakeCluster::SetEverySubject(bool every_subject) {
    std::lock_guard lock(mutex_);
    every_subject_ = every_subject;
}

std::size_t FakeCluster::discover_count() const {
    std::lock_guard lock(mutex_);
    return discover_count_;
}

DiscoverRequest FakeCluster::last_discover() const {
    std::lock_guard lock(mutex_);
    return last_discover_;
}

void FakeCluster::Discover(DiscoverRequest request, UniqueFunction<void(Result<Route>)> done) {
    Result<Route> answer = Route();
    {
        std::lock_guard lock(mutex_);
        ++discover_count_;
        last_discover_ = std::move(request);
        if (!discover_error_.ok()) {
            answer = discover_error_;
        } else {
            for (const auto& [name, group] : route_) {
                answer->groups.push_back(group);
            }
            answer->every_subject = every_subject_;
        }
    }
    Task call = [done = std::move(done), answer = std::move(answer)]() mutable {
        done(std::move(answer));
    };
    if (executor_ != nullptr) {
        (void)executor_->Post(std::move(call));
    } else {
        call();
    }
}

std::shared_ptr<TransportFactory> FakeCluster::factory() {
    return std::make_shared<FakeFactory>(*this);
}

}  // namespace qmq::testing
