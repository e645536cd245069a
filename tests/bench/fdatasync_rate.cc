// How many single synced writes a second a disk takes: 4 KiB, fdatasync, and again, in a file that
// is there already with all its blocks. It is what a broker would do that syncs for each message by
// itself, and what group commit is measured against.

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kWriteBytes = 4'096;
constexpr std::size_t kFileBytes = std::size_t{16} << 20;

[[noreturn]] void Fail(const std::string& what) {
    std::fprintf(stderr, "fdatasync_rate: %s: %s\n", what.c_str(), std::strerror(errno));
    std::exit(1);
}

/// A file without a name, which the system removes even when this program is killed.
class ScratchFile {
public:
    explicit ScratchFile(const std::string& directory) : path_(directory + "/fdatasync.XXXXXX") {
        descriptor_ = ::mkstemp(path_.data());
        if (descriptor_ < 0 || ::unlink(path_.c_str()) != 0) {
            Fail(path_);
        }
        // Zeros and not only reserved blocks: the first write to a reserved block changes metadata,
        // which a sync then has to write as well.
        for (std::size_t offset = 0; offset < kFileBytes; offset += kWriteBytes) {
            Write(offset);
        }
        Sync();
    }
    ScratchFile(const ScratchFile&) = delete;
    ScratchFile& operator=(const ScratchFile&) = delete;
    ~ScratchFile() { ::close(descriptor_); }

    void Write(std::size_t offset) {
        const ssize_t written =
            ::pwrite(descriptor_, block_.data(), block_.size(), static_cast<off_t>(offset));
        if (written != static_cast<ssize_t>(block_.size())) {
            Fail("write of " + path_);
        }
    }

    void Sync() {
        if (::fdatasync(descriptor_) != 0) {
            Fail("fdatasync of " + path_);
        }
    }

private:
    std::string path_;
    std::vector<char> block_ = std::vector<char>(kWriteBytes, '\0');
    int descriptor_ = -1;
};

}  // namespace

int main(int argc, char** argv) {
    std::string directory;
    double seconds = 2;
    CLI::App app{"Measures single synced writes of 4 KiB; prints one line of JSON."};
    app.add_option("directory", directory, "On the disk that is measured")->required();
    app.add_option("--seconds", seconds, "How long")
        ->capture_default_str()
        ->check(CLI::Range(0.1, 60.0));
    CLI11_PARSE(app, argc, argv);

    ScratchFile file(directory);
    const auto begin = std::chrono::steady_clock::now();
    std::chrono::duration<double> took{};
    unsigned long long syncs = 0;
    while (took.count() < seconds) {
        file.Write(syncs % (kFileBytes / kWriteBytes) * kWriteBytes);
        file.Sync();
        ++syncs;
        took = std::chrono::steady_clock::now() - begin;
    }
    std::printf(
        "{\"peer\":\"fdatasync\",\"job\":\"single\",\"rate\":%.1f,\"messages\":%llu,"
        "\"seconds\":%.3f,\"settings\":\"4 KiB write + fdatasync, one after another, file with all "
        "its blocks written before\"}\n",
        static_cast<double>(syncs) / took.count(),
        syncs,
        took.count());
    return 0;
}
