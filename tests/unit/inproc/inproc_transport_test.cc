#include "plugins/inproc/client/inproc_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace qmq::inproc {
namespace {

using testing::SizeIs;

/// A broker that does nothing until the test says so.
class SilentBroker final : public Broker {
public:
    struct Subscribed {
        SubscribeRequest request;
        std::shared_ptr<Sink> sink;
        bool closed = false;
        bool detached = false;
        Credit credit;
        std::vector<AckDone> acks;
    };

    /// Lets go of what a real broker lets go of when it closes: a sink holds its session.
    ~SilentBroker() override {
        for (const auto& each : subscriptions) {
            each->acks.clear();
            each->sink.reset();
        }
    }

    void Send(std::vector<SendBatch> batches, SendDone done) override {
        if (answer_at_once) {
            return done(std::vector<BatchReceipt>(batches.size(), Persisted()));
        }
        sends.push_back(std::move(done));
    }
    std::unique_ptr<Session> Subscribe(SubscribeRequest request,
                                       std::shared_ptr<Sink> sink) override {
        auto subscribed = std::make_shared<Subscribed>();
        subscribed->request = std::move(request);
        subscribed->sink = std::move(sink);
        subscriptions.push_back(subscribed);
        if (refuse) {
            subscribed->sink->OnClosed(*refuse);
        }
        return std::make_unique<SilentSession>(subscribed);
    }
    void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) override {
        done(std::vector<SubjectInfo>(1));
    }
    void ListGroups(std::string,
                    UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) override {
        done(std::vector<GroupInfo>(2));
    }
    void ResetGroup(std::string,
                    std::string group,
                    StartPosition,
                    UniqueFunction<void(Status)> done) override {
        done(Status::NotFound(group));
    }
    void Release(bool inside_callback) override { released.push_back(inside_callback); }

    static BatchReceipt Persisted() {
        BatchReceipt receipt;
        receipt.outcome = SendOutcome::kPersisted;
        return receipt;
    }
    void AnswerSends() {
        auto answered = std::exchange(sends, {});
        for (SendDone& done : answered) {
            done({Persisted()});
        }
    }

    bool answer_at_once = false;
    std::optional<Status> refuse;
    std::vector<SendDone> sends;
    std::vector<std::shared_ptr<Subscribed>> subscriptions;
    std::vector<bool> released;

private:
    class SilentSession final : public Session {
    public:
        explicit SilentSession(std::shared_ptr<Subscribed> state) : state_(std::move(state)) {}
        void Grant(Credit credit) override { state_->credit = credit; }
        void Ack(std::vector<AckItem>, AckDone done) override {
            state_->acks.push_back(std::move(done));
        }
        void Close() override {
            if (!std::exchange(state_->closed, true)) {
                state_->sink->OnClosed(Status::Cancelled("closed"));
            }
        }
        void Detach() override { state_->detached = true; }

    private:
        const std::shared_ptr<Subscribed> state_;
    };
};

class Connection final : public ConnectionListener {
public:
    void OnReady() override { ++ready; }
    void OnClosed(const Status& status) override { closed.push_back(status); }
    int ready = 0;
    std::vector<Status> closed;
};

class Delivery final : public DeliveryListener {
public:
    void OnSubscribed(const SubscribeReply&) override { ++subscribed; }
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        for (auto& batch : batches) {
            delivered.push_back(std::move(batch));
        }
        if (during) {
            during();
        }
        EXPECT_TRUE(closed.empty()) << "OnClosed came inside OnDelivery";
    }
    void OnClosed(const Status& status) override {
        closed.push_back(status);
        if (on_closed) {
            on_closed();
        }
    }
    int subscribed = 0;
    std::vector<DeliveredBatch> delivered;
    std::vector<Status> closed;
    std::function<void()> during;
    std::function<void()> on_closed;
};

class InprocTransportTest : public testing::Test {
protected:
    using Receipts = std::vector<BatchReceipt>;

    void Open() {
        transport_ = MakeTransport(broker_);
        connection_ = transport_->Connect({}, listener_);
    }
    void Send() {
        connection_->Send({{"s", Slice::Borrow("batch")}},
                          [this](Receipts receipts) { receipts_.push_back(receipts.front()); });
    }

