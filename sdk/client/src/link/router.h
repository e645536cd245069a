#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "qmq/transport.h"

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/link/broker_link.h"
#include "sdk/client/src/link/route_state.h"

namespace qmq::internal {

struct RouteKey {
    ClientRole role = ClientRole::kProducer;
    std::string subject;
    std::string group;
    friend auto operator<=>(const RouteKey&, const RouteKey&) = default;
};

/// Told of routes, on any thread, without a lock of the router: so a call may be overtaken by one
/// with a higher number, which is newer.
class RouteWatcher {
public:
    virtual ~RouteWatcher() = default;
    /// The broker groups of `key`, when they have changed or are known again after an error.
    virtual void OnRoute(const RouteKey& key, const KnownRoute& route) = 0;
    /// The route could not be asked for, or nobody serves it. `number`: as a route's.
    virtual void OnRouteError(const RouteKey& key, const Status& status, std::uint64_t number) = 0;
};

/// Asks the transport which broker groups serve which subject, again and again: by back-off until
/// it knows, then every `route_refresh`. Where the cluster has one route for every subject, one
/// question serves all of them. Thread-safe.
class Router : public std::enable_shared_from_this<Router> {
public:
    Router(std::shared_ptr<ClientRuntime> runtime,
           std::shared_ptr<Transport> transport,
           std::shared_ptr<LinkPool> links,
           std::chrono::milliseconds refresh)
        : runtime_(std::move(runtime)),
          links_(std::move(links)),
          refresh_(refresh),
          transport_(std::move(transport)) {}

    /// From now on `watcher` hears of `key`; at once when something is known already,
    /// be it why nothing is.
    void Watch(const RouteKey& key, std::weak_ptr<RouteWatcher> watcher);
    /// Ends the asking for `key` when no watcher of it is left but `watcher`.
    void Unwatch(const RouteKey& key, const RouteWatcher* watcher);
    /// Ask soon: something did not fit.
    void Hurry(const RouteKey& key);
    /// Somebody waits for a route: timers that the executor refused are asked for again. So do all
    /// calls.
    void Retry();
    void Stop();

private:
    struct Entry {
        Entry(std::chrono::milliseconds refresh, BackoffOptions backoff, Random chance, Executor& e)
            : state(refresh, backoff), random(chance), timer(e) {}
        RouteState state;
        Random random;
        TimerSlot timer;
        bool asking = false;
        TimePoint asked_at{};
        std::uint64_t question = 0;  ///< The last one.
        std::uint64_t answered = 0;  ///< The last one that was.
        std::uint64_t route_number = 0;
        std::vector<std::weak_ptr<RouteWatcher>> watchers;
    };

    /// A question that is out for a route.
    struct Question {
        RouteKey key;
        std::uint64_t number = 0;
    };

    void Ask(const RouteKey& key);
    void AskTransport(const Question& question, bool for_all);
    void OnReply(const Question& question, bool for_all, Result<Route> reply);
    void OnAnswer(const RouteKey& key, std::uint64_t question, Result<KnownRoute> answer);
    void ArmLocked(const RouteKey& key, Entry& entry, TimePoint when) QMQ_REQUIRES(mutex_);
    void RetryTimers() QMQ_REQUIRES(mutex_);
    static std::vector<std::shared_ptr<RouteWatcher>> LiveWatchers(Entry& entry);

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::shared_ptr<LinkPool> links_;
    const std::chrono::milliseconds refresh_;
    Mutex mutex_;
    std::shared_ptr<Transport> transport_ QMQ_GUARDED_BY(mutex_);
    std::map<RouteKey, std::unique_ptr<Entry>> entries_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t last_question_ QMQ_GUARDED_BY(mutex_) = 0;
    std::vector<RouteKey> refused_ QMQ_GUARDED_BY(mutex_);  // Whose timer the executor refused.

    /// The route of every subject.
    struct Common {
        KnownRoute route;  ///< Without groups: there is none.
        TimePoint asked_at{};
        TimePoint until{};  ///< Then it is asked for again.
        bool asking = false;
        std::vector<Question> joined;  ///< They wait for the same answer.
    };
    Common common_ QMQ_GUARDED_BY(mutex_);
};

}  // namespace qmq::internal
