#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "qmq/random.h"
#include "qmq/subject.h"

#include "server/broker/shard.h"
#include "tests/unit/broker/broker_fixture.h"
#include "tests/unit/broker/faulty_files.h"

// What the log says is what there is: after anything at all, a replay comes to the same state.
namespace qmq::broker::testing {
namespace {

class ReplayTest : public ::testing::TestWithParam<int> {
protected:
    ReplayTest() : random_(static_cast<std::uint64_t>(GetParam())) {
        options_.directory = "/data";
        options_.store.segment_bytes = 64U << 10U;
        options_.default_durability =
            random_.Chance(0.5) ? Durability::kPageCache : Durability::kFsync;
        options_.max_in_flight_per_consumer = 50;
    }

    void Open() {
        Result<std::unique_ptr<Shard>> shard = Shard::Open(
            0,
            options_,
            BrokerEnvironment{
                faulty_, time_.clock, time_.executor, time_.io, Strand::Mode::kPosted, 1});
        ASSERT_TRUE(shard.ok()) << shard.status();
        shard_ = *std::move(shard);
        time_.Settle();
    }

    std::string Subject() { return random_.Chance(0.8) ? "s1" : "s2"; }

    ResolvedKey Key() {
        const std::string subject =
            random_.Chance(0.15) ? DeadLetterSubject("s1", "g0") : Subject();
        ConsumerKey key{subject,
                        "g" + std::to_string(random_.Below(2)),
                        "c" + std::to_string(random_.Below(3)),
                        static_cast<ConsumeSource>(random_.Below(subject[0] == '%' ? 2 : 3))};
        return Resolve(key).value();
    }

    void Send() {
        std::string subject = Subject();
        if (random_.Chance(0.1)) {
            subject = RetrySubject(subject, "g0");
        }
        BatchBuilder builder;
        for (std::uint64_t i = random_.Below(5) + 1; i > 0; --i) {
            Message message(subject);
            message.SetBody(std::string(random_.Below(300), 'x'));
            if (random_.Chance(0.5)) {
                message.AddTag("t");
            }
            builder.Add(message, "id", time_.clock.WallNow());
        }
        Result<CheckedBatch> batch =
            CheckBatch(SendBatch{subject, Slice::Own(builder.Finish()), Durability::kDefault},
                       0,
                       options_,
                       shard_->Promise(subject),
                       time_.clock.WallNow());
        ASSERT_TRUE(batch.ok()) << batch.status();
        auto part = std::make_unique<SendPart>();
        part->frame = std::make_shared<SendFrame>();
        part->frame->receipts.resize(1);
        part->frame->open_parts = 1;
        part->frame->done = [](std::vector<BatchReceipt>) {};
        part->batches.push_back(*std::move(batch));
        shard_->Send(std::move(part));
    }

    void Subscribe() {
        const ResolvedKey key = Key();
        SubscribeRequest request = MakeRequest(key.subject, key.group, key.consumer_id);
        request.retry.max_attempts = 3;
        request.retry.initial_backoff = 500ms;
        request.ack_timeout = 3s;
        request.reconnect_grace = 1s;
        if (random_.Chance(0.3)) {
            request.filter = {TagMode::kAny, {"t"}};
        }
        if (random_.Chance(0.5)) {
            request.resume = ResumePoint{random_.Below(3), random_.Below(100)};
        }
        const std::uint64_t session = ++last_session_;
        shard_->Subscribe(key, request, session, std::make_shared<RecordingSink>());
        shard_->Grant(std::make_shared<const ResolvedKey>(key),
                      session,
                      {static_cast<std::uint32_t>(random_.Below(100)), random_.Below(100'000)});
        sessions_.emplace_back(key, session);
    }

    void Pull() {
        const ResolvedKey key = Key();
        PullRequest request;
        request.consumer = MakeRequest(key.subject, key.group, key.consumer_id);
        request.consumer.ack_timeout = 2s;
        request.max_messages = static_cast<std::uint32_t>(random_.Below(20) + 1);
        request.max_wait = std::chrono::milliseconds(random_.Below(2'000));
        shard_->Pull(key, request, [](Result<PullReply>) {});
    }

    void Ack() {
        std::vector<AckItem> items;
        for (std::uint64_t i = random_.Below(3) + 1; i > 0; --i) {
            const std::uint64_t first = random_.Below(60);
            AckItem item{static_cast<AckVerdict>(random_.Below(5)), first, first, {}, "why"};
            item.last += random_.Below(6);
            if (random_.Chance(0.3)) {
                item.delay = std::chrono::milliseconds(random_.Below(3'000));
            }
            items.push_back(item);
        }
        shard_->Ack(
            std::make_shared<const ResolvedKey>(Key()), std::move(items), [](Result<AckReply>) {});
    }

    void EndSession() {
        if (!sessions_.empty()) {
            const auto& [key, session] = sessions_[random_.Below(sessions_.size())];
            const auto shared = std::make_shared<const ResolvedKey>(key);
            random_.Chance(0.5) ? shard_->Detach(shared, session) : shard_->Leave(shared, session);
        }
    }

    void Reset() {
        const ResolvedKey key = Key();
        shard_->Reset(key.subject,
                      key.group,
                      random_.Chance(0.5) ? StartPosition::kEarliest : StartPosition::kLatest,
                      [](Status) {});
    }

    void Step() {
        const double dice = random_.Unit();
        if (dice < 0.35) {
            Send();
        } else if (dice < 0.5) {
            Subscribe();
        } else if (dice < 0.6) {
            Pull();
        } else if (dice < 0.85) {
            Ack();
        } else if (dice < 0.9) {
            EndSession();
        } else if (dice < 0.91) {
            Reset();
        } else {
            time_.Advance(std::chrono::milliseconds(random_.Below(2'000)));
        }
        if (random_.Chance(0.5)) {
            time_.Settle();
        }
        if (full_disks_ && random_.Chance(0.2)) {
            faulty_.write_error = faulty_.write_error.ok()
                                      ? Status::ResourceExhausted("no space left on device")
                                      : Status::Ok();
        }
    }

    void CompareWithReplay(int rounds) {
        Open();
        for (int round = 0; round < rounds; ++round) {
            for (int step = 0; step < 60; ++step) {
                Step();
            }
            faulty_.write_error = {};
            time_.Advance(2s);
            const std::string before = shard_->TakeSnapshot();
            shard_.reset();
            time_.Settle();
            sessions_.clear();
            Open();
            // Compared without EXPECT_EQ, which would print kilobytes of binary.
            ASSERT_TRUE(shard_->TakeSnapshot() == before)
                << "seed " << GetParam() << " round " << round;
        }
    }

    ManualTime time_;
    std::unique_ptr<env::FileSystem> memory_ = env::MakeMemoryFileSystem();
    FaultyFiles faulty_{*memory_};
    bool full_disks_ = false;
    BrokerOptions options_;
    std::unique_ptr<Shard> shard_;
    Random random_;
    std::uint64_t last_session_ = 0;
    std::vector<std::pair<ResolvedKey, std::uint64_t>> sessions_;
};

TEST_P(ReplayTest, AReplayComesToTheStateThatThereWas) {
    CompareWithReplay(6);
}

TEST_P(ReplayTest, ARoundThatAFullDiskTookBackHasLeftNothingInMemoryEither) {
    full_disks_ = true;
    CompareWithReplay(6);
}

INSTANTIATE_TEST_SUITE_P(Seeds, ReplayTest, ::testing::Range(1, 61));

}  // namespace
}  // namespace qmq::broker::testing
