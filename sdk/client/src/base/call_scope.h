#pragma once

namespace qmq::internal {

/// Marks, on this thread and for its own life, that user code of a client runs: so that `Shutdown`
/// and `Close` know not to wait for the very call they are made from. Scopes nest (a handler may
/// run another client's callback through a direct call).
class CallScope {
public:
    /// `subscription` is null for callbacks.
    CallScope(const void* client, const void* subscription);
    ~CallScope();
    CallScope(const CallScope&) = delete;
    CallScope& operator=(const CallScope&) = delete;

    static bool InsideClient(const void* client);
    static bool InsideCallbackOf(const void* client);
    /// How many of its handlers are below this frame: 0 or, but for nesting, 1.
    static bool InsideSubscription(const void* subscription);

private:
    const void* client_;
    const void* subscription_;
    CallScope* outer_;
};

}  // namespace qmq::internal
