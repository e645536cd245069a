#include "server/broker/members.h"

#include <algorithm>
#include <utility>

#include "qmq/subject.h"

#include "server/broker/terms.h"
#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

/// What a restarted broker gives consumers at least, to find it again.
constexpr ShardMs kLeastGraceAfterRestartMs = 5'000;
/// Wait before something that could not be logged (a full disk) is tried again.
constexpr ShardMs kRetryMs = 1'000;
/// How many ways in which its members differ a group remembers to have told, and how soon another
/// one is told when there are more.
constexpr std::size_t kMostDisagreements = 16;
constexpr ShardMs kDisagreementMs = 60'000;
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

/// What handlers had begun, but for the last piece, which it returns: the action that says what
/// becomes of all that the consumer held has room for that.
std::vector<PullRange> AddReleases(const Consumer& consumer,
                                   const std::vector<PullRange>& begun,
                                   std::vector<Action>& actions) {
    std::vector<std::vector<PullRange>> pieces = Cut(begun);
    for (std::size_t i = 0; i + 1 < pieces.size(); ++i) {
        actions.emplace_back(
            Released{NamesOf(consumer), ReleaseCause::kLost, pieces[i], pieces[i]});
    }
    return pieces.empty() ? std::vector<PullRange>{} : std::move(pieces.back());
}

}  // namespace

Result<ResolvedKey> Resolve(const ConsumerKey& key) {
    if (Status status = Validate(key); !status.ok()) {
        return status;
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
             Validate(request.filter),
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
    const bool changed =
        consumer == nullptr || !consumer->known || !(consumer->settings == settings) ||
        consumer->filter_slot == kNoFilterSlot || !(consumer->filter == request.filter) ||
        !(consumer->policy == request.retry);
    if (changed &&
        !group.filters.HasRoomFor(request.filter,
                                  consumer != nullptr ? consumer->filter_slot : kNoFilterSlot)) {
        return Status::ResourceExhausted(
            "the members of group " + group.name + " of subject " + subject.name + " ask for " +
            std::to_string(kMostFilterSlots) +
            " different filters already, the most there may be: use one that another member has, "
            "or try again when some have left");
    }
    std::vector<PullRange> begun;
    std::vector<Action> actions;
    if (place) {
        actions.emplace_back(GroupPlaced{group.names(), start, false});
    }
    if (changed) {
        actions.emplace_back(Subscribed{key.names(), request.filter, request.retry, settings});
    }
    if (release) {
        begun = BegunOf(*consumer, kAllPulls);
        actions.emplace_back(Released{
            key.names(), ReleaseCause::kLost, {kAllPulls}, AddReleases(*consumer, begun, actions)});
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
    if (release) {
        core_.state.Release(*consumer, kAllPulls, ReleaseCause::kLost, begun);
        core_.state.Keep();
    }
    const bool known = consumer != nullptr;
    if (!known) {
        consumer = &core_.state.MakeConsumer(group, key.consumer_id, key.source);
    }
    const bool was_known = consumer->known;
    const bool has_new_lease = consumer->settings.ack_timeout != settings.ack_timeout;
    consumer->settings = settings;
    if (known && has_new_lease) {
        acks_.OnNewLease(*consumer, was_known);
    }
    if (changed) {
        core_.state.SetTerms(*consumer, request.filter, request.retry);
    }
    core_.Applied();
    reply = request.resume ? Resume(*consumer, *request.resume)
                           : SubscribeReply{core_.store->recovery().incarnation,
                                            known && !release ? consumer->held.next() : 0};
    if (changed || !sessionless) {
        reply.warnings = CompareTerms(*consumer);
        if (changed) {
            TellDisagreement(group, reply.warnings);
        }
    }
    return consumer;
}

/// Once for each way in which members differ, however often they come. Of a group with more ways
/// than are remembered one is told a minute: whoever comes is told by its reply anyway.
void Members::TellDisagreement(Group& group, const std::vector<std::string>& lines) {
    if (lines.empty()) {
        return;
    }
    Told& told = group.MakeTold();
    for (const std::string& line : lines) {
        const std::uint64_t hash = std::hash<std::string>()(line);
        std::vector<std::uint64_t>& known = told.disagreements;
        const bool full = known.size() >= kMostDisagreements;
        if (std::find(known.begin(), known.end(), hash) != known.end() ||
            (full && core_.Now() < told.disagreement_ms + kDisagreementMs)) {
            continue;
        }
        if (full) {
            known.erase(known.begin());
        }
        known.push_back(hash);
        told.disagreement_ms = core_.Now();
        core_.Tell(env::EventKind::kDisagreement, &group, line, 1);
    }
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
    consumer.pull_had_turn = false;
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
        if (!consumer->announced) {
            continue;
        }
        // Others have filled the round: nobody has looked yet what there is for it.
        if (!consumer->pull_had_turn && consumer->group->listed_ready) {
            due_pulls_.push_back(consumer);
            continue;
        }
        AnswerPulls(*consumer);
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
    // One that pulls begins its time anew with each answer.
    if (consumer.connected() || !core_.stopped.ok()) {
        return;
    }
    const std::vector<PullRange> begun = BegunOf(consumer, kAllPulls);
    std::vector<Action> actions;
    std::vector<PullRange> last = AddReleases(consumer, begun, actions);
    actions.emplace_back(ConsumerGone{NamesOf(consumer), std::move(last)});
    if (!core_.AppendNow(actions).ok()) {
        core_.timers.Set(consumer, TimerKind::kGone, core_.Now() + kRetryMs);
        return;
    }
    Group& group = *consumer.group;
    std::erase(due_pulls_, &consumer);
    delivery_.Forget(consumer);
    core_.state.Forget(consumer, begun);
    core_.Applied();
    delivery_.MarkReady(group);
}

void Members::AfterReplay() {
    core_.state.BeginPulls(core_.store->recovery().incarnation);
    core_.state.ForEachGroup([this](Group& group) {
        group.durable = group.placed;
        group.idle_since_ms = core_.Now();
        // A filter may have gone just before the end.
        group.PassOverFrom(0);
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
    const ShardMs keep = core_.options.idle_group_retention.count();
    const ShardMs now = core_.Now();
    std::vector<Group*> idle;
    core_.state.ForEachGroup([&](Group& group) {
        // A group that has something to read is kept for as long as that is.
        if (group.placed && group.next_sequence < group.subject->log->next_sequence() &&
            !env::Planted(env::PlantedBug::kForgetUnread)) {
            return;
        }
        if (group.consumers.empty() && group.waiting.empty() && group.loose_count() == 0 &&
            (group.durable || !group.placed) && now - group.idle_since_ms >= keep) {
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
