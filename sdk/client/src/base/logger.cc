#include "sdk/client/src/base/logger.h"

#include <cstdio>
#include <utility>

#include "sdk/client/src/base/call_scope.h"

namespace qmq::internal {

namespace {

/// What a text of somebody else's has of line breaks and other control characters becomes a space,
/// one for each run of them.
std::string OneLine(std::string_view text) {
    std::string line;
    line.reserve(text.size());
    bool broken = false;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        // Those of ASCII, and U+0080 to U+009F, which are 0xc2 and a byte of that value. All other
        // bytes of a longer UTF-8 character are above those of ASCII.
        const bool is_second = byte >= 0x80 && byte <= 0x9f && line.ends_with('\xc2');
        if (is_second) {
            line.pop_back();
        }
        if (is_second || byte < 0x20 || byte == 0x7f) {
            broken = !line.empty();
            continue;
        }
        if (std::exchange(broken, false)) {
            line += ' ';
        }
        line += c;
    }
    return line;
}

}  // namespace

Logger::Logger(LogSink sink, Executor* executor)
    : to_stderr_(!sink), executor_(executor), sink_(std::move(sink)) {}

Logger::~Logger() {
    // The thread holds this logger while it drains, so it is idle, or it is the one that is here.
    std::unique_ptr<ThreadPool> own;
    MutexLock lock(mutex_);
    own = std::move(own_);
}

void Logger::Log(LogLevel level, std::string_view line) noexcept {
    if (to_stderr_ && level < LogLevel::kWarning) {
        return;
    }
    try {
        MutexLock lock(mutex_);
        if (finished_) {
            return;
        }
        if (lines_.size() >= kMaxWaiting) {
            ++dropped_;
            return;
        }
        lines_.push_back({level, OneLine(line)});
        if (!scheduled_) {
            Schedule();
        }
    } catch (...) {
        // No memory, or no thread: the line is lost or waits for the next one. Nothing else may
        // suffer.
    }
}

void Logger::Schedule() {
    Executor* executor = executor_;
    if (executor == nullptr) {
        if (own_ == nullptr) {
            own_ = std::make_unique<ThreadPool>(
                ThreadPoolOptions{.threads = 1, .max_queued_count = 2, .name = "qmq-log"});
        }
        executor = own_.get();
    }
    scheduled_ = executor->Post([self = weak_from_this()] {
        if (auto logger = self.lock()) {
            logger->Drain();
        }
    });
}

void Logger::HandOver(const Line& line) noexcept {
    if (to_stderr_) {
        try {
            const std::string text =
                (line.level == LogLevel::kError ? "qmq: error: " : "qmq: warning: ") + line.text +
                "\n";
            std::fputs(text.c_str(), stderr);
        } catch (...) {
            // No memory: the line is lost.
        }
        return;
    }
    CheckNoLockHeld("the log sink");
    CallScope scope(this, nullptr);
    try {
        sink_(line.level, line.text);
    } catch (...) {
        // A sink that throws loses its line.
    }
}

Logger::Line Logger::NextLine() {
    if (dropped_ > 0) {
        return {LogLevel::kWarning,
                std::to_string(std::exchange(dropped_, 0)) +
                    " lines of the log were dropped: the sink was so slow that " +
                    std::to_string(kMaxWaiting) + " waited"};
    }
    Line line = std::move(lines_.front());
    lines_.pop_front();
    return line;
}

void Logger::Drain() {
    MutexLock lock(mutex_);
    if (draining_) {
        return;
    }
    draining_ = true;
    while (!finished_ && (!lines_.empty() || dropped_ > 0)) {
        const Line line = NextLine();
        lock.Unlock();
        HandOver(line);
        lock.Lock();
    }
    draining_ = scheduled_ = false;
    changed_.NotifyAll();
}

bool Logger::Finish(TimePoint deadline) {
    std::deque<Line> left;
    LogSink gone;  // Destroyed without the lock: what it captured may be anything.
    const bool inside = CallScope::InsideCallbackOf(this);
    MutexLock lock(mutex_);
    if (!inside && (executor_ != nullptr || !scheduled_)) {
        lock.Unlock();
        Drain();  // The executor's thread may be the one that is here.
        lock.Lock();
    }
    const bool returned =
        inside || changed_.WaitUntil(mutex_, deadline, [this]() QMQ_REQUIRES(mutex_) {
            return lines_.empty() && !draining_;
        });
    finished_ = true;
    left.swap(lines_);
    if (!draining_) {
        gone.swap(sink_);
    }
    const std::unique_ptr<ThreadPool> own = std::move(own_);
    lock.Unlock();
    if (own != nullptr) {
        // Without the lock, which a thread that is about to end may still want. One whose sink does
        // not return is left to itself, and ends with it.
        (void)own->Stop(inside ? std::chrono::steady_clock::now() : deadline);
    }
    return returned;
}

}  // namespace qmq::internal
