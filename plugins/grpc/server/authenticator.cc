#include "plugins/grpc/server/authenticator.h"

#include <string_view>

#include "plugins/grpc/codec/channel_tuning.h"

namespace qmq::rpc {
namespace {

/// Looks at every byte of what came, whatever the first ones were.
bool EqualInConstantTime(std::string_view came, std::string_view expected) {
    unsigned difference = came.size() == expected.size() ? 0 : 1;
    for (std::size_t i = 0; i < came.size(); ++i) {
        const char other = expected[i % expected.size()];
        difference |= static_cast<unsigned>(static_cast<unsigned char>(came[i] ^ other));
    }
    return difference == 0;
}

}  // namespace

grpc::Status Authenticator::Check(const grpc::CallbackServerContext& context) const {
    if (token_.empty()) {
        return grpc::Status::OK;
    }
    constexpr std::string_view kScheme = "Bearer ";
    const auto found = context.client_metadata().find(kAuthorizationKey);
    if (found == context.client_metadata().end()) {
        return {grpc::StatusCode::UNAUTHENTICATED,
                "this server asks for a token: send the metadata \"authorization: Bearer TOKEN\""};
    }
    const std::string_view value(found->second.data(), found->second.size());
    if (!value.starts_with(kScheme) || !EqualInConstantTime(value.substr(kScheme.size()), token_)) {
        return {grpc::StatusCode::UNAUTHENTICATED, "the token is not the one of this server"};
    }
    return grpc::Status::OK;
}

}  // namespace qmq::rpc
