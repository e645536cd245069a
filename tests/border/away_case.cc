#include "tests/border/away_case.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/border/away_application.h"
#include "tests/border/away_site.h"

namespace qmq::border {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr double kMib = 1U << 20;
/// What may stay when all is answered: what the heap cannot give back, and each subject, which is
/// forgotten when nobody has sent to it for some minutes.
constexpr double kLeftMib = 16;
constexpr double kSubjectBytes = 1'024;
constexpr seconds kPatience{20};

double RssBytes() {
    std::ifstream file("/proc/self/statm");
    std::uint64_t all = 0;
    std::uint64_t resident = 0;
    file >> all >> resident;
    return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

/// Looks at the memory of the process until it is destroyed.
class Measure {
public:
    Measure(double base, const Application& application)
        : base_(base), application_(application), thread_([this] { Watch(); }) {}
    ~Measure() { Stop(); }
    void Stop() {
        stop_ = true;
        if (thread_.joinable()) {
            thread_.join();
        }
    }
    double most() const { return most_; }
    double own() const { return own_; }

private:
    void Watch() {
        while (!stop_) {
            const double own = static_cast<double>(application_.own_bytes());
            if (const double growth = RssBytes() - base_ - own; growth > most_) {
                most_ = growth;
                own_ = own;
            }
            std::this_thread::sleep_for(milliseconds(20));
        }
    }

    const double base_;
    const Application& application_;
    double most_ = 0;
    double own_ = 0;
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

/// Waits until all that was taken is answered. False: for `at_most` of the case's time, and as long
/// by the machine's clock, nothing was. Slow readers take their time whatever the case's clock
/// says.
bool AllAnswered(Site& site, const Application& application, seconds at_most) {
    milliseconds passed{0};
    std::uint64_t told = 0;
    auto told_at = std::chrono::steady_clock::now();
    for (;;) {
        const Application::Counts now = application.counts();
        const std::uint64_t answered = now.answered() + now.dropped;
        if (answered >= now.taken) {
            return true;
        }
        if (std::exchange(told, answered) != answered) {
            passed = {};
            told_at = std::chrono::steady_clock::now();
        } else if (passed >= at_most && std::chrono::steady_clock::now() - told_at >= kPatience) {
            return false;
        }
        site.Pass(milliseconds(100));
        passed += milliseconds(100);
        std::this_thread::sleep_for(milliseconds(20));
    }
}

/// The heap gives back what is free. Each thread has a part of it, whose end is kept until
/// something large of that part is freed; the parts of threads that are gone are given to new ones.
void TrimHeap() {
    constexpr std::ptrdiff_t kThreads = 64;  // More than there are parts.
    std::barrier all_have_one(kThreads);
    std::vector<std::jthread> threads;
    for (std::ptrdiff_t i = 0; i < kThreads; ++i) {
        threads.emplace_back([&all_have_one] {
            {
                std::vector<char> large(100U << 10);
                static_cast<volatile char*>(large.data())[0] = 1;  // Or it would be left out.
            }
            all_have_one.arrive_and_wait();
        });
    }
    threads.clear();
    malloc_trim(0);
}

/// Bytes that were taken since `base` and not given back. Asked again for a while: a thread may not
/// yet have freed what it is done with.
double LeftAtLast(double base, double may_be_left_mib) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
        TrimHeap();
        const double left = RssBytes() - base;
        if (left <= may_be_left_mib * kMib || std::chrono::steady_clock::now() >= until) {
            return left;
        }
        std::this_thread::sleep_for(milliseconds(20));
    }
}

std::string Number(std::uint64_t value) {
    return std::to_string(value);
}

/// What the report of the shutdown says, against what the application was told.
void JudgeReport(const ShutdownReport& report,
                 const Application::Counts& before,
                 const Application::Counts& after,
                 std::vector<std::string>* problems) {
    const std::uint64_t taken = after.taken - before.answered() - before.dropped;
    const std::uint64_t told = report.sends_refused + report.sends_unknown;
    if (told != taken) {
        problems->push_back("the report has " + Number(told) + " sends that were ended, of " +
                            Number(taken));
    }
    const std::uint64_t failed = after.failed - before.failed;
    const std::uint64_t unknown = after.unknown - before.unknown;
    const std::uint64_t dropped = taken - failed - unknown;
    if (failed > report.sends_refused || unknown > report.sends_unknown) {
        problems->push_back("the report has " + Number(report.sends_refused) + " refused and " +
                            Number(report.sends_unknown) + " unknown, the application was told " +
                            Number(failed) + " and " + Number(unknown));
    }
    if (dropped != report.callbacks_dropped) {
        problems->push_back("the report has " + Number(report.callbacks_dropped) +
                            " callbacks that were dropped, the application missed " +
                            Number(dropped));
    }
    if (report.drained) {
        problems->push_back("the report says drained");
    }
}

}  // namespace

