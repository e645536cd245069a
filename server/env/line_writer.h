#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace qmq::env {

/// Gives lines to a sink that may block (the other end of a pipe may read nothing any more), on a
/// thread of its own: who writes never waits for it. What does not fit into the queue is left out,
/// and a line says how many were once there is room again. Thread-safe.
class LineWriter {
public:
    /// Takes a line, without a line break. It must be good for as long as it may block, which may
    /// be longer than the writer is there.
    using Sink = std::function<void(std::string_view line)>;
    struct Options {
        std::size_t most_waiting_lines = 1'024;
        /// How long the end waits for what is still to be written.
        std::chrono::milliseconds flush_timeout{2'000};
    };

    explicit LineWriter(Sink sink) : LineWriter(std::move(sink), Options()) {}
    LineWriter(Sink sink, Options options);
    /// Writes what waits, unless that takes longer than `flush_timeout`.
    ~LineWriter();
    LineWriter(const LineWriter&) = delete;
    LineWriter& operator=(const LineWriter&) = delete;

    void Write(std::string_view line);

private:
    struct Shared;
    static void Run(Shared& shared);

    const Options options_;
    const std::shared_ptr<Shared> shared_;  // The thread may outlive this.
};

}  // namespace qmq::env
