#include "plugins/grpc/client/endpoint.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <initializer_list>

#include "plugins/grpc/codec/byte_buffer.h"
#include "plugins/grpc/codec/channel_tuning.h"
#include "plugins/grpc/codec/options_check.h"
#include "plugins/grpc/codec/status_map.h"

namespace qmq::rpc {
namespace {

Status BadUri(const std::string& uri, const std::string& why) {
    return Status::InvalidArgument("uri \"" + uri + "\": " + why +
                                   "; expected grpc://host:port or grpcs://host:port");
}

}  // namespace

Status CheckAddress(const std::string& address) {
    const std::size_t colon = address.rfind(':');
    if (colon == std::string::npos || colon == 0) {
        return Status::InvalidArgument("\"" + address + "\" has no port");
    }
    const std::string host = address.substr(0, colon);
    const bool bracketed = host.front() == '[' && host.back() == ']' && host.size() > 2;
    if (!bracketed && host.find(':') != std::string::npos) {
        return Status::InvalidArgument("\"" + address + "\": an IPv6 host needs brackets");
    }
    if (host.find_first_of("/@?# \t") != std::string::npos) {
        return Status::InvalidArgument("\"" + host + "\" is not the name of a host");
    }
    const std::string port = address.substr(colon + 1);
    unsigned number = 0;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc() || end != port.data() + port.size() || number < 1 || number > 65'535) {
        return Status::InvalidArgument("\"" + port + "\" is not a port from 1 to 65535");
    }
    return Status::Ok();
}

Result<Endpoint> ParseUri(const std::string& uri) {
    Endpoint endpoint;
    std::string rest;
    if (uri.starts_with("grpcs://")) {
        endpoint.tls = true;
        rest = uri.substr(8);
    } else if (uri.starts_with("grpc://")) {
        rest = uri.substr(7);
    } else {
        return BadUri(uri, "the scheme is not grpc or grpcs");
    }
    if (rest.ends_with('/')) {
        rest.pop_back();
    }
    if (rest.find('@') != std::string::npos) {
        // Not repeated in the message: it may be a password.
        return Status::InvalidArgument(
            "the uri carries a user or password; secrets come from GrpcClientOptions::token_file");
    }
    if (Status valid = CheckAddress(rest); !valid.ok()) {
        return BadUri(uri, std::string(valid.message()));
    }
    endpoint.address = std::move(rest);
    return endpoint;
}

namespace {

Result<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(
    const GrpcClientOptions& options) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = options.ca_pem;
    for (const Status& read :
         {ReadInto(options.ca_file, "ca_file", &tls.pem_root_certs),
          ReadInto(options.certificate_file, "certificate_file", &tls.pem_cert_chain),
          ReadInto(options.key_file, "key_file", &tls.pem_private_key)}) {
        if (!read.ok()) {
            return read;
        }
    }
    return grpc::SslCredentials(tls);
}

Result<std::string> MakeAuthorization(const GrpcClientOptions& options) {
    std::string token = options.token;
    if (Status read = ReadInto(options.token_file, "token_file", &token); !read.ok()) {
        return read;
    }
    if (token.empty()) {
        return std::string();  // None is wanted.
    }
    TrimToken(&token);
    if (token.empty()) {
        return Status::InvalidArgument(
            (options.token_file.empty() ? "token" : "token_file \"" + options.token_file + "\"") +
            " has nothing but a line end");
    }
    if (Status sendable = CheckToken(token); !sendable.ok()) {
        return sendable;
    }
    return "Bearer " + token;
}

grpc::ChannelArguments MakeArguments(const GrpcClientOptions& options) {
    grpc::ChannelArguments arguments;
    const auto millis = [](std::chrono::milliseconds time) {
        return static_cast<int>(time.count());
    };
    // One channel is one connection: what closes one must not touch another.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, static_cast<int>(options.max_message_bytes));
    // What a batch of this size comes in may be a little larger, and small batches come together.
    arguments.SetInt(
        GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
        static_cast<int>(options.max_message_bytes + kFrameTargetBytes + kFrameOverheadBytes));
    // Despite its name this is how long an attempt to connect may take. Trying again is the SDK's
    // business.
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, millis(options.connect_timeout));
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, millis(options.keepalive_interval));
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, millis(options.keepalive_timeout));
    arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
    arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    for (const TuningArgument& tuned : kChannelTuning) {
        arguments.SetInt(tuned.name, tuned.value);
    }
    if (!options.server_name.empty()) {
        arguments.SetSslTargetNameOverride(options.server_name);
    }
    return arguments;
}

