#include "tests/border/weather_line.h"

#include <string>
#include <utility>

namespace qmq::border {

Status Away() {
    return Status::Unavailable("the broker is away");
}

std::shared_ptr<DeliveryStream> StreamLine::get() {
    const std::lock_guard lock(mutex);
    return stream;
}

void StreamLine::Lose() {
    std::shared_ptr<DeliveryStream> lost;
    const std::lock_guard lock(mutex);
    lost.swap(stream);
}

std::shared_ptr<BrokerConnection> Line::get() {
    const std::lock_guard lock(mutex);
    return connection;
}

void Line::Lose() {
    std::shared_ptr<BrokerConnection> lost;
    std::vector<std::weak_ptr<StreamLine>> lost_streams;
    {
        const std::lock_guard lock(mutex);
        lost.swap(connection);
        lost_streams.swap(streams);
    }
    lost.reset();  // First, so that the streams are lost with it and do not leave.
    for (const auto& weak : lost_streams) {
        if (const auto stream = weak.lock()) {
            stream->Lose();
        }
    }
}

namespace {

class StormyListener final : public ConnectionListener {
public:
    StormyListener(std::shared_ptr<Calls> calls, std::shared_ptr<ConnectionListener> to)
        : calls_(std::move(calls)), to_(std::move(to)) {}
    void OnReady() override {
        calls_->Deliver([to = to_] { to->OnReady(); });
    }
    void OnClosed(const Status& status) override {
        calls_->Deliver([to = to_, status] { to->OnClosed(status); });
    }

private:
    const std::shared_ptr<Calls> calls_;
    const std::shared_ptr<ConnectionListener> to_;
};

class StormyDeliveries final : public DeliveryListener {
public:
    StormyDeliveries(std::shared_ptr<Calls> calls, std::shared_ptr<DeliveryListener> to)
        : calls_(std::move(calls)), to_(std::move(to)) {}
    void OnSubscribed(const SubscribeReply& reply) override {
        calls_->Deliver([to = to_, reply] { to->OnSubscribed(reply); });
    }
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        calls_->Deliver([to = to_, batches = std::move(batches)]() mutable {
            to->OnDelivery(std::move(batches));
        });
    }
    void OnClosed(const Status& status) override {
        calls_->Deliver([to = to_, status] { to->OnClosed(status); });
    }

private:
    const std::shared_ptr<Calls> calls_;
    const std::shared_ptr<DeliveryListener> to_;
};

class StormyStream final : public DeliveryStream {
public:
    StormyStream(std::shared_ptr<Calls> calls, std::shared_ptr<StreamLine> line)
        : calls_(std::move(calls)), line_(std::move(line)) {}
    void Grant(Credit credit) override {
        if (const auto stream = line_->get()) {
            stream->Grant(credit);
        }
    }
    void Ack(std::vector<AckItem> items, AckDone done) override {
        if (const auto stream = line_->get()) {
            return stream->Ack(
                std::move(items),
                [calls = calls_, done = std::move(done)](Result<AckReply> reply) mutable {
                    calls->Deliver([done = std::move(done), reply = std::move(reply)]() mutable {
                        done(std::move(reply));
                    });
                });
        }
        calls_->Deliver([done = std::move(done)]() mutable { done(Away()); });
    }
    void Close() override {
        if (const auto stream = line_->get()) {
            stream->Close();
        }
    }

private:
    const std::shared_ptr<Calls> calls_;
    const std::shared_ptr<StreamLine> line_;
};

class StormyConnection final : public BrokerConnection {
public:
    StormyConnection(std::shared_ptr<Calls> calls, std::shared_ptr<Line> line)
        : calls_(std::move(calls)), line_(std::move(line)) {}
    ~StormyConnection() override { line_->Lose(); }

    void Send(std::vector<SendBatch> batches, SendDone done) override {
        if (const auto connection = line_->get()) {
            return connection->Send(std::move(batches),
                                    [calls = calls_, done = std::move(done)](
                                        std::vector<BatchReceipt> receipts) mutable {
                                        calls->Deliver([done = std::move(done),
                                                        receipts = std::move(receipts)]() mutable {
                                            done(std::move(receipts));
                                        });
                                    });
        }
        BatchReceipt refused;
        refused.outcome = SendOutcome::kRefused;
        refused.status = Away();
        calls_->Deliver([done = std::move(done),
                         receipts = std::vector<BatchReceipt>(batches.size(), refused)]() mutable {
            done(std::move(receipts));
        });
    }

    std::unique_ptr<DeliveryStream> Subscribe(SubscribeRequest request,
                                              std::shared_ptr<DeliveryListener> listener) override {
        auto line = std::make_shared<StreamLine>();
        auto deliveries = std::make_shared<StormyDeliveries>(calls_, std::move(listener));
        if (const auto connection = line_->get()) {
            line->stream = connection->Subscribe(std::move(request), std::move(deliveries));
            bool lost = false;
            {
                const std::lock_guard lock(line_->mutex);
                line_->streams.push_back(line);
                lost = line_->connection == nullptr;
            }
            if (lost) {
                line->Lose();
            }
        } else {
            deliveries->OnClosed(Away());
        }
        return std::make_unique<StormyStream>(calls_, std::move(line));
    }

    void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) override {
        done(Status::Unimplemented("not through a storm"));
    }
    void ListGroups(std::string,
                    UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) override {
        done(Status::Unimplemented("not through a storm"));
    }
    void ResetGroup(std::string,
                    std::string,
                    StartPosition,
                    UniqueFunction<void(Status)> done) override {
        done(Status::Unimplemented("not through a storm"));
    }

private:
    const std::shared_ptr<Calls> calls_;
    const std::shared_ptr<Line> line_;
};

}  // namespace

std::shared_ptr<ConnectionListener> ListenThrough(std::shared_ptr<Calls> calls,
                                                  std::shared_ptr<ConnectionListener> to) {
    return std::make_shared<StormyListener>(std::move(calls), std::move(to));
}

std::unique_ptr<BrokerConnection> ConnectThrough(std::shared_ptr<Calls> calls,
                                                 std::shared_ptr<Line> line) {
    return std::make_unique<StormyConnection>(std::move(calls), std::move(line));
}

}  // namespace qmq::border
