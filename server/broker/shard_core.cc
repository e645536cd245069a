#include "server/broker/shard_core.h"

#include "server/env/planted_bug.h"

namespace qmq::broker {

void ShardCore::ReadTime() {
    if (!time_known_) {
        time_known_ = true;
        now_ms_ =
            std::chrono::duration_cast<std::chrono::milliseconds>(environment.clock.Now() - opened_)
                .count();
        wall_ms_ = environment.clock.WallNow().time_since_epoch().count();
        state.SetNow(now_ms_);
    }
}

ShardMs ShardCore::Now() {
    ReadTime();
    return now_ms_;
}

std::int64_t ShardCore::WallMs() {
    ReadTime();
    return wall_ms_;
}

Subject& ShardCore::OpenSubject(std::string_view name) {
    Subject& subject = state.MakeSubject(name);
    if (subject.log == nullptr) {
        subject.log = store->FindSubject(subject.name, true);
        QMQ_CHECK(subject.log != nullptr, subject.name);
        subject.readable_end = subject.log->next_sequence();
    }
    return subject;
}

Result<store::LogOffset> ShardCore::Append(const Action& action) {
    ReadTime();
    Encode(action, scratch_);
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

void ShardCore::OnSynced(store::LogOffset synced) {
    while (!unsynced_.empty() && unsynced_.front().end <= synced) {
        const Unsynced done = unsynced_.front();
        unsynced_.pop_front();
        done.subject->readable_end = done.end_sequence;
        more_readable.push_back(done.subject);
    }
}

}  // namespace qmq::broker
