#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "qmq/batch.h"
#include "qmq/message.h"
#include "qmq/subject.h"

#include "server/broker/broker.h"
#include "tests/support/manual_executor.h"

namespace qmq::broker::testing {

using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace): for tests only.
using qmq::testing::ManualTime;

/// One delivered message, as a test looks at it.
struct Got {
    std::uint64_t pull = 0;
    std::uint64_t sequence = 0;
    std::string body;
    std::uint32_t attempt = 0;
    bool from_retry = false;
    std::string error;
};

/// In place of the body of a message that clients cannot read.
inline constexpr const char* kUnreadable = "(unreadable)";

inline std::vector<Got> Decode(const std::vector<DeliveredBatch>& batches) {
    std::vector<Got> all;
    for (const DeliveredBatch& batch : batches) {
        const std::string bytes(std::string(batch.header.bytes()) +
                                std::string(batch.body.bytes()));
        Result<std::vector<Message>> messages =
            DecodeMessages("subject", Slice::Own(bytes), batch.attempt, BatchLimits{});
        if (!messages.ok()) {
            EXPECT_EQ(batch.count, 1U) << "neighbours cannot be read: " << messages.status();
            all.push_back(Got{batch.first_pull_sequence,
                              batch.first_sequence,
                              kUnreadable,
                              batch.attempt,
                              batch.from_retry,
                              {}});
            continue;
        }
        EXPECT_EQ(messages->size(), batch.count);
        for (std::size_t i = 0; i < messages->size(); ++i) {
            const Message& message = (*messages)[i];
            all.push_back(Got{batch.first_pull_sequence + i,
                              batch.first_sequence + i,
                              std::string(message.body()),
                              message.attempt(),
                              batch.from_retry,
                              message.last_error()});
        }
    }
    return all;
}

/// Remembers what a session was told.
class RecordingSink final : public DeliverySink {
public:
    void OnSubscribed(const SubscribeReply& reply) override { subscribed = reply; }
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        EXPECT_TRUE(subscribed) << "a delivery before OnSubscribed";
        EXPECT_FALSE(closed) << "a delivery after OnClosed";
        ++frame_count;
        batch_count += batches.size();
        for (Got& got : Decode(batches)) {
            messages.push_back(std::move(got));
        }
    }
    void OnClosed(const Status& status) override {
        EXPECT_FALSE(closed) << "closed twice";
        closed = status;
    }

    std::vector<std::string> bodies() const {
        std::vector<std::string> all;
        for (const Got& got : messages) {
            all.push_back(got.body);
        }
        return all;
    }

    std::optional<SubscribeReply> subscribed;
    std::vector<Got> messages;
    std::size_t frame_count = 0;
    std::size_t batch_count = 0;
    std::optional<Status> closed;
};

/// Remembers what the broker had to tell people.
class RecordingEvents final : public env::EventListener {
public:
    void OnEvent(const env::Event& event) override { all.push_back(event); }
    std::size_t Count(env::EventKind kind) const {
        return static_cast<std::size_t>(
            std::count_if(all.begin(), all.end(), [kind](const env::Event& event) {
                return event.kind == kind;
            }));
    }

    std::vector<env::Event> all;
};

/// A member that a test plays.
struct Member {
    std::shared_ptr<RecordingSink> sink = std::make_shared<RecordingSink>();
    std::unique_ptr<Session> session;

    const std::vector<Got>& got() const { return sink->messages; }
    std::vector<std::string> bodies() const { return sink->bodies(); }
};

inline Credit Plenty() {
    return {1'000'000, 1U << 30U};
}

inline SubscribeRequest MakeRequest(const std::string& subject,
                                    const std::string& group,
                                    const std::string& id = "c1") {
    SubscribeRequest request;
    request.key = {subject, group, id, ConsumeSource::kBoth};
    request.start = StartPosition::kEarliest;
    return request;
}

/// A broker over files in memory, whose time the test moves.
class BrokerTest : public ::testing::Test {
protected:
    BrokerTest() : memory_(env::MakeMemoryFileSystem()), files_(memory_.get()) {
        options_.directory = "/data";
        options_.store.segment_bytes = 1U << 20U;
    }
    ~BrokerTest() override { Crash(); }

    Status TryOpen() {
        Result<std::unique_ptr<Broker>> broker = Broker::Open(
            options_,
            BrokerEnvironment{
                *files_, time_.clock, time_.executor, time_.io, Strand::Mode::kPosted, 1, events_});
        if (!broker.ok()) {
            return broker.status();
        }
        broker_ = *std::move(broker);
        time_.Settle();
        return {};
    }
    void Open() {
        const Status status = TryOpen();
        ASSERT_TRUE(status.ok()) << status;
    }
    /// As kill -9: what was written stays.
    void Crash() {
        broker_.reset();
        time_.Settle();
    }
    void CrashAndOpen() {
        Crash();
        Open();
    }
    Status CloseBroker() {
        std::optional<Status> result;
        broker_->Close([&result](Status status) { result = std::move(status); });
        time_.Settle();
        EXPECT_TRUE(result) << "Close was not answered";
        return result.value_or(Status::Internal("no answer"));
    }

    SendBatch Batch(const std::string& subject,
                    const std::vector<std::string>& bodies,
                    const std::vector<std::string>& tags = {}) {
        BatchBuilder builder;
        for (const std::string& body : bodies) {
            Message message(subject);
            message.SetBody(body);
            for (const std::string& tag : tags) {
                message.AddTag(tag);
            }
            builder.Add(message, "id-" + std::to_string(++last_id_), time_.clock.WallNow());
        }
        return SendBatch{subject, Slice::Own(builder.Finish()), Durability::kDefault};
    }

