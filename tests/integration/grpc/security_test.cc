#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/integration/grpc/grpc_fixture.h"
#include "tests/integration/grpc/test_certificates.h"

namespace qmq {
namespace {

using testing::HasSubstr;
using testing::Not;

class SecurityTest : public GrpcTest {
protected:
    SecurityTest() {
        std::string folder = testing::TempDir() + "qmq-grpc-XXXXXX";
        folder_ = mkdtemp(folder.data());
    }
    ~SecurityTest() override { std::filesystem::remove_all(folder_); }

    /// The path of a new file with this content.
    std::string File(const std::string& content) {
        std::string path = folder_ + "/" + std::to_string(++files_);
        std::ofstream(path, std::ios::binary) << content;
        return path;
    }

    rpc::GrpcServerOptions TlsServer() {
        const KeyPair pair = authority_.Issue("127.0.0.1");
        rpc::GrpcServerOptions options;
        options.tls_certificate_pem = pair.certificate;
        options.tls_key_pem = pair.key;
        return options;
    }
    GrpcClientOptions Trusting() {
        GrpcClientOptions options;
        options.ca_file = File(authority_.certificate());
        return options;
    }

    /// How a connection that must not become ready ends.
    Status Refused(GrpcClientOptions options, const std::string& scheme) {
        auto transport = MakeTransport(std::move(options), scheme);
        if (!transport.ok()) {
            return transport.status();
        }
        auto connection = transport.value()->Connect({"default", Address()}, listener_);
        EXPECT_TRUE(listener_->closed.WaitFor(1));
        EXPECT_TRUE(listener_->ready.values().empty());
        return listener_->closed.values().front();
    }
    void ExpectServed() {
        EXPECT_EQ(Await(Send({{"s", MakeBatch(1)}})).front().outcome, SendOutcome::kPersisted);
    }

