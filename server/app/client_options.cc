#include "server/app/client_options.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <utility>

#include "qmq/grpc.h"
#include "qmq/inproc.h"

#include "server/app/commands.h"

namespace qmq::app {

void AddClientArguments(CLI::App& command, ClientArguments& arguments) {
    command
        .add_option(
            "--uri", arguments.uri, "The cluster: grpc://host:port, grpcs://host:port or inproc:")
        ->envname("QMQ_URI")
        ->capture_default_str();
    command
        .add_option("--tls-ca",
                    arguments.ca_file,
                    "File (PEM) with the authorities that servers are checked against")
        ->check(CLI::ExistingFile);
    command
        .add_option("--tls-certificate",
                    arguments.certificate_file,
                    "File (PEM) with our certificate, for mutual TLS")
        ->check(CLI::ExistingFile);
    command.add_option("--tls-key", arguments.key_file, "File (PEM) with its private key")
        ->check(CLI::ExistingFile);
    command.add_option("--token-file", arguments.token_file, "File with the bearer token")
        ->check(CLI::ExistingFile);
}

std::vector<std::shared_ptr<TransportFactory>> MakeTransports(const ClientArguments& arguments) {
    GrpcClientOptions options;
    options.ca_file = arguments.ca_file;
    options.certificate_file = arguments.certificate_file;
    options.key_file = arguments.key_file;
    options.token_file = arguments.token_file;
    return {GrpcTransport(std::move(options)), InprocTransport()};
}

Client MakeClient(const ClientArguments& arguments, const std::string& app_code) {
    ClientOptions options;
    options.uri = arguments.uri;
    options.app_code = app_code;
    options.transports = MakeTransports(arguments);
    return OrFail(Client::Create(std::move(options)), kExitUsage, "cannot make a client");
}

void Fail(int code, const std::string& reason) {
    std::fprintf(stderr, "qmq: %s\n", reason.c_str());
    throw CLI::RuntimeError(code);
}

}  // namespace qmq::app
