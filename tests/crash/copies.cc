#include "tests/crash/copies.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qmq/batch.h"

#include "tests/support/wrapping_factory.h"

namespace qmq::testing {

namespace {

class NotingListener final : public DeliveryListener {
public:
    NotingListener(std::shared_ptr<DeliveryListener> owner, CopyBook& book)
        : owner_(std::move(owner)), book_(book) {}
    void OnSubscribed(const SubscribeReply& reply) override { owner_->OnSubscribed(reply); }
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        for (const DeliveredBatch& batch : batches) {
            book_.Note(batch);
        }
        owner_->OnDelivery(std::move(batches));
    }
    void OnClosed(const Status& status) override { owner_->OnClosed(status); }

private:
    const std::shared_ptr<DeliveryListener> owner_;
    CopyBook& book_;
};

class NotingConnection final : public BrokerConnection {
public:
    NotingConnection(std::unique_ptr<BrokerConnection> under, CopyBook& book)
        : under_(std::move(under)), book_(book) {}
    void Send(std::vector<SendBatch> batches, SendDone done) override {
        under_->Send(std::move(batches), std::move(done));
    }
    std::unique_ptr<DeliveryStream> Subscribe(SubscribeRequest request,
                                              std::shared_ptr<DeliveryListener> listener) override {
        return under_->Subscribe(std::move(request),
                                 std::make_shared<NotingListener>(std::move(listener), book_));
    }
    void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) override {
        under_->ListSubjects(std::move(done));
    }
    void ListGroups(std::string subject,
                    UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) override {
        under_->ListGroups(std::move(subject), std::move(done));
    }
    void ResetGroup(std::string subject,
                    std::string group,
                    StartPosition position,
                    UniqueFunction<void(Status)> done) override {
        under_->ResetGroup(std::move(subject), std::move(group), position, std::move(done));
    }

private:
    const std::unique_ptr<BrokerConnection> under_;
    CopyBook& book_;
};

class NotingTransport final : public Transport {
public:
    NotingTransport(std::unique_ptr<Transport> under, CopyBook& book)
        : under_(std::move(under)), book_(book) {}
    void Discover(DiscoverRequest request,
                  TimePoint deadline,
                  UniqueFunction<void(Result<Route>)> done) override {
        under_->Discover(std::move(request), deadline, std::move(done));
    }
    std::unique_ptr<BrokerConnection> Connect(
        const BrokerGroup& group, std::shared_ptr<ConnectionListener> listener) override {
        return std::make_unique<NotingConnection>(under_->Connect(group, std::move(listener)),
                                                  book_);
    }

private:
    const std::unique_ptr<Transport> under_;
    CopyBook& book_;
};

}  // namespace

void CopyBook::Note(const DeliveredBatch& batch) {
    std::string_view body = batch.body.bytes();
    if (batch.header.empty()) {  // A whole one, in one piece.
        body.remove_prefix(std::min(body.size(), BatchHeader::kBytes));
    }
    const std::lock_guard lock(mutex_);
    std::size_t offset = 0;
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        const Result<MessageHead> head = ReadHead(body, offset);
        if (!head.ok()) {
            return;  // The client says what is wrong with it.
        }
        copies_[head->id.data()] = {batch.from_retry, batch.first_sequence + i};
        offset += head->bytes;
    }
}

std::optional<Copy> CopyBook::Take(const Message& message) {
    const std::lock_guard lock(mutex_);
    const auto found = copies_.find(message.id().data());
    if (found == copies_.end()) {
        return std::nullopt;
    }
    const Copy copy = found->second;
    copies_.erase(found);
    return copy;
}

std::shared_ptr<TransportFactory> NoteCopies(std::shared_ptr<TransportFactory> factory,
                                             CopyBook& book) {
    return std::make_shared<WrappingFactory>(
        std::move(factory), [&book](std::unique_ptr<Transport> transport) {
            return std::make_unique<NotingTransport>(std::move(transport), book);
        });
}

}  // namespace qmq::testing
