#include "tests/simulation/simulation.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "qmq/client.h"

#include "server/broker/broker.h"
#include "server/env/simulated_file_system.h"
#include "server/store/log_inspector.h"
#include "tests/simulation/bit_rot.h"
#include "tests/simulation/sim_scheduler.h"

namespace qmq::simulation {

namespace {

using namespace std::chrono_literals;

constexpr std::array<const char*, 2> kGroups{"ticketing", "accounting"};
/// A third one, which the audit knows nothing of.
constexpr const char* kVisitors = "visitors";
/// The second group wants only one of two tags on this one.
constexpr const char* kFilteredSubject = "f.tagged";
constexpr std::array<const char*, 4> kSubjects{
    "f.orders", "f.refunds", kFilteredSubject, "p.views"};
constexpr std::chrono::nanoseconds kLoadTime = 20s;
constexpr std::chrono::nanoseconds kPatience = 20min;
/// For one message when nothing is wrong; less than any time-out that could help it along.
constexpr std::chrono::nanoseconds kSoon = 1s;

/// A process that sends.
struct ProducerProcess {
    ProducerProcess(SimScheduler& scheduler, std::uint64_t number) : executor(scheduler, number) {}
    SimExecutor executor;
    std::optional<Client> client;
    Producer producer;
    std::uint64_t unanswered = 0;
    bool dead = false;
};

/// A process that consumes: it dies and comes back as another.
struct ConsumerProcess {
    ConsumerProcess(SimScheduler& scheduler, std::uint64_t number) : executor(scheduler, number) {}
    SimExecutor executor;
    std::optional<Client> client;
};

class World {
public:
    explicit World(const SimulationOptions& options)
        : options_(options),
          scheduler_(options.seed),
          wires_(scheduler_, 1),
          network_(scheduler_, wires_),
          disk_(scheduler_.random().Next()),
          rot_(options.seed, disk_, audit_) {
        for (const char* group : kGroups) {
            audit_.AddGroup(group);
        }
    }

    ~World() {
        StopBroker();
        for (auto& each : consumers_) {
            if (each) {  // One that crashed may not be back yet.
                each->executor.Kill();
            }
        }
        for (auto& each : producers_) {
            each->executor.Kill();
        }
        wires_.Kill();
    }

    SimulationReport Run() {
        StartBroker();
        for (std::size_t i = 0;
             i < kGroups.size() * static_cast<std::size_t>(options_.consumers_per_group);
             ++i) {
            consumers_.push_back(nullptr);
            StartConsumer(i);
        }
        for (int i = 0; i < options_.producers; ++i) {
            StartProducer(i, options_.messages / options_.producers);
        }
        PlanFaults();
        if (random().Chance(0.25)) {
            Operate();
            Visit();
        }
        scheduler_.RunUntil(TimePoint(kLoadTime));
        Heal();
        while (!Finished() && scheduler_.Now() < TimePoint(kPatience)) {
            scheduler_.RunUntil(scheduler_.Now() + 100ms);
        }
        QuietPhase();
        return Report();
    }

private:
    Random& random() { return scheduler_.random(); }
    std::chrono::nanoseconds RandomTime(std::chrono::nanoseconds longest) {
        return std::chrono::nanoseconds(
            random().Below(static_cast<std::uint64_t>(longest.count())));
    }
    void After(std::chrono::nanoseconds time, Task task) {
        wires_.PostAt(scheduler_.Now() + time, std::move(task));
    }
    std::uint64_t NextProcess() { return next_process_++; }

    void Trace(const std::string& id, const std::string& text) const {
        if (options_.trace.empty() || (!id.empty() && id != options_.trace)) {
            return;
        }
        const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(
            scheduler_.Now().time_since_epoch());
        std::printf("%12.6f  %s\n", static_cast<double>(micros.count()) / 1e6, text.c_str());
    }

    /// Counts a fault that is done now.
    void Fault(const std::string& name) {
        ++faults_[name];
        Trace("", name);
    }

    // The broker.

