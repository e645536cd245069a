#include <algorithm>
#include <map>
#include <utility>

#include "qmq/batch.h"

#include "tests/anything/engine.h"

namespace qmq::anything {

namespace {

/// One message that cannot be read hides none of its neighbours: each is made a batch of its own.
void UnpackEach(const DeliveredBatch& batch,
                std::string_view bytes,
                std::vector<Handed>& all,
                std::uint64_t* unreadable) {
    const std::string_view body = bytes.substr(std::min(bytes.size(), BatchHeader::kBytes));
    std::size_t offset = 0;
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        Handed handed{batch.first_pull_sequence + i,
                      batch.first_sequence + i,
                      batch.attempt,
                      kUnreadable,
                      ""};
        if (const Result<MessageHead> head = ReadHead(body, offset); head.ok()) {
            const std::string_view one = body.substr(head->offset, head->bytes);
            const auto messages =
                DecodeMessages("subject",
                               Slice::Own(MakeBatchHeader(1, one) + std::string(one)),
                               batch.attempt,
                               BatchLimits{});
            if (messages.ok()) {
                handed.id = messages->front().id();
                handed.body = messages->front().body();
            }
            offset = head->offset + head->bytes;
        }
        *unreadable += handed.id == kUnreadable ? 1U : 0U;
        all.push_back(std::move(handed));
    }
}

}  // namespace

std::vector<Handed> Unpack(const std::vector<DeliveredBatch>& batches, std::uint64_t* unreadable) {
    std::vector<Handed> all;
    for (const DeliveredBatch& batch : batches) {
        std::string bytes(batch.header.bytes());
        bytes += batch.body.bytes();
        const Result<std::vector<Message>> messages =
            DecodeMessages("subject", Slice::Own(bytes), batch.attempt, BatchLimits{});
        if (!messages.ok()) {
            UnpackEach(batch, bytes, all, unreadable);
            continue;
        }
        for (std::size_t i = 0; i < messages->size(); ++i) {
            const Message& message = (*messages)[i];
            all.push_back({batch.first_pull_sequence + i,
                           batch.first_sequence + i,
                           message.attempt(),
                           std::string(message.id()),
                           std::string(message.body())});
        }
    }
    return all;
}

namespace {

class EarSink final : public broker::DeliverySink {
public:
    explicit EarSink(Ears ears) : ears_(std::move(ears)) {}
    void OnSubscribed(const SubscribeReply& reply) override { ears_.subscribed(reply); }
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        std::uint64_t unreadable = 0;
        std::vector<Handed> messages = Unpack(batches, &unreadable);
        ears_.handed(std::move(messages), unreadable);
    }
    void OnClosed(const Status& status) override { ears_.closed(status); }

private:
    const Ears ears_;
};

class BrokerEngine final : public Engine {
public:
    explicit BrokerEngine(broker::Broker& broker) : broker_(broker) {}

    void Send(std::size_t, std::vector<SendBatch> batches, SendDone done) override {
        broker_.Send(std::move(batches), std::move(done));
    }
    SubscriptionId Subscribe(std::size_t, SubscribeRequest request, Ears ears) override {
        const SubscriptionId id = ++last_id_;
        sessions_[id] =
            broker_.Subscribe(std::move(request), std::make_shared<EarSink>(std::move(ears)));
        return id;
    }
    void Grant(SubscriptionId id, Credit credit) override { sessions_.at(id)->Grant(credit); }
    void Ack(SubscriptionId id, std::vector<AckItem> items, AckDone done) override {
        sessions_.at(id)->Ack(std::move(items), std::move(done));
    }
    void Close(SubscriptionId id) override { sessions_.at(id)->Close(); }
    void Detach(SubscriptionId id) override { sessions_.at(id)->Detach(); }
    void Pull(broker::PullRequest request, UniqueFunction<void(Result<Pulled>)> done) override {
        broker_.Pull(std::move(request),
                     [done = std::move(done)](Result<broker::PullReply> reply) mutable {
                         if (!reply.ok()) {
                             return done(reply.status());
                         }
                         Pulled pulled{reply->subscribed, {}, 0};
                         pulled.messages = Unpack(reply->batches, &pulled.unreadable);
                         done(std::move(pulled));
                     });
    }
    void Ack(ConsumerKey key, std::vector<AckItem> items, AckDone done) override {
        broker_.Ack(std::move(key), std::move(items), std::move(done));
    }
    void Reset(std::string subject,
               std::string group,
               StartPosition position,
               UniqueFunction<void(Status)> done) override {
        broker_.ResetGroup(std::move(subject), std::move(group), position, std::move(done));
    }
    void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) override {
        broker_.ListSubjects(std::move(done));
    }
    void ListGroups(std::string subject,
                    UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) override {
        broker_.ListGroups(std::move(subject), std::move(done));
    }
    void Garbage(std::size_t, std::string) override {}

private:
    broker::Broker& broker_;
    SubscriptionId last_id_ = 0;
    std::map<SubscriptionId, std::unique_ptr<broker::Session>> sessions_;
};

}  // namespace

std::unique_ptr<Engine> MakeBrokerEngine(broker::Broker& broker) {
    return std::make_unique<BrokerEngine>(broker);
}

}  // namespace qmq::anything
