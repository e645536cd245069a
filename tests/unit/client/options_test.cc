// Every range in the headers, and every problem at once.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "qmq/client.h"

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

template <typename Options>
void ExpectProblem(const Options& options, const std::string& field) {
    const Status status = Validate(options);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << field;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
}

ClientOptions GoodClient() {
    ClientOptions options;
    options.app_code = "app";
    return options;
}

SubscriptionOptions GoodSubscription() {
    SubscriptionOptions options;
    options.subject = "s";
    options.group = "g";
    return options;
}

PullConsumerOptions GoodPull() {
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "g";
    return options;
}

TEST(OptionsTest, TheDefaultsAreGood) {
    EXPECT_TRUE(Validate(GoodClient()).ok()) << Validate(GoodClient());
    EXPECT_TRUE(Validate(ProducerOptions{}).ok()) << Validate(ProducerOptions{});
    EXPECT_TRUE(Validate(GoodSubscription()).ok()) << Validate(GoodSubscription());
    EXPECT_TRUE(Validate(GoodPull()).ok()) << Validate(GoodPull());
}

TEST(OptionsTest, AllProblemsComeAtOnceWithFieldValueAndRange) {
    ProducerOptions options;
    options.max_batch_bytes = 5;
    options.max_in_flight_frames = 0;
    options.timeout = hours(2);
    const Status status = Validate(options);
    EXPECT_EQ(status.message(),
              "ProducerOptions: max_batch_bytes: 5 bytes is not in [1 KiB, 4 MiB]; "
              "max_in_flight_frames: 0 is not in [1, 1,024]; timeout: 7200000 ms is not in "
              "[1 ms, 1 h]");
}

TEST(OptionsTest, AllProblemsOfAClientComeAtOnce) {
    ClientOptions options;
    options.uri = "localhost";
    options.client_id = "a/b";
    options.handler_threads = 0;
    options.route_refresh = milliseconds(0);
    options.filters = {nullptr};
    for (const char* field :
         {"app_code", "uri", "client_id", "handler_threads", "route_refresh", "filters"}) {
        ExpectProblem(options, field);
    }
}

TEST(OptionsTest, AllProblemsOfAConsumerComeAtOnce) {
    SubscriptionOptions options;
    options.parallelism = 0;
    options.prefetch_bytes = 0;
    options.ack_timeout = milliseconds(0);
    options.ack_linger = seconds(2);
    for (const char* field :
         {"subject", "group", "parallelism", "prefetch_bytes", "ack_timeout:", "ack_linger"}) {
        ExpectProblem(options, field);
    }
    PullConsumerOptions pull;
    pull.ack_timeout = milliseconds(0);
    pull.max_unacked_count = 0;
    for (const char* field : {"subject", "group", "ack_timeout:", "max_unacked_count"}) {
        ExpectProblem(pull, field);
    }
}

TEST(OptionsTest, AProblemOfAConsumerHasItsFieldItsValueAndItsRange) {
    auto options = GoodSubscription();
    options.ack_timeout = milliseconds(5);
    options.max_processing_time = hours(24 * 8);
    options.parallelism = 2'000;
    options.prefetch_count = 70'000;
    options.prefetch_bytes = 5;
    options.ack_linger = seconds(2);
    EXPECT_EQ(Validate(options).message(),
              "SubscriptionOptions: ack_timeout: 5 ms is not in [1 s, 12 h]; max_processing_time: "
              "691200000 ms is not in [ack_timeout, 7 d]; parallelism: 2000 is not in [1, 1,024]; "
              "prefetch_count: 70000 is not in [0, 65,536]; prefetch_bytes: 5 bytes is not in "
              "[64 KiB, 1 GiB]; ack_linger: 2000000 us is not in [0, 1 s]");
    auto pull = GoodPull();
    pull.ack_timeout = milliseconds(5);
    pull.max_processing_time = hours(24 * 8);
    pull.max_unacked_count = 0;
    EXPECT_EQ(Validate(pull).message(),
              "PullConsumerOptions: ack_timeout: 5 ms is not in [1 s, 12 h]; max_processing_time: "
              "691200000 ms is not in [ack_timeout, 7 d]; max_unacked_count: 0 is not in "
              "[1, 65,536]");
}

TEST(OptionsTest, AllProblemsOfARetryPolicyComeAtOnce) {
    auto options = GoodSubscription();
    options.retry.max_attempts = 0;
    options.retry.multiplier = 0.5;
    options.retry.initial_backoff = hours(25);
    for (const char* field :
         {"retry.max_attempts", "retry.multiplier", "retry.initial_backoff", "retry.max_backoff"}) {
        ExpectProblem(options, field);
    }
}

