#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "qmq/batch.h"
#include "qmq/executor.h"
#include "qmq/message.h"

#include "server/env/file_system.h"
#include "server/store/shard_store.h"

namespace qmq::store {

/// Time stands still until a test moves it.
class TestClock final : public Clock {
public:
    TimePoint Now() const override { return TimePoint(elapsed); }
    WallTime WallNow() const override {
        return WallTime(std::chrono::milliseconds(1'700'000'000'000)) +
               std::chrono::duration_cast<std::chrono::milliseconds>(elapsed) + wall_jump;
    }
    std::chrono::nanoseconds elapsed{};
    std::chrono::milliseconds wall_jump{};
};

/// Runs what was posted when the test says so, on the test's thread.
class TestExecutor final : public Executor {
public:
    bool Post(Task task) override {
        tasks.push_back(std::move(task));
        return true;
    }
    TimerId PostAt(TimePoint, Task task) override {
        tasks.push_back(std::move(task));
        return 1;
    }
    bool Cancel(TimerId) override { return false; }
    bool RunOne() {
        if (tasks.empty()) {
            return false;
        }
        Task task = std::move(tasks.front());
        tasks.pop_front();
        task();
        return true;
    }
    void RunAll() {
        while (RunOne()) {
        }
    }
    std::deque<Task> tasks;
};

/// Keeps what it is told. Its state is all actions it has seen, one a line.
class TestListener final : public StoreListener {
public:
    Status OnSnapshot(std::string_view state) override {
        Status status = snapshot_answer(state);
        if (status.ok()) {
            snapshots.emplace_back(state);
            actions = state;
        }
        return status;
    }
    Status CheckAction(std::string_view action) override { return check_action(action); }
    bool MayDrop(std::span<const Going> going) override { return may_drop(going); }
    Status OnAction(std::string_view action, LogOffset) override {
        events.push_back("action " + std::string(action));
        actions.append(action).append("\n");
        return action_answer;
    }
    void OnMessages(SubjectLog& subject,
                    std::uint64_t first_sequence,
                    const BatchView& batch,
                    RecordTime) override {
        events.push_back("messages " + subject.name() + " " + std::to_string(first_sequence) + "+" +
                         std::to_string(batch.count()));
    }
    void OnSynced(LogOffset synced) override { syncs.push_back(synced); }
    void OnFailed(const Status& status) override { failures.push_back(status); }
    void OnDropped(SubjectLog& subject) override { dropped.push_back(subject.name()); }
    std::string TakeSnapshot() override { return actions; }
    std::uint64_t ConsumedBelow(const SubjectLog& subject) override {
        return consumed[subject.name()];
    }

    std::string actions;
    std::function<Status(std::string_view)> snapshot_answer = [](auto) { return Status::Ok(); };
    Status action_answer;
    std::vector<std::string> snapshots;
    std::vector<std::string> events;
    std::vector<LogOffset> syncs;
    std::vector<Status> failures;
    std::vector<std::string> dropped;
    std::map<std::string, std::uint64_t> consumed;
    std::function<Status(std::string_view)> check_action = [](auto) { return Status::Ok(); };
    std::function<bool(std::span<const Going>)> may_drop = [](auto) { return true; };
};

/// Keeps what people are told.
class TestEvents final : public env::EventListener {
public:
    void OnEvent(const env::Event& event) override { all.push_back(event); }
    std::vector<env::Event> Of(env::EventKind kind) const {
        std::vector<env::Event> found;
        std::copy_if(all.begin(), all.end(), std::back_inserter(found), [&](const auto& event) {
            return event.kind == kind;
        });
        return found;
    }
    std::vector<env::Event> all;
};

/// A batch of messages whose bodies are `bodies`, each with the tag of the same place, if any.
inline Slice MakeBatch(const std::vector<std::string>& bodies,
                       const std::vector<std::string>& tags = {}) {
    BatchBuilder builder;
    for (std::size_t i = 0; i < bodies.size(); ++i) {
        Message message("s");
        message.SetBody(bodies[i]);
        if (i < tags.size()) {
            message.AddTag(tags[i]);
        }
        builder.Add(message, "id-" + std::to_string(i), WallTime(std::chrono::milliseconds(1)));
    }
    return Slice::Own(builder.Finish());
}

inline std::vector<std::string> BodiesOf(const MessageRun& run) {
    std::string bytes(run.header.bytes());
    bytes.append(run.body.bytes());
    std::vector<std::string> bodies;
    const auto messages = DecodeMessages("s", Slice::Own(std::move(bytes)), 1, BatchLimits());
    if (!messages.ok()) {
        return std::vector<std::string>(run.count, messages.status().ToString());
    }
    for (const Message& message : messages.value()) {
        bodies.emplace_back(message.body());
    }
    return bodies;
}

/// For verifying logs whose actions mean nothing.
inline Status AnyAction(std::string_view) {
    return Status::Ok();
}

/// A store over some file system, driven by hand.
class TestStore {
public:
    explicit TestStore(env::FileSystem& files_in) : files(files_in) {
        options.directory = "/data";
        options.segment_bytes = 64U << 10;
        strand = std::make_unique<Strand>(executor, Strand::Mode::kPosted, Task());
    }
    ~TestStore() { Kill(); }

