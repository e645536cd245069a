#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/grpc.h"

#include "plugins/grpc/client/endpoint.h"
#include "plugins/grpc/codec/options_check.h"
#include "plugins/grpc/server/grpc_server.h"

namespace qmq::rpc {
namespace {

using testing::HasSubstr;

std::string Text(const Status& status) {
    return std::string(status.message());
}

TEST(GrpcClientOptionsTest, EveryProblemIsNamedAtOnce) {
    GrpcClientOptions options;
    options.certificate_file = "x";
    options.max_message_bytes = 1;
    options.keepalive_timeout = std::chrono::hours(1);
    const Status status = Validate(options);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(Text(status), HasSubstr("certificate_file and key_file"));
    EXPECT_THAT(Text(status), HasSubstr("max_message_bytes is 1, range [65536, 268435456]"));
    EXPECT_THAT(Text(status), HasSubstr("keepalive_timeout (ms) is 3600000"));
    EXPECT_TRUE(Validate(GrpcClientOptions{}).ok());
}

TEST(GrpcServerOptionsTest, ATokenInTheClearIsRefusedUnlessItIsAllowed) {
    GrpcServerOptions options;
    options.bearer_token = "secret";
    const Status status = Validate(options);
    EXPECT_THAT(Text(status), HasSubstr("a token without TLS"));
    EXPECT_THAT(Text(status), testing::Not(HasSubstr("secret")));
    options.allow_token_without_tls = true;
    EXPECT_TRUE(Validate(options).ok());
}

TEST(GrpcServerOptionsTest, EveryProblemIsNamedAtOnce) {
    GrpcServerOptions options;
    options.listen.clear();
    options.tls_client_ca_pem = "x";
    options.group_name.clear();
    options.max_unanswered_per_stream = 0;
    const std::string text = Text(Validate(options));
    EXPECT_THAT(text, HasSubstr("listen is empty"));
    EXPECT_THAT(text, HasSubstr("tls_client_ca_pem needs"));
    EXPECT_THAT(text, HasSubstr("group_name is empty"));
    EXPECT_THAT(text, HasSubstr("max_unanswered_per_stream is 0, range [1, 65536]"));
}

TEST(UriTest, HostAndPortAreTaken) {
    auto endpoint = ParseUri("grpc://broker.example:9000");
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    EXPECT_FALSE(endpoint->tls);
    EXPECT_EQ(endpoint->address, "broker.example:9000");
    EXPECT_TRUE(ParseUri("grpcs://[::1]:9000/")->tls);
    EXPECT_EQ(ParseUri("grpcs://[::1]:9000/")->address, "[::1]:9000");
}

TEST(UriTest, WhatIsWrongIsSaidWithWhatIsExpected) {
    for (const char* uri : {"http://h:1",
                            "grpc:",
                            "grpc://",
                            "grpc://h",
                            "grpc://h:0",
                            "grpc://h:65536",
                            "grpc://h:x",
                            "grpc://:1",
                            "grpc://::1:5",
                            "grpc://h:1/path",
                            "grpc://h:1?x=1",
                            "grpc:// h:1"}) {
        const Status status = ParseUri(uri).status();
        EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << uri;
        EXPECT_THAT(Text(status), HasSubstr(uri));
        EXPECT_THAT(Text(status), HasSubstr("expected grpc://host:port"));
    }
}

TEST(UriTest, ASecretInAUriIsNotRepeated) {
    const std::string text = Text(ParseUri("grpc://user:hunter2@h:1").status());
    EXPECT_THAT(text, HasSubstr("token_file"));
    EXPECT_THAT(text, testing::Not(HasSubstr("hunter2")));
}

class FactoryTest : public testing::Test {
protected:
    Status Make(GrpcClientOptions options, const std::string& uri) {
        return GrpcTransport(std::move(options))
            ->Make(uri, {SystemClock(), timers_, "client"})
            .status();
    }
    ThreadPool timers_{{}};
};

TEST_F(FactoryTest, ServesItsTwoSchemes) {
    EXPECT_THAT(GrpcTransport()->Schemes(), testing::ElementsAre("grpc", "grpcs"));
}

TEST_F(FactoryTest, ATokenGoesOverTlsOnlyUnlessItIsAllowed) {
    GrpcClientOptions options;
    options.token = "secret";
    EXPECT_THAT(Text(Make(options, "grpc://localhost:1")), HasSubstr("not sent without TLS"));
    EXPECT_TRUE(Make(options, "grpcs://localhost:1").ok());
    options.allow_token_without_tls = true;
    EXPECT_TRUE(Make(options, "grpc://localhost:1").ok());
}

// Reading one threw.
TEST_F(FactoryTest, ADirectoryInPlaceOfAFileIsNamed) {
    GrpcClientOptions options;
    options.ca_file = testing::TempDir();
    const Status status = Make(options, "grpcs://localhost:1");
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(Text(status), HasSubstr(options.ca_file));
}

TEST_F(FactoryTest, AFileThatIsMissingIsNamed) {
    GrpcClientOptions options;
    options.ca_file = "/nonexistent/ca.pem";
    const Status status = Make(options, "grpcs://localhost:1");
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(Text(status), HasSubstr("ca_file \"/nonexistent/ca.pem\" cannot be read"));
}

TEST(TokenTest, LosesItsLineEndAndIsRefusedWhenItCannotTravel) {
    std::string token = "abc\r\n";
    TrimToken(&token);
    EXPECT_EQ(token, "abc");
    EXPECT_TRUE(CheckToken(token).ok());
    EXPECT_EQ(CheckToken("a b").code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(CheckToken("a\nb").code(), StatusCode::kInvalidArgument);
}

TEST(ExplainTest, WhatGrpcSaysBecomesWhatToDo) {
    const Endpoint plain{false, "h:1"};
    const Endpoint tls{true, "h:1"};
    const auto explain = [](const char* text, const Endpoint& endpoint) {
        return ExplainCallError({grpc::StatusCode::UNAVAILABLE, text}, endpoint);
    };
    EXPECT_THAT(Text(explain("ipv4:…: Connection refused", plain)),
                HasSubstr("broker h:1: connection refused"));
    EXPECT_EQ(explain("CERTIFICATE_VERIFY_FAILED", tls).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(explain("Peer name h is not in peer certificate", tls).code(),
              StatusCode::kFailedPrecondition);
    EXPECT_THAT(Text(explain("WRONG_VERSION_NUMBER", tls)), HasSubstr("grpc://"));
    EXPECT_EQ(explain("Socket closed", plain).code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace qmq::rpc
