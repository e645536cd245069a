#include "server/broker/broker.h"

#include <atomic>
#include <utility>
#include <vector>

#include "qmq/subject.h"

#include "server/broker/options.h"
#include "server/broker/shard.h"

namespace qmq::broker {

namespace {

/// Calls once with what all shards gave, in their order, when the last has.
template <typename T>
class Gather {
public:
    Gather(std::size_t count, UniqueFunction<void(std::vector<T>)> done)
        : parts_(count), open_(count), done_(std::move(done)) {}

    void Set(std::size_t index, T value) {
        parts_[index] = std::move(value);
        if (open_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            done_(std::move(parts_));
        }
    }

private:
    std::vector<T> parts_;
    std::atomic<std::size_t> open_;
    UniqueFunction<void(std::vector<T>)> done_;
};

template <typename T>
std::vector<T> Concatenate(std::vector<std::vector<T>> parts) {
    std::vector<T> all;
    for (std::vector<T>& part : parts) {
        all.insert(
            all.end(), std::make_move_iterator(part.begin()), std::make_move_iterator(part.end()));
    }
    return all;
}

void Acknowledge(const std::shared_ptr<Shard>& shard,
                 SharedKey key,
                 std::vector<AckItem> items,
                 AckDone done) {
    Status status = ValidateAcks(items, shard->best_durability());
    if (status.ok()) {
        status = shard->Admit(1, 0);
    }
    if (!status.ok()) {
        done(status);
        return;
    }
    shard->Ack(std::move(key), std::move(items), std::move(done));
}

class SessionImpl final : public Session {
public:
    SessionImpl(std::shared_ptr<Shard> shard, SharedKey key, std::uint64_t session)
        : shard_(std::move(shard)), key_(std::move(key)), session_(session) {}
    ~SessionImpl() override { Detach(); }

    void Grant(Credit credit) override {
        if (Usable()) {
            shard_->Grant(key_, session_, credit);
        }
    }
    void Ack(std::vector<AckItem> items, AckDone done) override {
        if (Usable()) {
            // Also when another has taken over: pull sequences are never used twice, so a late ack
            // means what it meant.
            Acknowledge(shard_, key_, std::move(items), std::move(done));
        } else {
            done(Status::Cancelled("the session of consumer " + key_->consumer_id + " is closed"));
        }
    }
    void Close() override {
        if (Usable() && !closed_.exchange(true)) {
            shard_->Leave(key_, session_);
        }
    }
    void Detach() override {
        if (Usable() && !closed_.exchange(true)) {
            shard_->Detach(key_, session_);
        }
    }

private:
    bool Usable() const {
        return shard_ != nullptr && !shard_->dead() && !closed_.load(std::memory_order_acquire);
    }

    const std::shared_ptr<Shard> shard_;  ///< Null when the request was refused.
    const SharedKey key_;
    const std::uint64_t session_;
    std::atomic<bool> closed_{false};
};

class BrokerImpl final : public Broker {
public:
    BrokerImpl(const BrokerOptions& options,
               const BrokerEnvironment& environment,
               std::unique_ptr<env::FileLock> lock)
        : options_(options), environment_(environment), lock_(std::move(lock)) {}

    ~BrokerImpl() override {
        for (const std::shared_ptr<Shard>& shard : shards_) {
            shard->Kill();
        }
    }

    Status OpenShards() {
        for (std::uint32_t i = 0; i < options_.shards; ++i) {
            Result<std::unique_ptr<Shard>> shard = Shard::Open(i, options_, environment_);
            if (!shard.ok()) {
                return shard.status();
            }
            shards_.push_back(*std::move(shard));
        }
        return {};
    }

    void Send(std::vector<SendBatch> batches, SendDone done) override;
    std::unique_ptr<Session> Subscribe(SubscribeRequest request,
                                       std::shared_ptr<DeliverySink> sink) override;
    void Pull(PullRequest request, UniqueFunction<void(Result<PullReply>)> done) override;
    void Ack(ConsumerKey consumer, std::vector<AckItem> items, AckDone done) override;
    void ResetGroup(std::string subject,
                    std::string group,
                    StartPosition position,
                    UniqueFunction<void(Status)> done) override;
    void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) override;
    void ListGroups(std::string subject,
                    UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) override;
    std::vector<store::RecoveryReport> recovery() const override;
    void Close(UniqueFunction<void(Status)> done) override;

private:
    const std::shared_ptr<Shard>& ShardFor(std::string_view subject) const {
        return shards_[ShardOf(subject, options_.shards)];
    }

