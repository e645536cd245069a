// The store with real threads behind it, for ThreadSanitizer, and what happens when it goes while
// they work.
#include <condition_variable>
#include <mutex>
#include <thread>

#include "server/store/background.h"
#include "tests/unit/store/store_fixture.h"

namespace qmq::store {
namespace {

/// Counts syncs; waits for one.
class WaitingListener final : public StoreListener {
public:
    Status OnSnapshot(std::string_view) override { return Status::Ok(); }
    Status CheckAction(std::string_view) override { return Status::Ok(); }
    bool MayDrop(std::span<const Going>) override { return true; }
    Status OnAction(std::string_view, LogOffset) override { return Status::Ok(); }
    void OnMessages(SubjectLog&, std::uint64_t, const BatchView&, RecordTime) override {}
    void OnSynced(LogOffset synced) override {
        const std::lock_guard lock(mutex_);
        synced_ = synced;
        changed_.notify_all();
    }
    void OnFailed(const Status& status) override { ADD_FAILURE() << status; }
    void OnDropped(SubjectLog&) override {}
    std::string TakeSnapshot() override { return "state"; }
    std::uint64_t ConsumedBelow(const SubjectLog&) override { return 0; }
    void WaitFor(LogOffset offset) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return synced_ >= offset; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    LogOffset synced_ = 0;  // guarded by mutex_
};

class Promise {
public:
    void Set() {
        const std::lock_guard lock(mutex_);
        is_set_ = true;
        changed_.notify_all();
    }
    void Wait() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return is_set_; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool is_set_ = false;
};

TEST(StoreThreadsTest, ManySegmentsWithSyncsOnAnotherThread) {
    const auto files = env::MakeMemoryFileSystem();
    ThreadPool pool({.threads = 2});
    ThreadPool io({.threads = 2});
    Strand strand(pool, Strand::Mode::kInline, Task());
    WaitingListener listener;
    StoreOptions options;
    options.directory = "/data";
    options.segment_bytes = 64U << 10;
    options.retention_bytes = 20 * options.segment_bytes;
    std::unique_ptr<ShardStore> store;
    Promise opened;
    strand.Post([&] {
        store = std::move(
            ShardStore::Open(options, {*files, SystemClock(), strand, io}, listener).value());
        opened.Set();
    });
    opened.Wait();
    const Slice batch = MakeBatch({std::string(2'000, 'x'), std::string(2'000, 'y')});
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 3; ++thread) {
        threads.emplace_back([&, thread] {
            for (int i = 0; i < 300; ++i) {
                LogOffset end = 0;
                Promise appended;
                strand.Post([&] {
                    SubjectLog& subject =
                        *store->FindSubject("s" + std::to_string((thread + i) % 5), true);
                    const auto view = BatchView::Parse(batch.bytes(), options.limits);
                    end = store->AppendMessages(subject, batch, view.value()).value().end;
                    EXPECT_TRUE(store->Write().ok());
                    store->Sync();
                    if (i % 50 == 0) {
                        EXPECT_TRUE(store->Retain().ok());
                    }
                    ReadRequest request{.from = subject.first_sequence(),
                                        .end = subject.next_sequence(),
                                        .max_messages = 20};
                    EXPECT_TRUE(store->Read(subject, request).ok());
                    appended.Set();
                });
                appended.Wait();
                listener.WaitFor(end);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    Promise closed;
    strand.Post([&] {
        store->Close([&](const Status& status) {
            EXPECT_TRUE(status.ok()) << status;
            strand.PostLater([&] {
                store.reset();
                closed.Set();
            });
        });
    });
    closed.Wait();
}

TEST(StoreThreadsTest, AStoreMayGoWhileItsWorkIsUnderWay) {
    const auto files = env::MakeMemoryFileSystem();
    ThreadPool io({.threads = 2});
    for (int i = 0; i < 20; ++i) {
        ThreadPool pool({.threads = 1});
        auto strand = std::make_unique<Strand>(pool, Strand::Mode::kInline, Task());
        WaitingListener listener;
        StoreOptions options;
        options.directory = "/data";
        options.segment_bytes = 64U << 10;
        auto store = std::move(
            ShardStore::Open(options, {*files, SystemClock(), *strand, io}, listener).value());
        const Slice batch = MakeBatch({std::string(40'000, 'x')});
        Promise done;
        strand->Post([&] {
            const auto view = BatchView::Parse(batch.bytes(), options.limits);
            for (int j = 0; j < 4; ++j) {
                EXPECT_TRUE(
                    store->AppendMessages(*store->FindSubject("s", true), batch, view.value())
                        .ok());
                EXPECT_TRUE(store->Write().ok());
                store->Sync();
            }
            store.reset();
            done.Set();
        });
        done.Wait();
        strand.reset();  // The I/O threads may still be at work for the store that is gone.
    }
}

TEST(StoreThreadsTest, WorkThatAnExecutorRefusesIsDoneAllTheSame) {
    class Refuses final : public Executor {
    public:
        bool Post(Task) override { return false; }
        TimerId PostAt(TimePoint, Task) override { return 0; }
        bool Cancel(TimerId) override { return false; }
    };
    Refuses io;
    TestExecutor executor;
    Strand strand(executor, Strand::Mode::kPosted, Task());
    Background background(io, strand);
    std::vector<int> order;
    for (int i = 0; i < 2; ++i) {
        background.Run(
            [&order, i] {
                order.push_back(i);
                return Status::Ok();
            },
            [&order, i](const Status&) { order.push_back(10 + i); });
    }
    executor.RunAll();
    EXPECT_THAT(order, testing::ElementsAre(0, 1, 10, 11));
    EXPECT_TRUE(background.idle());
}

}  // namespace
}  // namespace qmq::store
