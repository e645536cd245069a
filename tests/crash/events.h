#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/audit_story.h"

namespace qmq::testing {

/// One thing that a member of a group saw or did, as it happened.
struct MemberEvent {
    enum Kind : char {
        kHandled = 'H',   ///< A handler has begun. `detail`: 1 when the body is whole; `text`: why
                          ///< the attempt before failed.
        kAsked = 'A',     ///< It is about to ask. `verdict`; `detail`: the delay in ms.
        kAnswered = 'C',  ///< What the broker said to that. `detail`: a status code.
        kDied = 'D',      ///< The process of this member was killed.
        kEnd = 'E'        ///< The last one of all.
    };
    enum Verdict : char {
        kNone = '-',
        kAck = 'a',
        kFailed = 'n',
        kRetry = 'r',
        kReject = 'j',
        kForgotten = 'f'
    };

    Kind kind = kHandled;
    std::string member = "-";
    std::string group = "-";
    std::string id = "-";
    std::uint64_t serial = 0;  ///< Of the delivery, among those of this member.
    std::uint32_t attempt = 0;
    Verdict verdict = kNone;
    std::int64_t detail = 0;
    std::string text = {};
    std::optional<Copy> copy = {};  ///< kHandled: which stored one it is.
    std::int64_t at_us = 0;         ///< Of the steady clock; set when it is written.
};

/// As it travels, with its end of line.
std::string ToLine(const MemberEvent& event);

/// Writes events into a named pipe that many processes share. Each is one write that no other can
/// come between, so the reader sees them in the order in which they happened, and what a process
/// has said before it is killed is not lost. Thread-safe.
class EventWriter {
public:
    /// Ends the process when the pipe cannot be opened.
    explicit EventWriter(const std::string& path);
    ~EventWriter();
    EventWriter(const EventWriter&) = delete;
    EventWriter& operator=(const EventWriter&) = delete;

    void Write(MemberEvent event);

private:
    int pipe_ = -1;
};

/// Makes the pipe and hands its events to `sink` on a thread of its own, up to the kEnd.
class EventReader {
public:
    EventReader(const std::string& path, std::function<void(const MemberEvent&)> sink);
    /// Waits for the kEnd, which somebody must have written.
    ~EventReader();
    EventReader(const EventReader&) = delete;
    EventReader& operator=(const EventReader&) = delete;

private:
    void Run();

    const std::function<void(const MemberEvent&)> sink_;
    int pipe_ = -1;
    std::thread thread_;
};

}  // namespace qmq::testing
