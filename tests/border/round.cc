#include "tests/border/round.h"

#include <malloc.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "qmq/grpc.h"
#include "qmq/inproc.h"

#include "tests/border/broker_process.h"
#include "tests/border/watchdog.h"
#include "tests/border/weather.h"
#include "tests/border/world.h"

// NOLINTNEXTLINE(bugprone-reserved-identifier): the sanitizer has named it.
extern "C" __attribute__((weak)) std::size_t __sanitizer_get_current_allocated_bytes();

namespace qmq::border {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// The broker of a round inside of this process keeps at most this.
constexpr std::uint64_t kBrokerBytes = 64U << 20;
/// And the client of a round: four producers of 1 MiB, eight subscriptions of 1 MiB, both at 1.3
/// times their limit; the last clients' too, which are about to go. The rest is what programs need.
constexpr std::uint64_t kMostBytes = kBrokerBytes + (2 * 16U << 20) + (64U << 20);

std::uint64_t HeapBytes() {
    if (__sanitizer_get_current_allocated_bytes != nullptr) {
        return __sanitizer_get_current_allocated_bytes();
    }
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/// The endings, each in each place: as a list, so that rounds go through all of them.
std::pair<Place, Thing> EndingOf(std::uint64_t number) {
    constexpr Thing kEndings[] = {Thing::kShutdown, Thing::kDestroyClient, Thing::kShutdownAsync};
    for (;; ++number) {
        const auto place = static_cast<Place>(number % kPlaceCount);
        const Thing thing = kEndings[number / kPlaceCount % 3];
        if (place == Place::kShutdownCallback) {  // A shutdown comes first.
            return {Place::kThread, Thing::kShutdownAsync};
        }
        if (IsAllowed(place, thing)) {
            return {place, thing};
        }
    }
}

void Print(const PairTable& pairs, const Problems& problems) {
    std::fputs(pairs.Lines().c_str(), stdout);
    for (const auto& [what, count] : problems.counts()) {
        std::printf("count %llu %s\n", static_cast<unsigned long long>(count), what.c_str());
    }
    for (const auto& [what, count] : problems.problems()) {
        std::printf("problem %llu %s\n", static_cast<unsigned long long>(count), what.c_str());
    }
    std::fflush(stdout);
}

std::shared_ptr<TransportFactory> MakeTransport(bool grpc) {
    if (!grpc) {
        return InprocTransport({.memory_bytes = kBrokerBytes});
    }
    GrpcClientOptions options;
    options.connect_timeout = milliseconds(500);
    options.keepalive_interval = seconds(1);
    options.keepalive_timeout = milliseconds(200);
    return GrpcTransport(options);
}

/// What happens to the broker, on a thread of its own.
class Storm {
public:
    Storm(const RoundOptions& options, BrokerProcess* broker, Problems& problems)
        : options_(options),
          broker_(broker),
          problems_(problems),
          weather_(std::make_shared<Weather>(MakeTransport(broker != nullptr))),
          thread_([this] { Run(); }) {}
    ~Storm() {
        stop_ = true;
        thread_.join();
    }

    std::shared_ptr<TransportFactory> factory() { return weather_->factory(); }

private:
    void Run() {
        Chance().seed(options_.seed * 77);
        const std::uint64_t base = HeapBytes();
        while (!stop_) {
            std::this_thread::sleep_for(milliseconds(30 + Pick(250)));
            if (HeapBytes() > base + kMostBytes) {
                problems_.Add("the heap grew beyond what the options allow");
            }
            switch (Pick(5)) {
                case 0:
                    Hang();
                    break;
                case 1:
                    Restart();
                    break;
                default:
                    problems_.Count("cuts");
                    weather_->Cut();
            }
        }
    }
    void Hang() {
        problems_.Count("hangs");
        const milliseconds time(30 + Pick(400));
        broker_ != nullptr ? broker_->Stop() : weather_->SetHanging(true);
        std::this_thread::sleep_for(time);
        broker_ != nullptr ? broker_->Continue() : weather_->SetHanging(false);
    }
    void Restart() {
        problems_.Count("restarts");
        if (broker_ == nullptr) {
            return weather_->Restart();
        }
        broker_->Kill();
        std::this_thread::sleep_for(milliseconds(Pick(200)));
        if (const Status started = broker_->Start(); !started.ok()) {
            problems_.Add("the broker did not start: " + started.ToString());
        }
    }

    const RoundOptions& options_;
    BrokerProcess* const broker_;
    Problems& problems_;
    const std::shared_ptr<Weather> weather_;
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

}  // namespace

int RunRound(const RoundOptions& options) {
    PairTable pairs;
    Problems problems;
    BrokerProcess broker(options.program);
    std::string uri = "inproc:";
    if (options.grpc) {
        if (const Status started = broker.Start(); !started.ok()) {
            std::printf("problem 1 the broker did not start: %s\n", started.ToString().c_str());
            return 1;
        }
        uri = broker.uri();
    } else if (options.seed % 4 == 1) {
        std::filesystem::create_directories(options.directory);
        uri = "inproc://" + options.directory;
    }
    {
        Watchdog watchdog([&](const std::string& hang) {
            problems.Add("hangs: " + hang);
            Print(pairs, problems);
            broker.Kill();
        });
        Storm storm(options, options.grpc ? &broker : nullptr, problems);
        const auto end = std::chrono::steady_clock::now() + options.length;
        std::uint64_t number = options.seed * 6;
        do {
            const auto [place, thing] = EndingOf(number++);
            std::make_shared<World>(WorldOptions{.seed = options.seed * 1'000 + number,
                                                 .uri = uri,
                                                 .transport = storm.factory(),
                                                 .ending_place = place,
                                                 .ending = thing},
                                    pairs,
                                    problems,
                                    watchdog)
                ->Run();
        } while (std::chrono::steady_clock::now() < end);
        watchdog.Expect("the end of the round", seconds(60));
    }
    broker.Kill();
    std::error_code ignored;
    std::filesystem::remove_all(options.directory, ignored);
    Print(pairs, problems);
    return problems.problems().empty() ? 0 : 1;
}

}  // namespace qmq::border
