// What the store does per message on one core: see docs/benchmarks.md for how to run it.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "qmq/batch.h"
#include "qmq/executor.h"
#include "qmq/message.h"

#include "server/store/shard_store.h"

namespace qmq::store {
namespace {

class QueueExecutor final : public Executor {
public:
    bool Post(Task task) override {
        tasks_.push_back(std::move(task));
        return true;
    }
    TimerId PostAt(TimePoint, Task) override { return 0; }
    bool Cancel(TimerId) override { return false; }
    void RunAll() {
        while (!tasks_.empty()) {
            Task task = std::move(tasks_.front());
            tasks_.pop_front();
            task();
        }
    }

private:
    std::deque<Task> tasks_;
};

class SilentListener final : public StoreListener {
public:
    Status OnSnapshot(std::string_view) override { return Status::Ok(); }
    Status CheckAction(std::string_view) override { return Status::Ok(); }
    bool MayDrop(std::span<const Going>) override { return true; }
    Status OnAction(std::string_view, LogOffset) override { return Status::Ok(); }
    void OnMessages(SubjectLog&, std::uint64_t, const BatchView&, RecordTime) override {}
    void OnSynced(LogOffset) override {}
    void OnFailed(const Status& status) override {
        std::fprintf(stderr, "%s\n", status.ToString().c_str());
        std::abort();
    }
    void OnDropped(SubjectLog&) override {}
    std::string TakeSnapshot() override { return {}; }
    std::uint64_t ConsumedBelow(const SubjectLog&) override { return 0; }
};

/// A store in a folder of its own, or in memory, that is gone with the object.
class BenchStore {
public:
    explicit BenchStore(bool in_memory)
        : memory_(in_memory ? env::MakeMemoryFileSystem() : nullptr),
          files_(in_memory ? *memory_ : env::RealFileSystem()) {
        directory_ = in_memory
                         ? "/bench"
                         : (std::filesystem::temp_directory_path() / "qmq_store_bench").string();
        std::filesystem::remove_all(directory_);
        options_.directory = directory_;
        options_.retention_bytes = std::uint64_t{1} << 30U;
        Open();
    }
    ~BenchStore() {
        store_.reset();
        std::filesystem::remove_all(directory_);
    }

