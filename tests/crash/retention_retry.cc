// What waits for its retry, or is in a handler, outlives retention; and where the disk has no room
// for that, what is lost is counted, once. The real program with small segments and a retention
// that is much shorter than the delays of the retries, killed with SIGKILL meanwhile. The last line
// is the verdict; the exit code follows it.

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "qmq/client.h"
#include "qmq/random.h"
#include "qmq/subject.h"

#include "tests/crash/common.h"
#include "tests/crash/inspect.h"
#include "tests/crash/server.h"
#include "tests/support/audit.h"

namespace qmq::testing {
namespace {

using namespace std::chrono_literals;

struct Arguments {
    std::string program;
    std::string data;
    std::string work;
    std::string cause = "time";  // What makes segments due: time or bytes; or full: time on a disk
                                 // that is above its high-water mark.
    int retries = 10'000;
    int held = 100;
    int delay = 60;  // Seconds until the retries are due.
    int retention_seconds = 10;
    std::uint64_t retention_bytes = 4U << 20;
    int kills = 10;
    int noise = 400;  // Messages a second that are acked at once, of 1 KiB.
    std::uint64_t seed = 1;
    std::string plant;
    bool fill = false;  // As run_crash says it; `cause` decides.
};

constexpr const char* kSubject = "order.paid";
constexpr const char* kGroup = "work";
/// After a kill all have this long to come back and agree.
constexpr auto kRecovery = 7s;
/// Retention is looked at every ten seconds.
constexpr auto kLook = 12s;

struct SendMany {
    std::string prefix;
    int count = 0;
};

unsigned long long Number(std::uint64_t number) {
    return number;
}

/// The one consumer: fails what is to be tried again, keeps what it is to hold, acks the rest.
class Worker {
public:
    Worker(const std::string& uri, const Arguments& arguments, Audit& audit)
        : audit_(audit),
          delay_(std::chrono::seconds(arguments.delay)),
          client_(Client::Create(PatientClient(uri, kGroup)).value()) {
        SubscriptionOptions options;
        options.subject = kSubject;
        options.group = kGroup;
        options.start = StartPosition::kEarliest;
        options.prefetch_count = 1'000;
        options.ack_timeout = 30s;  // Renewed while it is held.
        options.retry = {.max_attempts = 60'000};
        subscription_ = client_
                            .Subscribe(std::move(options),
                                       [this](Delivery delivery) { Handle(std::move(delivery)); })
                            .value();
    }
    ~Worker() { (void)client_.Shutdown(10s); }
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    std::uint64_t failed_count() const { return failed_; }
    std::size_t held_count() const {
        const std::lock_guard lock(mutex_);
        return held_.size();
    }
    /// Messages of this group whose ack the broker has confirmed.
    bool IsDone(const std::string& id) const {
        const std::lock_guard lock(mutex_);
        return done_.contains(id);
    }
    /// One after another, so that one that is lost does not speak for its neighbours.
    void EndHeld() {
        std::map<std::string, Held> held;
        {
            const std::lock_guard lock(mutex_);
            held.swap(held_);
        }
        for (auto& one : held) {
            const std::string& id = one.first;
            Held& each = one.second;
            std::promise<void> answered;
            audit_.OnAsked(each.audited, {});
            each.delivery.Ack([&, this](const Status& status) {
                Answered(id, each.audited, status);
                answered.set_value();
            });
            answered.get_future().wait();
        }
    }

private:
    struct Held {
        Audit::DeliveryId audited = 0;
        Delivery delivery;
    };

    void Answered(const std::string& id, Audit::DeliveryId audited, const Status& status) {
        audit_.OnAnswered(audited, status);
        if (status.ok()) {
            const std::lock_guard lock(mutex_);
            done_.insert(id);
        }
    }

    void Handle(Delivery delivery) {
        const Message& message = delivery.message();
        const std::string id(message.id());
        Audit::Handling handling{.group = kGroup, .id = id, .body = message.body()};
        handling.attempt = message.attempt();
        const Audit::DeliveryId audited = audit_.OnHandled(handling);
        if (id.starts_with("held-")) {
            const std::lock_guard lock(mutex_);
            held_.insert_or_assign(id, Held{audited, std::move(delivery)});
            return;
        }
        if (id.starts_with("retry-") && message.attempt() == 1) {
            audit_.OnAsked(audited,
                           {.verdict = AckVerdict::kRetry,
                            .due = SystemClock().Now() + delay_,
                            .error = "not yet"});
            delivery.RetryIn(delay_, "not yet", [this, audited](const Status& status) {
                audit_.OnAnswered(audited, status);
                failed_ += status.ok() ? 1U : 0U;
            });
            return;
        }
        audit_.OnAsked(audited, {});
        delivery.Ack([this, id, audited](const Status& status) { Answered(id, audited, status); });
    }

    Audit& audit_;
    const std::chrono::milliseconds delay_;
    std::atomic<std::uint64_t> failed_{0};
    mutable std::mutex mutex_;
    std::map<std::string, Held> held_;  // guarded by mutex_
    std::set<std::string> done_;        // guarded by mutex_
    Client client_;
    Subscription subscription_;
};

/// Sends what the worker is to try again and to hold, and then noise, so that segments come and go.
class Sender {
public:
    Sender(const std::string& uri, Audit& audit)
        : audit_(audit),
          client_(Client::Create(PatientClient(uri, "sender")).value()),
          producer_(client_.MakeProducer({.timeout = 30s}).value()) {}
    ~Sender() { StopNoise(); }
    Sender(const Sender&) = delete;
    Sender& operator=(const Sender&) = delete;

