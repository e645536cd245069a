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
        options_.max_set_aside_per_group = 10;
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
            message.SetBody(std::string(random_.Below(retention_ ? 6'000 : 300), 'x'));
            if (random_.Chance(0.5)) {
                message.AddTag("t");
            }
            if (random_.Chance(0.3)) {
                message.AddTag("u");
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

    TagFilter Filter() {
        switch (random_.Below(5)) {
            case 0:
                return {TagMode::kAny, {"t"}};
            case 1:
                return {TagMode::kAny, {"u"}};
            case 2:
                return {TagMode::kAll, {"t", "u"}};
            default:
                return {};
        }
    }

    void Subscribe() {
        const ResolvedKey key = Key();
        SubscribeRequest request = MakeRequest(key.subject, key.group, key.consumer_id);
        request.retry.max_attempts = static_cast<std::uint32_t>(random_.Below(3) + 2);
        request.retry.initial_backoff = 500ms;
        request.ack_timeout = 3s;
        request.reconnect_grace = 1s;
        request.filter = Filter();
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
        if (random_.Chance(0.2)) {
            request.consumer.filter = Filter();
        }
        request.max_messages = static_cast<std::uint32_t>(random_.Below(20) + 1);
        request.max_wait = std::chrono::milliseconds(random_.Below(2'000));
        shard_->Pull(key, request, [](Result<PullReply>) {});
    }

    void Ack() {
        std::vector<AckItem> items;
        for (std::uint64_t i = random_.Below(3) + 1; i > 0; --i) {
            const std::uint64_t first = random_.Below(60);
            AckItem item{static_cast<AckVerdict>(random_.Below(6)), first, first, {}, "why"};
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
        } else if (dice < 0.91 && !retention_) {
            Reset();
        } else if (dice < 0.92 && retention_) {
            time_.clock.JumpWall(std::chrono::milliseconds(
                static_cast<std::int64_t>(random_.Below(14'400'000)) - 7'200'000));
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
        // No room for a next segment: then an append fails, and not the write.
        if (full_disks_ && random_.Chance(0.1)) {
            faulty_.allocate_error = faulty_.allocate_error.ok()
                                         ? Status::ResourceExhausted("no space left on device")
                                         : Status::Ok();
        }
    }

    /// Away for the whole test, each with a filter of its own.
    void SubscribeMany(int count) {
        for (int i = 0; i < count; ++i) {
            const ResolvedKey key =
                Resolve(ConsumerKey{"s1", "g0", "many" + std::to_string(i)}).value();
            SubscribeRequest request = MakeRequest(key.subject, key.group, key.consumer_id);
            request.filter = {TagMode::kAny, {"m" + std::to_string(i)}};
            request.reconnect_grace = 1h;
            shard_->Subscribe(key, request, ++last_session_, std::make_shared<RecordingSink>());
        }
    }

    void CompareWithReplay(int rounds) {
        Open();
        SubscribeMany(many_);
        for (int round = 0; round < rounds; ++round) {
            for (int step = 0; step < 60; ++step) {
                Step();
            }
            faulty_.write_error = {};
            faulty_.allocate_error = {};
            time_.Advance(2s);
            if (retention_) {
                time_.Advance(11s);
            }
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
    bool retention_ = false;
    int many_ = 0;
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

TEST_P(ReplayTest, AlsoWithManyFiltersAndHardlyAnythingSetAside) {
    full_disks_ = GetParam() % 2 == 0;
    options_.max_set_aside_per_group = 3;
    many_ = 62;
    CompareWithReplay(3);
}

// What was moved before its segment went is held, waits, and is counted as the log says.
TEST_P(ReplayTest, WhatRetentionMovedAndTookIsTheSameAfterAReplay) {
    retention_ = true;
    options_.store.retention = std::chrono::seconds(5);
    options_.store.retention_bytes = GetParam() % 2 == 0 ? 0 : 6 * options_.store.segment_bytes;
    CompareWithReplay(6);
}

INSTANTIATE_TEST_SUITE_P(Seeds, ReplayTest, ::testing::Range(1, 61));

}  // namespace
}  // namespace qmq::broker::testing
