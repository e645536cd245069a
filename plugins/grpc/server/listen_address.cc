#include "plugins/grpc/server/listen_address.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string_view>

namespace qmq::rpc {
namespace {

struct HostPort {
    std::string host;
    std::string port;
};

Result<HostPort> Split(const std::string& address) {
    const std::size_t colon = address.rfind(':');
    const std::string host = address.substr(0, colon == std::string::npos ? 0 : colon);
    const std::string port = colon == std::string::npos ? "" : address.substr(colon + 1);
    int number = -1;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (host.empty() || error != std::errc() || end != port.data() + port.size() || number < 0 ||
        number > 65'535) {
        return Status::InvalidArgument("listen address \"" + address +
                                       "\" is not host:port with a port from 0 to 65535");
    }
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    return HostPort{bracketed ? host.substr(1, host.size() - 2) : host, port};
}

class Socket {
public:
    explicit Socket(int fd) : fd_(fd) {}
    ~Socket() {
        if (fd_ >= 0) {
            close(fd_);
        }
    }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    int fd() const { return fd_; }

private:
    const int fd_;
};

/// Zero, or what the system has against it.
int TryToListen(const addrinfo& where) {
    const Socket socket(::socket(where.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    if (socket.fd() < 0) {
        return errno;
    }
    setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(socket.fd(), where.ai_addr, where.ai_addrlen) != 0 || listen(socket.fd(), 1) != 0) {
        return errno;
    }
    return 0;
}

Status Explain(int error, const std::string& address, const std::string& port) {
    const std::string where = "cannot listen at " + address + ": ";
    if (error == EADDRINUSE) {
        const std::string owner = DescribeListener(std::stoi(port));
        return Status::FailedPrecondition(
            where + "port " + port + " is taken" + (owner.empty() ? "" : " by " + owner) +
            "; stop that, or listen on another port (0 picks a free one)");
    }
    if (error == EACCES) {
        return Status::PermissionDenied(where + "this user may not open port " + port +
                                        "; ports below 1024 need a privilege");
    }
    if (error == EADDRNOTAVAIL) {
        return Status::FailedPrecondition(where + "that is not an address of this machine");
    }
    return Status::FailedPrecondition(where + std::strerror(error));
}

}  // namespace

Status CheckCanListen(const std::string& address) {
    auto parts = Split(address);
    if (!parts.ok()) {
        return parts.status();
    }
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    const int error = getaddrinfo(parts->host.c_str(), parts->port.c_str(), &hints, &found);
    if (error != 0) {
        return Status::InvalidArgument("cannot listen at " + address + ": host \"" + parts->host +
                                       "\": " + gai_strerror(error));
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, freeaddrinfo);
    for (const addrinfo* where = found; where != nullptr; where = where->ai_next) {
        if (const int refused = TryToListen(*where); refused != 0) {
            return Explain(refused, address, parts->port);
        }
    }
    return Status::Ok();
}

namespace {

/// Inodes of the sockets that listen on `port`, from the system's table of connections.
void FindListeners(const char* table, int port, std::set<std::string>* inodes) {
    std::ifstream file(table);
    std::string line;
    std::getline(file, line);  // Headings.
    while (std::getline(file, line)) {
        std::istringstream words(line);
        std::string slot, local, remote, state, skipped, inode;
        words >> slot >> local >> remote >> state;
        for (int i = 0; i < 5; ++i) {
            words >> skipped;
        }
        words >> inode;
        const std::size_t colon = local.rfind(':');
        constexpr std::string_view kListening = "0A";
        if (colon != std::string::npos && state == kListening &&
            std::stoi(local.substr(colon + 1), nullptr, 16) == port) {
            inodes->insert("socket:[" + inode + "]");
        }
    }
}

bool HoldsOneOf(const std::string& process, const std::set<std::string>& sockets) {
    const std::string folder = "/proc/" + process + "/fd";
    const std::unique_ptr<DIR, int (*)(DIR*)> files(opendir(folder.c_str()), closedir);
    if (files == nullptr) {
        return false;
    }
    while (const dirent* entry = readdir(files.get())) {
        char target[64];
        const ssize_t length =
            readlink((folder + "/" + entry->d_name).c_str(), target, sizeof target);
        if (length > 0 && sockets.contains(std::string(target, static_cast<std::size_t>(length)))) {
            return true;
        }
    }
    return false;
}

}  // namespace

std::string DescribeListener(int port) {
    std::set<std::string> sockets;
    FindListeners("/proc/net/tcp", port, &sockets);
    FindListeners("/proc/net/tcp6", port, &sockets);
    const std::unique_ptr<DIR, int (*)(DIR*)> processes(opendir("/proc"), closedir);
    if (sockets.empty() || processes == nullptr) {
        return {};
    }
    while (const dirent* entry = readdir(processes.get())) {
        const std::string process = entry->d_name;
        if (process.find_first_not_of("0123456789") == std::string::npos &&
            HoldsOneOf(process, sockets)) {
            std::string program;
            std::getline(std::ifstream("/proc/" + process + "/comm"), program);
            return "process " + process + (program.empty() ? "" : " (" + program + ")");
        }
    }
    return {};
}

}  // namespace qmq::rpc
