#pragma once

#include <cstdint>

namespace qmq::internal {

/// Marks, on this thread and for its own life, that user code of a client runs: so that `Shutdown`
/// and `Close` know not to wait for the very call they are made from. Scopes nest (a handler may
/// run another client's callback through a direct call).
class CallScope {
public:
    /// What of a subscription calls: one of its runners, or something else that it must not wait
    /// for, as a filter that is told how a delivery ended.
    enum class Of : std::uint8_t { kRunner, kOther };

    /// `subscription` is null for callbacks.
    CallScope(const void* client, const void* subscription, Of of = Of::kOther);
    ~CallScope();
    CallScope(const CallScope&) = delete;
    CallScope& operator=(const CallScope&) = delete;

    static bool InsideClient(const void* client);
    static bool InsideCallbackOf(const void* client);
    static bool InsideSubscription(const void* subscription);
    static bool InsideRunnerOf(const void* subscription);

private:
    template <typename Is>
    static bool Any(Is is);

    const void* client_;
    const void* subscription_;
    Of of_;
    CallScope* outer_;
};

}  // namespace qmq::internal