    const BrokerOptions options_;
    const BrokerEnvironment environment_;
    const std::unique_ptr<env::FileLock> lock_;
    std::vector<std::shared_ptr<Shard>> shards_;
    std::atomic<std::uint64_t> last_session_{0};
};

/// Whether `shard` takes `part`; if not, its batches are refused.
bool AdmitPart(Shard& shard, SendPart& part) {
    const Status status = shard.Admit(1, part.bytes);
    if (status.ok()) {
        return true;
    }
    for (const CheckedBatch& batch : part.batches) {
        part.frame->receipts[batch.index] =
            BatchReceipt{status, SendOutcome::kRefused, Durability::kDefault, 0};
    }
    return false;
}

void BrokerImpl::Send(std::vector<SendBatch> batches, SendDone done) {
    auto frame = std::make_shared<SendFrame>();
    frame->receipts.resize(batches.size());
    frame->done = std::move(done);
    const WallTime now = environment_.clock.WallNow();
    std::vector<std::unique_ptr<SendPart>> parts(shards_.size());
    for (std::uint32_t i = 0; i < batches.size(); ++i) {
        const SubjectParts names = ParseSubject(batches[i].subject);
        const std::uint32_t index = ShardOf(batches[i].subject, options_.shards);
        const Durability promise = shards_[index]->Promise(names.real_subject);
        Result<CheckedBatch> batch = CheckBatch(std::move(batches[i]), i, options_, promise, now);
        if (!batch.ok()) {
            frame->receipts[i] =
                BatchReceipt{batch.status(), SendOutcome::kRefused, Durability::kDefault, 0};
            continue;
        }
        if (parts[index] == nullptr) {
            parts[index] = std::make_unique<SendPart>();
            parts[index]->frame = frame;
        }
        parts[index]->bytes += batch->batch.size();
        parts[index]->batches.push_back(*std::move(batch));
    }
    // One more, so that nothing is answered before all parts are on their way.
    frame->open_parts = static_cast<std::uint32_t>(shards_.size()) + 1;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        if (parts[i] != nullptr && AdmitPart(*shards_[i], *parts[i])) {
            shards_[i]->Send(std::move(parts[i]));
        } else {
            frame->FinishPart();
        }
    }
    frame->FinishPart();
}

std::unique_ptr<Session> BrokerImpl::Subscribe(SubscribeRequest request,
                                               std::shared_ptr<DeliverySink> sink) {
    Result<ResolvedKey> key = Resolve(request.key);
    Status status = key.ok() ? ValidateSubscribe(request) : key.status();
    if (!status.ok()) {
        // From a strand, as all calls to a sink come.
        shards_.front()->Refuse(std::move(sink), std::move(status));
        return std::make_unique<SessionImpl>(nullptr, std::make_shared<const ResolvedKey>(), 0);
    }
    const std::shared_ptr<Shard>& shard = ShardFor(key->subject);
    const std::uint64_t session = ++last_session_;
    auto made =
        std::make_unique<SessionImpl>(shard, std::make_shared<const ResolvedKey>(*key), session);
    shard->Subscribe(*std::move(key), std::move(request), session, std::move(sink));
    return made;
}

void BrokerImpl::Pull(PullRequest request, UniqueFunction<void(Result<PullReply>)> done) {
    Result<ResolvedKey> key = Resolve(request.consumer.key);
    Status status = key.ok() ? ValidateSubscribe(request.consumer) : key.status();
    constexpr std::chrono::milliseconds kMostWait = std::chrono::hours(1);
    if (status.ok() && (request.max_messages == 0 || request.max_bytes == 0)) {
        status = Status::InvalidArgument("a pull of no messages: max_messages and max_bytes are " +
                                         std::to_string(request.max_messages) + " and " +
                                         std::to_string(request.max_bytes) + ", at least 1");
    }
    if (status.ok() && (request.max_wait.count() < 0 || request.max_wait > kMostWait)) {
        status = Status::InvalidArgument("max_wait is " + std::to_string(request.max_wait.count()) +
                                         " ms; it ranges from 0 to 1 h");
    }
    if (!status.ok()) {
        done(std::move(status));
        return;
    }
    const std::shared_ptr<Shard>& shard = ShardFor(key->subject);
    shard->Pull(*std::move(key), std::move(request), std::move(done));
}