    /// One message that the broker takes and clients cannot read: a property of a kind that nobody
    /// knows.
    SendBatch UnreadableBatch(const std::string& subject) {
        Message message(subject);
        message.SetBody("body").Set("n", std::int64_t{1});
        BatchBuilder builder;
        builder.Add(message, "id-" + std::to_string(++last_id_), time_.clock.WallNow());
        std::string body = builder.Finish().substr(BatchHeader::kBytes);
        for (char& byte : body) {
            const char before = std::exchange(byte, '\x7f');
            if (const Result<MessageHead> head = ReadHead(body, 0);
                head.ok() && head->bytes == body.size() && !IsReadable(body, *head)) {
                break;
            }
            byte = before;
        }
        return SendBatch{
            subject, Slice::Own(MakeBatchHeader(1, body) + body), Durability::kDefault};
    }

    /// Sends without letting anything run.
    std::shared_ptr<std::optional<std::vector<BatchReceipt>>> Post(std::vector<SendBatch> frame) {
        auto receipts = std::make_shared<std::optional<std::vector<BatchReceipt>>>();
        broker_->Send(std::move(frame), [receipts](std::vector<BatchReceipt> all) {
            EXPECT_FALSE(*receipts) << "answered twice";
            *receipts = std::move(all);
        });
        return receipts;
    }
    BatchReceipt Send(SendBatch batch) {
        std::vector<SendBatch> frame;
        frame.push_back(std::move(batch));
        auto receipts = Post(std::move(frame));
        time_.Settle();
        EXPECT_TRUE(*receipts) << "the send was not answered";
        return *receipts ? (**receipts)[0] : BatchReceipt{};
    }
    BatchReceipt Send(const std::string& subject,
                      const std::vector<std::string>& bodies,
                      const std::vector<std::string>& tags = {}) {
        return Send(Batch(subject, bodies, tags));
    }

    Member Join(const SubscribeRequest& request, Credit credit = Plenty()) {
        Member member;
        member.session = broker_->Subscribe(request, member.sink);
        if (credit.messages > 0) {
            member.session->Grant(credit);
        }
        time_.Settle();
        return member;
    }
    Member Join(const std::string& subject,
                const std::string& group,
                const std::string& id = "c1",
                Credit credit = Plenty()) {
        return Join(MakeRequest(subject, group, id), credit);
    }

    Result<AckReply> Judge(Member& member, std::vector<AckItem> items) {
        std::optional<Result<AckReply>> reply;
        member.session->Ack(std::move(items),
                            [&reply](Result<AckReply> r) { reply.emplace(std::move(r)); });
        time_.Settle();
        EXPECT_TRUE(reply) << "the ack was not answered";
        return reply ? *std::move(reply) : Result<AckReply>(Status::Internal("no answer"));
    }
    Result<AckReply> Ack(Member& member, std::uint64_t first, std::uint64_t last) {
        return Judge(member, {AckItem{AckVerdict::kAck, first, last, {}, {}}});
    }
    Result<AckReply> Ack(Member& member, std::uint64_t pull) { return Ack(member, pull, pull); }

    Result<PullReply> Pull(const PullRequest& request) {
        auto reply = PostPull(request);
        time_.Settle();
        EXPECT_TRUE(*reply) << "the pull was not answered";
        return *reply ? std::move(**reply) : Result<PullReply>(Status::Internal("no answer"));
    }
    std::shared_ptr<std::optional<Result<PullReply>>> PostPull(const PullRequest& request) {
        auto reply = std::make_shared<std::optional<Result<PullReply>>>();
        broker_->Pull(request, [reply](Result<PullReply> r) { reply->emplace(std::move(r)); });
        return reply;
    }
    Result<AckReply> AckByKey(const ConsumerKey& key, std::vector<AckItem> items) {
        std::optional<Result<AckReply>> reply;
        broker_->Ack(
            key, std::move(items), [&reply](Result<AckReply> r) { reply.emplace(std::move(r)); });
        time_.Settle();
        EXPECT_TRUE(reply) << "the ack was not answered";
        return reply ? *std::move(reply) : Result<AckReply>(Status::Internal("no answer"));
    }

    Status Reset(const std::string& subject, const std::string& group, StartPosition position) {
        std::optional<Status> result;
        broker_->ResetGroup(
            subject, group, position, [&result](Status status) { result = std::move(status); });
        time_.Settle();
        EXPECT_TRUE(result) << "the reset was not answered";
        return result.value_or(Status::Internal("no answer"));
    }

    GroupInfo Info(const std::string& subject, const std::string& group) {
        std::vector<GroupInfo> all;
        broker_->ListGroups(subject,
                            [&all](Result<std::vector<GroupInfo>> r) { all = *std::move(r); });
        time_.Settle();
        for (const GroupInfo& info : all) {
            if (info.group == group) {
                return info;
            }
        }
        ADD_FAILURE() << "no group " << group << " of " << subject;
        return {};
    }

    ManualTime time_;
    RecordingEvents events_;
    std::unique_ptr<env::FileSystem> memory_;
    env::FileSystem* files_;
    BrokerOptions options_;
    std::unique_ptr<Broker> broker_;
    int last_id_ = 0;
};

}  // namespace qmq::broker::testing
