#include "tests/bench/peers/peer_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace qmq::bench {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(HistogramTest, HasNoPercentileBeforeTheFirstRecord) {
    EXPECT_EQ(Histogram().PercentileMicros(50), std::nullopt);
}

TEST(HistogramTest, PercentilesAreRightWithinTheBucketWidthOverTheWholeRange) {
    for (const std::int64_t unit : {1, 1'000, 1'000'000, 1'000'000'000}) {
        Histogram histogram;
        for (std::int64_t i = 1; i <= 1000; ++i) histogram.Record(i * unit);

        const double scale = static_cast<double>(unit) / 1000;
        EXPECT_NEAR(*histogram.PercentileMicros(50), 500 * scale, 500 * scale * 0.016) << unit;
        EXPECT_NEAR(*histogram.PercentileMicros(99), 990 * scale, 990 * scale * 0.016) << unit;
        EXPECT_NEAR(*histogram.PercentileMicros(100), 1000 * scale, 1000 * scale * 0.016) << unit;
    }
}

TEST(HistogramTest, ClockThatRanBackwardsCountsAsZero) {
    Histogram histogram;
    histogram.Record(-5);
    EXPECT_EQ(histogram.PercentileMicros(50), 0);
}

TEST(HistogramTest, TheLongestDurationHasABucket) {
    Histogram histogram;
    histogram.Record(std::numeric_limits<std::int64_t>::max());
    EXPECT_GE(*histogram.PercentileMicros(50), 9.2e15);
}

TEST(OptionsTest, EachOptionReachesItsField) {
    const char* arguments[] = {"consume",
                               "--port",
                               "4222",
                               "--messages",
                               "7",
                               "--body",
                               "200",
                               "--window",
                               "9",
                               "--batch",
                               "11",
                               "--fsync",
                               "--set",
                               "a=b=c",
                               "--set-consumer",
                               "d=e",
                               "--seconds",
                               "2.5"};
    const Options options = ParseOptions(arguments);

    EXPECT_EQ(options.job, Job::kConsume);
    EXPECT_EQ(options.port, 4222);
    EXPECT_EQ(options.messages, 7U);
    EXPECT_EQ(options.body_bytes, 200U);
    EXPECT_EQ(options.window, 9U);
    EXPECT_EQ(options.batch, 11U);
    EXPECT_TRUE(options.fsync);
    EXPECT_EQ(options.producer_set[0], (std::pair<std::string, std::string>("a", "b=c")));
    EXPECT_EQ(options.consumer_set[0], (std::pair<std::string, std::string>("d", "e")));
    EXPECT_EQ(options.duration, std::chrono::milliseconds(2500));
}

void ExpectRefused(std::vector<const char*> arguments, const char* reason) {
    EXPECT_THAT([&] { ParseOptions(arguments); },
                ThrowsMessage<std::invalid_argument>(HasSubstr(reason)));
}

TEST(OptionsTest, EachMistakeIsNamed) {
    ExpectRefused({}, "no job");
    ExpectRefused({"polka", "--port", "1"}, "'polka' is not a job");
    ExpectRefused({"publish"}, "--port is missing");
    ExpectRefused({"publish", "--port"}, "--port: unknown, or without its value");
    ExpectRefused({"publish", "--port", "70000"}, "--port: '70000' is not a number in [1, 65535]");
    ExpectRefused({"publish", "--port", "12x"}, "'12x'");
    ExpectRefused({"publish", "--port", "1", "--body", "8"}, "--body: '8'");
    ExpectRefused({"publish", "--port", "1", "--seconds", "nan"}, "--seconds: 'nan'");
    ExpectRefused({"publish", "--port", "1", "--set", "linger.ms"}, "not KEY=VALUE");
    ExpectRefused({"publish", "--port", "1", "--speed", "9"}, "unknown option '--speed'");
}

TEST(ResultTest, JsonHoldsEveryFieldAndNullForWhatWasNotMeasured) {
    const Result result{.peer = "nats",
                        .job = "consume",
                        .rate = 1234.56,
                        .p50_us = std::nullopt,
                        .p99_us = 7.04,
                        .messages = 10,
                        .seconds = 0.5,
                        .settings = "a \"b\" c\\d"};
    EXPECT_EQ(
        ToJson(result),
        "{\"peer\":\"nats\",\"job\":\"consume\",\"rate\":1234.6,\"p50_us\":null,\"p99_us\":7.0,"
        "\"messages\":10,\"seconds\":0.500,\"settings\":\"a \\\"b\\\" c\\\\d\"}");
}