TEST(OptionsTest, ClientFields) {
    auto options = GoodClient();
    options.app_code.clear();
    ExpectProblem(options, "app_code");
    options = GoodClient();
    options.uri = "localhost";
    ExpectProblem(options, "uri");
    options = GoodClient();
    options.client_id = "a/b";
    ExpectProblem(options, "client_id");
    options = GoodClient();
    options.initial_reconnect_backoff = milliseconds(0);
    ExpectProblem(options, "initial_reconnect_backoff");
    options = GoodClient();
    options.max_reconnect_backoff = milliseconds(1);
    ExpectProblem(options, "max_reconnect_backoff");
    options = GoodClient();
    options.filters = {nullptr};
    ExpectProblem(options, "filters");
    options = GoodClient();
    options.transports = {nullptr};
    ExpectProblem(options, "transports");
}

TEST(OptionsTest, SubscriptionFields) {
    auto options = GoodSubscription();
    options.subject = "a b";
    ExpectProblem(options, "subject");
    options = GoodSubscription();
    options.group.clear();
    ExpectProblem(options, "group");
    options = GoodSubscription();
    options.broadcast = true;
    ExpectProblem(options, "broadcast");
    options = GoodSubscription();
    options.tags = AnyOf(std::vector<std::string>());
    ExpectProblem(options, "tags");
    options.tags = AllOf("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11");
    ExpectProblem(options, "tags");
    const char* const null = nullptr;  // Ended the process.
    options.tags = {"vip", null};
    ExpectProblem(options, "tag");
    options.tags = AllOf("vip", null);
    ExpectProblem(options, "tag");
    options.tags = {};
    // While the store was away such a message was acked, not handled, and lost.
    options.at_most_once = true;
    options.idempotency = MakeMemoryIdempotencyStore();
    ExpectProblem(options, "at_most_once");
    options.at_most_once = false;
    options.idempotency = nullptr;
    // Tags without a mode were taken, and filtered nothing.
    options.tags = Tags(TagFilter{TagMode::kNone, {"vip"}});
    ExpectProblem(options, "tags");
    options = GoodSubscription();
    options.filters = {nullptr};
    ExpectProblem(options, "filters");
    options = GoodSubscription();
    options.idempotency_key = [](const Message&) { return std::string("k"); };
    ExpectProblem(options, "idempotency_key");
}

TEST(OptionsTest, ARetrySubjectIsNotSubscribedToButADeadLetterSubjectIs) {
    auto options = GoodSubscription();
    options.subject = "%RETRY%s%g";
    ExpectProblem(options, "retry subject");
    options.subject = "%DEAD_RETRY%s%g";
    EXPECT_TRUE(Validate(options).ok()) << Validate(options);
}

TEST(OptionsTest, PullFields) {
    auto options = GoodPull();
    options.subject.clear();
    ExpectProblem(options, "subject");
}

class CreateTest : public testing::ClientFixture {};

TEST_F(CreateTest, EveryProblemOfTheOptionsIsToldAtOnce) {
    auto options = Options();
    options.app_code.clear();
    options.handler_threads = 0;
    const Status status = Client::Create(std::move(options)).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                ::testing::AllOf(HasSubstr("app_code"), HasSubstr("handler_threads")));
}

TEST_F(CreateTest, AnUnknownSchemeNamesThoseThatThereAre) {
    auto options = Options();
    options.uri = "nats:";
    const auto client = Client::Create(std::move(options));
    EXPECT_EQ(client.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(client.status().message()), HasSubstr("fake"));
}

TEST_F(CreateTest, NoTransportAtAllSaysHowToAddOne) {
    auto options = Options();
    options.transports.clear();
    EXPECT_THAT(std::string(Client::Create(std::move(options)).status().message()),
                HasSubstr("ClientOptions::transports"));
}

TEST_F(CreateTest, WhatTheTransportSaysOfTheUriIsTheAnswer) {
    auto options = Options();
    options.uri = "fake:nonsense";
    EXPECT_THAT(std::string(Client::Create(std::move(options)).status().message()),
                HasSubstr("the fake takes"));
}

/// Says which URI it was asked for.
class AskedFactory final : public TransportFactory {
public:
    std::vector<std::string> Schemes() const override { return {"plain", "secure"}; }
    Result<std::unique_ptr<Transport>> Make(const std::string& uri,
                                            const TransportContext&) override {
        return Status::InvalidArgument("asked for " + uri);
    }
};

TEST_F(CreateTest, TheSchemeOfTheUriSaysWhichTransportIsUsed) {
    const auto asked = std::make_shared<AskedFactory>();
    for (const auto& transports :
         {std::vector<std::shared_ptr<TransportFactory>>{asked, cluster.factory()},
          {cluster.factory(), asked}}) {
        auto options = Options();
        options.transports = transports;
        EXPECT_TRUE(Client::Create(options).ok());
        for (const char* uri : {"plain://host:1", "secure:"}) {
            options.uri = uri;
            EXPECT_THAT(std::string(Client::Create(options).status().message()),
                        HasSubstr(std::string("asked for ") + uri));
        }
    }
}

