// Every range in the headers: both its ends are good, and one more than that is told.

#include <gmock/gmock.h>

#include <string>
#include <type_traits>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

template <typename T>
std::string TextOf(const T& value) {
    if constexpr (requires { value.count(); }) {
        return std::to_string(value.count());
    } else if constexpr (std::is_floating_point_v<T>) {
        return {};  // Written as people write it.
    } else {
        return std::to_string(value);
    }
}

/// How the problem of a field begins, and what its range is.
template <typename T>
struct Limits {
    const char* problem;
    T least;
    T most;
    T step = T(1);
};

/// `set` puts a value into the options.
template <typename Options, typename T, typename Set>
void Expect(const Options& options, const Limits<T>& limits, Set set) {
    for (const T& good : {limits.least, limits.most}) {
        const Status status = Validate(set(options, good));
        EXPECT_TRUE(status.ok()) << status;
    }
    for (const T& bad : {T(limits.least - limits.step), T(limits.most + limits.step)}) {
        const Status status = Validate(set(options, bad));
        EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << limits.problem;
        EXPECT_THAT(std::string(status.message()),
                    AllOf(HasSubstr(limits.problem), HasSubstr(TextOf(bad))));
    }
}

template <typename Options, typename T>
void ExpectRange(const Options& options,
                 T Options::*field,
                 const Limits<std::type_identity_t<T>>& limits) {
    Expect(options, limits, [field](Options changed, const T& value) {
        changed.*field = value;
        return changed;
    });
}

template <typename Options, typename T>
void ExpectRange(const Options& options,
                 T RetryPolicy::*field,
                 const Limits<std::type_identity_t<T>>& limits) {
    Expect(options, limits, [field](Options changed, const T& value) {
        changed.retry.*field = value;
        return changed;
    });
}

/// What both kinds of consumers are asked for.
template <typename Options>
void ExpectRangesOfAConsumer() {
    Options options;
    options.subject = "s";
    options.group = "g";
    ExpectRange(options, &Options::ack_timeout, {"ack_timeout:", seconds(1), hours(12)});
    options.ack_timeout = seconds(50);
    ExpectRange(options,
                &Options::max_processing_time,
                {"max_processing_time:", seconds(50), hours(24 * 7)});
    ExpectRange(options, &RetryPolicy::max_attempts, {"retry.max_attempts", 1, 65'535});
    ExpectRange(options, &RetryPolicy::multiplier, {"retry.multiplier", 1.0, 10.0, 0.001});
    options.retry.initial_backoff = seconds(40);
    ExpectRange(
        options, &RetryPolicy::max_backoff, {"retry.max_backoff", seconds(40), hours(24 * 7)});
    options.retry.max_backoff = hours(24 * 7);
    ExpectRange(options,
                &RetryPolicy::initial_backoff,
                {"retry.initial_backoff", milliseconds(0), hours(24)});
}

TEST(OptionRangesTest, OfAClient) {
    using Options = ClientOptions;
    Options options;
    options.app_code = "app";
    ExpectRange(options, &Options::handler_threads, {"handler_threads:", 1, 1'024});
    ExpectRange(options, &Options::route_refresh, {"route_refresh:", seconds(1), hours(1)});
}

TEST(OptionRangesTest, OfAProducer) {
    using Options = ProducerOptions;
    Options options;
    ExpectRange(options, &Options::linger, {"linger:", microseconds(0), seconds(1)});
    ExpectRange(options, &Options::max_batch_bytes, {"max_batch_bytes:", 1U << 10, 4U << 20});
    ExpectRange(options, &Options::max_batch_count, {"max_batch_count:", 1, 65'536});
    ExpectRange(options, &Options::max_in_flight_frames, {"max_in_flight_frames:", 1, 1'024});
    ExpectRange(options, &Options::max_pending_count, {"max_pending_count:", 1, 1U << 24});
    ExpectRange(options,
                &Options::max_pending_bytes,
                {"max_pending_bytes:", std::size_t{64} << 10, std::size_t{16} << 30});
    ExpectRange(options, &Options::timeout, {"timeout:", milliseconds(1), hours(1)});
    options.initial_backoff = seconds(30);
    ExpectRange(options, &Options::max_backoff, {"max_backoff:", seconds(30), minutes(5)});
    options.max_backoff = minutes(5);
    ExpectRange(
        options, &Options::initial_backoff, {"initial_backoff:", milliseconds(1), minutes(1)});
}

TEST(OptionRangesTest, OfASubscription) {
    using Options = SubscriptionOptions;
    ExpectRangesOfAConsumer<Options>();
    Options options;
    options.subject = "s";
    options.group = "g";
    ExpectRange(options, &Options::parallelism, {"parallelism:", 1, 1'024});
    ExpectRange(options,
                &Options::prefetch_bytes,
                {"prefetch_bytes:", std::size_t{64} << 10, std::size_t{1} << 30});
    ExpectRange(options, &Options::ack_linger, {"ack_linger:", microseconds(0), seconds(1)});
    for (const std::uint32_t good : {0U, 1U, 65'536U}) {  // Zero lets it follow the handlers.
        options.prefetch_count = good;
        EXPECT_TRUE(Validate(options).ok()) << Validate(options);
    }
    options.prefetch_count = 65'537;
    EXPECT_THAT(std::string(Validate(options).message()), HasSubstr("prefetch_count: 65537"));
}

TEST(OptionRangesTest, OfAPullConsumer) {
    using Options = PullConsumerOptions;
    ExpectRangesOfAConsumer<Options>();
    Options options;
    options.subject = "s";
    options.group = "g";
    ExpectRange(options, &Options::max_unacked_count, {"max_unacked_count:", 1, 65'536});
}

class CallRangesTest : public testing::ClientFixture {
protected:
    static void ExpectRefused(const Status& status, const std::string& problem) {
        EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << problem;
        EXPECT_THAT(std::string(status.message()), HasSubstr(problem));
    }

    Client client = MakeClient();
};

TEST_F(CallRangesTest, OfASend) {
    Producer producer = MakeProducer(client);
    for (const milliseconds good : {milliseconds(1), milliseconds(hours(1))}) {
        EXPECT_FALSE(producer.Send(Message("s"), good).ready()) << good.count();
    }
    for (const milliseconds bad : {milliseconds(0), milliseconds(3'600'001)}) {
        const SendFuture refused = producer.Send(Message("s"), bad);
        ASSERT_TRUE(refused.ready());
        ExpectRefused(refused.Get().status,
                      "timeout of the send: " + std::to_string(bad.count()) + " ms");
    }
}

TEST_F(CallRangesTest, OfAPull) {
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "g";
    PullConsumer consumer = client.MakePullConsumer(options).value();
    const auto pull = [&consumer](std::uint32_t max_messages, milliseconds max_wait) {
        return consumer.PullAsync({max_messages, max_wait},
                                  [](const Result<std::vector<Delivery>>&) {});
    };
    EXPECT_TRUE(pull(1, milliseconds(0)).ok());
    EXPECT_TRUE(pull(10'000, hours(1)).ok());
    ExpectRefused(pull(0, seconds(1)), "max_messages: 0");
    ExpectRefused(pull(10'001, seconds(1)), "max_messages: 10001");
    ExpectRefused(pull(1, milliseconds(-1)), "max_wait: -1 ms");
    ExpectRefused(pull(1, milliseconds(3'600'001)), "max_wait: 3600001 ms");
}

}  // namespace
}  // namespace qmq