TEST(ProgressTest, WaitForReturnsOnceAnotherThreadHasCountedThatFar) {
    Progress progress;
    std::jthread counter([&] {
        for (int i = 0; i < 100'000; ++i) progress.Advance();
    });
    progress.WaitFor(100'000);
    EXPECT_EQ(progress.count(), 100'000U);
}

TEST(ProgressTest, FailureReachesTheThreadThatWaits) {
    Progress progress;
    std::jthread failing([&] { progress.Fail("the server went away"); });
    EXPECT_THAT([&] { progress.WaitFor(1); },
                ThrowsMessage<std::runtime_error>(HasSubstr("the server went away")));
}

/// Delivers what is sent to the consumer, unless told to lose or to double a message.
class FakePeer : public Peer {
public:
    explicit FakePeer(std::uint64_t lose = kNever, std::uint64_t twice = kNever)
        : lose_(lose), twice_(twice) {}

    void CreateSubject() override { ++subjects_; }
    void RemoveSubject() override { --subjects_; }
    std::unique_ptr<Producer> MakeProducer(Acks& acks) override {
        return std::make_unique<FakeProducer>(*this, acks);
    }
    std::unique_ptr<Consumer> MakeConsumer() override {
        return std::make_unique<FakeConsumer>(*this);
    }
    std::string Settings() const override { return "fake"; }

    int subjects() const { return subjects_; }
    static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

private:
    class FakeProducer : public Producer {
    public:
        FakeProducer(FakePeer& peer, Acks& acks) : peer_(peer), acks_(acks) {}
        void Send(std::span<const char> body) override {
            const Stamp stamp = ReadStamp(body.data(), body.size());
            {
                const std::lock_guard lock(peer_.mutex_);
                if (stamp.sequence != peer_.lose_) peer_.queue_.push_back(stamp);
                if (stamp.sequence == peer_.twice_) peer_.queue_.push_back(stamp);
            }
            acks_.OnAck(stamp.sent_nanos, NowNanos());
        }
        void Flush() override {}
        void WaitUntil(std::int64_t) override {}

    private:
        FakePeer& peer_;
        Acks& acks_;
    };

    class FakeConsumer : public Consumer {
    public:
        explicit FakeConsumer(FakePeer& peer) : peer_(peer) {}
        void Run(Handler& handler) override {
            for (std::size_t next = 0; !handler.done();) {
                const std::lock_guard lock(peer_.mutex_);
                for (; next < peer_.queue_.size(); ++next) {
                    handler.OnMessage(&peer_.queue_[next], sizeof(Stamp));
                }
            }
        }

    private:
        FakePeer& peer_;
    };

    const std::uint64_t lose_;
    const std::uint64_t twice_;
    int subjects_ = 0;
    std::mutex mutex_;
    std::vector<Stamp> queue_;  // guarded by mutex_
};

class JobTest : public ::testing::TestWithParam<Job> {};

TEST_P(JobTest, CountsExactlyTheMessagesAskedForAndRemovesItsSubject) {
    FakePeer peer;
    Options options;
    options.job = GetParam();
    options.messages = 500;
    const Result result = RunJob(peer, options);

    EXPECT_EQ(result.job, JobName(GetParam()));
    EXPECT_EQ(result.messages, 500U);
    EXPECT_GT(result.rate, 0);
    EXPECT_EQ(result.p50_us.has_value(), GetParam() != Job::kConsume);
    EXPECT_EQ(peer.subjects(), 0);
}

INSTANTIATE_TEST_SUITE_P(All,
                         JobTest,
                         ::testing::Values(Job::kPublish, Job::kConsume, Job::kBoth, Job::kLatency),
                         [](const auto& job) { return std::string(JobName(job.param)); });

TEST(JobFailureTest, ALostMessageFailsTheRun) {
    FakePeer peer(/*lose=*/40);
    Options options;
    options.job = Job::kConsume;
    options.messages = 100;
    EXPECT_THAT([&] { RunJob(peer, options); },
                ThrowsMessage<std::runtime_error>(HasSubstr("message 41 came when 40 was due")));
    EXPECT_EQ(peer.subjects(), 0);
}

TEST(JobFailureTest, ADoubledMessageFailsTheRun) {
    FakePeer peer(FakePeer::kNever, /*twice=*/40);
    Options options;
    options.job = Job::kBoth;
    options.messages = 100;
    EXPECT_THAT([&] { RunJob(peer, options); },
                ThrowsMessage<std::runtime_error>(HasSubstr("message 40 came when 41 was due")));
}

}  // namespace
}  // namespace qmq::bench
