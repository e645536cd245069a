#pragma once

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "qmq/batch.h"
#include "qmq/executor.h"

#include "server/broker/broker.h"

namespace qmq::broker {

/// A broker that keeps everything in a few vectors and shows what the transport did to it. It
/// answers from a thread of its own, as a shard does, unless it was told to hold its answers.
class FakeBroker final : public Broker {
public:
    FakeBroker() = default;
    ~FakeBroker() override = default;

    // What a test asks for.

    /// Keeps sends unanswered until `Release`.
    void HoldSends() {
        Set([this] { hold_sends_ = true; });
    }
    void Release() {
        std::vector<Task> held;
        Set([&] {
            hold_sends_ = false;
            held.swap(held_);
        });
        for (Task& task : held) {
            pool_.Post(std::move(task));
        }
    }
    /// Answers of the sends of `subject` from now on.
    void Refuse(const std::string& subject,
                Status why,
                SendOutcome outcome = SendOutcome::kRefused) {
        BatchReceipt receipt;
        receipt.outcome = outcome;
        receipt.status = std::move(why);
        Set([&] { refused_[subject] = std::move(receipt); });
    }

    template <typename Predicate>
    bool WaitFor(Predicate predicate,
                 std::chrono::milliseconds patience = std::chrono::seconds(20)) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, predicate);
    }
    // For predicates, which run under the lock.
    std::uint64_t granted_bytes_locked() const { return granted_bytes_; }
    std::size_t held_locked() const { return held_.size(); }
    std::size_t send_count_locked() const { return send_count_; }
    std::size_t detached_locked() const { return detached_; }
    std::size_t closed_locked() const { return closed_; }
    const std::vector<AckItem>& acks_locked() const { return acks_; }
    const std::vector<SubscribeRequest>& subscribed_locked() const { return subscribed_; }

    // Broker.

    void Send(std::vector<SendBatch> batches, SendDone done) override {
        std::vector<BatchReceipt> receipts;
        std::unique_lock lock(mutex_);
        ++send_count_;
        for (SendBatch& batch : batches) {
            receipts.push_back(Store(std::move(batch)));
        }
        Task answer = [done = std::move(done), receipts = std::move(receipts)]() mutable {
            done(std::move(receipts));
        };
        if (hold_sends_) {
            held_.push_back(std::move(answer));
        } else {
            pool_.Post(std::move(answer));
        }
        DeliverAll();
        changed_.notify_all();
    }

    std::unique_ptr<Session> Subscribe(SubscribeRequest request,
                                       std::shared_ptr<DeliverySink> sink) override {
        const std::lock_guard lock(mutex_);
        subscribed_.push_back(request);
        changed_.notify_all();
        if (request.key.group == "forbidden") {
            pool_.Post([sink] { sink->OnClosed(Status::InvalidArgument("group: forbidden")); });
            return nullptr;
        }
        auto consumer = std::make_shared<Consumer>();
        consumer->subject = request.key.subject;
        consumer->sink = std::move(sink);
        pool_.Post([consumer] { consumer->sink->OnSubscribed({7, 0}); });
        consumers_.push_back(consumer);
        return std::make_unique<FakeSession>(*this, consumer);
    }

    void Pull(PullRequest request, UniqueFunction<void(Result<PullReply>)> done) override {
        const std::lock_guard lock(mutex_);
        PullReply reply;
        reply.subscribed.incarnation = 7;
        reply.subscribed.warnings = {"others differ"};
        std::uint64_t next = 0;
        for (const Stored& stored : stored_[request.consumer.key.subject]) {
            reply.batches.push_back(ToDelivered(stored, next));
            next += stored.count;
        }
        Task answer = [done = std::move(done), reply]() mutable { done(std::move(reply)); };
        if (request.consumer.key.group == "silent") {
            held_.push_back(std::move(answer));
            changed_.notify_all();
        } else {
            pool_.Post(std::move(answer));
        }
    }

    void Ack(ConsumerKey consumer, std::vector<AckItem> items, AckDone done) override {
        const std::lock_guard lock(mutex_);
        if (consumer.consumer_id == "nobody") {
            pool_.Post([done = std::move(done)]() mutable {
                done(Status::NotFound("consumer \"nobody\""));
            });
            return;
        }
        Acked(std::move(items));
        pool_.Post([done = std::move(done)]() mutable { done(AckReply{{PullRange{4, 6}}}); });
    }

    void ResetGroup(std::string subject,
                    std::string group,
                    StartPosition position,
                    UniqueFunction<void(Status)> done) override {
        const Status status =
            group == "known" && position == StartPosition::kEarliest
                ? Status::Ok()
                : Status::NotFound("subject " + subject + " has no group " + group);
        pool_.Post([done = std::move(done), status]() mutable { done(status); });
    }

    void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) override {
        const std::lock_guard lock(mutex_);
        std::vector<SubjectInfo> subjects;
        for (const auto& [name, batches] : stored_) {
            subjects.push_back({name, 1, next_[name], 42, Durability::kPageCache});
        }
        pool_.Post([done = std::move(done), subjects]() mutable { done(std::move(subjects)); });
    }

    void ListGroups(std::string subject,
                    UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) override {
        GroupInfo info;
        info.subject = std::move(subject);
        info.group = "known";
        info.lag_count = 5;
        info.oldest_unacked_age = std::chrono::milliseconds(0);
        pool_.Post(
            [done = std::move(done), info]() mutable { done(std::vector<GroupInfo>{info}); });
    }

    std::vector<store::RecoveryReport> recovery() const override { return {}; }
    void Close(UniqueFunction<void(Status)> done) override { done(Status::Ok()); }

