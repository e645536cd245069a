#include "sdk/client/src/link/router.h"

#include <algorithm>
#include <utility>

namespace qmq::internal {

namespace {
constexpr std::chrono::milliseconds kAskTimeout{5'000};
/// A route is asked for again at most this often, however many batches stumble over it.
constexpr std::chrono::milliseconds kHurryPause{1'000};
/// Routes that one firing of the timer asks for; for more it fires again.
constexpr std::size_t kAskedAtOnce = 64;
}  // namespace

void Router::Watch(const RouteKey& key, std::weak_ptr<RouteWatcher> watcher) {
    const auto strong = watcher.lock();  // Outlives the lock: it may end here.
    if (strong == nullptr) {
        return;
    }
    KnownRoute known;
    Status error;
    std::uint64_t answered = 0;
    bool ask = false;
    {
        MutexLock lock(mutex_);
        if (transport_ == nullptr) {
            return;
        }
        RetryTimer();
        const auto [at, is_new] =
            entries_.try_emplace(key, refresh_, runtime_->reconnect_backoff(), &memory_);
        ask = is_new;
        Entry& entry = at->second;
        if (is_new) {
            entry.key = &at->first;
            waiting_.PushBack(entry.waiting_hook);
        }
        entry.watchers.push_back({strong.get(), std::move(watcher)});
        known = {entry.state.groups(), entry.route_number};
        error = entry.state.last_error();
        answered = entry.answered;
    }
    if (known.groups != nullptr) {
        strong->OnRoute(key, known);
    } else if (!error.ok()) {
        strong->OnRouteError(key, error, answered);
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
    // By the address: a watcher that is held here might end here, under the lock.
    std::erase_if(it->second.watchers, [watcher](const Watcher& other) {
        return other.address == watcher || other.watcher.expired();
    });
    if (it->second.watchers.empty()) {
        Erase(it);
    }
}

void Router::Hurry(const RouteKey& key) {
    MutexLock lock(mutex_);
    RetryTimer();
    auto it = entries_.find(key);
    if (it != entries_.end() && !it->second.asking) {
        TimePoint when = it->second.asked_at + kHurryPause;
        if (common_.route.groups != nullptr) {
            // Asked any sooner it would be answered with what is known.
            common_.until = std::min(common_.until, common_.asked_at + kHurryPause);
            when = std::max(when, common_.until);
        }
        AskBy(*it, when);
    }
}

void Router::Retry() {
    MutexLock lock(mutex_);
    RetryTimer();
}

void Router::RetryTimer() {
    if (timer_.refused()) {
        Arm();
    }
}

void Router::Stop() {
    MutexLock lock(mutex_);
    transport_.reset();
    timer_.Cancel();
    due_.clear();
    entries_.clear();
}

/// `entry` is asked for at `when`, unless it will be sooner.
void Router::AskBy(Entries::value_type& entry, TimePoint when) {
    if (entry.second.ask_at > when) {
        AskNotAt(entry);
        entry.second.ask_at = when;
        due_.emplace(when, &entry);
        Arm();
    }
}

void Router::AskNotAt(Entries::value_type& entry) {
    due_.erase({std::exchange(entry.second.ask_at, TimePoint::max()), &entry});
}

void Router::Erase(Entries::iterator entry) {
    AskNotAt(*entry);
    entries_.erase(entry);
}

void Router::Arm() {
    if (common_.route.groups != nullptr && !waiting_.empty()) {
        timer_.ArmBy(runtime_->Now(), *this, &Router::OnTimer);
    } else if (!due_.empty()) {
        timer_.ArmBy(due_.begin()->first, *this, &Router::OnTimer);
    }
}

void Router::OnTimer(TimerSlot::Shot shot) {
    std::vector<RouteKey> due;
    std::vector<Adoption> adoptions;
    {
        MutexLock lock(mutex_);
        timer_.OnFired(shot);
        while (common_.route.groups != nullptr && !waiting_.empty() &&
               adoptions.size() < kAskedAtOnce) {
            adoptions.push_back(Adopt(waiting_.front()));
        }
        const TimePoint now = runtime_->Now();
        while (!due_.empty() && due_.begin()->first <= now && due.size() < kAskedAtOnce) {
            Entries::value_type& entry = *due_.begin()->second;
            AskNotAt(entry);
            due.push_back(entry.first);
        }
        Arm();
    }
    for (const Adoption& adoption : adoptions) {
        adoption.Tell();
    }
    for (const RouteKey& key : due) {
        Ask(key);
    }
}

/// Until its own question is answered, which may never be: what is known of every subject.
Router::Adoption Router::Adopt(Entry& entry) {
    entry.waiting_hook.Unlink();
    entry.state.Adopt(common_.route.groups);
    entry.route_number = common_.route.number;
    return {*entry.key, common_.route, LiveWatchers(entry)};
}

void Router::Adoption::Tell() const {
    for (const auto& watcher : watchers) {
        watcher->OnRoute(key, route);
    }
}

void Router::Ask(const RouteKey& key) {
    Question question{key, 0};
    KnownRoute known;
    std::optional<Adoption> adoption;
    bool for_all = false;
    bool joins = false;
    {
        MutexLock lock(mutex_);
        auto it = entries_.find(key);
        if (transport_ == nullptr || it == entries_.end() || it->second.asking) {
            return;
        }
        const TimePoint now = runtime_->Now();
        it->second.asking = true;
        it->second.asked_at = now;
        question.number = it->second.question = ++last_question_;
        if (common_.route.groups != nullptr) {
            if (common_.asking) {
                common_.joined.PushBack(it->second.joined_hook);
                joins = true;
            } else if (now < common_.until) {
                known = common_.route;
            } else {
                for_all = common_.asking = true;
            }
            if (known.groups == nullptr && it->second.state.groups() == nullptr) {
                adoption = Adopt(it->second);
            }
        }
    }
    if (adoption.has_value()) {
        adoption->Tell();
    }
    if (joins) {
        return;
    }
    if (known.groups == nullptr) {
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
    DiscoverRequest request{std::string(key.subject),
                            std::string(key.group),
                            key.role,
                            runtime_->app_code(),
                            runtime_->client_id()};
    transport->Discover(std::move(request),
                        runtime_->Now() + kAskTimeout,
                        [self = weak_from_this(), question, for_all](Result<Route> reply) {
                            if (auto router = self.lock()) {
                                router->OnReply(question, for_all, std::move(reply));
                            }
                        });
}

/// Thousands of subjects have the same few routes, and are answered one by one.
RouteGroups Router::Shared(RouteGroups groups) {
    if (groups == nullptr) {
        return nullptr;
    }
    for (const auto& other : answered_) {
        if (RouteGroups known = other.lock(); known != nullptr && *known == *groups) {
            return known;
        }
    }
    auto place = std::find_if(
        answered_.begin(), answered_.end(), [](const auto& other) { return other.expired(); });
    if (place == answered_.end()) {
        place =
            answered_.begin() + static_cast<std::ptrdiff_t>(next_answered_++ % answered_.size());
    }
    *place = groups;
    return groups;
}

void Router::OnReply(const Question& question, bool for_all, Result<Route> reply) {
    std::vector<Question> joined;
    KnownRoute common;
    if (reply.ok()) {
        if (Status bad = CheckRoute(reply->groups); !bad.ok()) {
            reply = std::move(bad);
        }
    }
    Result<RouteGroups> groups =
        reply.ok() ? Result<RouteGroups>(SharedGroups(std::move(reply->groups))) : reply.status();
    {
        MutexLock lock(mutex_);
        RetryTimer();
        const TimePoint now = runtime_->Now();
        if (groups.ok()) {
            groups = Shared(*groups);
            if (question.number > common_.route.number) {
                // One that speaks of its own subject alone ends what was known of every one.
                common_.route = {reply->every_subject ? *groups : nullptr, question.number};
                common_.asked_at = now;
                common_.until = now + refresh_;
            }
        }
        if (for_all) {
            common_.asking = false;
            for (; !common_.joined.empty(); common_.joined.PopFront()) {
                const Entry& entry = common_.joined.front();
                joined.push_back({*entry.key, entry.question});
            }
        }
        common = common_.route;
        Arm();  // For those who wait, if it is known now.
    }
    if (!groups.ok()) {
        OnAnswer(question.key, question.number, groups.status());
    } else {
        if (*groups != nullptr) {
            // Also what is no news to its subject: links are those of all subjects.
            links_->Confirm(**groups, question.number);
        }
        OnAnswer(question.key, question.number, KnownRoute{*groups, question.number});
    }
    for (const Question& other : joined) {
        if (common.groups == nullptr) {
            AskTransport(other, false);  // There is no such route any more.
        } else {
            OnAnswer(other.key, other.number, common);  // As known: who asked tries again.
        }
    }
}

std::vector<std::shared_ptr<RouteWatcher>> Router::LiveWatchers(Entry& entry) {
    std::vector<std::shared_ptr<RouteWatcher>> live;
    std::erase_if(entry.watchers, [&live](const Watcher& watcher) {
        auto strong = watcher.watcher.lock();
        if (strong == nullptr) {
            return true;
        }
        live.push_back(std::move(strong));
        return false;
    });
    return live;
}

void Router::OnAnswer(const RouteKey& key,
                      std::uint64_t question,
                      const Result<KnownRoute>& answer) {
    std::vector<std::shared_ptr<RouteWatcher>> watchers;
    KnownRoute route;
    Status error;
    std::string line;
    {
        MutexLock lock(mutex_);
        auto it = entries_.find(key);
        if (it == entries_.end() || !it->second.asking || it->second.question != question) {
            return;
        }
        Entry& entry = it->second;
        entry.asking = false;
        entry.answered = question;
        Result<RouteGroups> groups =
            answer.ok() ? Result<RouteGroups>(answer->groups) : answer.status();
        if (answer.ok() && answer->number < entry.route_number) {
            groups = entry.state.groups();  // It has meanwhile adopted what is newer.
        }
        const RouteState::Step step = entry.state.OnAnswer(groups, runtime_->Now(), random_);
        error = entry.state.last_error();
        if (error.ok()) {
            entry.waiting_hook.Unlink();
            entry.route_number = std::max(entry.route_number, answer->number);
        }
        watchers = LiveWatchers(entry);
        if (watchers.empty()) {
            Erase(it);
            return;
        }
        AskBy(*it, step.ask_again);
        if (!error.ok() && entry.state.worth_logging()) {
            line = "route of subject " + std::string(key.subject) + ": " + error.ToString() +
                   (entry.state.groups() == nullptr ? "" : "; the known route is kept");
        }
        if (step.news) {
            route = {entry.state.groups(), entry.route_number};
        }
    }
    if (!line.empty()) {
        runtime_->log().Warning(line);
    }
    for (const auto& watcher : watchers) {
        if (route.groups != nullptr) {
            watcher->OnRoute(key, route);
        } else if (!error.ok()) {
            watcher->OnRouteError(key, error, question);
        }
    }
}

}  // namespace qmq::internal
