#include "sdk/client/src/base/call_scope.h"

namespace qmq::internal {

namespace {
thread_local CallScope* t_innermost = nullptr;
}  // namespace

CallScope::CallScope(const void* client, const void* subscription)
    : client_(client), subscription_(subscription), outer_(t_innermost) {
    t_innermost = this;
}

CallScope::~CallScope() {
    t_innermost = outer_;
}

bool CallScope::InsideClient(const void* client) {
    for (const CallScope* scope = t_innermost; scope != nullptr; scope = scope->outer_) {
        if (scope->client_ == client) {
            return true;
        }
    }
    return false;
}

bool CallScope::InsideCallbackOf(const void* client) {
    for (const CallScope* scope = t_innermost; scope != nullptr; scope = scope->outer_) {
        if (scope->client_ == client && scope->subscription_ == nullptr) {
            return true;
        }
    }
    return false;
}

bool CallScope::InsideSubscription(const void* subscription) {
    for (const CallScope* scope = t_innermost; scope != nullptr; scope = scope->outer_) {
        if (scope->subscription_ == subscription) {
            return true;
        }
    }
    return false;
}

}  // namespace qmq::internal