TEST_F(CreateTest, TouchesNoNetwork) {
    Client client = MakeClient();
    Settle();
    EXPECT_EQ(cluster.discover_count(), 0U);
    EXPECT_EQ(broker().connect_count(), 0U);
}

TEST_F(CreateTest, NorDoesASubscriptionWaitForIt) {
    Client client = MakeClient();
    EXPECT_TRUE(client.Subscribe(GoodSubscription(), [](const Message&) {}).ok());
    EXPECT_EQ(broker().connect_count(), 0U);  // The network's answers have not run.
    Settle();
    EXPECT_EQ(broker().subscriber_count(), 1U);
}

TEST_F(CreateTest, BadOptionsOfItsPartsAreRefused) {
    Client client = MakeClient();
    ProducerOptions producer;
    producer.max_batch_bytes = 0;
    producer.max_batch_count = 0;
    const Status refused = client.MakeProducer(producer).status();
    EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.message()),
                ::testing::AllOf(HasSubstr("max_batch_bytes"), HasSubstr("max_batch_count")));
    for (const Status& status : {client.Subscribe({}, [](const Message&) {}).status(),
                                 client.MakePullConsumer({}).status()}) {
        EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
        EXPECT_THAT(std::string(status.message()),
                    ::testing::AllOf(HasSubstr("subject"), HasSubstr("group")));
    }
    EXPECT_EQ(client.Subscribe(GoodSubscription(), Handler()).status().code(),
              StatusCode::kInvalidArgument);
}

// A compiler with -Wextra warns of a member that is left out and has no initialiser of its own; in
// this file that is an error.
TEST_F(CreateTest, OptionsMayBeNamedOneByOne) {
    const ClientOptions of_client{.uri = "fake:"};
    EXPECT_TRUE(of_client.app_code.empty());
    EXPECT_TRUE(Validate(ProducerOptions{.linger = std::chrono::microseconds(1)}).ok());
    EXPECT_TRUE(Validate(SubscriptionOptions{.subject = "s", .group = "g"}).ok());
    EXPECT_TRUE(Validate(PullConsumerOptions{.subject = "s", .group = "g"}).ok());
    EXPECT_TRUE(Validate(RetryPolicy{.max_attempts = 3}).ok());
    const DeliveryContext::Facts facts{.group = "g"};
    EXPECT_TRUE(facts.broker_group.empty());
    const HandlerOutcome outcome{.kind = HandlerOutcome::Kind::kRetry};
    EXPECT_TRUE(outcome.error.empty());
    const SendReceipt receipt{.outcome = SendOutcome::kPersisted};
    EXPECT_TRUE(receipt.message_id.empty());
}

TEST_F(CreateTest, ASecondConsumerOfTheSameSubjectAndGroupIsRefused) {
    Client client = MakeClient();
    ASSERT_TRUE(client.Subscribe(GoodSubscription(), [](const Message&) {}).ok());
    EXPECT_EQ(client.Subscribe(GoodSubscription(), [](const Message&) {}).status().code(),
              StatusCode::kAlreadyExists);
    EXPECT_EQ(client.MakePullConsumer(GoodPull()).status().code(), StatusCode::kAlreadyExists);
}

TEST_F(CreateTest, AfterItsCloseASubscriptionMayBeMadeAgain) {
    Client client = MakeClient();
    auto subscription = client.Subscribe(GoodSubscription(), [](const Message&) {});
    Settle();
    ASSERT_TRUE(subscription->Close(milliseconds(0)).ok());
    EXPECT_TRUE(client.Subscribe(GoodSubscription(), [](const Message&) {}).ok());
}

TEST_F(CreateTest, WithoutAClientIdItMakesOne) {
    auto options = Options();
    options.client_id.clear();
    EXPECT_FALSE(MakeClient(std::move(options)).client_id().empty());
}

TEST_F(CreateTest, AfterShutdownEverythingIsCancelled) {
    Client client = MakeClient();
    client.Shutdown(milliseconds(0));
    EXPECT_EQ(client.MakeProducer().status().code(), StatusCode::kCancelled);
    EXPECT_EQ(client.Subscribe(GoodSubscription(), [](const Message&) {}).status().code(),
              StatusCode::kCancelled);
    EXPECT_EQ(client.MakePullConsumer(GoodPull()).status().code(), StatusCode::kCancelled);
    EXPECT_EQ(client.WaitReady("s", milliseconds(0)).code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace qmq
