#include <functional>

#include "server/broker/shard.h"
#include "server/env/planted_bug.h"
#include "server/env/simulated_file_system.h"
#include "tests/unit/broker/broker_fixture.h"
#include "tests/unit/broker/faulty_files.h"

// Whatever was called: the next start opens, nobody waits for ever, and what was answered holds.
// Each test of a mended fault has beside it what the old behaviour does to the same property.
namespace qmq::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class PromiseTest : public BrokerTest {
protected:
    PromiseTest() : faulty_(*memory_) { files_ = &faulty_; }
    ~PromiseTest() override {
        Crash();
#ifdef QMQ_PLANTED_BUGS
        env::Plant(env::PlantedBug::kNone);
#endif
    }

    static Status Full() {
        return Status::ResourceExhausted("no space left on device");
    }

    /// Acks all numbers and another one in one request, then starts anew.
    Status StartAfterAnAckOfAllNumbers() {
        Open();
        Member member = Join("orders", "billing");
        Send("orders", std::vector<std::string>(10, "m"));
        EXPECT_TRUE(Judge(member,
                          {AckItem{AckVerdict::kAck, 0, UINT64_MAX, {}, {}},
                           AckItem{AckVerdict::kAck, 5, 5, {}, {}}})
                        .ok());
        EXPECT_EQ(Info("orders", "billing").in_flight_count, 0U);
        Crash();
        return TryOpen();
    }

