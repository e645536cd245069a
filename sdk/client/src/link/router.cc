#include "sdk/client/src/link/router.h"

#include <algorithm>
#include <utility>

namespace qmq::internal {

namespace {
constexpr std::chrono::milliseconds kAskTimeout{5'000};
/// A route is asked for again at most this often, however many batches stumble over it.
constexpr std::chrono::milliseconds kHurryPause{1'000};
}  // namespace

void Router::Watch(const RouteKey& key, std::weak_ptr<RouteWatcher> watcher) {
    KnownRoute known;
    Status error;
    std::uint64_t answered = 0;
    bool ask = false;
    {
        MutexLock lock(mutex_);
        if (transport_ == nullptr) {
            return;
        }
        RetryTimers();
        std::unique_ptr<Entry>& entry = entries_[key];
        if (entry == nullptr) {
            entry = std::make_unique<Entry>(
                refresh_, runtime_->reconnect_backoff(), runtime_->MakeRandom(), runtime_->work());
            ask = true;
        }
        entry->watchers.push_back(watcher);
        known = {entry->state.groups(), entry->route_number};
        error = entry->state.last_error();
        answered = entry->answered;
    }
    if (auto strong = watcher.lock(); strong != nullptr) {
        if (!known.groups.empty()) {
            strong->OnRoute(key, known);
        } else if (!error.ok()) {
            strong->OnRouteError(key, error, answered);
        }
    }
    if (ask) {
        Ask(key);
    }
}

void Router::Unwatch(const RouteKey& key, const RouteWatcher* watcher) {
    MutexLock lock(mutex_);
    auto it = entries_.find(key);
    if (it == entries_.end()) {
        return;
    }
    std::erase_if(it->second->watchers, [watcher](const std::weak_ptr<RouteWatcher>& other) {
        auto strong = other.lock();
        return strong == nullptr || strong.get() == watcher;
    });
    if (it->second->watchers.empty()) {
        entries_.erase(it);
    }
}

void Router::Hurry(const RouteKey& key) {
    MutexLock lock(mutex_);
    RetryTimers();
    auto it = entries_.find(key);
    if (it != entries_.end() && !it->second->asking) {
        TimePoint when = it->second->asked_at + kHurryPause;
        if (!common_.route.groups.empty()) {
            // Asked any sooner it would be answered with what is known.
            common_.until = std::min(common_.until, common_.asked_at + kHurryPause);
            when = std::max(when, common_.until);
        }
        ArmLocked(key, *it->second, when);
    }
}

void Router::Retry() {
    MutexLock lock(mutex_);
    RetryTimers();
}

/// One after another until the executor refuses one again, so that thousands cost nothing.
void Router::RetryTimers() {
    while (!refused_.empty()) {
        const auto it = entries_.find(refused_.back());
        if (it != entries_.end() && it->second->timer.refused()) {
            ArmLocked(it->first, *it->second, it->second->timer.when());
            if (it->second->timer.refused()) {
                return;
            }
        }
        refused_.pop_back();
    }
}

void Router::Stop() {
    std::map<RouteKey, std::unique_ptr<Entry>> entries;
    MutexLock lock(mutex_);
    transport_.reset();
    entries.swap(entries_);
}

void Router::ArmLocked(const RouteKey& key, Entry& entry, TimePoint when) {
    const bool was_refused = entry.timer.refused();
    entry.timer.ArmBy(when, [this, &key] {
        return [self = weak_from_this(), key] {
            auto router = self.lock();
            if (router == nullptr) {
                return;
            }
            {
                MutexLock lock(router->mutex_);
                auto it = router->entries_.find(key);
                if (it == router->entries_.end()) {
                    return;
                }
                it->second->timer.OnFired();
            }
            router->Ask(key);
        };
    });
    if (entry.timer.refused() && !was_refused) {
        refused_.push_back(key);
    }
}

void Router::Ask(const RouteKey& key) {
    Question question{key, 0};
    KnownRoute known;
    bool for_all = false;
    {
        MutexLock lock(mutex_);
        auto it = entries_.find(key);
        if (transport_ == nullptr || it == entries_.end() || it->second->asking) {
            return;
        }
        const TimePoint now = runtime_->Now();
        it->second->asking = true;
        it->second->asked_at = now;
        question.number = it->second->question = ++last_question_;
        if (!common_.route.groups.empty()) {
            if (common_.asking) {
                common_.joined.push_back(std::move(question));
                return;
            }
            if (now < common_.until) {
                known = common_.route;
            } else {
                for_all = common_.asking = true;
            }
        }
    }
    if (known.groups.empty()) {
        AskTransport(question, for_all);
    } else {
        OnAnswer(question.key, question.number, std::move(known));
    }
}

void Router::AskTransport(const Question& question, bool for_all) {
    std::shared_ptr<Transport> transport;
    {
        MutexLock lock(mutex_);
        transport = transport_;
    }
    if (transport == nullptr) {
        return;  // Stopped.
    }
    const RouteKey& key = question.key;
    DiscoverRequest request{
        key.subject, key.group, key.role, runtime_->app_code(), runtime_->client_id()};
    transport->Discover(std::move(request),
                        runtime_->Now() + kAskTimeout,
                        [self = weak_from_this(), question, for_all](Result<Route> reply) {
                            if (auto router = self.lock()) {
                                router->OnReply(question, for_all, std::move(reply));
                            }
                        });
}

void Router::OnReply(const Question& question, bool for_all, Result<Route> reply) {
    std::vector<Question> joined;
    KnownRoute common;
    if (reply.ok()) {
        if (Status bad = CheckRoute(reply->groups); !bad.ok()) {
            reply = std::move(bad);
        }
    }
    {
        MutexLock lock(mutex_);
        RetryTimers();
        const TimePoint now = runtime_->Now();
        if (reply.ok() && question.number > common_.route.number) {
            // A reply of no groups says nothing of other subjects.
            common_.route = {reply->every_subject ? reply->groups : std::vector<BrokerGroup>(),
                             question.number};
            common_.asked_at = now;
            common_.until = now + refresh_;
        }
        if (for_all) {
            common_.asking = false;
            joined.swap(common_.joined);
        }
        common = common_.route;
    }
    if (reply.ok()) {
        // Also what is no news to its subject: links are those of all subjects.
        links_->Confirm(reply->groups, question.number);
        OnAnswer(
            question.key, question.number, KnownRoute{std::move(reply->groups), question.number});
    } else {
        OnAnswer(question.key, question.number, reply.status());
    }
    for (const Question& other : joined) {
        if (common.groups.empty()) {
            AskTransport(other, false);  // There is no such route any more.
        } else {
            OnAnswer(other.key, other.number, common);  // As known: who asked tries again.
        }
    }
}

std::vector<std::shared_ptr<RouteWatcher>> Router::LiveWatchers(Entry& entry) {
    std::vector<std::shared_ptr<RouteWatcher>> live;
    std::erase_if(entry.watchers, [&live](const std::weak_ptr<RouteWatcher>& watcher) {
        auto strong = watcher.lock();
        if (strong == nullptr) {
            return true;
        }
        live.push_back(std::move(strong));
        return false;
    });
    return live;
}

void Router::OnAnswer(const RouteKey& key, std::uint64_t question, Result<KnownRoute> answer) {
    std::vector<std::shared_ptr<RouteWatcher>> watchers;
    KnownRoute route;
    Status error;
    std::string line;
    {
        MutexLock lock(mutex_);
        auto it = entries_.find(key);
        if (it == entries_.end() || !it->second->asking || it->second->question != question) {
            return;
        }
        Entry& entry = *it->second;
        entry.asking = false;
        entry.answered = question;
        const std::uint64_t number = answer.ok() ? answer->number : 0;
        Result<std::vector<BrokerGroup>> groups =
            answer.ok() ? Result<std::vector<BrokerGroup>>(std::move(answer->groups))
                        : answer.status();
        const RouteState::Step step =
            entry.state.OnAnswer(std::move(groups), runtime_->Now(), entry.random);
        error = entry.state.last_error();
        if (error.ok()) {
            entry.route_number = number;
        }
        watchers = LiveWatchers(entry);
        if (watchers.empty()) {
            entries_.erase(it);
            return;
        }
        ArmLocked(key, entry, step.ask_again);
        if (!error.ok() && entry.state.worth_logging()) {
            line = "route of subject " + key.subject + ": " + error.ToString() +
                   (entry.state.groups().empty() ? "" : "; the known route is kept");
        }
        if (step.news) {
            route = {entry.state.groups(), entry.route_number};
        }
    }
    if (!line.empty()) {
        runtime_->log().Warning(line);
    }
    for (const auto& watcher : watchers) {
        if (!route.groups.empty()) {
            watcher->OnRoute(key, route);
        } else if (!error.ok()) {
            watcher->OnRouteError(key, error, question);
        }
    }
}

}  // namespace qmq::internal
