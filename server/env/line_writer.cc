#include "server/env/line_writer.h"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

namespace qmq::env {

struct LineWriter::Shared {
    explicit Shared(Sink s) : sink(std::move(s)) {}

    const Sink sink;
    std::mutex mutex;
    std::condition_variable changed;
    // Guarded by `mutex`:
    std::deque<std::string> lines;
    std::uint64_t left_out_count = 0;  ///< Behind `lines`.
    bool ends = false;                 ///< Once all is written.
    bool given_up = false;             ///< Nothing more is written.
    bool ended = false;
};

LineWriter::LineWriter(Sink sink, Options options)
    : options_(options), shared_(std::make_shared<Shared>(std::move(sink))) {
    // Not joined: a sink that never comes back must not hold up the end.
    std::thread([shared = shared_] { Run(*shared); }).detach();
}

LineWriter::~LineWriter() {
    std::unique_lock lock(shared_->mutex);
    shared_->ends = true;
    shared_->changed.notify_all();
    shared_->changed.wait_for(lock, options_.flush_timeout, [this] { return shared_->ended; });
    shared_->given_up = true;
}

void LineWriter::Write(std::string_view line) {
    const std::lock_guard lock(shared_->mutex);
    // Behind lines that were left out nothing goes before they are spoken of.
    if (shared_->left_out_count > 0 || shared_->lines.size() >= options_.most_waiting_lines) {
        ++shared_->left_out_count;
        return;
    }
    shared_->lines.emplace_back(line);
    shared_->changed.notify_all();
}

void LineWriter::Run(Shared& shared) {
    std::unique_lock lock(shared.mutex);
    while (!shared.given_up) {
        std::string line;
        if (!shared.lines.empty()) {
            line = std::move(shared.lines.front());
            shared.lines.pop_front();
        } else if (const std::uint64_t count = std::exchange(shared.left_out_count, 0); count > 0) {
            line = "… and " + std::to_string(count) +
                   " lines that were left out here, since nobody took them";
        } else if (shared.ends) {
            break;
        } else {
            shared.changed.wait(lock);
            continue;
        }
        lock.unlock();
        shared.sink(line);
        lock.lock();
    }
    shared.ended = true;
    shared.changed.notify_all();
}

}  // namespace qmq::env