    /// A lease that ends while the disk is full; what another consumer is given afterwards.
    std::vector<std::string> AfterALeaseThatEndedOnAFullDisk() {
        Open();
        SubscribeRequest request = MakeRequest("orders", "billing");
        request.ack_timeout = 30s;
        Member hung = Join(request, {1, 1'000});
        Send("orders", {"a"});
        time_.Advance(29s);
        faulty_.write_error = Full();
        time_.Advance(3s);
        faulty_.write_error = {};
        time_.Advance(2s);
        Member other = Join("orders", "billing", "other");
        time_.Advance(5s);
        return other.bodies();
    }

    /// Whether the group goes on after a message whose dead letter fits into no segment. What is
    /// stored is `taken` before anything becomes of it.
    bool GoesOnAfterTooLargeALetter(const std::function<void()>& taken) {
        options_.store.segment_bytes = 64U << 10U;
        Open();
        SubscribeRequest request = MakeRequest("orders", "billing");
        request.retry.max_attempts = 1;
        Member member = Join(request);
        for (std::size_t size = 65'536; size > 65'000; size -= 16) {
            if (Send("orders", {std::string(size, 'x')}).status.ok()) {
                break;
            }
        }
        taken();
        EXPECT_THAT(member.got(), SizeIs(1));
        EXPECT_TRUE(Judge(member, {AckItem{AckVerdict::kBegin, 0, 0, {}, {}}}).ok());
        member.session->Close();
        time_.Advance(1min);
        Member next = Join(request);
        Send("orders", {"small"});
        time_.Advance(30s);
        return !next.got().empty() && next.got().back().body == "small";
    }

    /// Whether what was sent while nobody was there comes after a month.
    std::vector<std::string> AfterAMonthAway() {
        options_.store.retention = std::chrono::hours(24 * 365);
        options_.idle_group_retention = std::chrono::hours(1);
        Open();
        SubscribeRequest request = MakeRequest("orders", "billing");
        request.start = StartPosition::kLatest;
        Member member = Join(request);
        member.session->Close();
        time_.Settle();
        Send("orders", {"a"});
        time_.Advance(3h);
        Member again = Join(request);
        return again.bodies();
    }

    /// How many of 20 messages that were acked, so it was said, come again after a power cut.
    std::size_t HandledTwiceAfterAPowerCut(Durability durability) {
        return HandledTwiceAfter(&env::SimulatedFileSystem::CutPower, durability);
    }
    std::size_t HandledTwiceAfter(void (env::SimulatedFileSystem::*end)(), Durability durability) {
        std::size_t twice = 0;
        for (std::uint64_t seed = 1; seed <= 20; ++seed) {
            env::SimulatedFileSystem disk(seed);
            files_ = &disk;
            Open();
            {
                Member member = Join("orders", "billing");
                Send("orders", {"a"});
                EXPECT_THAT(member.got(), SizeIs(1));
                bool answered = false;
                member.session->Ack({AckItem{AckVerdict::kAck, 0, 0, {}, {}, durability}},
                                    [&answered](Result<AckReply> r) { answered = r.ok(); });
                while (!answered && (time_.executor.RunOne() || time_.io.RunOne())) {
                }
                EXPECT_TRUE(answered);
                (disk.*end)();
                broker_.reset();
                time_.Settle();
            }
            Open();
            Member other = Join("orders", "billing", "other");
            time_.Advance(2min);
            twice += other.got().size();
            Crash();
            files_ = &faulty_;
        }
        return twice;
    }

    FaultyFiles faulty_;
};

// Two legal ranges wrote an action that no start could read, and the shard was lost.
TEST_F(PromiseTest, AnAckOfAllNumbersAndAnotherOneIsReadByTheNextStart) {
    const Status status = StartAfterAnAckOfAllNumbers();
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
}

TEST_F(PromiseTest, CountsOfMessagesThatNobodyHeldDoNotRunOver) {
    Open();
    Member member = Join("orders", "billing");
    const AckItem all{AckVerdict::kAck, 0, UINT64_MAX, {}, {}};
    const AckItem renew{AckVerdict::kRenew, 0, UINT64_MAX, {}, {}};
    EXPECT_EQ(Judge(member, {all, all, renew, all})->not_held_count(), UINT64_MAX);
}

TEST_F(PromiseTest, EveryOtherOfManyMayBeAckedInOneRequestInTheSmallestSegments) {
    options_.store.segment_bytes = 64U << 10U;
    Open();
    Member member = Join("orders", "billing", "c1", {100'000, 1U << 30U});
    for (int i = 0; i < 60; ++i) {
        Send("orders", std::vector<std::string>(1'000, ""));
    }
    ASSERT_THAT(member.got(), SizeIs(60'000));
    std::vector<AckItem> items;
    for (std::uint64_t pull = 0; pull < 60'000; pull += 2) {
        items.push_back(AckItem{AckVerdict::kAck, pull, pull, {}, {}});
    }
    const Result<AckReply> reply = Judge(member, items);
    ASSERT_TRUE(reply.ok()) << reply.status();
    CrashAndOpen();
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 30'000U);
}

TEST_F(PromiseTest, ABackoffOfNothingIsNothingHoweverOften) {
    RetryPolicy policy;
    policy.initial_backoff = 0ms;
    policy.multiplier = 10;
    EXPECT_EQ(Mover::Backoff(policy, 65'535), 0ms);
    policy.initial_backoff = 1ms;
    EXPECT_EQ(Mover::Backoff(policy, 65'535), policy.max_backoff);
}

TEST_F(PromiseTest, ARetryThatAClientSendsWithTheLargestAttemptAndTimeIsReadByTheNextStart) {
    const std::string retry = RetrySubject("orders", "billing");
    Open();
    Member member = Join("orders", "billing");
    const SendBatch plain = Batch(retry, {"again"});
    const BatchView view = BatchView::Trusted(plain.batch.bytes());
    const Result<MessageHead> head = ReadHead(view.body(), 0);
    for (const std::int64_t due : {INT64_MIN, INT64_MAX}) {
        const WallTime when{std::chrono::milliseconds(due)};
        const std::string batch = EncodeRetry(view.body(), *head, UINT32_MAX, when, "");
        EXPECT_TRUE(Send(SendBatch{retry, Slice::Own(batch), {}}).status.ok());
    }
    time_.Advance(1s);
    EXPECT_THAT(member.got(), IsEmpty());
    EXPECT_EQ(Info("orders", "billing").dead_letter_count, 1U)
        << "one is due at once, and has no attempt left";
    CrashAndOpen();
    Member again = Join("orders", "billing", "other");
    time_.Advance(7 * 24h);
    EXPECT_EQ(Info("orders", "billing").waiting_retry_count, 0U) << "the other after seven days";
}

TEST_F(PromiseTest, WhatAnActionCannotSayIsRefused) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.filter = {static_cast<TagMode>(7), {"t"}};
    EXPECT_EQ(Join(request).sink->closed->code(), StatusCode::kInvalidArgument);
    request = MakeRequest("orders", "billing");
    request.key.source = static_cast<ConsumeSource>(9);
    EXPECT_EQ(Join(request).sink->closed->code(), StatusCode::kInvalidArgument);
    Member member = Join("orders", "billing");
    EXPECT_EQ(Judge(member, {AckItem{static_cast<AckVerdict>(99), 0, 0, {}, {}}}).status().code(),
              StatusCode::kInvalidArgument);
    EXPECT_EQ(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, 169h, {}}}).status().code(),
              StatusCode::kInvalidArgument);
    EXPECT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, 168h, {}}}).ok());
}

// One message to an unknown retry subject and a listing killed the broker.
TEST_F(PromiseTest, ARetryOfASubjectThatNobodyKnowsMayBeListed) {
    Open();
    EXPECT_TRUE(Send(RetrySubject("nobody", "knows"), {"m"}).status.ok());
    EXPECT_EQ(Info("nobody", "knows").waiting_retry_count, 1U);
    std::size_t subjects = 0;
    broker_->ListSubjects([&](Result<std::vector<SubjectInfo>> r) { subjects = r->size(); });
    time_.Settle();
    EXPECT_EQ(subjects, 2U);
}

TEST_F(PromiseTest, ASnapshotThatCannotBeReadLeavesNothingBehind) {
    State state(options_);
    state.MakeGroup({"orders", "billing"}).placed = true;
    const std::string good = state.Save({});
    State other(options_);
    ASSERT_FALSE(other.Load(good + "x").ok());
    other.Clear();
    EXPECT_THAT(other.subjects(), IsEmpty());
    ASSERT_TRUE(other.Load(good).ok());
    EXPECT_TRUE(other.Save({}) == good);
}

// A lease that ended while the disk was full never ended again.
TEST_F(PromiseTest, ALeaseThatEndsWhileTheDiskIsFullEndsAfterwards) {
    EXPECT_THAT(AfterALeaseThatEndedOnAFullDisk(), ElementsAre("a"));
}

TEST_F(PromiseTest, AGroupWhoseSkipWasTakenBackIsLookedAtAgain) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.filter = {TagMode::kAny, {"wanted"}};
    Member member = Join(request);
    faulty_.sync_error = {};
    std::vector<SendBatch> frame;
    frame.push_back(Batch("orders", {"a"}, {"other"}));
    frame.push_back(Batch("orders", {"b"}, {"wanted"}));
    auto receipts = Post(std::move(frame));
    time_.SettleWithoutIo();
    faulty_.write_error = Full();
    time_.Settle();
    faulty_.write_error = {};
    time_.Advance(1s);
    EXPECT_THAT(member.bodies(), ElementsAre("b"));
}

// A message whose copy fitted into no segment stopped its group for good.
TEST_F(PromiseTest, WhatCouldNotBeStoredAsADeadLetterIsRefusedOnReceipt) {
    options_.store.segment_bytes = 64U << 10U;
    Open();
    Member member = Join("orders", "billing");
    const BatchReceipt refused = Send("orders", {std::string(65'000, 'x')});
    EXPECT_EQ(refused.status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.status.message()), HasSubstr("larger segments"));
    const std::size_t most = (64U << 10U) - kRetryReserveBytes - 100;
    ASSERT_TRUE(Send("orders", {std::string(most, 'x')}).status.ok());
    const AckItem nack{AckVerdict::kRetry, 0, 0, 0ms, std::string(5'000, 'e')};
    ASSERT_TRUE(Judge(member, {nack}).ok());
    ASSERT_THAT(member.got(), SizeIs(2));
    const AckItem dead{AckVerdict::kDeadLetter, 1, 1, {}, std::string(5'000, 'e')};
    ASSERT_TRUE(Judge(member, {dead}).ok());
    EXPECT_EQ(Info("orders", "billing").dead_letter_count, 1U);
    EXPECT_EQ(Info("orders", "billing").lost_to_burial_count, 0U);
}

TEST_F(PromiseTest, ManyMayFailWithLongReasonsInTheSmallestSegments) {
    options_.store.segment_bytes = 64U << 10U;
    Open();
    Member member = Join("orders", "billing");
    Send("orders", std::vector<std::string>(256, "m"));
    const AckItem nack{AckVerdict::kRetry, 0, 255, 0ms, std::string(4'096, 'e')};
    const Result<AckReply> reply = Judge(member, {nack});
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_THAT(member.got(), SizeIs(512));
}

// The position of a group that was away for long was forgotten with what it had not read.
TEST_F(PromiseTest, AGroupThatHasUnreadMessagesIsNotForgotten) {
    EXPECT_THAT(AfterAMonthAway(), ElementsAre("a"));
}

// "A crash loses it, nothing is handled twice because of us" was false for a power cut.
TEST_F(PromiseTest, AConfirmedAckSurvivesAPowerCut) {
    EXPECT_EQ(HandledTwiceAfterAPowerCut(Durability::kDefault), 0U);
    EXPECT_EQ(HandledTwiceAfterAPowerCut(Durability::kFsync), 0U);
    EXPECT_GT(HandledTwiceAfterAPowerCut(Durability::kMemory), 0U) << "it need not";
}

TEST_F(PromiseTest, WhereThePageCacheIsPromisedAConfirmedAckSurvivesAKill) {
    options_.default_durability = Durability::kPageCache;
    EXPECT_EQ(HandledTwiceAfter(&env::SimulatedFileSystem::CloseAll, Durability::kDefault), 0U);
}

TEST_F(PromiseTest, AnAckOfMoreThanTheBrokerCanPromiseIsRefused) {
    options_.best_durability = Durability::kPageCache;
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    AckItem item{AckVerdict::kAck, 0, 0, {}, {}, Durability::kFsync};
    EXPECT_EQ(Judge(member, {item}).status().code(), StatusCode::kUnimplemented);
    item.durability = Durability::kDefault;
    EXPECT_TRUE(Judge(member, {item}).ok());
}

TEST_F(PromiseTest, AnAckWhoseSyncFailsFailsAndIsAnsweredOnce) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    faulty_.sync_error = Status::DataLoss("input/output error");
    const AckItem item{AckVerdict::kAck, 0, 0, {}, {}, Durability::kFsync};
    EXPECT_EQ(Judge(member, {item}).status().code(), StatusCode::kUnavailable);
    EXPECT_EQ(events_.Count(env::EventKind::kStopped), 1U);
}

// They waited for one, though nothing of them is logged.
TEST_F(PromiseTest, ARenewalOrABeginWaitsForNoSync) {
    options_.default_durability = Durability::kFsync;
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    ASSERT_EQ(member.got().size(), 1U);
    const std::size_t before = faulty_.sync_count;
    for (const AckVerdict verdict : {AckVerdict::kRenew, AckVerdict::kBegin}) {
        EXPECT_TRUE(Judge(member, {AckItem{verdict, 0, 0, {}, {}}}).ok());
    }
    EXPECT_EQ(faulty_.sync_count, before);
}

TEST_F(PromiseTest, AVerdictThatChangedNothingWaitsForWhatItRepeats) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    const AckItem durable{AckVerdict::kAck, 0, 0, {}, {}, Durability::kFsync};
    bool first = false;
    bool second = false;
    member.session->Ack({AckItem{AckVerdict::kAck, 0, 0, {}, {}}},
                        [&first](Result<AckReply> r) { first = r.ok(); });
    time_.SettleWithoutIo();
    EXPECT_TRUE(first);
    member.session->Ack({durable}, [&second](Result<AckReply> r) { second = r.ok(); });
    time_.SettleWithoutIo();
    EXPECT_FALSE(second);
    time_.Settle();
    EXPECT_TRUE(second);
}

TEST_F(PromiseTest, ABusyShardIsToldOnceUntilItIsIdleAgain) {
    options_.max_queued_requests = 4;
    Open();
    for (int round = 1; round <= 2; ++round) {
        std::vector<std::shared_ptr<std::optional<std::vector<BatchReceipt>>>> all;
        for (int i = 0; i < 10; ++i) {
            std::vector<SendBatch> frame;
            frame.push_back(Batch("orders", {"m"}));
            all.push_back(Post(std::move(frame)));
        }
        time_.Settle();
        EXPECT_EQ(events_.Count(env::EventKind::kLimit), static_cast<std::size_t>(round));
    }
}

TEST_F(PromiseTest, ManyMayFailAtOnceWhereABatchMayHaveOneMessage) {
    options_.store.limits.max_message_count = 1;
    Open();
    Member member = Join("orders", "billing");
    for (int i = 0; i < 10; ++i) {
        Send("orders", {"m"});
    }
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 9, 0ms, {}}}).ok());
    EXPECT_THAT(member.got(), SizeIs(20));
}

// What rot took from a group was counted and never shown.
TEST_F(PromiseTest, WhatDamageTookUnreadOrWaitingIsCountedAndTold) {
    env::SimulatedFileSystem disk(1);
    files_ = &disk;
    Open();
    Member member = Join("orders", "billing", "c1", {1, 1'000'000});
    for (const char* body : {"first-body", "second-body", "third-body"}) {
        Send("orders", {body});
    }
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, 1min, {}}}).ok());
    Send("orders", {"last-body"});
    Crash();
    const std::string path = "/data/shard-0/00000000000000000000.log";
    const std::string bytes = *disk.Contents(path);
    ASSERT_TRUE(disk.FlipBit(path, bytes.find("second-body"), 0).ok());
    ASSERT_TRUE(disk.FlipBit(path, bytes.rfind("first-body"), 0).ok());
    Open();
    Member other = Join("orders", "billing", "other");
    time_.Advance(2min);
    EXPECT_THAT(other.bodies(), ::testing::IsSupersetOf({"third-body", "last-body"}));
    const GroupInfo info = Info("orders", "billing");
    EXPECT_GE(info.lost_to_damage_count, 1U);
    EXPECT_EQ(events_.Count(env::EventKind::kLoss), info.lost_to_damage_count);
    Crash();
}

// A consumer whose record is damaged was given leases of a minute, whatever it asked for when it
// came back: what it did not know that it held waited for so long.
class LeaseTest : public PromiseTest {
protected:
    LeaseTest() { files_ = &disk_; }
    ~LeaseTest() override { Crash(); }