    SilentBroker broker_;
    std::shared_ptr<Connection> listener_ = std::make_shared<Connection>();
    std::unique_ptr<Transport> transport_;
    std::unique_ptr<BrokerConnection> connection_;
    std::vector<BatchReceipt> receipts_;
};

TEST_F(InprocTransportTest, AConnectionIsReadyAtOnce) {
    Open();
    EXPECT_EQ(listener_->ready, 1);
    EXPECT_TRUE(listener_->closed.empty());
}

TEST_F(InprocTransportTest, AConnectionIsClosedWhenAllItsSendsWereAnsweredAndNotBefore) {
    Open();
    Send();
    connection_.reset();
    EXPECT_TRUE(listener_->closed.empty());

    broker_.AnswerSends();

    EXPECT_THAT(receipts_, SizeIs(1));
    ASSERT_THAT(listener_->closed, SizeIs(1));
    EXPECT_EQ(listener_->closed[0].code(), StatusCode::kCancelled);
}

TEST_F(InprocTransportTest, TheBrokerIsReleasedOnceWhenTheTransportHasEnded) {
    Open();
    connection_.reset();
    EXPECT_TRUE(broker_.released.empty());
    transport_.reset();
    EXPECT_EQ(broker_.released, std::vector<bool>{false});
}

TEST_F(InprocTransportTest, DestroyingTheTransportWaitsForTheAnswersThatAreDue) {
    Open();
    Send();
    auto delivery = std::make_shared<Delivery>();
    auto stream = connection_->Subscribe({}, delivery);
    std::promise<void> closing;
    delivery->on_closed = [&] { closing.set_value(); };
    auto destroyed = std::async(std::launch::async, [&] { transport_.reset(); });
    closing.get_future().wait();  // It closes the streams, and then waits.
    EXPECT_TRUE(listener_->closed.empty());

    broker_.AnswerSends();

    destroyed.wait();
    EXPECT_THAT(listener_->closed, SizeIs(1));
    EXPECT_THAT(receipts_, SizeIs(1));
}

TEST_F(InprocTransportTest, DestroyedInsideACallbackItDoesNotWaitAndSaysSoToTheBroker) {
    Open();
    connection_->Send({{"s", {}}}, [&](const Receipts&) {
        connection_.reset();
        transport_.reset();
        EXPECT_TRUE(listener_->closed.empty());  // This send is not answered yet.
    });

    broker_.AnswerSends();

    EXPECT_THAT(listener_->closed, SizeIs(1));
    EXPECT_EQ(broker_.released, std::vector<bool>{true});
}

TEST_F(InprocTransportTest, BatchesGoThroughWithoutACopy) {
    Open();
    auto delivery = std::make_shared<Delivery>();
    auto stream = connection_->Subscribe({}, delivery);
    const Slice body = Slice::Own("body");
    DeliveredBatch batch;
    batch.body = body;

    broker_.subscriptions[0]->sink->OnSubscribed({});
    broker_.subscriptions[0]->sink->OnDelivery({batch});

    EXPECT_EQ(delivery->subscribed, 1);
    ASSERT_THAT(delivery->delivered, SizeIs(1));
    EXPECT_EQ(delivery->delivered[0].body.data(), body.data());
}

TEST_F(InprocTransportTest, CreditAndAcksReachTheBroker) {
    Open();
    auto stream = connection_->Subscribe({}, std::make_shared<Delivery>());
    std::optional<Result<AckReply>> reply;

    stream->Grant({5, 6});
    stream->Ack({}, [&](Result<AckReply> answer) { reply = std::move(answer); });

    EXPECT_EQ(broker_.subscriptions[0]->credit.messages, 5U);
    ASSERT_THAT(broker_.subscriptions[0]->acks, SizeIs(1));
    EXPECT_FALSE(reply.has_value());
    broker_.subscriptions[0]->acks[0](AckReply{{PullRange{4, 5}}});
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->value().not_held_count(), 2U);
}

TEST_F(InprocTransportTest, ClosingAStreamLeavesTheGroupAndTellsTheListener) {
    Open();
    auto delivery = std::make_shared<Delivery>();
    auto stream = connection_->Subscribe({}, delivery);
    stream->Close();
    EXPECT_TRUE(broker_.subscriptions[0]->closed);
    ASSERT_THAT(delivery->closed, SizeIs(1));
    std::optional<Status> late;
    stream->Ack({}, [&](const Result<AckReply>& reply) { late = reply.status(); });
    EXPECT_EQ(late->code(), StatusCode::kUnavailable);
}