    void StartBroker() {
        if (broker_) {
            return;
        }
        if (std::exchange(power_was_cut_, false)) {
            // What consumers begun meanwhile was on its way to them, or with them, when the power
            // went.
            audit_.OnPowerCut();
        }
        broker_executor_ = std::make_unique<SimExecutor>(scheduler_, NextProcess());
        broker_io_ = std::make_unique<SimExecutor>(
            scheduler_, NextProcess(), random().Chance(0.5) ? 20ms : 1ms);
        broker::BrokerOptions options;
        options.directory = "/data";
        options.shards = 2;
        options.default_durability = Durability::kFsync;
        options.subject_durability = {{"p.*", Durability::kPageCache},
                                      {"%RETRY%p.*", Durability::kPageCache}};
        options.flush_interval = 50ms;
        options.store.segment_bytes = 64 * 1024;
        options.store.index_cache_bytes = 1U << 20;
        Result<std::unique_ptr<broker::Broker>> broker =
            broker::Broker::Open(options,
                                 broker::BrokerEnvironment{disk_,
                                                           scheduler_,
                                                           *broker_executor_,
                                                           *broker_io_,
                                                           Strand::Mode::kPosted,
                                                           random().Next()});
        if (!broker.ok()) {
            // A disk that fails while it starts: the operator tries again.
            Fault("failed_start");
            broker_executor_->Kill();
            broker_io_->Kill();
            After(200ms + RandomTime(300ms), [this] { StartBroker(); });
            return;
        }
        broker_ = *std::move(broker);
        network_.SetBroker(broker_.get());
        started_ = scheduler_.Now();
        disk_failed_ = false;
        Trace("", "broker started");
        for (const auto& report : broker_->recovery()) {
            Trace("",
                  "  incarnation " + std::to_string(report.incarnation) + ", end " +
                      std::to_string(report.end) + ", torn " +
                      std::to_string(report.torn_tail_bytes) + ", corruptions " +
                      std::to_string(report.corruptions.size()));
            for (const auto& each : report.corruptions) {
                if (each.committed && !rot_.Explains(each)) {
                    damage_.push_back(each.path + " from " + std::to_string(each.file_offset) +
                                      ": " + each.reason);
                }
                Trace("",
                      "    " + std::to_string(each.begin) + " to " + std::to_string(each.end) +
                          (each.committed ? " committed: " : ": ") + each.reason);
            }
        }
    }

    /// As kill -9 does: nothing that waits runs any more.
    void StopBroker() {
        if (!broker_) {
            return;
        }
        broker_executor_->Kill();
        broker_io_->Kill();
        network_.SetBroker(nullptr);
        broker_.reset();
    }

    void Restart(bool power_cut) {
        if (!broker_) {
            return;
        }
        Fault(power_cut ? "power_cut" : "kill");
        StopBroker();
        disk_.CloseAll();
        if (power_cut) {
            disk_.CutPower();
            audit_.OnPowerCut();
            power_was_cut_ = true;
            if (random().Chance(0.3)) {
                CrashProducer();  // On the same machine.
            }
        } else if (options_.seed % 5 == 3 && !healed_) {
            if (const std::string fault = rot_.Strike(); !fault.empty()) {
                Fault(fault);
            }
        }
        After(10ms + RandomTime(2s), [this] { StartBroker(); });
    }

    // The clients.

    Client MakeClient(SimExecutor& executor, const std::string& name) {
        ClientOptions options;
        options.uri = "sim:";
        options.app_code = name;
        options.client_id = name;
        options.transports = {network_.MakeFactory(executor)};
        options.initial_reconnect_backoff = 20ms;
        options.max_reconnect_backoff = 500ms;
        options.log = [](LogLevel, std::string_view) {};
        options.runtime = {&scheduler_, &executor, &executor, &executor, random().Next() | 1U};
        return Client::Create(std::move(options)).value();
    }

    void StartProducer(int number, int messages) {
        producers_.push_back(std::make_unique<ProducerProcess>(scheduler_, NextProcess()));
        ProducerProcess& process = *producers_.back();
        const std::string name = "p" + std::to_string(number);
        process.client.emplace(MakeClient(process.executor, name));
        process.producer =
            process.client->MakeProducer({.max_batch_bytes = 8 * 1024, .timeout = 120s}).value();
        for (int i = 0; i < messages; ++i) {
            // In bursts, so that batches hold more than one message.
            process.executor.PostAt(
                scheduler_.Now() + (RandomTime(kLoadTime) / 500ms) * 500ms,
                [this, &process, id = name + "-" + std::to_string(i)] { Send(process, id); });
        }
    }

