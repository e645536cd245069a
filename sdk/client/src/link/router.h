#pragma once

#include <array>
#include <map>
#include <memory>
#include <memory_resource>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qmq/transport.h"

#include "sdk/client/src/base/hook_list.h"
#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/base/slab_resource.h"
#include "sdk/client/src/base/timer_slot.h"
#include "sdk/client/src/link/broker_link.h"
#include "sdk/client/src/link/route_state.h"

namespace qmq::internal {

/// What a route is asked for. Copies are on the heap, wherever it was: not in what the application
/// may have set as the default resource, which need not be made for other threads.
struct RouteKey {
    using allocator_type = std::pmr::polymorphic_allocator<char>;

    RouteKey(ClientRole its_role,
             std::string_view its_subject,
             std::string_view its_group = {},
             const allocator_type& memory = std::pmr::new_delete_resource())
        : role(its_role), subject(its_subject, memory), group(its_group, memory) {}
    RouteKey(const RouteKey& other, const allocator_type& memory = std::pmr::new_delete_resource())
        : RouteKey(other.role, other.subject, other.group, memory) {}
    RouteKey(RouteKey&&) = default;
    RouteKey& operator=(const RouteKey&) = default;
    RouteKey& operator=(RouteKey&&) = default;
    ~RouteKey() = default;

    ClientRole role;
    std::pmr::string subject;
    std::pmr::string group;
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
          transport_(std::move(transport)),
          timer_(runtime_->work()),
          random_(runtime_->MakeRandom()) {}

    /// From now on `watcher` hears of `key`; at once when something is known already,
    /// be it why nothing is.
    void Watch(const RouteKey& key, std::weak_ptr<RouteWatcher> watcher);
    /// Ends the asking for `key` when no watcher of it is left but `watcher`.
    void Unwatch(const RouteKey& key, const RouteWatcher* watcher);
    /// Ask soon: something did not fit.
    void Hurry(const RouteKey& key);
    /// Somebody waits for a route: a timer that the executor refused is asked for again. So do all
    /// calls.
    void Retry();
    void Stop();

private:
    struct Watcher {
        const RouteWatcher* address = nullptr;
        std::weak_ptr<RouteWatcher> watcher;
    };
    struct Entry {
        Entry(std::chrono::milliseconds refresh,
              BackoffOptions backoff,
              std::pmr::memory_resource* memory)
            : state(refresh, backoff), watchers(memory) {}
        RouteState state;
        bool asking = false;
        TimePoint ask_at = TimePoint::max();  ///< In `due_`, unless it is that.
        TimePoint asked_at{};
        std::uint64_t question = 0;  ///< The last one.
        std::uint64_t answered = 0;  ///< The last one that was.
        std::uint64_t route_number = 0;
        std::pmr::vector<Watcher> watchers;
        const RouteKey* key = nullptr;        ///< Its own, in the map.
        ListHook<Entry> waiting_hook{*this};  ///< Of `waiting_`, as long as it has no route.
        ListHook<Entry> joined_hook{*this};   ///< Of `Common::joined`.
    };
    using Entries = std::pmr::map<RouteKey, Entry>;

    /// Of an entry that has taken the route of every subject: who is to be told.
    struct Adoption {
        RouteKey key;
        KnownRoute route;
        std::vector<std::shared_ptr<RouteWatcher>> watchers;
        void Tell() const;
    };

    /// A question that is out for a route.
    struct Question {
        RouteKey key;
        std::uint64_t number = 0;
    };

    void Ask(const RouteKey& key);
    void AskTransport(const Question& question, bool for_all);
    Adoption Adopt(Entry& entry) QMQ_REQUIRES(mutex_);
    RouteGroups Shared(RouteGroups groups) QMQ_REQUIRES(mutex_);
    void OnReply(const Question& question, bool for_all, Result<Route> reply);
    void OnAnswer(const RouteKey& key, std::uint64_t question, const Result<KnownRoute>& answer);
    void AskBy(Entries::value_type& entry, TimePoint when) QMQ_REQUIRES(mutex_);
    void AskNotAt(Entries::value_type& entry) QMQ_REQUIRES(mutex_);
    void Erase(Entries::iterator entry) QMQ_REQUIRES(mutex_);
    void Arm() QMQ_REQUIRES(mutex_);
    void RetryTimer() QMQ_REQUIRES(mutex_);
    void OnTimer(TimerSlot::Shot shot);
    static std::vector<std::shared_ptr<RouteWatcher>> LiveWatchers(Entry& entry);

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::shared_ptr<LinkPool> links_;
    const std::chrono::milliseconds refresh_;
    Mutex mutex_;
    std::shared_ptr<Transport> transport_ QMQ_GUARDED_BY(mutex_);
    SlabResource memory_;  // Of entries_ and due_.
    Entries entries_ QMQ_GUARDED_BY(mutex_){&memory_};
    /// When which route is asked for again.
    std::pmr::set<std::pair<TimePoint, Entries::value_type*>> due_ QMQ_GUARDED_BY(mutex_){&memory_};
    TimerSlot timer_ QMQ_GUARDED_BY(mutex_);  // For the first of these.
    HookList<Entry> waiting_ QMQ_GUARDED_BY(mutex_);
    Random random_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t last_question_ QMQ_GUARDED_BY(mutex_) = 0;

    /// The route of every subject.
    struct Common {
        KnownRoute route;
        TimePoint asked_at{};
        TimePoint until{};  ///< Then it is asked for again.
        bool asking = false;
        HookList<Entry> joined;  ///< They wait for the same answer.
    };
    Common common_ QMQ_GUARDED_BY(mutex_);
    /// The last ones that were answered and differ.
    std::array<std::weak_ptr<const std::vector<BrokerGroup>>, 8> answered_ QMQ_GUARDED_BY(mutex_);
    std::size_t next_answered_ QMQ_GUARDED_BY(mutex_) = 0;
};

}  // namespace qmq::internal
