#include "sdk/client/src/base/call_scope.h"

namespace qmq::internal {

namespace {
thread_local CallScope* t_innermost = nullptr;
}  // namespace

CallScope::CallScope(const void* client, const void* subscription, Of of)
    : client_(client), subscription_(subscription), of_(of), outer_(t_innermost) {
    t_innermost = this;
}

CallScope::~CallScope() {
    t_innermost = outer_;
}

template <typename Is>
bool CallScope::Any(Is is) {
    for (const CallScope* scope = t_innermost; scope != nullptr; scope = scope->outer_) {
        if (is(*scope)) {
            return true;
        }
    }
    return false;
}

bool CallScope::InsideClient(const void* client) {
    return Any([=](const CallScope& scope) { return scope.client_ == client; });
}

bool CallScope::InsideCallbackOf(const void* client) {
    return Any([=](const CallScope& scope) {
        return scope.client_ == client && scope.subscription_ == nullptr;
    });
}

bool CallScope::InsideSubscription(const void* subscription) {
    return Any([=](const CallScope& scope) { return scope.subscription_ == subscription; });
}

bool CallScope::InsideRunnerOf(const void* subscription) {
    return Any([=](const CallScope& scope) {
        return scope.subscription_ == subscription && scope.of_ == Of::kRunner;
    });
}

}  // namespace qmq::internal