    static SubscribeRequest Request(std::chrono::milliseconds ack_timeout) {
        SubscribeRequest request = MakeRequest("orders", "billing", "the-consumer");
        request.ack_timeout = ack_timeout;
        return request;
    }
    /// It has received one message.
    Member Resume(std::chrono::milliseconds ack_timeout, std::uint64_t incarnation) {
        SubscribeRequest request = Request(ack_timeout);
        request.resume = ResumePoint{incarnation, 1};
        return Join(request);
    }
    /// A consumer that holds one message comes back to a broker that has lost what it had asked
    /// for.
    Member ResumeWithoutItsRecord(std::chrono::milliseconds ack_timeout) {
        Open();
        const Member before = Join(Request(ack_timeout));
        Send("orders", {"m"});
        EXPECT_THAT(before.bodies(), ElementsAre("m"));
        Crash();
        const std::string path = "/data/shard-0/00000000000000000000.log";
        EXPECT_TRUE(disk_.FlipBit(path, disk_.Contents(path)->find("the-consumer"), 0).ok());
        Open();
        return Resume(ack_timeout, before.sink->subscribed->incarnation);
    }

    env::SimulatedFileSystem disk_{1};
};

TEST_F(LeaseTest, AConsumerWhoseRecordIsDamagedHasTheLeaseThatItAsksFor) {
    const Member member = ResumeWithoutItsRecord(2s);
    EXPECT_EQ(member.sink->subscribed->held_below, 1U);
    time_.Advance(3s);
    EXPECT_THAT(member.bodies(), ElementsAre("m"));
}

TEST_F(LeaseTest, NorIsItsLeaseShorterThanItAsksFor) {
    const Member member = ResumeWithoutItsRecord(10min);
    time_.Advance(9min);
    EXPECT_THAT(member.bodies(), IsEmpty());
    time_.Advance(2min);
    EXPECT_THAT(member.bodies(), ElementsAre("m"));
}

TEST_F(LeaseTest, WhoComesBackWithAShorterOneHasItAtOnce) {
    Open();
    const Member before = Join(Request(10min));
    Send("orders", {"m"});
    const Member member = Resume(2s, 0);
    time_.Advance(3s);
    EXPECT_THAT(member.bodies(), ElementsAre("m"));
}

TEST_F(LeaseTest, AndAlsoWhatItIsHandedNext) {
    Open();
    const Member before = Join(Request(10min));
    Send("orders", {"m"});
    Member member = Resume(2s, 0);
    ASSERT_TRUE(Ack(member, 0).ok());
    Send("orders", {"next"});
    time_.Advance(3s);
    EXPECT_THAT(member.bodies(), ElementsAre("next", "next"));
}

TEST_F(LeaseTest, ALongerOneIsOfWhatComesAfterIt) {
    Open();
    const Member before = Join(Request(2s));
    Send("orders", {"m"});
    const Member member = Resume(10min, 0);
    time_.Advance(3s);
    EXPECT_THAT(member.bodies(), ElementsAre("m"));
}

#ifdef QMQ_PLANTED_BUGS
class PlantedPromiseTest : public PromiseTest {
protected:
    void PlantBug(env::PlantedBug bug) { env::Plant(bug); }
    /// What comes of one message after `verdict`, and how many dead letters there are.
    std::size_t CopiesAfter(AckVerdict verdict) {
        Open();
        Member member = Join("orders", "billing");
        Member undertaker = Join(DeadLetterSubject("orders", "billing"), "undertaker");
        Send("orders", {"a"});
        EXPECT_TRUE(Judge(member, {AckItem{verdict, 0, 0, {}, {}}}).ok());
        time_.Advance(30s);
        return member.got().size() - 1 + undertaker.got().size();
    }
};

TEST_F(PlantedPromiseTest, UnreadableAckIsNotReadByTheNextStart) {
    PlantBug(env::PlantedBug::kUnreadableAck);
    const Status status = StartAfterAnAckOfAllNumbers();
    // Set aside as damage, or refused: in either case the ack is lost.
    EXPECT_TRUE(!status.ok() || Info("orders", "billing").lag_count > 0);
}

TEST_F(PlantedPromiseTest, SubjectWithoutLogHasNone) {
    PlantBug(env::PlantedBug::kSubjectWithoutLog);
    Open();
    EXPECT_TRUE(Send(RetrySubject("nobody", "knows"), {"m"}).status.ok());
    EXPECT_DEATH(Info("nobody", "knows"), "");
}

TEST_F(PlantedPromiseTest, LeaseTimerLostKeepsTheMessageForEver) {
    PlantBug(env::PlantedBug::kLeaseTimerLost);
    EXPECT_THAT(AfterALeaseThatEndedOnAFullDisk(), IsEmpty());
}

TEST_F(PlantedPromiseTest, StuckBurialStopsTheGroup) {
    PlantBug(env::PlantedBug::kStuckBurial);
    EXPECT_FALSE(GoesOnAfterTooLargeALetter([] {}));
    EXPECT_EQ(Info("orders", "billing").lost_to_burial_count, 0U);
}

// Taken by a broker that did not refuse it, and then no dead letter can be made of it.
TEST_F(PlantedPromiseTest, ABurialThatFailsForGoodIsCountedAndToldAndTheGroupGoesOn) {
    PlantBug(env::PlantedBug::kStuckBurial);
    EXPECT_TRUE(GoesOnAfterTooLargeALetter([] { env::Plant(env::PlantedBug::kNone); }));
    EXPECT_EQ(Info("orders", "billing").lost_to_burial_count, 1U);
    EXPECT_EQ(events_.Count(env::EventKind::kLoss), 1U);
    CrashAndOpen();
    Member next = Join("orders", "billing", "next");
    time_.Advance(10s);
    EXPECT_THAT(next.bodies(), ElementsAre("small"));
}

TEST_F(PlantedPromiseTest, DropHeldDropsWhatIsHeld) {
    PlantBug(env::PlantedBug::kDropHeld);
    options_.store.segment_bytes = 64U << 10U;
    options_.store.drop_consumed = true;
    Open();
    Member member = Join("orders", "billing");
    for (int i = 0; i < 10; ++i) {
        Send("orders", {std::string(30'000, 'o')});
    }
    time_.Advance(10s);
    EXPECT_GT(Info("orders", "billing").lost_to_retention_count, 0U);
}

TEST_F(PlantedPromiseTest, ForgetUnreadForgets) {
    PlantBug(env::PlantedBug::kForgetUnread);
    EXPECT_THAT(AfterAMonthAway(), IsEmpty());
}

TEST_F(PlantedPromiseTest, AckNotDurableIsForgottenByAPowerCut) {
    PlantBug(env::PlantedBug::kAckNotDurable);
    EXPECT_GT(HandledTwiceAfterAPowerCut(Durability::kDefault), 0U);
}

TEST_F(PlantedPromiseTest, NackDropsMessageLosesIt) {
    EXPECT_EQ(CopiesAfter(AckVerdict::kRetry), 1U);
    Crash();
    memory_ = env::MakeMemoryFileSystem();
    files_ = memory_.get();
    PlantBug(env::PlantedBug::kNackDropsMessage);
    EXPECT_EQ(CopiesAfter(AckVerdict::kRetry), 0U);
    Crash();
}

TEST_F(PlantedPromiseTest, DropDeadLetterLosesIt) {
    EXPECT_EQ(CopiesAfter(AckVerdict::kDeadLetter), 1U);
    Crash();
    memory_ = env::MakeMemoryFileSystem();
    files_ = memory_.get();
    PlantBug(env::PlantedBug::kDropDeadLetter);
    EXPECT_EQ(CopiesAfter(AckVerdict::kDeadLetter), 0U);
    Crash();
}

TEST_F(PlantedPromiseTest, RetryByWallClockWaitsForTheJumpToo) {
    PlantBug(env::PlantedBug::kRetryByWallClock);
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, 1min, {}}}).ok());
    time_.clock.JumpWall(-3'600'000ms);
    time_.Advance(2min);
    EXPECT_THAT(member.got(), SizeIs(1));
}
#endif

}  // namespace
}  // namespace qmq::broker::testing
