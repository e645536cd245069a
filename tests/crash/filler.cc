#include "tests/crash/filler.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "qmq/random.h"

#include "tests/crash/common.h"

namespace qmq::testing {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kChunk = 1 << 20;
constexpr std::size_t kPage = 4096;

std::string BallastOf(const std::string& directory) {
    return directory + "/ballast";
}

/// A file that takes what room there is.
class Ballast {
public:
    explicit Ballast(const std::string& path)
        : file_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)), chunk_(kChunk, 'b') {
        if (file_ < 0) {
            Die("cannot make " + path + ": " + std::strerror(errno));
        }
    }
    ~Ballast() { close(file_); }
    Ballast(const Ballast&) = delete;
    Ballast& operator=(const Ballast&) = delete;

    /// Until not one page is left.
    void Fill() {
        for (std::size_t bytes = kChunk; bytes >= kPage;) {
            const ssize_t written = pwrite(file_, chunk_.data(), bytes, static_cast<off_t>(size_));
            if (written > 0) {
                size_ += static_cast<std::uint64_t>(written);
            } else if (errno == ENOSPC) {
                bytes /= 2;
            } else if (errno != EINTR) {
                Die(std::string("ballast: ") + std::strerror(errno));
            }
        }
    }
    void Free(std::uint64_t bytes) {
        size_ -= std::min(bytes, size_);
        if (ftruncate(file_, static_cast<off_t>(size_)) != 0) {
            Die(std::string("ballast: ") + std::strerror(errno));
        }
    }
    std::uint64_t size() const { return size_; }

private:
    const int file_;
    const std::vector<char> chunk_;
    std::uint64_t size_ = 0;
};

void Say(const char* word) {
    std::printf("%s\n", word);
    std::fflush(stdout);
}

}  // namespace

int RunFillerProcess(const std::string& directory, std::uint64_t seed) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // It never outlives the test.
    Random random(seed);
    Ballast ballast(BallastOf(directory));
    for (;;) {
        ballast.Fill();
        Say("full");
        // What is freed meanwhile it takes too; and now and then it lets go of a little, so that
        // there is room for one file and not for the next.
        for (std::uint64_t left = 20 + random.Below(60); left > 0; --left) {
            Pause(10ms);
            if (random.Chance(0.1)) {
                ballast.Free(kPage * (1 + random.Below(64)));
                Pause(std::chrono::milliseconds(random.Below(4)));
            }
            ballast.Fill();
        }
        ballast.Free(ballast.size());
        Say("free");
        Pause(std::chrono::milliseconds(100 + random.Below(900)));
    }
}

Filler::Filler(std::string program, std::string directory, std::uint64_t seed)
    : program_(std::move(program)), directory_(std::move(directory)), seed_(seed) {}

Filler::~Filler() {
    Stop();
}

void Filler::Start() {
    Result<ChildProcess> child = ChildProcess::Start(
        {program_, "--fill-disk", directory_, "--seed", std::to_string(seed_++)});
    if (!child.ok()) {
        Die(child.status().ToString());
    }
    child_.emplace(*std::move(child));
    thread_ = std::thread([this] { Listen(); });
}

void Filler::Listen() {
    for (;;) {
        const Result<std::string> line = child_->WaitForLine("", 1h);
        if (!line.ok()) {
            return;
        }
        if (const std::uint64_t now = episode_; IsFull(now) != (*line == "full")) {
            episode_ = now + 1;
        }
    }
}

void Filler::Stop() {
    if (!child_) {
        return;
    }
    child_->Signal(SIGKILL);
    thread_.join();  // The output has ended.
    child_->Wait();
    child_.reset();
    std::filesystem::remove(BallastOf(directory_));
    if (IsFull(episode_)) {
        ++episode_;
    }
}

}  // namespace qmq::testing
