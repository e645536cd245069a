#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "qmq/client.h"

#include "server/broker/broker.h"
#include "server/env/event.h"
#include "server/env/simulated_file_system.h"
#include "tests/simulation/bit_rot.h"
#include "tests/simulation/others.h"
#include "tests/simulation/sim_network.h"
#include "tests/simulation/sim_scheduler.h"
#include "tests/simulation/simulation.h"
#include "tests/simulation/world_plan.h"
#include "tests/support/audit.h"
#include "tests/support/told_losses.h"

namespace qmq::simulation {

using testing::Audit;

/// A process that sends.
struct ProducerProcess {
    ProducerProcess(SimScheduler& scheduler, std::uint64_t number) : executor(scheduler, number) {}
    SimExecutor executor;
    std::optional<Client> client;
    Producer producer;
    std::uint64_t unanswered = 0;
    bool dead = false;
};

/// A process that consumes: it dies and another one takes its seat.
struct ConsumerProcess {
    ConsumerProcess(SimScheduler& scheduler, std::uint64_t number, std::size_t its_seat)
        : executor(scheduler, number), seat(its_seat) {}
    SimExecutor executor;
    std::size_t seat;
    std::optional<Client> client;
};

/// One world of one seed, from its first event to the verdict. Its parts stand in files of their
/// own: the broker and the phases in world.cc, clients in world_clients.cc, faults in
/// world_faults.cc, the end in world_end.cc.
class World final : private env::EventListener {
public:
    explicit World(const SimulationOptions& options);
    ~World() override;

    SimulationReport Run();

private:
    Random& random() { return scheduler_.random(); }
    std::chrono::nanoseconds RandomTime(std::chrono::nanoseconds longest);
    /// Of the world itself: never while a background task is in a step.
    void After(std::chrono::nanoseconds time, Task task);
    std::uint64_t NextProcess() { return next_process_++; }
    void Trace(const std::string& id, const std::string& text) const;
    /// Counts a fault that is done now, or a place that is reached.
    void Fault(const std::string& name);
    bool MayTakeSeen(const std::string& text) const;
    void OnEvent(const env::Event& event) override;

    // The broker.
    void StartBroker();
    void OnStarted();
    void StopBroker();
    void Restart(bool power_cut);
    /// As an operator does who has time; killed when it takes too long.
    void CloseThenRestart();
    void OnDiskStep(std::string_view operation, std::string_view path);

    // The clients.
    Client MakeClient(SimExecutor& executor, const std::string& name);
    void StartProducer(int number, int messages);
    void Send(ProducerProcess& process, const std::string& id);
    void StartConsumer(std::size_t seat);
    void Subscribe(ConsumerProcess& process, const Seat& seat, const std::string& subject);
    void Handle(ConsumerProcess& process, const Seat& seat, Delivery delivery);
    void Decide(ConsumerProcess& process, Audit::DeliveryId id, Delivery delivery);
    /// Together with others, just before the broker looks whether their segment may go.
    void FailBeforeLook(ConsumerProcess& process, Audit::DeliveryId id, Delivery delivery);
    void DecideBadly(Audit::DeliveryId id, Delivery delivery);
    /// In the quiet phase: one way of failing after another, each with a time of its own.
    void DecideInQuiet(ConsumerProcess& process, Audit::DeliveryId id, Delivery delivery);
    void TakeDeadLetter(Delivery delivery);
    void Later(ConsumerProcess& process,
               std::chrono::nanoseconds time,
               Audit::DeliveryId id,
               Delivery delivery);
    void Ack(Audit::DeliveryId id, Delivery delivery);
    void Fail(Audit::DeliveryId id,
              Delivery delivery,
              std::optional<std::chrono::milliseconds> delay);
    void Reject(Audit::DeliveryId id, Delivery delivery);
    void Forget(Audit::DeliveryId id, Delivery delivery);
    UniqueFunction<void(const Status&)> Answered(Audit::DeliveryId id,
                                                 const Delivery& delivery,
                                                 const char* what);

    // Faults.
    void DurablePoint();
    void PlanFaults();
    void PlanJumps();
    void SomeFault();
    void SomeDiskFault();
    void SmallDisk();
    void JumpClock();
    void CrashConsumer(std::size_t seat,
                       std::optional<TimePoint> due,
                       std::optional<std::chrono::nanoseconds> away = std::nullopt);
    void Outage(bool is_late);
    void CutAfterRemoval(std::string_view operation, std::string_view path);
    void UnsteadyDisk(TimePoint until);
    void WatchRoom();
    TimePoint LastRefusal();
    void CheckTaken(const std::string& id, TimePoint sent);
    void HangConsumer(std::size_t seat);
    void LeaveForLong(std::size_t seat);
    void CrashProducer();

    // The end.
    void Heal();
    void Settle();
    bool Finished() const;
    void LookAtGroups();
    static std::string WhoseLoss(const std::string& group);
    void QuietPhase();
    void CountLosses();
    static void Complain(SimulationReport* report, std::string problem);
    void Inspect(SimulationReport* report);
    SimulationReport Report();

    const SimulationOptions options_;
    const WorldPlan plan_;
    const std::vector<Seat> seats_;
    SimScheduler scheduler_;
    Audit audit_;
    SimExecutor wires_;
    SimExecutor fates_;
    SimNetwork network_;
    env::SimulatedFileSystem disk_;
    BitRot rot_;
    std::unique_ptr<SimExecutor> broker_executor_;
    std::unique_ptr<SimExecutor> broker_io_;
    std::unique_ptr<broker::Broker> broker_;
    std::unique_ptr<Others> others_;
    std::vector<std::unique_ptr<ProducerProcess>> producers_;
    std::vector<std::unique_ptr<ConsumerProcess>> consumers_;  // By seat.
    std::vector<std::unique_ptr<ConsumerProcess>> hung_;
    std::map<std::string, std::uint64_t> faults_;
    testing::ToldLosses told_losses_;                      // As the events say.
    std::map<std::string, std::uint64_t> counted_losses_;  // By group, as the broker lists.
    std::map<std::string, std::uint64_t> seen_losses_;     // Of these, of what had been handed out.
    std::uint64_t promised_losses_ = 0;                    // Of subjects that promise fsync.
    std::uint64_t to_tell_ = 0;
    std::uint64_t given_up_ = 0;  // Missing for good, as the groups say.
    std::uint64_t next_process_ = 3;
    TimePoint started_{};
    TimePoint slow_until_{};
    bool disk_failed_ = false;
    bool slow_folders_ = false;
    bool power_was_cut_ = false;
    bool healed_ = false;
    bool quiet_ = false;
    bool is_leaving_ = false;  // The seasonal consumer has stopped, and takes messages still.
    std::uint64_t small_disk_bytes_ = 0;      // Zero: it is large.
    std::optional<TimePoint> crowded_since_;  // More than the high-water mark is used.
    std::uint64_t refused_count_ = 0;
    TimePoint last_refusal_{};
    bool closing_ = false;
    bool has_removed_ = false;  // A file, and the folder is not synced yet.
    bool groups_are_idle_ = false;
    std::uint64_t quiet_number_ = 0;
    std::map<std::string, int> quiet_decisions_;  // By group, of the message of this number.
    std::vector<std::string> damage_;
    std::vector<std::string> problems_;  // Others that the audit does not know of.
};

}  // namespace qmq::simulation