    Status Open() {
        listener = std::make_unique<TestListener>();
        listener->action_answer = action_answer;
        listener->snapshot_answer = snapshot_answer;
        listener->check_action = check_action;
        auto opened = ShardStore::Open(
            options, StoreEnvironment{files, clock, *strand, io, events, 17}, *listener);
        if (!opened.ok()) {
            return opened.status();
        }
        store = std::move(*opened);
        return Status::Ok();
    }
    /// As kill -9: what is queued never runs.
    void Kill() {
        store.reset();
        io.tasks.clear();
        executor.tasks.clear();
        strand = std::make_unique<Strand>(executor, Strand::Mode::kPosted, Task());
    }
    Status Reopen() {
        Kill();
        return Open();
    }
    Status Close() {
        Status result = Status::Internal("not called");
        store->Close([&](Status status) { result = std::move(status); });
        Settle();
        return result;
    }
    void Settle() {
        while (io.RunOne() || executor.RunOne()) {
        }
    }
    Result<ShardStore::Appended> Append(const std::string& subject,
                                        const std::vector<std::string>& bodies,
                                        const std::vector<std::string>& tags = {}) {
        const Slice batch = MakeBatch(bodies, tags);
        const auto view = BatchView::Parse(batch.bytes(), options.limits);
        EXPECT_TRUE(view.ok()) << view.status();
        return store->AppendMessages(*store->FindSubject(subject, true), batch, view.value());
    }
    /// Appends and writes.
    Status Put(const std::string& subject, const std::vector<std::string>& bodies) {
        const auto appended = Append(subject, bodies);
        return appended.ok() ? store->Write() : appended.status();
    }
    /// Appends an action, as an owner does whose state it changes, and writes.
    Status Act(const std::string& action) {
        const auto end = store->AppendAction(action);
        if (!end.ok()) {
            return end.status();
        }
        listener->actions.append(action).append("\n");
        return store->Write();
    }
    void SyncAll() {
        store->Sync();
        Settle();
    }
    /// Bodies by sequence of all that can be read of a subject.
    std::map<std::uint64_t, std::string> ReadAll(const std::string& subject) {
        std::map<std::uint64_t, std::string> all;
        corrupt_count = expired_count = left_out_count = 0;
        SubjectLog* const log = store->FindSubject(subject, false);
        if (log == nullptr) {
            return all;
        }
        ReadRequest request;
        request.max_messages = 1000;
        request.end = log->next_sequence();
        while (request.from < request.end) {
            const auto reply = store->Read(*log, request);
            if (!reply.ok()) {
                ADD_FAILURE() << reply.status();
                break;
            }
            for (const MessageRun& run : reply.value().runs) {
                std::uint64_t sequence = run.first_sequence;
                for (std::string& body : BodiesOf(run)) {
                    all[sequence++] = std::move(body);
                }
            }
            corrupt_count += reply.value().corrupt_count;
            expired_count += reply.value().expired_count;
            left_out_count += reply.value().left_out_count;
            if (reply.value().next <= request.from) {
                ADD_FAILURE() << "a read that does not move from " << request.from;
                break;
            }
            request.from = reply.value().next;
        }
        return all;
    }
    std::vector<std::string> BodiesIn(const std::string& subject) {
        std::vector<std::string> bodies;
        for (auto& [sequence, body] : ReadAll(subject)) {
            bodies.push_back(body);
        }
        return bodies;
    }

    env::FileSystem& files;
    StoreOptions options;
    TestClock clock;
    TestEvents events;
    TestExecutor executor;
    TestExecutor io;
    std::unique_ptr<Strand> strand;
    std::unique_ptr<TestListener> listener;
    std::unique_ptr<ShardStore> store;
    Status action_answer;
    std::function<Status(std::string_view)> snapshot_answer = [](auto) { return Status::Ok(); };
    std::function<Status(std::string_view)> check_action = [](auto) { return Status::Ok(); };
    std::uint64_t corrupt_count = 0;
    std::uint64_t expired_count = 0;
    std::uint64_t left_out_count = 0;
};

}  // namespace qmq::store
