#include "tests/crash/member.h"

#include <sys/prctl.h>

#include <csignal>
#include <cstdio>
#include <utility>

#include "qmq/subject.h"

#include "tests/crash/common.h"

namespace qmq::testing {

using namespace std::chrono_literals;

const std::vector<GroupPlan>& GroupPlans() {
    static const std::vector<GroupPlan> plans{
        {.subject = kSubject, .group = "ticketing"},
        {.subject = kSubject, .group = "accounting", .longest_retry = 3s},
        {.subject = kSubject,
         .group = kFewAttempts,
         .max_attempts = kAttempts,
         .backoff = 50ms,
         .longest_retry = 1s,
         .has_hopeless = true},
        {.subject = DeadLetterSubject(kSubject, kFewAttempts), .group = kAuditor}};
    return plans;
}

GroupPlan InventoryPlan() {
    return {.subject = DeadLetterSubject(kSubject, kFewAttempts),
            .group = kInventory,
            .is_fallible = false};
}

std::string ErrorOf(MemberEvent::Verdict verdict) {
    switch (verdict) {
        case MemberEvent::kFailed:
            return "failed by the test";
        case MemberEvent::kRetry:
            return "asked for by the test";
        case MemberEvent::kReject:
            return "can never be handled";
        case MemberEvent::kForgotten:  // The client's own words.
            return "forgotten";
        case MemberEvent::kNone:
        case MemberEvent::kAck:
            break;
    }
    return "";
}

// ---- Shelf

Shelf::Shelf() : thread_([this] { Run(); }) {}

Shelf::~Shelf() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void Shelf::Put(std::chrono::milliseconds time, UniqueFunction<void()> end) {
    {
        const std::lock_guard lock(mutex_);
        kept_.emplace(SystemClock().Now() + time, std::move(end));
    }
    changed_.notify_all();
}

void Shelf::Run() {
    std::unique_lock lock(mutex_);
    while (!stop_ || !kept_.empty()) {
        if (kept_.empty()) {
            changed_.wait(lock);
        } else if (!stop_ && kept_.begin()->first > SystemClock().Now()) {
            changed_.wait_until(lock, kept_.begin()->first);
        } else {
            UniqueFunction<void()> end = std::move(kept_.begin()->second);
            kept_.erase(kept_.begin());
            lock.unlock();
            end();
            lock.lock();
        }
    }
}

// ---- Member

namespace {

/// One message of so many fails each time, and another one is rejected.
constexpr std::uint64_t kFates = 20;

ClientOptions MemberOptions(const std::string& uri,
                            const std::string& name,
                            std::string id,
                            CopyBook& copies) {
    ClientOptions options = PatientClient(uri, name);
    options.client_id = std::move(id);
    options.transports = {NoteCopies(options.transports.at(0), copies)};
    return options;
}

}  // namespace

Member::Member(const std::string& uri,
               std::string name,
               std::string client_id,
               std::vector<GroupPlan> plans,
               std::uint64_t seed,
               EventWriter& events)
    : name_(std::move(name)),
      plans_(std::move(plans)),
      events_(events),
      random_(seed),
      client_(Client::Create(MemberOptions(uri, name_, std::move(client_id), copies_)).value()) {
    for (const GroupPlan& plan : plans_) {
        SubscriptionOptions options;
        options.subject = plan.subject;
        options.group = plan.group;
        options.start = StartPosition::kEarliest;
        options.prefetch_count = 200;
        options.retry = {.max_attempts = plan.max_attempts,
                         .initial_backoff = plan.backoff,
                         .multiplier = 1,
                         .max_backoff = plan.backoff};
        Result<Subscription> subscription = client_.Subscribe(
            std::move(options),
            [this, &plan](Delivery delivery) { Handle(plan, std::move(delivery)); });
        if (!subscription.ok()) {
            Die(subscription.status().ToString());
        }
    }
}

void Member::Stop() {
    shelf_.reset();  // What it keeps is acked, and the client sends these acks.
    (void)client_.Shutdown(10s);
}

std::uint64_t Member::Dice(std::uint64_t bound) {
    const std::lock_guard lock(mutex_);
    return random_.Below(bound);
}

void Member::Say(MemberEvent about, MemberEvent::Verdict verdict, std::chrono::milliseconds delay) {
    about.kind = MemberEvent::kAsked;
    about.verdict = verdict;
    about.detail = delay.count();
    about.text = ErrorOf(verdict);
    events_.Write(std::move(about));
}

UniqueFunction<void(const Status&)> Member::Hear(MemberEvent about) {
    about.kind = MemberEvent::kAnswered;
    return [this, about = std::move(about)](const Status& status) mutable {
        about.detail = static_cast<std::int64_t>(status.code());
        about.text = status.message();
        events_.Write(about);
    };
}

void Member::Ack(const MemberEvent& about, Delivery delivery) {
    Say(about, MemberEvent::kAck, {});
    delivery.Ack(Hear(about));
}

void Member::Handle(const GroupPlan& plan, Delivery delivery) {
    const Message& message = delivery.message();
    const MemberEvent about{.member = name_,
                            .group = plan.group,
                            .id = std::string(message.id()),
                            .serial = serial_++,
                            .attempt = message.attempt()};
    MemberEvent handled = about;
    handled.detail = message.body() == BodyOf(message.id()) ? 1 : 0;
    handled.text = message.last_error();
    handled.copy = copies_.Take(message);
    events_.Write(std::move(handled));
    const std::uint64_t fate = plan.has_hopeless ? HashOf(message.id()) % kFates : kFates;
    const std::uint64_t dice = plan.is_fallible ? Dice(1000) : 1000;
    if (fate == 0) {
        Say(about, MemberEvent::kReject, {});
        delivery.Reject(ErrorOf(MemberEvent::kReject), Hear(about));
    } else if (fate == 1 || dice < 20) {
        Say(about, MemberEvent::kFailed, plan.backoff);
        delivery.Nack(ErrorOf(MemberEvent::kFailed), Hear(about));
    } else if (dice < 50) {
        const std::chrono::milliseconds delay(
            Dice(static_cast<std::uint64_t>(plan.longest_retry.count()) + 1));
        Say(about, MemberEvent::kRetry, delay);
        delivery.RetryIn(delay, ErrorOf(MemberEvent::kRetry), Hear(about));
    } else if (dice < 60) {  // The SDK hands it back.
        Say(about, MemberEvent::kForgotten, plan.backoff);
    } else if (dice < 80) {
        shelf_->Put(
            std::chrono::milliseconds(50 + Dice(2'000)),
            [this, about, kept = std::move(delivery)]() mutable { Ack(about, std::move(kept)); });
    } else {
        Ack(about, std::move(delivery));
    }
}

int RunMemberProcess(const std::string& uri,
                     const std::string& name,
                     const std::string& client_id,
                     std::uint64_t seed,
                     const std::string& pipe) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // It never outlives the test.
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &stop, nullptr);  // Before there are threads, which inherit it.
    EventWriter events(pipe);
    Member member(uri, name, client_id, GroupPlans(), seed, events);
    std::printf("ready\n");
    std::fflush(stdout);
    int signal = 0;
    sigwait(&stop, &signal);
    member.Stop();
    return 0;
}

}  // namespace qmq::testing