    void Send(ProducerProcess& process, const std::string& id) {
        const std::string subject = kSubjects[random().Below(kSubjects.size())];
        const bool domestic = random().Chance(0.5);
        std::string body = "body of " + id;
        body.append(random().Below(random().Chance(0.1) ? 6'000 : 200), 'x');
        const bool filtered = subject == kFilteredSubject && !domestic;
        audit_.OnSend({id,
                       body,
                       filtered ? kGroups[1] : "",
                       subject.starts_with("p.") ? Durability::kPageCache : Durability::kFsync});
        ++to_tell_;
        ++process.unanswered;
        Message message(subject);
        message.SetId(id)
            .SetBody(std::move(body))
            .Set("n", std::int64_t{1})
            .AddTag(domestic ? "domestic" : "international");
        process.producer.Send(std::move(message), [this, &process, id](const SendReceipt& receipt) {
            --process.unanswered;
            scheduler_.Note(static_cast<std::uint64_t>(receipt.outcome));
            Trace(id,
                  "told " + std::string(ToString(receipt.outcome)) + ", frames " +
                      std::to_string(receipt.attempts) + ", sequence " +
                      std::to_string(receipt.sequence));
            audit_.OnTold(id, receipt.outcome, receipt.attempts, receipt.durability);
        });
    }

    void StartConsumer(std::size_t place) {
        consumers_[place] = std::make_unique<ConsumerProcess>(scheduler_, NextProcess());
        ConsumerProcess& process = *consumers_[place];
        const std::string group = kGroups[place % kGroups.size()];
        process.client.emplace(MakeClient(process.executor, "c" + std::to_string(next_process_)));
        for (const char* subject : kSubjects) {
            SubscriptionOptions options;
            options.subject = subject;
            options.group = group;
            options.start = StartPosition::kEarliest;
            options.parallelism = 4;
            options.prefetch_count = 20;
            options.ack_timeout = 2s;
            options.max_processing_time = 10s;
            options.retry = {.max_attempts = 10'000,
                             .initial_backoff = 20ms,
                             .multiplier = 1.5,
                             .max_backoff = 200ms};
            if (std::string_view(subject) == kFilteredSubject && group == kGroups[1]) {
                options.tags = {TagMode::kAny, {"domestic"}};
            }
            (void)process.client
                ->SubscribeManual(std::move(options),
                                  [this, &process, group](Delivery delivery) {
                                      Handle(process, group, std::move(delivery));
                                  })
                .value();
        }
    }

    void Handle(ConsumerProcess& process, const std::string& group, Delivery delivery) {
        const Message& message = delivery.message();
        scheduler_.Note(message.attempt());
        Trace(std::string(message.id()),
              "handled by " + group + " " + process.client->client_id() + ", attempt " +
                  std::to_string(message.attempt()));
        audit_.OnHandled(group, std::string(message.id()), message.body(), message.attempt());
        const std::uint64_t dice = healed_ ? 0 : random().Below(100);
        if (dice < 60) {
            Ack(group, std::move(delivery));
        } else if (dice < 85) {
            Later(process, RandomTime(2s), group, std::move(delivery));
        } else if (dice < 87) {
            Later(process, 2s + RandomTime(12s), group, std::move(delivery));
        } else if (dice < 92) {
            delivery.RetryIn(std::chrono::milliseconds(random().Below(300)),
                             "asked for by the simulation");
        } else if (dice < 97) {
            delivery.Nack("failed by the simulation");
        }  // Else it is forgotten.
    }

    void Later(ConsumerProcess& process,
               std::chrono::nanoseconds time,
               const std::string& group,
               Delivery delivery) {
        process.executor.PostAt(scheduler_.Now() + time,
                                [this, group, delivery = std::move(delivery)]() mutable {
                                    Ack(group, std::move(delivery));
                                });
    }

    void Ack(const std::string& group, Delivery delivery) {
        const std::string id(delivery.message().id());
        delivery.Ack([this, group, id](const Status& status) {
            scheduler_.Note(static_cast<std::uint64_t>(status.code()));
            Trace(id, "ack of " + group + ": " + status.ToString());
            if (status.ok()) {
                audit_.OnAckConfirmed(group, id);
            }
        });
    }

    // Others, whose messages nobody counts: what they do must not disturb those who are counted.

    /// Somebody looks at the broker, as its tools do.
    void Operate() {
        if (healed_) {
            return;
        }
        if (broker_) {
            const char* subject = kSubjects[random().Below(kSubjects.size())];
            broker_->ListSubjects([this](const Result<std::vector<SubjectInfo>>& subjects) {
                scheduler_.Note(subjects.ok() ? subjects->size() : 0);
            });
            broker_->ListGroups(subject, [this](const Result<std::vector<GroupInfo>>& groups) {
                scheduler_.Note(groups.ok() ? groups->size() : 0);
            });
            if (random().Chance(0.2)) {
                const bool again = random().Chance(0.5);
                broker_->ResetGroup(subject,
                                    kVisitors,
                                    again ? StartPosition::kEarliest : StartPosition::kLatest,
                                    [this](const Status& status) {
                                        scheduler_.Note(static_cast<std::uint64_t>(status.code()));
                                    });
            }
        }
        After(RandomTime(2s), [this] { Operate(); });
    }

    /// A group that pulls and acks by single calls, each verdict in turn.
    void Visit() {
        if (healed_) {
            return;
        }
        if (broker_) {
            broker::PullRequest request;
            request.consumer.key = {kSubjects[random().Below(kSubjects.size())],
                                    kVisitors,
                                    "visitor-" + std::to_string(random().Below(3)),
                                    ConsumeSource::kBoth};
            request.consumer.start = StartPosition::kEarliest;
            request.consumer.ack_timeout = 1s;
            request.consumer.retry = {.max_attempts = 3, .initial_backoff = 100ms};
            request.max_messages = static_cast<std::uint32_t>(1 + random().Below(20));
            request.max_wait = std::chrono::milliseconds(random().Below(300));
            const ConsumerKey key = request.consumer.key;
            broker_->Pull(std::move(request), [this, key](const Result<broker::PullReply>& reply) {
                if (reply.ok()) {
                    AckVisit(key, *reply);
                }
            });
        }
        After(RandomTime(500ms), [this] { Visit(); });
    }

    void AckVisit(const ConsumerKey& key, const broker::PullReply& reply) {
        scheduler_.Note(reply.batches.size());
        std::vector<AckItem> items;
        for (const DeliveredBatch& batch : reply.batches) {
            AckItem item;
            item.first = batch.first_pull_sequence;
            item.last = batch.first_pull_sequence + batch.count - 1;
            switch (random().Below(5)) {
                case 0:
                    item.verdict = AckVerdict::kRetry;
                    item.error = "asked for by a visitor";
                    break;
                case 1:
                    item.verdict = AckVerdict::kDeadLetter;
                    item.error = "not for visitors";
                    break;
                case 2:
                    continue;  // Forgotten: its lease ends.
                default:
                    break;
            }
            items.push_back(std::move(item));
        }
        if (broker_ && !items.empty()) {
            broker_->Ack(key, std::move(items), [this](const Result<AckReply>& acked) {
                scheduler_.Note(acked.ok() ? acked->not_held_count : 0);
            });
        }
    }

    static void Complain(SimulationReport* report, std::string problem) {
        ++report->verdict.problem_count;
        report->verdict.problems.push_back(std::move(problem));
    }

    /// The disk as the world leaves it, read by what `qmq log verify` and `qmq log dump` read it
    /// with.
    void Inspect(SimulationReport* report) {
        StopBroker();
        disk_.CloseAll();
        const auto stores = store::FindStores(disk_, "/data");
        if (!stores.ok() || stores->size() != 2) {
            Complain(report, "the stores are not found on the disk: " + stores.status().ToString());
            return;
        }
        for (const std::string& directory : *stores) {
            const auto verified = store::VerifyStore(disk_, directory);
            if (!verified.ok() || verified->record_count == 0) {
                Complain(report,
                         directory + " cannot be verified: " + verified.status().ToString());
                continue;
            }
            scheduler_.Note(verified->record_count);
            scheduler_.Note(verified->problems.size());
        }
    }

    /// One message after another through a system in which nothing is wrong any more: each must
    /// come soon, by its own wake-up, since no other message, retry or reconnect comes to its help.
    void QuietPhase() {
        if (!Finished()) {
            return;  // The audit says what is missing.
        }
        StartProducer(static_cast<int>(producers_.size()), 0);
        scheduler_.RunUntil(scheduler_.Now() + 30s);  // Whoever lost a connection is back.
        for (int i = 0; i < 20; ++i) {
            const std::string id = "quiet-" + std::to_string(i);
            const TimePoint begin = scheduler_.Now();
            Send(*producers_.back(), id);
            while (!Finished() && scheduler_.Now() < begin + kSoon) {
                scheduler_.RunUntil(scheduler_.Now() + 10ms);
            }
            if (!Finished()) {
                late_ = id;
                return;
            }
        }
    }

    void CrashConsumer() {
        const std::size_t place = random().Below(consumers_.size());
        if (!consumers_[place]) {
            return;
        }
        Fault("consumer_crash");
        consumers_[place]->executor.Kill();
        consumers_[place].reset();
        After(RandomTime(3s), [this, place] { StartConsumer(place); });
    }

    /// It never hears what became of what it sent last, and sends none of it again.
    void CrashProducer() {
        ProducerProcess& process = *producers_[random().Below(producers_.size())];
        if (std::exchange(process.dead, true)) {
            return;
        }
        Fault("producer_crash");
        process.executor.Kill();
        to_tell_ -= process.unanswered;
    }

    // Faults.

    /// What was confirmed a while ago is synced, when the disk has done nothing wrong since the
    /// broker started.
    void DurablePoint() {
        if (broker_ && !disk_failed_ && scheduler_.Now() - started_ > 1s) {
            audit_.OnDurablePoint();
        }
        After(1s, [this] { DurablePoint(); });
    }

    void PlanFaults() {
        DurablePoint();
        if (options_.cut_after_rename || options_.seed % 2 == 0) {
            // What was written aside has taken its place: all it builds on must be on the disk.
            disk_.OnRename([this] {
                if (random().Chance(0.1)) {
                    After(RandomTime(10ms), [this] {
                        if (!healed_) {
                            Fault("cut_after_rename");
                            Restart(true);
                        }
                    });
                }
            });
        }
        for (int i = 0; i < options_.restarts; ++i) {
            After(1s + RandomTime(kLoadTime - 2s), [this, i] { Restart(i % 2 == 0); });
        }
        const int more = 5 + static_cast<int>(random().Below(6));
        for (int i = 0; i < more; ++i) {
            After(RandomTime(kLoadTime - 1s), [this] { SomeFault(); });
        }
        network_.SetFaults({.loss = 0.01, .duplication = 0.01, .reordering = 0.02, .slow = 0.001});
    }

    void SomeFault() {
        switch (random().Below(8)) {
            case 0:
                Fault("network_cut");
                network_.Cut(0.5);
                break;
            case 1:
                Fault("bad_network");
                network_.SetFaults(
                    {.loss = 0.2, .duplication = 0.1, .reordering = 0.2, .slow = 0.05});
                After(1s + RandomTime(2s), [this] { network_.SetFaults({.loss = 0.01}); });
                break;
            case 2:
                Fault("disk_full");
                disk_.SetFull(true);
                After(RandomTime(2s), [this] { disk_.SetFull(false); });
                break;
            case 3:
                Fault("failed_sync");
                disk_failed_ = true;
                disk_.FailNextSyncs(1);
                // The shard stops; an operator looks after a while.
                After(500ms + RandomTime(1s), [this] { Restart(random().Chance(0.5)); });
                break;
            case 4:
                Fault("read_error");
                disk_.FailReads(true);
                After(RandomTime(300ms), [this] { disk_.FailReads(false); });
                break;
            case 5:
                CrashConsumer();
                break;
            case 6:
                Fault("write_error");
                disk_failed_ = true;
                disk_.FailNextWrites(1);
                After(500ms + RandomTime(1s), [this] { Restart(random().Chance(0.5)); });
                break;
            default:
                Restart(random().Chance(0.5));
                break;
        }
    }

    void Heal() {
        healed_ = true;
        network_.SetFaults({});
        disk_.Heal();
        Restart(false);  // A shard may have stopped writing for good.
    }

    bool Finished() const { return audit_.told_count() == to_tell_ && audit_.missing_count() == 0; }

    /// What the broker thinks, for whoever looks for a lost message.
    void TraceGroups() {
        if (options_.trace.empty() || !broker_) {
            return;
        }
        for (const char* subject : kSubjects) {
            broker_->ListGroups(subject, [this](Result<std::vector<GroupInfo>> groups) {
                for (const GroupInfo& group : groups.ok() ? *groups : std::vector<GroupInfo>()) {
                    Trace("",
                          group.subject + "/" + group.group + ": next " +
                              std::to_string(group.next_sequence) + ", lag " +
                              std::to_string(group.lag_count) + ", in flight " +
                              std::to_string(group.in_flight_count) + ", waiting " +
                              std::to_string(group.waiting_retry_count) + ", consumers " +
                              std::to_string(group.consumer_count));
                }
            });
        }
        broker_->ListSubjects([this](Result<std::vector<SubjectInfo>> subjects) {
            for (const SubjectInfo& subject :
                 subjects.ok() ? *subjects : std::vector<SubjectInfo>()) {
                Trace("",
                      subject.subject + ": " + std::to_string(subject.first_sequence) + " to " +
                          std::to_string(subject.next_sequence));
            }
        });
        scheduler_.RunUntil(scheduler_.Now() + 1s);
    }

    SimulationReport Report() {
        TraceGroups();
        SimulationReport report;
        report.verdict = audit_.Judge();
        if (!late_.empty()) {
            Complain(
                &report,
                "message " + late_ + " did not come within a second, though nothing was wrong");
        }
        for (const std::string& damage : damage_) {
            Complain(&report, "a start found damage in what was synced: " + damage);
        }
        if (audit_.told_count() != to_tell_) {
            Complain(&report,
                     std::to_string(to_tell_ - audit_.told_count()) + " sends were never answered");
        }
        const NetworkCounts& packets = network_.counts();
        report.faults = faults_;
        report.faults["packet_lost"] = packets.lost;
        report.faults["packet_doubled"] = packets.duplicated;
        report.faults["packet_reordered"] = packets.reordered;
        report.faults["packet_slow"] = packets.slow;
        for (const auto& [name, count] : disk_.FaultCounts()) {
            report.faults["disk_" + name] = count;
        }
        Inspect(&report);
        report.events = scheduler_.event_count();
        report.virtual_time = scheduler_.Now().time_since_epoch();
        scheduler_.Note(report.verdict.handled);
        report.hash = scheduler_.hash();
        return report;
    }

    const SimulationOptions options_;
    SimScheduler scheduler_;
    testing::Audit audit_;
    SimExecutor wires_;
    SimNetwork network_;
    env::SimulatedFileSystem disk_;
    BitRot rot_;
    std::unique_ptr<SimExecutor> broker_executor_;
    std::unique_ptr<SimExecutor> broker_io_;
    std::unique_ptr<broker::Broker> broker_;
    std::vector<std::unique_ptr<ProducerProcess>> producers_;
    std::vector<std::unique_ptr<ConsumerProcess>> consumers_;
    std::map<std::string, std::uint64_t> faults_;
    std::uint64_t to_tell_ = 0;
    std::uint64_t next_process_ = 2;
    TimePoint started_{};
    bool disk_failed_ = false;
    bool power_was_cut_ = false;
    bool healed_ = false;
    std::string late_;
    std::vector<std::string> damage_;
};

}  // namespace

SimulationReport RunSimulation(const SimulationOptions& options) {
    return World(options).Run();
}

}  // namespace qmq::simulation