    void Open() {
        strand_ = std::make_unique<Strand>(executor_, Strand::Mode::kPosted, Task());
        auto store = ShardStore::Open(
            options_, StoreEnvironment{files_, SystemClock(), *strand_, io_}, listener_);
        if (!store.ok()) {
            std::fprintf(stderr, "%s\n", store.status().ToString().c_str());
            std::abort();
        }
        store_ = std::move(*store);
    }
    void Kill() {
        Settle();
        store_.reset();
    }
    void Settle() {
        io_.RunAll();
        executor_.RunAll();
        io_.RunAll();
        executor_.RunAll();
    }
    /// What the broker does for a batch that arrives.
    void Publish(SubjectLog& subject, const Slice& batch) {
        const auto view = BatchView::Parse(batch.bytes(), options_.limits);
        benchmark::DoNotOptimize(store_->AppendMessages(subject, batch, view.value()).ok());
        if (!store_->Write().ok()) {
            std::abort();
        }
    }
    ShardStore& store() { return *store_; }

private:
    std::unique_ptr<env::FileSystem> memory_;
    env::FileSystem& files_;
    std::string directory_;
    StoreOptions options_;
    SilentListener listener_;
    QueueExecutor executor_;
    QueueExecutor io_;
    std::unique_ptr<Strand> strand_;
    std::unique_ptr<ShardStore> store_;
};

/// Messages of 128 bytes with one property and one tag, about `bytes` of them.
Slice MakeBatch(std::size_t bytes, std::uint32_t& count) {
    BatchBuilder builder;
    const std::string body(128, 'x');
    for (int i = 0; builder.bytes() + 200 < bytes || builder.empty(); ++i) {
        Message message("orders");
        message.SetBody(body).Set("n", std::int64_t{i}).AddTag("domestic");
        char id[27];
        std::snprintf(id, sizeof id, "%026d", i);
        builder.Add(message, id, WallTime(std::chrono::milliseconds(1'700'000'000'000)));
    }
    count = builder.count();
    return Slice::Own(builder.Finish());
}

void Publish(benchmark::State& state, bool in_memory) {
    BenchStore bench(in_memory);
    std::uint32_t count = 0;
    const Slice batch = MakeBatch(static_cast<std::size_t>(state.range(0)), count);
    SubjectLog& subject = *bench.store().FindSubject("orders", true);
    std::uint64_t rounds = 0;
    for (auto _ : state) {
        bench.Publish(subject, batch);
        if (++rounds % 1024 == 0) {
            state.PauseTiming();
            bench.store().Sync();
            bench.Settle();
            static_cast<void>(bench.store().Retain());
            bench.Settle();
            state.ResumeTiming();
        }
    }
    state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * count);
    state.SetBytesProcessed(
        static_cast<std::int64_t>(static_cast<std::size_t>(state.iterations()) * batch.size()));
}
BENCHMARK_CAPTURE(Publish, disk, false)->Arg(256)->Arg(4096)->Arg(65536)->Arg(262144);
BENCHMARK_CAPTURE(Publish, memory, true)->Arg(256)->Arg(65536);

/// Reading a backlog in pulls of 1,000 messages: from the files after a start, and from the newest
/// batches in memory.
void Consume(benchmark::State& state, std::size_t batch_bytes, std::uint64_t messages, bool cold) {
    BenchStore bench(false);
    std::uint32_t count = 0;
    const Slice batch = MakeBatch(batch_bytes, count);
    for (std::uint64_t sent = 0; sent < messages; sent += count) {
        bench.Publish(*bench.store().FindSubject("orders", true), batch);
    }
    bench.store().Sync();
    bench.Settle();
    if (cold) {
        bench.Kill();
        bench.Open();
    }
    SubjectLog& subject = *bench.store().FindSubject("orders", false);
    std::uint64_t given = 0;
    for (auto _ : state) {
        ReadRequest request;
        request.max_messages = 1000;
        request.end = subject.next_sequence();
        while (request.from < request.end) {
            const auto reply = bench.store().Read(subject, request);
            for (const MessageRun& run : reply.value().runs) {
                given += run.count;
            }
            request.from = reply.value().next;
        }
    }
    state.SetItemsProcessed(static_cast<std::int64_t>(given));
}
BENCHMARK_CAPTURE(Consume, cold_64k, 65536, 1'000'000, true);
BENCHMARK_CAPTURE(Consume, cold_256, 256, 200'000, true);
BENCHMARK_CAPTURE(Consume, tail_64k, 65536, 10'000, false);

/// From kill -9 to a store that takes messages.
void Start(benchmark::State& state) {
    BenchStore bench(false);
    std::uint32_t count = 0;
    const Slice batch = MakeBatch(65536, count);
    for (std::int64_t i = 0; i < state.range(0) * 16; ++i) {
        bench.Publish(*bench.store().FindSubject("s" + std::to_string(i % 1000), true), batch);
        if (i % 512 == 0) {
            bench.store().Sync();
            bench.Settle();
        }
    }
    bench.Settle();
    for (auto _ : state) {
        state.PauseTiming();
        bench.Kill();
        state.ResumeTiming();
        bench.Open();
    }
}
BENCHMARK(Start)->Arg(2048)->Unit(benchmark::kMillisecond)->Iterations(5);

long ResidentKb() {
    long pages = 0;
    long resident = 0;
    std::FILE* const file = std::fopen("/proc/self/statm", "r");
    const int fields = std::fscanf(file, "%ld %ld", &pages, &resident);
    std::fclose(file);
    return fields == 2 ? resident * 4 : 0;
}

/// Memory of a backlog of a million messages, and of 10,000 subjects over 16 segments.
void Memory(benchmark::State& state,
            int subjects,
            std::uint64_t messages,
            std::size_t batch_bytes) {
    for (auto _ : state) {
        const long before = ResidentKb();
        BenchStore bench(false);
        std::uint32_t count = 0;
        const Slice batch = MakeBatch(batch_bytes, count);
        std::uint64_t i = 0;
        for (std::uint64_t sent = 0; sent < messages; sent += count, ++i) {
            bench.Publish(
                *bench.store().FindSubject(
                    "subject-" + std::to_string(i % static_cast<std::uint64_t>(subjects)), true),
                batch);
            if (i % 4096 == 0) {
                bench.store().Sync();
                bench.Settle();
            }
        }
        bench.store().Sync();
        bench.Settle();
        state.counters["resident_kb"] = static_cast<double>(ResidentKb() - before);
    }
}
BENCHMARK_CAPTURE(Memory, backlog_1m, 1, 1'000'000, 65536)->Iterations(1);
BENCHMARK_CAPTURE(Memory, backlog_1m_single, 1, 1'000'000, 250)->Iterations(1);
BENCHMARK_CAPTURE(Memory, subjects_10k, 10'000, 4'000'000, 250)->Iterations(1);

}  // namespace
}  // namespace qmq::store

BENCHMARK_MAIN();
