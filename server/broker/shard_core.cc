#include "server/broker/shard_core.h"

#include <utility>

#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

std::string PlaceOf(const std::string& shard, const Group* group) {
    return group == nullptr
               ? shard
               : shard + ", subject " + group->subject->name + ", group " + group->name;
}

}  // namespace

void ShardCore::ReadTime() {
    if (!time_known_) {
        time_known_ = true;
        now_ms_ =
            std::chrono::duration_cast<std::chrono::milliseconds>(environment.clock.Now() - opened_)
                .count();
        log_time_ = {store->RunningNow(), store->LogNow()};
        state.SetNow(now_ms_, log_time_.running);
        if (env::Planted(env::PlantedBug::kRetryByWallClock) && !wall_ahead_ms_) {
            wall_ahead_ms_ =
                environment.clock.WallNow().time_since_epoch().count() - log_time_.running.count();
        }
    }
}

ShardMs ShardCore::Now() {
    ReadTime();
    return now_ms_;
}

store::RecordTime ShardCore::LogTime() {
    ReadTime();
    return log_time_;
}

ShardMs ShardCore::DueAt(const Waiting& waiting) const {
    if (!env::Planted(env::PlantedBug::kRetryByWallClock)) {
        return waiting.due_at_ms;
    }
    // What the wall clock was to say then.
    const std::int64_t wall_ms = environment.clock.WallNow().time_since_epoch().count();
    return now_ms_ + waiting.due_ms - (wall_ms - *wall_ahead_ms_);
}

const Waiting* ShardCore::NextDue(const Group& group) const {
    if (env::Planted(env::PlantedBug::kRetryByWallClock) && !group.waiting.empty()) {
        return *group.waiting.by_due().begin();
    }
    return group.waiting.FirstAfter(now_ms_);
}

void ShardCore::OpenSubjects() {
    for (const std::unique_ptr<Subject>& subject : state.subjects()) {
        OpenLog(*subject);
    }
    if (!env::Planted(env::PlantedBug::kSubjectWithoutLog)) {
        state.OnMakeSubject([this](Subject& subject) { OpenLog(subject); });
    }
    for (store::SubjectLog* log : store->Subjects()) {
        OpenSubject(log->name());
    }
}

void ShardCore::OpenLog(Subject& subject) {
    if (subject.log == nullptr) {
        subject.log = store->FindSubject(subject.name, true);
        QMQ_CHECK(subject.log != nullptr, subject.name);
        subject.readable_end = subject.log->next_sequence();
    }
}

Subject& ShardCore::OpenSubject(std::string_view name) {
    Subject& subject = state.MakeSubject(name);
    OpenLog(subject);
    return subject;
}

void ShardCore::EncodeAction(const Action& action, std::string& out) {
    Encode(action, out);
#ifdef QMQ_PLANTED_BUGS
    if (env::Planted(env::PlantedBug::kUnreadableAck)) {
        return;
    }
    const Result<Action> read = DecodeAction(out);
    QMQ_CHECK(read.ok(), read.status().ToString());
    std::string again;
    Encode(*read, again);
    QMQ_CHECK(again == out, "an action is read as it was written");
#endif
}

Result<store::LogOffset> ShardCore::Append(const Action& action) {
    ReadTime();
    EncodeAction(action, scratch_);
    Result<store::LogOffset> end = store->AppendAction(scratch_);
    if (end.ok()) {
        dirty = true;
        appended_end = *end;
    }
    return end;
}

Result<store::LogOffset> ShardCore::AppendNow(std::span<const Action> actions) {
    if (Status status = flush(); !status.ok()) {
        return status;
    }
    store::LogOffset last = 0;
    Status status;
    for (const Action& action : actions) {
        Result<store::LogOffset> end = Append(action);
        if (!end.ok()) {
            DropRound();
            status = end.status();
            break;
        }
        unapplied_.push_back(scratch_);
        last = *end;
    }
    if (status.ok()) {
        status = flush();
    }
    if (!status.ok()) {
        unapplied_.clear();
        return status;
    }
    return last;
}

/// Nothing but actions that nobody has made so yet: the next write must not take them along.
void ShardCore::DropRound() {
    store->DropRound();
    appended_end = store->written();
    dirty = false;
}

void ShardCore::Appended(Subject& subject, std::uint64_t end_sequence, store::LogOffset end) {
    dirty = true;
    appended_end = end;
    if (subject.promise < Durability::kFsync ||
        env::Planted(env::PlantedBug::kHandOutBeforeDurable)) {
        state.OnTakeBack(
            [&subject, before = subject.readable_end] { subject.readable_end = before; });
        subject.readable_end = end_sequence;
        more_readable.push_back(&subject);
        return;
    }
    unsynced_.push_back(Unsynced{end, &subject, end_sequence});
    state.OnTakeBack([this] { unsynced_.pop_back(); });
    sync_wanted = true;
}

void ShardCore::Moved(Subject& subject,
                      std::uint64_t end_sequence,
                      store::LogOffset end,
                      const Subject& source,
                      std::uint64_t first) {
    Appended(subject, end_sequence, end);
    moved_end = end;
    if (first < source.going_end) {
        going_moved_end = end;
    }
}

void ShardCore::Lose(Group& group, LossCause cause, std::uint64_t count, std::string_view text) {
    if (count == 0 || env::Planted(env::PlantedBug::kSilentLoss)) {
        return;
    }
    std::uint64_t& lost = group.lost_count[static_cast<std::size_t>(cause)];
    lost += count;
    state.OnTakeBack([&lost, count] { lost -= count; });
    losses_.push_back(
        env::Event{env::EventKind::kLoss, PlaceOf(place, &group), std::string(text), count, 0});
    // Nothing was appended, perhaps, but the round has something to tell.
    dirty = true;
}

void ShardCore::Tell(env::EventKind kind,
                     const Group* group,
                     std::string text,
                     std::uint64_t count) const {
    environment.events.OnEvent(env::Event{kind, PlaceOf(place, group), std::move(text), count, 0});
}

void ShardCore::TellLosses(bool written) {
    for (const env::Event& loss : std::exchange(losses_, {})) {
        if (written) {
            environment.events.OnEvent(loss);
        }
    }
}

void ShardCore::OnSynced(store::LogOffset synced) {
    while (!unsynced_.empty() && unsynced_.front().end <= synced) {
        const Unsynced done = unsynced_.front();
        unsynced_.pop_front();
        done.subject->readable_end = done.end_sequence;
        more_readable.push_back(done.subject);
    }
}

}  // namespace qmq::broker
