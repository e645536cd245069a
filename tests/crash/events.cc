#include "tests/crash/events.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <sstream>
#include <utility>

#include "tests/crash/common.h"

namespace qmq::testing {

namespace {

constexpr int kPipeBytes = 1 << 20;
constexpr std::size_t kMostText = 200;
constexpr std::size_t kMostAtomic = 4096;  // PIPE_BUF of Linux.

std::string Swap(std::string text, char from, char to) {
    std::replace(text.begin(), text.end(), from, to);
    return text;
}

std::string ToText(const std::optional<Copy>& copy) {
    return copy ? (copy->from_retry ? 'r' : 's') + std::to_string(copy->sequence) : "-";
}

std::optional<Copy> ToCopy(const std::string& text) {
    return text == "-" ? std::nullopt
                       : std::optional(Copy{text.front() == 'r', std::stoull(text.substr(1))});
}

std::optional<MemberEvent> FromLine(const std::string& text) {
    std::istringstream line(text);
    MemberEvent event;
    char kind = 0;
    char verdict = 0;
    std::string copy;
    line >> kind >> event.member >> event.group >> event.id >> event.serial >> event.attempt >>
        verdict >> event.detail >> event.at_us >> copy >> event.text;
    event.text = event.text == "-" ? "" : Swap(event.text, '_', ' ');
    event.kind = static_cast<MemberEvent::Kind>(kind);
    event.verdict = static_cast<MemberEvent::Verdict>(verdict);
    if (!line) {
        return std::nullopt;
    }
    event.copy = ToCopy(copy);
    return event;
}

}  // namespace

std::string ToLine(const MemberEvent& event) {
    std::ostringstream line;
    line << event.kind << ' ' << event.member << ' ' << event.group << ' ' << event.id << ' '
         << event.serial << ' ' << event.attempt << ' ' << event.verdict << ' ' << event.detail
         << ' ' << event.at_us << ' ' << ToText(event.copy) << ' '
         << (event.text.empty() ? "-" : Swap(event.text.substr(0, kMostText), ' ', '_')) << '\n';
    return line.str();
}

EventWriter::EventWriter(const std::string& path)
    : pipe_(open(path.c_str(), O_WRONLY | O_CLOEXEC)) {
    if (pipe_ < 0) {
        Die("cannot open " + path + ": " + std::strerror(errno));
    }
}

EventWriter::~EventWriter() {
    close(pipe_);
}

void EventWriter::Write(MemberEvent event) {
    event.at_us = NowUs();
    const std::string line = ToLine(event);
    if (line.size() > kMostAtomic ||
        write(pipe_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
        Die("an event could not be written in one piece: " + line);
    }
}

EventReader::EventReader(const std::string& path, std::function<void(const MemberEvent&)> sink)
    : sink_(std::move(sink)) {
    // Open for writing too, so that it does not end while nobody else has it open.
    if (mkfifo(path.c_str(), 0600) != 0 || (pipe_ = open(path.c_str(), O_RDWR | O_CLOEXEC)) < 0) {
        Die("cannot make the pipe " + path + ": " + std::strerror(errno));
    }
    fcntl(pipe_, F_SETPIPE_SZ, kPipeBytes);  // Only so that writers wait less.
    thread_ = std::thread([this] { Run(); });
}

EventReader::~EventReader() {
    thread_.join();
    close(pipe_);
}

void EventReader::Run() {
    std::string unread;
    std::array<char, 65'536> buffer{};
    for (;;) {
        const ssize_t bytes = read(pipe_, buffer.data(), buffer.size());
        if (bytes < 0 && errno == EINTR) {
            continue;
        }
        if (bytes <= 0) {
            Die(std::string("the pipe of events: ") + std::strerror(errno));
        }
        unread.append(buffer.data(), static_cast<std::size_t>(bytes));
        std::size_t begin = 0;
        for (std::size_t end = unread.find('\n'); end != std::string::npos;
             end = unread.find('\n', begin)) {
            const std::optional<MemberEvent> event = FromLine(unread.substr(begin, end - begin));
            if (!event) {
                Die("an event is no event: " + unread.substr(begin, end - begin));
            }
            if (event->kind == MemberEvent::kEnd) {
                return;
            }
            sink_(*event);
            begin = end + 1;
        }
        unread.erase(0, begin);
    }
}

}  // namespace qmq::testing
