#include "tests/simulation/sim_network.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "qmq/batch.h"

namespace qmq::simulation {

namespace {

constexpr auto kRetransmit = std::chrono::milliseconds(30);

/// The client's own answer that may come from the network or from a cut, whichever is first.
template <typename T>
class Once {
public:
    explicit Once(UniqueFunction<void(T)> callback) : callback_(std::move(callback)) {}
    void Call(T value) {
        if (callback_) {
            UniqueFunction<void(T)> callback = std::move(callback_);
            callback_ = nullptr;
            callback(std::move(value));
        }
    }

private:
    UniqueFunction<void(T)> callback_;
};

Status CutStatus() {
    return Status::Unavailable("the simulated connection was cut");
}

}  // namespace

/// One connection: two directions, each a numbered stream of packets.
class SimLink : public std::enable_shared_from_this<SimLink> {
public:
    SimLink(SimNetwork& network, std::uint64_t id) : network_(network), id_(id) {}

    enum Direction : std::uint8_t { kToServer, kToClient };

    /// Carries `packet` to the other side, in order, unless the link is cut first.
    void Carry(Direction direction, Task packet) {
        if (cut_) {
            return;
        }
        const std::uint64_t number = sent_[direction]++;
        auto shared = std::make_shared<Task>(std::move(packet));
        SimNetwork& network = network_;
        Random& random = network.scheduler_.random();
        ++network.counts_.packets;
        std::chrono::nanoseconds delay = std::chrono::microseconds(20 + random.Below(200));
        while (random.Chance(network.faults_.loss)) {
            ++network.counts_.lost;
            delay += kRetransmit;
        }
        if (random.Chance(network.faults_.reordering)) {
            ++network.counts_.reordered;
            delay += std::chrono::milliseconds(1 + random.Below(5));
        }
        if (random.Chance(network.faults_.slow)) {
            ++network.counts_.slow;
            delay += std::chrono::milliseconds(random.Below(1'000));
        }
        Arrive(direction, number, shared, delay);
        if (random.Chance(network.faults_.duplication)) {
            ++network.counts_.duplicated;
            Arrive(
                direction, number, shared, delay + std::chrono::microseconds(random.Below(2'000)));
        }
    }

    /// Runs `on_cut` once when the connection is cut, a moment later: each side notices by itself.
    void OnCut(std::function<void()> on_cut) { on_cut_.push_back(std::move(on_cut)); }

    void Cut() {
        if (std::exchange(cut_, true)) {
            return;
        }
        ++network_.counts_.cuts;
        for (auto& on_cut : std::exchange(on_cut_, {})) {
            network_.wires_.PostAt(
                network_.scheduler_.Now() +
                    std::chrono::microseconds(network_.scheduler_.random().Below(5'000)),
                [on_cut = std::move(on_cut)] { on_cut(); });
        }
    }
    bool cut() const { return cut_; }
    std::uint64_t id() const { return id_; }

private:
    void Arrive(Direction direction,
                std::uint64_t number,
                const std::shared_ptr<Task>& packet,
                std::chrono::nanoseconds delay) {
        network_.wires_.PostAt(network_.scheduler_.Now() + delay,
                               [self = shared_from_this(), direction, number, packet] {
                                   self->Take(direction, number, packet);
                               });
    }

    void Take(Direction direction, std::uint64_t number, const std::shared_ptr<Task>& packet) {
        if (cut_ || number < taken_[direction]) {
            return;  // A doubled one.
        }
        early_[direction].emplace(number, packet);
        for (auto next = early_[direction].begin();
             !cut_ && next != early_[direction].end() && next->first == taken_[direction];
             next = early_[direction].begin()) {
            const std::shared_ptr<Task> task = next->second;
            early_[direction].erase(next);
            ++taken_[direction];
            (*task)();
        }
    }

    SimNetwork& network_;
    const std::uint64_t id_;
    bool cut_ = false;
    std::uint64_t sent_[2] = {0, 0};
    std::uint64_t taken_[2] = {0, 0};
    std::map<std::uint64_t, std::shared_ptr<Task>> early_[2];
    std::vector<std::function<void()>> on_cut_;
};

/// The server's end of one delivery stream: it puts what the broker says on the wire.
class ServerSink final : public broker::DeliverySink {
public:
    ServerSink(SimNetwork& network,
               ConsumerKey consumer,
               std::weak_ptr<SimLink> link,
               std::shared_ptr<DeliveryListener> listener)
        : network_(network),
          consumer_(std::move(consumer)),
          link_(std::move(link)),
          listener_(std::move(listener)) {}
    void OnSubscribed(const SubscribeReply& reply) override {
        Carry([listener = listener_, reply] { listener->OnSubscribed(reply); });
    }
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        for (DeliveredBatch& batch : batches) {
            network_.Carry(consumer_, batch);
        }
        Carry([listener = listener_, batches = std::move(batches)]() mutable {
            listener->OnDelivery(std::move(batches));
        });
    }
    void OnClosed(const Status& status) override {
        Carry([this_closed = closed_, listener = listener_, status] {
            if (!std::exchange(*this_closed, true)) {
                listener->OnClosed(status);
            }
        });
    }
    const std::shared_ptr<bool>& closed() const { return closed_; }

private:
    void Carry(Task task) {
        if (const std::shared_ptr<SimLink> link = link_.lock()) {
            link->Carry(SimLink::kToClient, std::move(task));
        }
    }
    SimNetwork& network_;
    const ConsumerKey consumer_;
    std::weak_ptr<SimLink> link_;
    std::shared_ptr<DeliveryListener> listener_;
    std::shared_ptr<bool> closed_ = std::make_shared<bool>(false);
};

class SimStream final : public DeliveryStream {
public:
    SimStream(std::shared_ptr<SimLink> link,
              std::shared_ptr<std::unique_ptr<broker::Session>> session)
        : link_(std::move(link)), session_(std::move(session)) {}
    ~SimStream() override { Close(); }

    void Grant(Credit credit) override {
        link_->Carry(SimLink::kToServer, [session = session_, credit] {
            if (*session) {
                (*session)->Grant(credit);
            }
        });
    }
    void Ack(std::vector<AckItem> items, AckDone done) override {
        auto once = std::make_shared<Once<Result<AckReply>>>(std::move(done));
        if (link_->cut()) {
            once->Call(CutStatus());
            return;
        }
        link_->OnCut([once] { once->Call(CutStatus()); });
        link_->Carry(SimLink::kToServer,
                     [link = std::weak_ptr<SimLink>(link_),
                      session = session_,
                      items = std::move(items),
                      once]() mutable {
                         const auto answer = [link, once](Result<AckReply> reply) {
                             if (const std::shared_ptr<SimLink> alive = link.lock()) {
                                 alive->Carry(SimLink::kToClient, [once, reply = std::move(reply)] {
                                     once->Call(reply);
                                 });
                             }
                         };
                         if (*session) {
                             (*session)->Ack(std::move(items), answer);
                         } else {
                             answer(Status::Cancelled("the consumer has left"));
                         }
                     });
    }
    void Close() override {
        if (std::exchange(closed_, true)) {
            return;
        }
        link_->Carry(SimLink::kToServer, [session = session_] {
            if (*session) {
                (*session)->Close();
            }
        });
    }

private:
    std::shared_ptr<SimLink> link_;
    std::shared_ptr<std::unique_ptr<broker::Session>> session_;
    bool closed_ = false;
};

class SimConnection final : public BrokerConnection {
public:
    SimConnection(SimNetwork& network, std::shared_ptr<SimLink> link)
        : network_(network), link_(std::move(link)) {}
    ~SimConnection() override { link_->Cut(); }

    void Send(std::vector<SendBatch> batches, SendDone done) override {
        auto once = std::make_shared<Once<std::vector<BatchReceipt>>>(std::move(done));
        const std::size_t count = batches.size();
        const auto unknown = [once, count] {
            once->Call(std::vector<BatchReceipt>(
                count, BatchReceipt{CutStatus(), SendOutcome::kUnknown, {}, 0}));
        };
        if (link_->cut()) {
            once->Call(std::vector<BatchReceipt>(
                count, BatchReceipt{CutStatus(), SendOutcome::kRefused, {}, 0}));
            return;
        }
        link_->OnCut(unknown);
        link_->Carry(SimLink::kToServer,
                     [this_network = &network_,
                      link = std::weak_ptr<SimLink>(link_),
                      batches = std::move(batches),
                      once]() mutable {
                         SimNetwork::Ids ids = this_network->Arrived(batches);
                         this_network->broker_->Send(
                             std::move(batches),
                             [this_network, link, once, ids = std::move(ids)](
                                 std::vector<BatchReceipt> receipts) {
                                 this_network->Answered(ids, receipts);
                                 if (const std::shared_ptr<SimLink> alive = link.lock()) {
                                     alive->Carry(SimLink::kToClient,
                                                  [once, receipts = std::move(receipts)] {
                                                      once->Call(receipts);
                                                  });
                                 }
                             });
                     });
    }

    std::unique_ptr<DeliveryStream> Subscribe(SubscribeRequest request,
                                              std::shared_ptr<DeliveryListener> listener) override {
        auto session = std::make_shared<std::unique_ptr<broker::Session>>();
        network_.sessions_.push_back(session);
        auto sink = std::make_shared<ServerSink>(network_, request.key, link_, listener);
        const auto on_cut = [closed = sink->closed(), listener, session] {
            if (*session) {
                (*session)->Detach();
                session->reset();
            }
            if (!std::exchange(*closed, true)) {
                listener->OnClosed(CutStatus());
            }
        };
        if (link_->cut()) {
            network_.wires_.Post(on_cut);
        } else {
            link_->OnCut(on_cut);
            link_->Carry(
                SimLink::kToServer,
                [this_network = &network_, request = std::move(request), session, sink]() mutable {
                    *session = this_network->broker_->Subscribe(std::move(request), sink);
                });
        }
        return std::make_unique<SimStream>(link_, session);
    }

    void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) override {
        done(Status::Unimplemented("not simulated"));
    }
    void ListGroups(std::string,
                    UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) override {
        done(Status::Unimplemented("not simulated"));
    }
    void ResetGroup(std::string,
                    std::string,
                    StartPosition,
                    UniqueFunction<void(Status)> done) override {
        done(Status::Unimplemented("not simulated"));
    }

private:
    SimNetwork& network_;
    std::shared_ptr<SimLink> link_;
};

class SimTransport final : public Transport {
public:
    SimTransport(SimNetwork& network, SimExecutor& executor)
        : network_(network), executor_(executor) {}

    void Discover(DiscoverRequest, TimePoint, UniqueFunction<void(Result<Route>)> done) override {
        executor_.Post([this_network = &network_, done = std::move(done)]() mutable {
            if (this_network->broker_ == nullptr) {
                done(Status::Unavailable("the simulated broker is down"));
            } else {
                done(Route{{{"sim", "sim", true, true}}, false});
            }
        });
    }

    std::unique_ptr<BrokerConnection> Connect(
        const BrokerGroup&, std::shared_ptr<ConnectionListener> listener) override {
        auto link = std::make_shared<SimLink>(network_, network_.next_link_++);
        network_.links_[link->id()] = link;
        if (network_.broker_ == nullptr) {
            ++network_.counts_.refused;
            link->Cut();
            executor_.Post([listener] {
                listener->OnClosed(Status::Unavailable("the simulated broker is down"));
            });
        } else {
            executor_.Post([link, listener] {
                if (!link->cut()) {
                    listener->OnReady();
                }
            });
            // Answers and streams first, then the connection itself.
            link->OnCut([this_network = &network_, listener] {
                this_network->wires_.PostAt(
                    this_network->scheduler_.Now() + std::chrono::milliseconds(6),
                    [listener] { listener->OnClosed(CutStatus()); });
            });
        }
        return std::make_unique<SimConnection>(network_, link);
    }

private:
    SimNetwork& network_;
    SimExecutor& executor_;
};

namespace {

class SimFactory final : public TransportFactory {
public:
    SimFactory(SimNetwork& network, SimExecutor& executor)
        : network_(network), executor_(executor) {}
    std::vector<std::string> Schemes() const override { return {"sim"}; }
    Result<std::unique_ptr<Transport>> Make(const std::string&, const TransportContext&) override {
        return std::unique_ptr<Transport>(std::make_unique<SimTransport>(network_, executor_));
    }

private:
    SimNetwork& network_;
    SimExecutor& executor_;
};

}  // namespace

std::shared_ptr<TransportFactory> SimNetwork::MakeFactory(SimExecutor& executor) {
    return std::make_shared<SimFactory>(*this, executor);
}

SimNetwork::Ids SimNetwork::Arrived(const std::vector<SendBatch>& batches) const {
    Ids ids(batches.size());
    for (std::size_t i = 0; i < batches.size(); ++i) {
        BatchView::Iterator heads = BatchView::Trusted(batches[i].batch.bytes()).begin_heads();
        while (const std::optional<MessageHead> head = heads.Next()) {
            ids[i].emplace_back(head->id);
            on_arrival_(ids[i].back());
        }
    }
    return ids;
}

void SimNetwork::Answered(const Ids& ids, const std::vector<BatchReceipt>& receipts) const {
    for (std::size_t i = 0; i < std::min(ids.size(), receipts.size()); ++i) {
        for (std::size_t k = 0; k < ids[i].size(); ++k) {
            on_stored_(ids[i][k], receipts[i].outcome, receipts[i].first_sequence + k);
        }
    }
}

void SimNetwork::Carry(const ConsumerKey& consumer, DeliveredBatch& batch) {
    batch.body = Slice::Own(std::string(batch.body.bytes()));
    std::string_view body = batch.body.bytes();
    if (batch.header.empty()) {
        body.remove_prefix(std::min(body.size(), BatchHeader::kBytes));
    }
    // A retry subject that somebody else consumes is a subject like any other.
    std::size_t offset = 0;
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        const Result<MessageHead> head = ReadHead(body, offset);
        if (!head.ok()) {
            return;
        }
        const testing::Copy copy{batch.from_retry, batch.first_sequence + i};
        copies_[head->id.data()] = copy;
        on_hand_out_({consumer.group, std::string(head->id), copy, batch.attempt});
        offset += head->bytes;
    }
}

std::optional<testing::Copy> SimNetwork::CopyOf(const Message& message) const {
    const auto found = copies_.find(message.id().data());
    return found == copies_.end() ? std::nullopt : std::optional(found->second);
}

void SimNetwork::SetBroker(broker::Broker* broker) {
    broker_ = broker;
    if (broker != nullptr) {
        return;
    }
    for (const auto& each : std::exchange(sessions_, {})) {
        if (const auto session = each.lock()) {
            session->reset();
        }
    }
    Cut(1);
}

void SimNetwork::Cut(double chance) {
    for (auto it = links_.begin(); it != links_.end();) {
        const std::shared_ptr<SimLink> link = it->second.lock();
        if (!link || link->cut()) {
            it = links_.erase(it);
            continue;
        }
        if (scheduler_.random().Chance(chance)) {
            link->Cut();
        }
        ++it;
    }
}

}  // namespace qmq::simulation