    void Send(const SendMany& many) {
        for (int i = 0; i < many.count; ++i) {
            SendOne(many.prefix + std::to_string(i), BodyOf(many.prefix));
        }
        if (const Status flushed = producer_.Flush(60s); !flushed.ok()) {
            Die("the messages could not be sent: " + flushed.ToString());
        }
    }

    void StartNoise(int per_second) {
        stop_ = false;
        thread_ = std::thread([this, per_second] {
            const std::string body(1'024, 'n');
            const std::chrono::microseconds pause(1'000'000 / per_second);
            for (TimePoint next = SystemClock().Now(); !stop_; next += pause) {
                std::this_thread::sleep_until(next);  // The pace of the load.
                SendOne("noise-" + std::to_string(noise_++), body);
            }
        });
    }
    void StopNoise() {
        stop_ = true;
        if (thread_.joinable()) {
            thread_.join();
            (void)producer_.Flush(40s);
        }
    }

    std::vector<std::string> persisted() const {
        const std::lock_guard lock(mutex_);
        return persisted_;
    }

private:
    void SendOne(const std::string& id, const std::string& body) {
        audit_.OnSend({.id = id, .body = body, .subject = kSubject});
        Message message(kSubject);
        message.SetId(id).SetBody(body);
        const Status taken =
            producer_.Send(std::move(message), [this, id](const SendReceipt& receipt) {
                audit_.OnTold(
                    id, receipt.outcome, receipt.attempts, receipt.durability, receipt.sequence);
                if (receipt.ok()) {
                    const std::lock_guard lock(mutex_);
                    persisted_.push_back(id);
                }
            });
        if (!taken.ok()) {
            audit_.OnTold(id, SendOutcome::kRefused, 0, Durability::kDefault, 0);
        }
    }

    Audit& audit_;
    mutable std::mutex mutex_;
    std::vector<std::string> persisted_;  // guarded by mutex_
    std::atomic<bool> stop_{false};
    std::uint64_t noise_ = 0;
    Client client_;
    Producer producer_;
    std::thread thread_;
};

ServerSettings SettingsOf(const Arguments& arguments) {
    ServerSettings settings{.program = arguments.program,
                            .data = arguments.data,
                            .work = arguments.work,
                            .plant = arguments.plant};
    settings.config = {"store.segment.bytes = 131072", "grpc.max_message_bytes = 65536"};
    if (arguments.cause == "bytes") {
        settings.config.push_back("store.retention.bytes = " +
                                  std::to_string(arguments.retention_bytes));
    } else {
        settings.config.push_back("store.retention.seconds = " +
                                  std::to_string(arguments.retention_seconds));
    }
    if (arguments.cause == "full") {
        settings.config.emplace_back("store.disk.high_water.percent = 50");
    }
    return settings;
}

class Test {
public:
    explicit Test(const Arguments& arguments)
        : arguments_(arguments), random_(arguments.seed), server_(SettingsOf(arguments)) {}