std::string CaseOptions::Name() const {
    constexpr const char* kForms[] = {"future", "callback", "coroutine"};
    return std::string(is_virtual ? "virtual " : "") +
           (when_full == WhenFull::kBlock ? "block " : "fail ") +
           kForms[static_cast<std::size_t>(form)] + (slow ? " slow " : " fast ") +
           std::to_string(subjects) + " subjects " + std::to_string(limit_bytes >> 20) + " MiB";
}

std::string CaseResult::ToLine() const {
    char text[256];
    std::snprintf(text,
                  sizeof(text),
                  "taken %llu refused %llu persisted %llu failed %llu unknown %llu growth %.1f of "
                  "%.1f MiB (own %.1f) left %.1f MiB",
                  static_cast<unsigned long long>(taken),
                  static_cast<unsigned long long>(refused),
                  static_cast<unsigned long long>(persisted),
                  static_cast<unsigned long long>(failed),
                  static_cast<unsigned long long>(unknown),
                  growth_mib,
                  allowed_mib,
                  own_mib,
                  left_mib);
    return text;
}

CaseResult RunCase(const CaseOptions& options) {
    CaseResult result;
    const std::unique_ptr<Site> site =
        options.is_virtual ? MakeVirtualSite() : MakeRealSite(options);
    ClientOptions client_options;
    client_options.app_code = "away";
    client_options.log = [](auto&&...) {};
    site->Prepare(client_options);
    Result<Client> client = Client::Create(client_options);
    ProducerOptions producer_options;
    producer_options.when_full = options.when_full;
    producer_options.max_pending_count = std::size_t{1} << 24;
    producer_options.max_pending_bytes = options.limit_bytes;
    Result<Producer> producer = client->MakeProducer(producer_options);
    Application application(options, *producer);

    // A few first, so that threads, connections and what they need once are there.
    application.SendSome(100, milliseconds(30'000));
    if (!AllAnswered(*site, application, seconds(30))) {
        result.problems.push_back("the first messages were not answered");
    }
    malloc_trim(0);
    const double base = RssBytes();

    site->Away();
    {
        Measure measure(base, application);
        application.StartSending();
        site->Pass(options.length);
        site->Back();
        site->Pass(seconds(2));
        measure.Stop();
        result.growth_mib = measure.most() / kMib;
        result.own_mib = measure.own() / kMib;
    }
    result.allowed_mib = 1.3 * static_cast<double>(options.limit_bytes) / kMib + 16;
    if (result.growth_mib > result.allowed_mib) {
        result.problems.push_back("it grew beyond what the limit allows");
    }
    std::thread stopper([&] { application.StopSending(); });
    const bool answered = AllAnswered(*site, application, seconds(180));
    stopper.join();
    if (!answered || !AllAnswered(*site, application, seconds(60))) {
        result.problems.push_back("not all were answered once the broker was back");
    }
    const Application::Counts counts = application.counts();
    if (counts.dropped > 0) {
        result.problems.push_back(Number(counts.dropped) + " callbacks were dropped");
    }
    // What comes behind all callbacks finds gone what these have held.
    std::atomic<bool> behind{false};
    const Status sent = producer->Send(Message("away.subject-0"), [&](auto&&) { behind = true; });
    for (int i = 0; i < 9'000 && sent.ok() && !behind; ++i) {
        site->Pass(milliseconds(10));
    }
    if (!behind) {
        result.problems.push_back("what was sent behind all was not answered: " + sent.ToString());
    }
    // A producer keeps for a second or two what the next messages would need.
    site->Pass(seconds(3));
    const double may_be_left = kLeftMib + kSubjectBytes * options.subjects / kMib;
    result.left_mib = LeftAtLast(base, may_be_left) / kMib;
    if (result.left_mib > may_be_left) {
        result.problems.push_back("it did not give back what it had taken (of the heap " +
                                  Number(static_cast<std::uint64_t>(mallinfo2().uordblks) >> 20U) +
                                  " MiB are in use, of subjects " +
                                  Number(producer->stats().subjects) + ")");
    }

    site->Away();
    application.SendSome(20'000, std::chrono::hours(1));
    const ShutdownReport report = site->Shutdown(*client, milliseconds(300));
    (void)AllAnswered(*site, application, seconds(20));  // Slow readers of futures look later.
    const Application::Counts after = application.counts();
    JudgeReport(report, counts, after, &result.problems);
    result.taken = after.taken;
    result.refused = after.refused;
    result.persisted = after.persisted;
    result.failed = after.failed;
    result.unknown = after.unknown;
    return result;
}

}  // namespace qmq::border
