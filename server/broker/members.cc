#include "server/broker/members.h"

#include <algorithm>
#include <utility>

#include "qmq/subject.h"

namespace qmq::broker {

namespace {

/// What a restarted broker gives consumers at least, to find it again.
constexpr ShardMs kLeastGraceAfterRestartMs = 5'000;
/// Wait before something that could not be logged (a full disk) is tried again.
constexpr ShardMs kRetryMs = 1'000;
constexpr std::size_t kMostTags = 10;
constexpr PullRange kAllPulls{0, UINT64_MAX};

template <typename Number>
Status CheckRange(std::string_view field, Number value, Number least, Number most) {
    if (value >= least && value <= most) {
        return {};
    }
    return Status::InvalidArgument(std::string(field) + " = " + std::to_string(value) +
                                   "; it ranges from " + std::to_string(least) + " to " +
                                   std::to_string(most));
}

Status CheckFilter(const TagFilter& filter) {
    if (filter.mode != TagMode::kNone && filter.tags.empty()) {
        return Status::InvalidArgument(
            "filter has a mode and no tag: give at least one, or mode kNone");
    }
    if (filter.tags.size() > kMostTags) {
        return Status::InvalidArgument("filter has " + std::to_string(filter.tags.size()) +
                                       " tags; at most 10");
    }
    return {};
}

}  // namespace

Result<ResolvedKey> Resolve(const ConsumerKey& key) {
    for (Status status : {ValidateStoredSubject(key.subject),
                          ValidateGroup(key.group),
                          ValidateConsumerId(key.consumer_id)}) {
        if (!status.ok()) {
            return status;
        }
    }
    const SubjectParts parts = ParseSubject(key.subject);
    if (parts.kind == SubjectKind::kReal) {
        return ResolvedKey{key.subject, key.group, key.consumer_id, key.source};
    }
    if (parts.kind == SubjectKind::kRetry && parts.group == key.group) {
        return ResolvedKey{
            std::string(parts.real_subject), key.group, key.consumer_id, ConsumeSource::kRetry};
    }
    if (key.source == ConsumeSource::kRetry) {
        return Status::InvalidArgument("subject " + key.subject +
                                       " has no retry subject: consume it with source kSubject");
    }
    return ResolvedKey{key.subject, key.group, key.consumer_id, ConsumeSource::kSubject};
}

Status ValidateSubscribe(const SubscribeRequest& request) {
    const RetryPolicy& retry = request.retry;
    constexpr std::int64_t kDayMs = 24 * 3'600'000;
    for (Status status : {
             CheckRange<std::int64_t>(
                 "ack_timeout (ms)", request.ack_timeout.count(), 1'000, kDayMs / 2),
             CheckRange<std::int64_t>(
                 "reconnect_grace (ms)", request.reconnect_grace.count(), 0, kDayMs / 24),
             CheckRange<std::uint32_t>("retry.max_attempts", retry.max_attempts, 1, 65'535),
             CheckRange<std::int64_t>(
                 "retry.initial_backoff (ms)", retry.initial_backoff.count(), 0, kDayMs),
             CheckRange<std::int64_t>("retry.max_backoff (ms)",
                                      retry.max_backoff.count(),
                                      retry.initial_backoff.count(),
                                      7 * kDayMs),
             CheckRange<double>("retry.multiplier", retry.multiplier, 1.0, 10.0),
             CheckFilter(request.filter),
         }) {
        if (!status.ok()) {
            return status;
        }
    }
    return {};
}

// ---- Coming.

/// Logs what is new about the consumer and its group, and makes it so.
Result<Consumer*> Members::Join(const ResolvedKey& key,
                                const SubscribeRequest& request,
                                bool sessionless,
                                SubscribeReply& reply) {
    Subject& subject = core_.OpenSubject(key.subject);
    Group& group = core_.state.MakeGroup(key.names().group);
    Consumer* consumer = core_.state.FindConsumer(key.names());
    const ConsumerSettings settings{request.ack_timeout, request.reconnect_grace, sessionless};
    const std::uint64_t start = request.start == StartPosition::kEarliest
                                    ? subject.log->first_sequence()
                                    : subject.log->next_sequence();
    const bool place = !group.placed;
    // A single pull that does not say what arrived goes on; a session that does not has nothing.
    const bool release = consumer != nullptr && consumer->held.count() > 0 && !request.resume &&
                         !(sessionless && consumer->settings.sessionless);
    std::vector<Action> actions;
    if (place) {
        actions.emplace_back(GroupPlaced{group.names(), start, false});
    }
    if (consumer == nullptr || !(consumer->settings == settings) ||
        !(group.filter == request.filter) || !(group.policy == request.retry)) {
        actions.emplace_back(Subscribed{key.names(), request.filter, request.retry, settings});
    }
    if (release) {
        actions.emplace_back(Released{key.names(), true, {kAllPulls}});
    }
    if (!actions.empty()) {
        Result<store::LogOffset> end = core_.AppendNow(actions);
        if (!end.ok()) {
            return end.status();
        }
        if (place) {
            PlaceLive(group, start, false, *end);
        }
    }
    group.filter = request.filter;
    group.policy = request.retry;
    if (release) {
        core_.state.Release(*consumer, kAllPulls, true);
        core_.state.Keep();
    }
    const bool known = consumer != nullptr;
    if (!known) {
        consumer = &core_.state.MakeConsumer(group, key.consumer_id, key.source);
    }
    consumer->settings = settings;
    core_.Applied();
    reply = request.resume ? Resume(*consumer, *request.resume)
                           : SubscribeReply{core_.store->recovery().incarnation,
                                            known && !release ? consumer->held.next() : 0};
    return consumer;
}

/// From where the consumer and we agree again, and what must be sent anew for that.
SubscribeReply Members::Resume(Consumer& consumer, const ResumePoint& resume) {
    SubscribeReply reply{core_.store->recovery().incarnation, 0};
    // Zero is a client that knows nothing of incarnations.
    const bool same = resume.incarnation == 0 || resume.incarnation == reply.incarnation;
    // Of what an earlier process handed out only this is known. Had we counted what this one did,
    // the consumer would take it for messages of the lost tail.
    const std::uint64_t known_below = same ? consumer.held.next() : consumer.replayed_next;
    if (resume.next_pull_sequence > consumer.born_at) {
        reply.held_below = std::min(resume.next_pull_sequence, known_below);
    }
    consumer.resend_next = reply.held_below;
    consumer.resend_end = consumer.held.next();
    return reply;
}

void Members::PlaceLive(Group& group,
                        std::uint64_t next_sequence,
                        bool reset,
                        store::LogOffset end) {
    core_.state.Place(group, next_sequence, reset);
    group.durable = false;
    group.durable_end = end;
    WhenDurable(end, [this, &group, end](const Status& status) {
        if (status.ok() && group.durable_end == end) {
            OnDurable(group);
        }
    });
}

void Members::OnDurable(Group& group) {
    group.durable = true;
    for (Consumer* consumer : group.members) {
        Announce(*consumer);
    }
    delivery_.MarkReady(group);
}

void Members::Announce(Consumer& consumer) {
    if (consumer.announced) {
        return;
    }
    consumer.announced = true;
    if (consumer.sink != nullptr) {
        consumer.sink->OnSubscribed(consumer.reply);
    } else {
        due_pulls_.push_back(&consumer);
    }
}

void Members::WhenDurable(store::LogOffset end, UniqueFunction<void(const Status&)> then) {
    core_.sync_wanted = true;
    durable_.push_back(Durable{end, std::move(then)});
}

void Members::OnSynced(store::LogOffset synced) {
    while (!durable_.empty() && durable_.front().end <= synced) {
        Durable done = std::move(durable_.front());
        durable_.pop_front();
        done.then(Status::Ok());
    }
}

void Members::Subscribe(const ResolvedKey& key,
                        const SubscribeRequest& request,
                        std::uint64_t session,
                        std::shared_ptr<DeliverySink> sink) {
    SubscribeReply reply;
    Result<Consumer*> joined =
        core_.stopped.ok() ? Join(key, request, false, reply) : Result<Consumer*>(core_.stopped);
    if (!joined.ok()) {
        sink->OnClosed(joined.status());
        return;
    }
    Consumer& consumer = **joined;
    Disconnect(consumer,
               Status::AlreadyExists("consumer " + key.consumer_id + " of group " + key.group +
                                     " has connected again elsewhere"));
    core_.timers.Cancel(consumer, TimerKind::kGone);
    consumer.sink = std::move(sink);
    consumer.session = session;
    consumer.reply = reply;
    delivery_.Refresh(consumer);
    if (consumer.group->durable) {
        Announce(consumer);
    }
    // What it gave back may be for others.
    delivery_.MarkReady(*consumer.group);
}

void Members::Pull(const ResolvedKey& key,
                   PullRequest& request,
                   UniqueFunction<void(Result<PullReply>)> done) {
    SubscribeReply reply;
    Result<Consumer*> joined = core_.stopped.ok() ? Join(key, request.consumer, true, reply)
                                                  : Result<Consumer*>(core_.stopped);
    if (!joined.ok()) {
        done(joined.status());
        return;
    }
    Consumer& consumer = **joined;
    if (consumer.sink != nullptr) {
        Disconnect(consumer,
                   Status::AlreadyExists("consumer " + key.consumer_id + " of group " + key.group +
                                         " now pulls by single requests"));
    }
    if (consumer.pulls.size() >= core_.options.max_queued_requests) {
        done(Status::ResourceExhausted("consumer " + key.consumer_id + " of group " + key.group +
                                       " is busy: " + std::to_string(consumer.pulls.size()) +
                                       " of its pulls wait already"));
        return;
    }
    consumer.pulls.push_back(PullWaiter{request.max_messages,
                                        request.max_bytes,
                                        core_.Now() + request.max_wait.count(),
                                        reply,
                                        std::move(done)});
    Touch(consumer);
    delivery_.Refresh(consumer);
    if (consumer.group->durable) {
        Announce(consumer);
    }
    ArmPull(consumer);
    delivery_.MarkReady(*consumer.group);
}

// ---- While they are here.

Consumer* Members::FindSession(const ResolvedKey& key, std::uint64_t session) {
    Consumer* consumer = core_.state.FindConsumer(key.names());
    return consumer != nullptr && consumer->sink != nullptr && consumer->session == session
               ? consumer
               : nullptr;
}

void Members::Grant(Consumer& consumer, Credit credit) {
    // Far more than anybody has room for, and no sum of it runs over.
    constexpr std::int64_t kMost = 1LL << 40;
    consumer.credit_messages =
        std::min(kMost, consumer.credit_messages + static_cast<std::int64_t>(credit.messages));
    const auto bytes = static_cast<std::int64_t>(
        std::min<std::uint64_t>(credit.bytes, static_cast<std::uint64_t>(kMost)));
    consumer.credit_bytes = std::min(kMost, consumer.credit_bytes + bytes);
    delivery_.MarkReady(*consumer.group);
}

void Members::Touch(Consumer& consumer) {
    if (consumer.settings.sessionless) {
        core_.timers.Set(
            consumer, TimerKind::kGone, core_.Now() + consumer.settings.ack_timeout.count());
    }
}

void Members::ArmPull(Consumer& consumer) {
    if (consumer.pulls.empty()) {
        core_.timers.Cancel(consumer, TimerKind::kPull);
        return;
    }
    ShardMs first = consumer.pulls.front().deadline_ms;
    for (std::size_t i = 1; i < consumer.pulls.size(); ++i) {
        first = std::min(first, consumer.pulls[i].deadline_ms);
    }
    if (first <= core_.Now()) {
        due_pulls_.push_back(&consumer);
    } else {
        core_.timers.Set(consumer, TimerKind::kPull, first);
    }
}

void Members::ExpirePulls() {
    for (Consumer* consumer : std::exchange(due_pulls_, {})) {
        // Before its group is durable it is not answered at all; `Announce` lists it again.
        if (consumer->announced) {
            AnswerPulls(*consumer);
        }
    }
}

void Members::AnswerPulls(Consumer& consumer) {
    const ShardMs now = core_.Now();
    std::vector<PullWaiter> over;
    for (std::size_t i = consumer.pulls.size(); i-- > 0;) {
        PullWaiter pull = std::move(consumer.pulls.front());
        consumer.pulls.pop_front();
        if (pull.deadline_ms <= now) {
            over.push_back(std::move(pull));
        } else {
            consumer.pulls.push_back(std::move(pull));
        }
    }
    delivery_.Refresh(consumer);
    if (!consumer.pulls.empty()) {
        ArmPull(consumer);
    }
    for (PullWaiter& pull : over) {
        pull.done(PullReply{pull.subscribed, {}});
    }
}

// ---- Going.

/// Ends its session, or its pulls, with `status`. What it holds stays its own for now.
void Members::Disconnect(Consumer& consumer, const Status& status) {
    const std::shared_ptr<DeliverySink> sink = std::exchange(consumer.sink, nullptr);
    std::vector<PullWaiter> pulls;
    while (!consumer.pulls.empty()) {
        pulls.push_back(std::move(consumer.pulls.front()));
        consumer.pulls.pop_front();
    }
    consumer.announced = false;
    consumer.credit_messages = 0;
    consumer.credit_bytes = 0;
    core_.timers.Cancel(consumer, TimerKind::kPull);
    delivery_.Refresh(consumer);
    if (sink != nullptr) {
        sink->OnClosed(status);
    }
    for (PullWaiter& pull : pulls) {
        pull.done(status);
    }
}

void Members::Detach(Consumer& consumer) {
    // Its sink goes without a word: nobody listens there any more.
    consumer.sink = nullptr;
    Disconnect(consumer, Status::Unavailable("the connection was lost"));
    core_.timers.Set(
        consumer, TimerKind::kGone, core_.Now() + consumer.settings.reconnect_grace.count());
}

void Members::Leave(Consumer& consumer) {
    Disconnect(consumer, Status::Cancelled("the consumer has left"));
    GoneTooLong(consumer);
}

void Members::GoneTooLong(Consumer& consumer) {
    if (consumer.connected()) {
        Touch(consumer);
        return;
    }
    if (!core_.stopped.ok()) {
        return;
    }
    const Action gone(ConsumerGone{NamesOf(consumer)});
    if (!core_.AppendNow(std::span(&gone, 1)).ok()) {
        core_.timers.Set(consumer, TimerKind::kGone, core_.Now() + kRetryMs);
        return;
    }
    Group& group = *consumer.group;
    std::erase(due_pulls_, &consumer);
    delivery_.Forget(consumer);
    core_.state.Forget(consumer);
    core_.Applied();
    delivery_.MarkReady(group);
}

void Members::AfterReplay() {
    core_.state.BeginPulls(core_.store->recovery().incarnation);
    core_.state.ForEachGroup([this](Group& group) {
        group.durable = group.placed;
        group.idle_since_ms = core_.Now();
        for (auto& [id, consumer] : group.consumers) {
            consumer->replayed_next = consumer->held.next();
            const ShardMs lease = core_.Now() + consumer->settings.ack_timeout.count();
            consumer->held.ForEach(
                [lease](std::uint64_t, Held& held) { held.set_deadline_ms(lease); });
            if (consumer->held.count() > 0) {
                core_.timers.Set(*consumer, TimerKind::kLease, lease);
            }
            const ShardMs grace = consumer->settings.sessionless
                                      ? consumer->settings.ack_timeout.count()
                                      : consumer->settings.reconnect_grace.count();
            core_.timers.Set(*consumer,
                             TimerKind::kGone,
                             core_.Now() + std::max(grace, kLeastGraceAfterRestartMs));
        }
    });
}

void Members::OnTimer(const Timer& timer) {
    switch (timer.kind) {
        case TimerKind::kLease:
            acks_.ExpireLeases(*timer.consumer);
            return;
        case TimerKind::kGone:
            GoneTooLong(*timer.consumer);
            return;
        case TimerKind::kPull:
            due_pulls_.push_back(timer.consumer);
            return;
        case TimerKind::kDue:
            delivery_.MarkReady(*timer.group);
            return;
    }
}

void Members::CloseAll(const Status& status) {
    core_.state.ForEachGroup([this, &status](Group& group) {
        for (auto& [id, consumer] : group.consumers) {
            if (consumer->connected()) {
                Disconnect(*consumer, status);
            }
            core_.timers.CancelAll(*consumer);
        }
        core_.timers.Cancel(group);
    });
    due_pulls_.clear();
    while (!durable_.empty()) {
        Durable waiting = std::move(durable_.front());
        durable_.pop_front();
        waiting.then(status);
    }
}

// ---- Groups.

void Members::Reset(const GroupName& name,
                    StartPosition position,
                    UniqueFunction<void(Status)> done) {
    if (!core_.stopped.ok()) {
        done(core_.stopped);
        return;
    }
    Group* group = core_.state.FindGroup(name);
    if (group == nullptr || !group->placed) {
        done(Status::NotFound("subject " + std::string(name.subject) + " has no group " +
                              std::string(name.group) + " on this broker"));
        return;
    }
    const store::SubjectLog& log = *group->subject->log;
    const std::uint64_t next =
        position == StartPosition::kEarliest ? log.first_sequence() : log.next_sequence();
    const Action placed(GroupPlaced{group->names(), next, true});
    Result<store::LogOffset> end = core_.AppendNow(std::span(&placed, 1));
    if (!end.ok()) {
        done(end.status());
        return;
    }
    PlaceLive(*group, next, true, *end);
    core_.state.Keep();
    core_.Applied();
    WhenDurable(*end, [done = std::move(done)](const Status& status) mutable { done(status); });
}

void Members::EvictIdle() {
    const ShardMs keep =
        std::chrono::duration_cast<std::chrono::milliseconds>(core_.options.idle_group_retention)
            .count();
    const ShardMs now = core_.Now();
    std::vector<Group*> idle;
    core_.state.ForEachGroup([&](Group& group) {
        if (group.consumers.empty() && group.waiting.empty() && group.redelivery[0].empty() &&
            group.redelivery[1].empty() && (group.durable || !group.placed) &&
            now - group.idle_since_ms >= keep) {
            idle.push_back(&group);
        }
    });
    for (Group* group : idle) {
        const Action gone(GroupGone{group->names()});
        if (!core_.AppendNow(std::span(&gone, 1)).ok()) {
            return;
        }
        delivery_.Forget(*group);
        core_.state.EraseGroup(*group);
        core_.Applied();
    }
}

}  // namespace qmq::broker
