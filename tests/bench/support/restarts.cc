#include "tests/bench/support/restarts.h"

#include <algorithm>
#include <cstdio>

#include "tests/bench/support/load.h"

namespace qmq::bench {

namespace {

constexpr std::uint64_t kBetweenLooks = 200'000;  // Messages; some 30 MiB of log.
// The last segment's file has its full size from the start, and holds less.
constexpr std::uint64_t kSegmentBytes = 64U << 20;
// So many are answered before the kill, so that it falls into a busy moment.
constexpr std::uint64_t kBeforeKill = 100'000;

}  // namespace

std::uint64_t FillLog(const ServerProcess& server,
                      const std::vector<std::string>& subjects,
                      std::uint64_t log_bytes) {
    Load load(server.uri(), subjects);
    while (server.DataBytes() < log_bytes + kSegmentBytes) {
        load.WaitPersisted(load.persisted() + kBetweenLooks);
    }
    return load.Finish();
}

FirstAck KillUnderLoadAndStart(ServerProcess& server,
                               const std::vector<std::string>& subjects,
                               const std::string& group) {
    {
        Load load(server.uri(), subjects);
        load.WaitPersisted(kBeforeKill);
        server.Kill();
        load.Abandon();
    }
    return StartToFirstAck(server, subjects.front(), group);
}

double Median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

std::string Spread(std::vector<double> times_ms) {
    const auto [least, most] = std::minmax_element(times_ms.begin(), times_ms.end());
    char text[96];
    std::snprintf(text, sizeof text, "%.1f [%.1f .. %.1f] ms", Median(times_ms), *least, *most);
    return text;
}

}  // namespace qmq::bench