    int Run() {
        audit_.AddGroup(kGroup);
        server_.Start();
        worker_.emplace(server_.uri(), arguments_, audit_);
        sender_.emplace(server_.uri(), audit_);
        sender_->Send({"retry-", arguments_.retries});
        sender_->Send({"held-", arguments_.held});
        WaitUntilFailed();
        due_ = SystemClock().Now() + std::chrono::seconds(arguments_.delay);
        sender_->StartNoise(arguments_.noise);
        if (arguments_.cause == "full") {
            OverflowDisk();
        } else {
            KillMeanwhile();
        }
        std::this_thread::sleep_until(due_ - 1s);  // Until just before the first retry is due.
        const bool took = LookAtRetention();
        std::this_thread::sleep_until(due_);
        sender_->StopNoise();  // It would be told what those that are held are told.
        worker_->EndHeld();
        WaitUntilNothingComes();
        return Say(took);
    }

private:
    void WaitUntilFailed() {
        const TimePoint deadline = SystemClock().Now() + 60s;
        while (worker_->failed_count() < static_cast<std::uint64_t>(arguments_.retries) ||
               worker_->held_count() < static_cast<std::size_t>(arguments_.held)) {
            if (SystemClock().Now() > deadline) {
                Die("the retries were not scheduled within a minute");
            }
            Pause(5ms);
        }
    }

    void Restart() {
        audit_.OnTrouble(SystemClock().Now() + kRecovery);
        server_.Kill();
        server_.Start();
        audit_.OnTrouble(SystemClock().Now() + kRecovery);
    }

    /// In bursts, with pauses that are long enough for retention to be looked at.
    void KillMeanwhile() {
        constexpr int kBurst = 3;
        for (int i = 0; i < arguments_.kills; ++i) {
            Pause(i > 0 && i % kBurst == 0 ? std::chrono::milliseconds(kLook)
                                           : std::chrono::milliseconds(100 + random_.Below(700)));
            if (SystemClock().Now() + kRecovery > due_) {
                Die("the retries are due before " + std::to_string(arguments_.kills) +
                    " kills are done with");
            }
            Restart();
        }
    }

    /// Takes the disk above its high-water mark, and back when retention has been at work.
    void OverflowDisk() {
        const std::string path = arguments_.data + "/../ballast";
        const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        struct statvfs disk {};
        if (file < 0 || statvfs(path.c_str(), &disk) != 0) {
            Die("no disk of its own under " + path);
        }
        const auto bytes = static_cast<off_t>(disk.f_blocks * disk.f_frsize * 7 / 10);
        // Acks share the answer of those that were lost with them, also a little later.
        audit_.OnTrouble(due_ + kRecovery);
        if (posix_fallocate(file, 0, bytes) != 0) {
            Die("the disk is too small for its ballast");
        }
        std::this_thread::sleep_until(due_ - 2s);  // Retention has been looked at by then.
        close(file);
        std::filesystem::remove(path);
    }

    std::uint64_t FirstSequence(const std::string& subject) const {
        const Result<std::vector<SubjectInfo>> subjects = AskSubjects(server_.uri());
        if (!subjects.ok()) {
            Die("the subjects could not be listed: " + subjects.status().ToString());
        }
        const auto found = std::find_if(subjects->begin(), subjects->end(), [&](const auto& each) {
            return each.subject == subject;
        });
        return found == subjects->end() ? 0 : found->first_sequence;
    }

    /// All that was stored for the retries and for the handlers must be gone by now.
    bool LookAtRetention() const {
        const std::uint64_t first = FirstSequence(kSubject);
        const std::uint64_t first_retry = FirstSequence(RetrySubject(kSubject, kGroup));
        std::printf(
            "retention has taken %llu messages of the subject and %llu copies for retries\n",
            Number(first),
            Number(first_retry));
        return first >= static_cast<std::uint64_t>(arguments_.retries) +
                            static_cast<std::uint64_t>(arguments_.held) &&
               first_retry >= static_cast<std::uint64_t>(arguments_.retries) / 2;
    }

    GroupInfo Ask() const {
        const Result<std::vector<GroupInfo>> groups = AskGroups(server_.uri(), kSubject);
        if (!groups.ok() || groups->size() != 1) {
            Die("the group could not be asked for");
        }
        return groups->front();
    }

    static std::uint64_t LostOf(const GroupInfo& group) {
        return group.lost_to_retention_count + group.lost_to_full_disk_count +
               group.lost_to_damage_count + group.lost_to_burial_count;
    }

    /// As long as something goes on coming; what was lost never does.
    void WaitUntilNothingComes() {
        std::uint64_t before = audit_.missing_count();
        TimePoint progress = SystemClock().Now();
        const auto patience = arguments_.cause == "full" ? 4s : 20s;
        while (before > 0 && SystemClock().Now() - progress < patience) {
            Pause(20ms);
            if (const std::uint64_t now = audit_.missing_count(); now < before) {
                before = now;
                progress = SystemClock().Now();
            }
        }
    }