private:
    struct Stored {
        std::uint64_t first_sequence = 0;
        std::uint32_t count = 0;
        Slice batch;
    };
    struct Consumer {
        std::string subject;
        std::shared_ptr<DeliverySink> sink;
        std::size_t next_batch = 0;
        std::uint64_t next_pull = 0;
        std::uint64_t credit = 0;
        bool gone = false;
    };

    class FakeSession final : public Session {
    public:
        FakeSession(FakeBroker& broker, std::shared_ptr<Consumer> consumer)
            : broker_(broker), consumer_(std::move(consumer)) {}
        ~FakeSession() override { Detach(); }
        void Grant(Credit credit) override {
            const std::lock_guard lock(broker_.mutex_);
            consumer_->credit += credit.messages;
            broker_.granted_bytes_ += credit.bytes;
            broker_.changed_.notify_all();
            broker_.DeliverAll();
        }
        void Ack(std::vector<AckItem> items, AckDone done) override {
            const std::lock_guard lock(broker_.mutex_);
            broker_.Acked(std::move(items));
            broker_.pool_.Post([done = std::move(done)]() mutable { done(AckReply{}); });
        }
        void Close() override {
            const std::lock_guard lock(broker_.mutex_);
            if (!std::exchange(consumer_->gone, true)) {
                ++broker_.closed_;
                broker_.pool_.Post([consumer = consumer_] {
                    consumer->sink->OnClosed(Status::Cancelled("closed"));
                });
                broker_.changed_.notify_all();
            }
        }
        void Detach() override {
            const std::lock_guard lock(broker_.mutex_);
            if (!std::exchange(consumer_->gone, true)) {
                ++broker_.detached_;
                broker_.changed_.notify_all();
            }
        }

    private:
        FakeBroker& broker_;
        const std::shared_ptr<Consumer> consumer_;
    };

    template <typename Change>
    void Set(Change change) {
        const std::lock_guard lock(mutex_);
        change();
    }

    BatchReceipt Store(SendBatch batch) {
        BatchReceipt receipt;
        if (const auto refused = refused_.find(batch.subject); refused != refused_.end()) {
            return refused->second;
        }
        std::uint64_t& next = next_[batch.subject];
        const auto parsed = BatchView::Parse(batch.batch.bytes(), {});
        const std::uint32_t count = parsed.ok() ? parsed.value().count() : 1;
        receipt.outcome = SendOutcome::kPersisted;
        receipt.durability = std::max(batch.durability, Durability::kMemory);
        receipt.first_sequence = next;
        stored_[batch.subject].push_back({next, count, batch.batch});
        next += count;
        return receipt;
    }

    DeliveredBatch ToDelivered(const Stored& stored, std::uint64_t first_pull) const {
        DeliveredBatch batch;
        batch.first_pull_sequence = first_pull;
        batch.first_sequence = stored.first_sequence;
        batch.count = stored.count;
        batch.header = stored.batch.Sub(0, BatchHeader::kBytes);
        batch.body =
            stored.batch.Sub(BatchHeader::kBytes, stored.batch.size() - BatchHeader::kBytes);
        return batch;
    }

    void DeliverAll() {
        for (const auto& consumer : consumers_) {
            std::vector<DeliveredBatch> batches;
            std::deque<Stored>& stored = stored_[consumer->subject];
            while (!consumer->gone && consumer->next_batch < stored.size() &&
                   consumer->credit >= stored[consumer->next_batch].count) {
                const Stored& next = stored[consumer->next_batch++];
                batches.push_back(ToDelivered(next, consumer->next_pull));
                consumer->next_pull += next.count;
                consumer->credit -= next.count;
            }
            if (!batches.empty()) {
                pool_.Post([consumer, batches = std::move(batches)]() mutable {
                    consumer->sink->OnDelivery(std::move(batches));
                });
            }
        }
    }

    void Acked(std::vector<AckItem> items) {
        for (AckItem& item : items) {
            acks_.push_back(std::move(item));
        }
        changed_.notify_all();
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    bool hold_sends_ = false;
    std::vector<Task> held_;
    std::map<std::string, BatchReceipt> refused_;
    std::map<std::string, std::deque<Stored>> stored_;
    std::map<std::string, std::uint64_t> next_;
    std::vector<std::shared_ptr<Consumer>> consumers_;
    std::vector<AckItem> acks_;
    std::vector<SubscribeRequest> subscribed_;
    std::size_t send_count_ = 0;
    std::uint64_t granted_bytes_ = 0;
    std::size_t detached_ = 0;
    std::size_t closed_ = 0;
    ThreadPool pool_{{1, 1 << 16, "fake-broker"}};  // Last: its tasks touch the rest.
};

}  // namespace qmq::broker