/// What a call needs that is never looked at.
struct IdleCall {
    std::shared_ptr<grpc::Channel> channel = grpc::CreateChannel("", nullptr);
    grpc::GenericStub stub{channel};
    grpc::ClientContext context;
    grpc::ByteBuffer request = ToByteBuffer({});
    grpc::ByteBuffer reply;
};

/// Keeps gRPC's queue for callbacks, and its threads, from now until the process ends.
///
/// gRPC (1.51) ends the queue with the last channel that used it, and joins its threads there. Our
/// channels often end inside a callback, on one of these very threads, and then the process would
/// abort ("assertion failed: prior > 0"). So one channel that leads nowhere, but has made a call,
/// stays.
void KeepCallbackQueue() {
    // Volatile, so that the pointer is really there, for whoever looks for leaks.
    static IdleCall* volatile kept = [] {
        auto* call = new IdleCall;
        call->stub.UnaryCall(
            &call->context, "/none", {}, &call->request, &call->reply, [](const grpc::Status&) {});
        return call;
    }();
    static_cast<void>(kept);
}

}  // namespace

Result<Wire> MakeWire(const GrpcClientOptions& options, const Endpoint& endpoint) {
    auto authorization = MakeAuthorization(options);
    if (!authorization.ok()) {
        return authorization.status();
    }
    KeepCallbackQueue();
    std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
    if (endpoint.tls) {
        auto tls = MakeCredentials(options);
        if (!tls.ok()) {
            return tls.status();
        }
        credentials = std::move(tls).value();
    }
    // "dns:///" keeps gRPC from taking the host for one of its own schemes.
    return Wire{grpc::CreateCustomChannel(
                    "dns:///" + endpoint.address, credentials, MakeArguments(options)),
                std::move(authorization).value()};
}

namespace {

/// Whether `text` says one of `words`, in whatever case: the TLS library is OpenSSL or BoringSSL.
bool Says(std::string_view text, std::initializer_list<std::string_view> words) {
    const auto same = [](char a, char b) {
        return std::tolower(static_cast<unsigned char>(a)) ==
               std::tolower(static_cast<unsigned char>(b));
    };
    return std::any_of(words.begin(), words.end(), [&](std::string_view word) {
        return std::search(text.begin(), text.end(), word.begin(), word.end(), same) != text.end();
    });
}

/// What an UNAVAILABLE of gRPC is about, as far as its text tells.
Status ExplainUnavailable(const std::string& text, bool tls) {
    const std::string detail = " (" + text + ")";
    if (Says(text, {"connection refused"})) {
        return Status::Unavailable("connection refused: is a server running there?" + detail);
    }
    // "EVP lib": the signature of the certificate does not fit the authority's key.
    if (tls && Says(text,
                    {"certificate verify",
                     "certificate_verify",
                     "not in peer certificate",
                     "No match found for server name",
                     "EVP lib"})) {
        return Status::FailedPrecondition(
            "the server's certificate is not accepted: check ca_file, and that the host of the "
            "uri (or server_name) is in the certificate" +
            detail);
    }
    if (tls && Says(text, {"wrong version number", "wrong_version_number"})) {
        return Status::FailedPrecondition(
            "the server does not speak TLS on this port: use grpc:// instead of grpcs://, or give "
            "the server a certificate" +
            detail);
    }
    if (tls && Says(text, {"handshake"})) {
        return Status::FailedPrecondition("the TLS handshake failed" + detail);
    }
    return Status::Unavailable(text);
}

}  // namespace

Status ExplainCallError(const grpc::Status& status, const Endpoint& endpoint) {
    if (status.ok()) {
        return Status::Ok();
    }
    const Status plain = FromGrpc(status);
    const Status explained = plain.code() == StatusCode::kUnavailable
                                 ? ExplainUnavailable(status.error_message(), endpoint.tls)
                                 : plain;
    return explained.WithContext("broker " + endpoint.address);
}

}  // namespace qmq::rpc