    int Say(bool took) {
        const GroupInfo group = Ask();
        audit_.OnLossCounted(kGroup, {.count = LostOf(group)});
        const Audit::Verdict verdict = audit_.Judge();
        std::printf("%s\n%s\n", verdict.ToString().c_str(), Describe(group).c_str());
        bool ok = verdict.ok() && took;
        if (!took) {
            std::printf("NOT ENOUGH: what the retries and handlers hold is still in its place\n");
        }
        std::uint64_t undone = 0;
        std::uint64_t retries = 0;
        for (const std::string& id : sender_->persisted()) {
            const bool done = worker_->IsDone(id);
            // Noise is acked while the server dies, and then nobody knows.
            undone += !done && !id.starts_with("noise-") ? 1U : 0U;
            retries += done && id.starts_with("retry-") ? 1U : 0U;
        }
        ok = CheckLosses(group, undone) && ok;
        std::printf(
            "%s retention-retry: retention by %s, %d kills: %llu of %d retries came and %d held, "
            "%llu lost and counted, "
            "lost %llu, unexplained %llu\n",
            ok ? "PASS" : "FAIL",
            arguments_.cause.c_str(),
            arguments_.kills,
            Number(retries),
            arguments_.retries,
            arguments_.held,
            Number(LostOf(group)),
            Number(verdict.lost),
            Number(verdict.problem_count));
        return ok ? 0 : 1;
    }

    /// `undone`: messages whose ack was never confirmed.
    bool CheckLosses(const GroupInfo& group, std::uint64_t undone) {
        bool ok = true;
        const auto expect = [&ok](bool holds, const std::string& what) {
            if (!holds) {
                std::printf("WRONG: %s\n", what.c_str());
                ok = false;
            }
        };
        const std::uint64_t lost = LostOf(group);
        const std::string numbers =
            std::to_string(lost) + " counted, " + std::to_string(undone) + " missing";
        expect(lost == undone, "what is lost is not what is counted: " + numbers);
        if (arguments_.cause != "full") {
            expect(lost == 0, "something is lost: " + numbers);
            return ok;
        }
        expect(group.lost_to_full_disk_count == lost && lost > 0,
               "the full disk is not said to be the cause");
        for (int i = 0; i < 2; ++i) {
            Restart();
            const std::uint64_t again = LostOf(Ask());
            expect(again == lost,
                   "after a start " + std::to_string(again) + " are counted instead of " +
                       std::to_string(lost));
        }
        expect(
            server_.Errors().find("loss: shard 0, subject order.paid, group work: a full disk") !=
                std::string::npos,
            "the loss is not told on standard error");
        return ok;
    }

    const Arguments arguments_;
    Random random_;
    Audit audit_;
    Server server_;
    TimePoint due_{};
    std::optional<Worker> worker_;
    std::optional<Sender> sender_;
};

}  // namespace
}  // namespace qmq::testing

int main(int argc, char** argv) {
    qmq::testing::Arguments arguments;
    CLI::App app{"Retries and handlers that outlive retention, with kill -9 of `qmq broker`."};
    app.add_option("--program", arguments.program, "The qmq program")->required();
    app.add_option("--data", arguments.data, "A directory that does not exist yet")->required();
    app.add_option("--work", arguments.work, "A directory for the test itself")->required();
    app.add_option("--cause", arguments.cause, "time, bytes or full")
        ->check(CLI::IsMember({"time", "bytes", "full"}));
    app.add_option("--retries", arguments.retries, "Messages that fail at first");
    app.add_option("--held", arguments.held, "Messages that stay in their handler");
    app.add_option("--delay", arguments.delay, "Seconds until the retries");
    app.add_option("--retention-seconds", arguments.retention_seconds);
    app.add_option("--retention-bytes", arguments.retention_bytes);
    app.add_option("--kills", arguments.kills, "How many");
    app.add_option("--noise", arguments.noise, "Other messages a second");
    app.add_option("--seed", arguments.seed, "Of the moments");
    app.add_option("--plant", arguments.plant, "A planted bug to switch on");
    app.add_flag("--fill", arguments.fill, "The disk under --data belongs to the test");
    CLI11_PARSE(app, argc, argv);
    qmq::testing::SetTestName("retention-retry");
    return qmq::testing::Test(arguments).Run();
}
