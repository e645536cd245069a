#include "server/env/event_reporter.h"

#include <utility>

namespace qmq::env {

namespace {

/// "1,234".
std::string Grouped(std::uint64_t number) {
    std::string digits = std::to_string(number);
    for (std::size_t at = digits.size(); at > 3;) {
        at -= 3;
        digits.insert(at, ",");
    }
    return digits;
}

/// Names come from clients: none of them ends a line, or writes to a terminal. Control characters
/// are those of ASCII, and U+0080 to U+009F, which are 0xc2 and a byte of that value.
std::string OneLine(std::string_view text) {
    std::string line;
    line.reserve(text.size());
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x80 && byte <= 0x9f && line.ends_with('\xc2')) {
            line.back() = '?';
        } else {
            line.push_back(byte < 0x20 || byte == 0x7f ? '?' : c);
        }
    }
    return line;
}

}  // namespace

EventReporter::EventReporter(const Clock& clock, Executor& timers, Sink sink)
    : clock_(clock), timers_(timers), sink_(std::move(sink)) {}

EventReporter::~EventReporter() {
    const std::lock_guard lock(mutex_);
    for (const auto& [kind, period] : periods_) {
        SayLeftOut(kind, period);
    }
}

void EventReporter::Say(const std::string& line) {
    sink_(OneLine(line));
}

void EventReporter::OnEvent(const Event& event) {
    const TimePoint now = clock_.Now();
    const std::lock_guard lock(mutex_);
    SayEnded(now);
    Period& period = periods_.try_emplace(event.kind, Period{now + kPeriod}).first->second;
    if (period.line_count < kMostLines) {
        ++period.line_count;
        Say(std::string(ToString(event.kind)) + ": " + event.place +
            (event.place.empty() ? "" : ": ") + event.text);
        return;
    }
    period.count += event.count;
    period.bytes += event.bytes;
    if (++period.left_out_count == 1) {
        (void)timers_.PostAt(period.end, [this] {
            const std::lock_guard timer_lock(mutex_);
            SayEnded(clock_.Now());
        });
    }
}

/// Ends the periods that are over.
void EventReporter::SayEnded(TimePoint now) {
    for (auto it = periods_.begin(); it != periods_.end();) {
        if (now < it->second.end) {
            ++it;
            continue;
        }
        SayLeftOut(it->first, it->second);
        it = periods_.erase(it);
    }
}

void EventReporter::SayLeftOut(EventKind kind, const Period& period) {
    if (period.left_out_count == 0) {
        return;
    }
    std::string line = std::string(ToString(kind)) + ": … and " + Grouped(period.left_out_count) +
                       " more of this kind";
    if (kind == EventKind::kLoss) {
        line += ", " + Grouped(period.count) + " messages in all";
    } else if (kind == EventKind::kDamage) {
        line += ", " + Grouped(period.bytes) + " bytes in all";
    }
    Say(line);
}

}  // namespace qmq::env
