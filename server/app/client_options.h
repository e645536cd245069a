#pragma once

#include <memory>
#include <string>

#include "qmq/client.h"

namespace CLI {
class App;
}

namespace qmq::app {

/// What every command that talks to a cluster asks for.
struct ClientArguments {
    std::string uri = "grpc://127.0.0.1:7777";
    std::string ca_file;
    std::string certificate_file;
    std::string key_file;
    std::string token_file;
};

void AddClientArguments(CLI::App& command, ClientArguments& arguments);

/// The transports of this program, with what the arguments say.
std::vector<std::shared_ptr<TransportFactory>> MakeTransports(const ClientArguments& arguments);

/// A client over them. On an error it has said why, and ends the command.
Client MakeClient(const ClientArguments& arguments, const std::string& app_code);

/// Says why, and ends the command with `code`.
[[noreturn]] void Fail(int code, const std::string& reason);

/// The value, or the end of the command with the reason.
template <typename T>
T OrFail(Result<T> result, int code, const std::string& context) {
    if (!result.ok()) {
        Fail(code, context + ": " + result.status().ToString());
    }
    return *std::move(result);
}

}  // namespace qmq::app