void BrokerImpl::Ack(ConsumerKey consumer, std::vector<AckItem> items, AckDone done) {
    Result<ResolvedKey> key = Resolve(consumer);
    if (!key.ok()) {
        done(key.status());
        return;
    }
    const std::shared_ptr<Shard>& shard = ShardFor(key->subject);
    Acknowledge(shard,
                std::make_shared<const ResolvedKey>(*std::move(key)),
                std::move(items),
                std::move(done));
}

void BrokerImpl::ResetGroup(std::string subject,
                            std::string group,
                            StartPosition position,
                            UniqueFunction<void(Status)> done) {
    // Any consumer of the group would do: the names are checked and resolved alike.
    Result<ResolvedKey> key =
        Resolve(ConsumerKey{std::move(subject), std::move(group), "reset", {}});
    if (!key.ok()) {
        done(key.status());
        return;
    }
    ShardFor(key->subject)
        ->Reset(std::move(key->subject), std::move(key->group), position, std::move(done));
}

void BrokerImpl::ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) {
    using Infos = std::vector<SubjectInfo>;
    auto gather = std::make_shared<Gather<Infos>>(
        shards_.size(), [done = std::move(done)](std::vector<Infos> parts) mutable {
            done(Concatenate(std::move(parts)));
        });
    for (std::size_t i = 0; i < shards_.size(); ++i) {
        shards_[i]->ListSubjects([gather, i](Infos infos) { gather->Set(i, std::move(infos)); });
    }
}

void BrokerImpl::ListGroups(std::string subject,
                            UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) {
    using Infos = std::vector<GroupInfo>;
    auto gather = std::make_shared<Gather<Infos>>(
        shards_.size(), [done = std::move(done)](std::vector<Infos> parts) mutable {
            done(Concatenate(std::move(parts)));
        });
    for (std::size_t i = 0; i < shards_.size(); ++i) {
        shards_[i]->ListGroups(subject,
                               [gather, i](Infos infos) { gather->Set(i, std::move(infos)); });
    }
}

std::vector<store::RecoveryReport> BrokerImpl::recovery() const {
    std::vector<store::RecoveryReport> reports;
    for (const std::shared_ptr<Shard>& shard : shards_) {
        reports.push_back(shard->recovery());
    }
    return reports;
}

void BrokerImpl::Close(UniqueFunction<void(Status)> done) {
    auto gather = std::make_shared<Gather<Status>>(
        shards_.size(), [done = std::move(done)](std::vector<Status> parts) mutable {
            for (Status& status : parts) {
                if (!status.ok()) {
                    done(std::move(status));
                    return;
                }
            }
            done(Status::Ok());
        });
    for (std::size_t i = 0; i < shards_.size(); ++i) {
        shards_[i]->Close([gather, i](Status status) { gather->Set(i, std::move(status)); });
    }
}

}  // namespace

Result<std::unique_ptr<Broker>> Broker::Open(const BrokerOptions& options,
                                             const BrokerEnvironment& environment) {
    if (Status status = ValidateOptions(options); !status.ok()) {
        return status;
    }
    if (Status status = environment.files.MakeDirectories(options.directory); !status.ok()) {
        return status;
    }
    Result<std::unique_ptr<env::FileLock>> lock =
        environment.files.Lock(options.directory + "/broker.lock");
    if (!lock.ok()) {
        return lock.status();
    }
    if (Status status = CheckOptionsFile(environment.files, options); !status.ok()) {
        return status;
    }
    auto broker = std::make_unique<BrokerImpl>(options, environment, *std::move(lock));
    if (Status status = broker->OpenShards(); !status.ok()) {
        return status;
    }
    return std::unique_ptr<Broker>(std::move(broker));
}

}  // namespace qmq::broker