    const TestAuthority authority_;
    std::string folder_;
    int files_ = 0;
};

std::string Text(const Status& status) {
    return std::string(status.message());
}

TEST_F(SecurityTest, AServerWithACertificateIsReachedByTls) {
    StartServer(TlsServer());
    Connect(Trusting(), "grpcs");
    ExpectServed();
}

TEST_F(SecurityTest, ACertificateOfAnUnknownAuthorityIsNotBelieved) {
    StartServer(TlsServer());
    // Also when it goes by the name of the right one.
    for (const char* name : {"another authority", "test authority"}) {
        listener_ = std::make_shared<RecordingConnection>();
        GrpcClientOptions options;
        options.ca_pem = TestAuthority(name).certificate();
        const Status status = Refused(options, "grpcs");
        EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
        EXPECT_THAT(Text(status), HasSubstr("certificate is not accepted: check ca_file"));
        EXPECT_THAT(Text(status), HasSubstr(Address()));
    }
}

TEST_F(SecurityTest, ACertificateForAnotherHostIsNotBelievedUnlessThatNameIsExpected) {
    const KeyPair pair = authority_.Issue("broker.example");
    rpc::GrpcServerOptions server;
    server.tls_certificate_pem = pair.certificate;
    server.tls_key_pem = pair.key;
    StartServer(server);
    const Status status = Refused(Trusting(), "grpcs");
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;

    listener_ = std::make_shared<RecordingConnection>();
    GrpcClientOptions options = Trusting();
    options.server_name = "broker.example";
    Connect(options, "grpcs");
    ExpectServed();
}

TEST_F(SecurityTest, TlsAgainstAServerWithoutItSaysSo) {
    StartServer();
    const Status status = Refused(Trusting(), "grpcs");
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(Text(status), HasSubstr("does not speak TLS"));
}

TEST_F(SecurityTest, AServerThatAsksForAClientCertificateTakesOneOfItsAuthority) {
    rpc::GrpcServerOptions server = TlsServer();
    server.tls_client_ca_pem = authority_.certificate();
    StartServer(server);
    GrpcClientOptions options = Trusting();
    const KeyPair client = authority_.Issue("client");
    options.certificate_file = File(client.certificate);
    options.key_file = File(client.key);
    Connect(options, "grpcs");
    ExpectServed();
}

TEST_F(SecurityTest, AServerThatAsksForAClientCertificateRefusesOthers) {
    rpc::GrpcServerOptions server = TlsServer();
    server.tls_client_ca_pem = authority_.certificate();
    StartServer(server);

    EXPECT_FALSE(Refused(Trusting(), "grpcs").ok());

    listener_ = std::make_shared<RecordingConnection>();
    GrpcClientOptions options = Trusting();
    const KeyPair stranger = TestAuthority().Issue("client");
    options.certificate_file = File(stranger.certificate);
    options.key_file = File(stranger.key);
    EXPECT_FALSE(Refused(options, "grpcs").ok());
}

TEST_F(SecurityTest, TheRightTokenIsLetInFromAFileToo) {
    rpc::GrpcServerOptions server = TlsServer();
    server.bearer_token = "s3cret";
    StartServer(server);
    GrpcClientOptions options = Trusting();
    options.token_file = File("s3cret\n");
    Connect(options, "grpcs");
    ExpectServed();
    std::promise<Status> listed;
    connection_->ListSubjects([&](const auto& subjects) { listed.set_value(subjects.status()); });
    EXPECT_TRUE(Await(listed.get_future()).ok());
}

TEST_F(SecurityTest, AWrongTokenAndNoTokenAreRefusedEverywhereWithoutBeingRepeated) {
    rpc::GrpcServerOptions server = TlsServer();
    server.bearer_token = "s3cret";
    StartServer(server);
    for (const char* token : {"", "s3cre", "s3cret2", "S3cret"}) {
        listener_ = std::make_shared<RecordingConnection>();
        GrpcClientOptions options = Trusting();
        options.token = token;
        const Status status = Refused(options, "grpcs");
        EXPECT_EQ(status.code(), StatusCode::kPermissionDenied) << status;
        EXPECT_THAT(Text(status), HasSubstr("token"));
        EXPECT_THAT(Text(status), Not(HasSubstr("s3cret")));

        auto transport = MakeTransport(options, "grpcs");
        std::promise<Status> found;
        transport.value()->Discover({"s", "", ClientRole::kProducer, "", ""},
                                    SystemClock().Now() + kPatience,
                                    [&](const auto& groups) { found.set_value(groups.status()); });
        EXPECT_EQ(Await(found.get_future()).code(), StatusCode::kPermissionDenied);
    }
}

// The client went on without any token.
TEST_F(SecurityTest, ATokenOfNothingButALineEndIsRefused) {
    StartServer(TlsServer());
    GrpcClientOptions options = Trusting();
    options.token_file = File("\r\n");
    const Status status = MakeTransport(options, "grpcs").status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(Text(status), HasSubstr(options.token_file));
    options.token_file.clear();
    options.token = "\n";
    EXPECT_EQ(MakeTransport(options, "grpcs").status().code(), StatusCode::kInvalidArgument);
}

TEST_F(SecurityTest, ATokenFileThatVanishedIsNamedWhenTheNextConnectionNeedsIt) {
    rpc::GrpcServerOptions server = TlsServer();
    server.bearer_token = "s3cret";
    StartServer(server);
    GrpcClientOptions options = Trusting();
    options.token_file = File("s3cret");
    auto transport = MakeTransport(options, "grpcs");
    ASSERT_TRUE(transport.ok()) << transport.status();
    std::filesystem::remove(options.token_file);

    auto connection = transport.value()->Connect({"default", Address()}, listener_);

    ASSERT_TRUE(listener_->closed.WaitFor(1));
    EXPECT_THAT(Text(listener_->closed.values().front()), HasSubstr(options.token_file));
}

TEST_F(SecurityTest, NobodyListeningIsSaidAtOnce) {
    StartServer();
    const std::string address = Address();
    server_->Shutdown(TimePoint());
    auto transport = MakeTransport();
    auto connection = transport.value()->Connect({"default", address}, listener_);
    ASSERT_TRUE(listener_->closed.WaitFor(1));
    const Status status = listener_->closed.values().front();
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(Text(status), HasSubstr("broker " + address + ": connection refused"));
}

TEST_F(SecurityTest, AHostThatDoesNotExistIsUnavailable) {
    StartServer();
    auto transport = MakeTransport();
    auto connection = transport.value()->Connect({"default", "no-such-host.invalid:1"}, listener_);
    ASSERT_TRUE(listener_->closed.WaitFor(1));
    EXPECT_EQ(listener_->closed.values().front().code(), StatusCode::kUnavailable);
}

TEST_F(SecurityTest, AServerThatNeverAnswersIsGivenUpAfterTheConnectTimeout) {
    // Listens, and accepts nothing.
    const int listening = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(bind(listening, reinterpret_cast<sockaddr*>(&where), sizeof where), 0);
    ASSERT_EQ(listen(listening, 8), 0);
    socklen_t length = sizeof where;
    getsockname(listening, reinterpret_cast<sockaddr*>(&where), &length);
    StartServer();
    GrpcClientOptions options;
    options.connect_timeout = std::chrono::milliseconds(100);
    auto transport = MakeTransport(options);

    auto connection = transport.value()->Connect(
        {"default", "127.0.0.1:" + std::to_string(ntohs(where.sin_port))}, listener_);

    ASSERT_TRUE(listener_->closed.WaitFor(1));
    EXPECT_EQ(listener_->closed.values().front().code(), StatusCode::kUnavailable);
    close(listening);
}

TEST_F(SecurityTest, APortThatIsTakenIsNamedWithItsOwner) {
    StartServer();
    rpc::GrpcServerOptions options;
    options.listen = {"127.0.0.1:" + std::to_string(server_->port())};
    auto second = rpc::GrpcServer::Start(options, broker_);
    EXPECT_EQ(second.status().code(), StatusCode::kFailedPrecondition);
    const std::string text = Text(second.status());
    EXPECT_THAT(text, HasSubstr("port " + std::to_string(server_->port()) + " is taken"));
    EXPECT_THAT(text, HasSubstr("process " + std::to_string(getpid())));
    EXPECT_THAT(text, HasSubstr("listen on another port"));
}

TEST_F(SecurityTest, AnAddressThatIsNotOursAndOneThatIsNoneAreSaidSo) {
    rpc::GrpcServerOptions options;
    options.listen = {"192.0.2.1:0"};
    EXPECT_THAT(Text(rpc::GrpcServer::Start(options, broker_).status()),
                HasSubstr("not an address of this machine"));
    options.listen = {"localhost"};
    EXPECT_EQ(rpc::GrpcServer::Start(options, broker_).status().code(),
              StatusCode::kInvalidArgument);
    options.listen = {"localhost:99999"};
    EXPECT_EQ(rpc::GrpcServer::Start(options, broker_).status().code(),
              StatusCode::kInvalidArgument);
}

TEST_F(SecurityTest, ACertificateThatIsNoneIsSaidSo) {
    rpc::GrpcServerOptions options;
    options.tls_certificate_pem = "nonsense";
    options.tls_key_pem = "nonsense";
    const Status status = rpc::GrpcServer::Start(options, broker_).status();
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(Text(status), HasSubstr("may not be PEM"));
}

TEST_F(SecurityTest, AServerListensAtSeveralAddresses) {
    rpc::GrpcServerOptions options;
    options.listen = {"127.0.0.1:0", "127.0.0.2:0"};
    StartServer(options);
    ASSERT_EQ(server_->ports().size(), 2U);
    auto transport = MakeTransport();
    connection_ = transport.value()->Connect(
        {"default", "127.0.0.2:" + std::to_string(server_->ports()[1])}, listener_);
    ASSERT_TRUE(listener_->ready.WaitFor(1));
    ExpectServed();
    connection_.reset();
}

}  // namespace
}  // namespace qmq