TEST_F(InprocTransportTest, ALostConnectionDetachesItsConsumersAndTellsThem) {
    Open();
    auto delivery = std::make_shared<Delivery>();
    auto stream = connection_->Subscribe({}, delivery);

    connection_.reset();

    EXPECT_TRUE(broker_.subscriptions[0]->detached);
    EXPECT_FALSE(broker_.subscriptions[0]->closed);
    ASSERT_THAT(delivery->closed, SizeIs(1));
    EXPECT_EQ(delivery->closed[0].code(), StatusCode::kUnavailable);
    EXPECT_THAT(listener_->closed, SizeIs(1));
    broker_.subscriptions[0]->sink->OnDelivery({{}});  // What was under way is not passed on.
    EXPECT_TRUE(delivery->delivered.empty());
}

TEST_F(InprocTransportTest, AConnectionLostInsideADeliveryIsToldAfterIt) {
    Open();
    auto delivery = std::make_shared<Delivery>();
    auto stream = connection_->Subscribe({}, delivery);
    delivery->during = [&] { connection_.reset(); };

    broker_.subscriptions[0]->sink->OnDelivery({{}});

    EXPECT_THAT(delivery->closed, SizeIs(1));
    EXPECT_THAT(listener_->closed, SizeIs(1));
}

TEST_F(InprocTransportTest, ASubscriptionRefusedInsideTheCallIsToldOnce) {
    Open();
    broker_.refuse = Status::InvalidArgument("no");
    auto delivery = std::make_shared<Delivery>();
    auto stream = connection_->Subscribe({}, delivery);
    EXPECT_THAT(delivery->closed, testing::ElementsAre(Status::InvalidArgument("no")));
    connection_.reset();
    EXPECT_THAT(delivery->closed, SizeIs(1));
    EXPECT_THAT(listener_->closed, SizeIs(1));
}

TEST_F(InprocTransportTest, AClosedTransportRefusesEverythingAtOnce) {
    Open();
    transport_.reset();
    Send();
    ASSERT_THAT(receipts_, SizeIs(1));
    EXPECT_EQ(receipts_[0].outcome, SendOutcome::kRefused);
    auto delivery = std::make_shared<Delivery>();
    auto stream = connection_->Subscribe({}, delivery);
    EXPECT_THAT(delivery->closed, SizeIs(1));
    std::optional<Status> listed;
    connection_->ListSubjects([&](const auto& subjects) { listed = subjects.status(); });
    EXPECT_EQ(listed->code(), StatusCode::kUnavailable);
}

TEST_F(InprocTransportTest, AChainOfSendsFromTheirOwnAnswersEnds) {
    Open();
    broker_.answer_at_once = true;
    int left = 1'000;
    std::function<void()> next = [&] {
        if (left-- > 0) {
            connection_->Send({{"s", {}}}, [&](const Receipts&) { next(); });
        }
    };
    next();
    EXPECT_EQ(left, -1);
}

TEST_F(InprocTransportTest, AnySubjectThatIsOneIsServedByTheOneBroker) {
    Open();
    std::optional<Result<Route>> found;
    transport_->Discover(
        {"order.paid", "", {}, "", ""}, {}, [&](auto groups) { found = std::move(groups); });
    ASSERT_TRUE(found->ok());
    EXPECT_THAT(found->value().groups, SizeIs(1));
    EXPECT_TRUE(found->value().every_subject);
    transport_->Discover(
        {"not/one", "", {}, "", ""}, {}, [&](auto groups) { found = std::move(groups); });
    EXPECT_EQ(found->status().code(), StatusCode::kInvalidArgument);
}

TEST_F(InprocTransportTest, MetadataCallsAreAnswered) {
    Open();
    std::size_t subjects = 0;
    std::size_t groups = 0;
    Status reset;
    connection_->ListSubjects([&](const auto& reply) { subjects = reply.value().size(); });
    connection_->ListGroups("s", [&](const auto& reply) { groups = reply.value().size(); });
    connection_->ResetGroup(
        "s", "g", StartPosition::kEarliest, [&](Status status) { reset = status; });
    EXPECT_EQ(subjects, 1U);
    EXPECT_EQ(groups, 2U);
    EXPECT_EQ(reset, Status::NotFound("g"));
}

}  // namespace
}  // namespace qmq::inproc
