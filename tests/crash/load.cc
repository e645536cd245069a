#include "tests/crash/load.h"

#include <utility>

#include "tests/crash/common.h"
#include "tests/crash/member.h"

namespace qmq::testing {

using namespace std::chrono_literals;

namespace {

Message MakeMessage(const std::string& id, std::uint64_t number, Audit& audit) {
    std::string body = BodyOf(id);
    audit.OnSend({.id = id, .body = body, .subject = kSubject});
    Message message(kSubject);
    message.SetId(id)
        .SetBody(std::move(body))
        .Set("n", static_cast<std::int64_t>(number))
        .AddTag("t");
    return message;
}

void Tell(const std::string& id, const SendReceipt& receipt, Audit& audit) {
    audit.OnTold(id, receipt.outcome, receipt.attempts, receipt.durability, receipt.sequence);
}

SendReceipt Refused(Status why) {
    SendReceipt receipt;
    receipt.outcome = SendOutcome::kRefused;
    receipt.status = std::move(why);
    return receipt;
}

}  // namespace

// ---- LoadProducer

LoadProducer::LoadProducer(const std::string& uri,
                           int number,
                           std::chrono::microseconds pause,
                           Audit& audit)
    : audit_(audit),
      name_("p" + std::to_string(number)),
      pause_(pause),
      client_(Client::Create(PatientClient(uri, name_)).value()),
      producer_(client_.MakeProducer({.timeout = 60s}).value()),
      thread_([this] { Run(); }) {}

void LoadProducer::Stop() {
    stop_ = true;
    thread_.join();
    if (const Status flushed = producer_.Flush(90s); !flushed.ok()) {
        Die(name_ + ": " + flushed.ToString());
    }
    (void)client_.Shutdown(5s);
}

void LoadProducer::Run() {
    TimePoint next = SystemClock().Now();
    for (std::uint64_t i = 0; !stop_; ++i) {
        std::this_thread::sleep_until(next);  // The pace of the load.
        next += pause_;
        const std::string id = name_ + "-" + std::to_string(i);
        Status taken =
            producer_.Send(MakeMessage(id, i, audit_),
                           [this, id](const SendReceipt& receipt) { Tell(id, receipt, audit_); });
        if (!taken.ok()) {
            Tell(id, Refused(std::move(taken)), audit_);
        }
    }
}

// ---- Probe

Probe::Probe(const std::string& uri, const Filler& filler, Audit& audit)
    : filler_(filler),
      audit_(audit),
      client_(Client::Create(PatientClient(uri, "probe")).value()),
      producer_(client_.MakeProducer({.timeout = 100ms}).value()),
      thread_([this] { Run(); }) {}

void Probe::Stop() {
    stop_ = true;
    thread_.join();
    (void)producer_.Flush(5s);
    (void)client_.Shutdown(5s);
}

std::uint64_t Probe::episode_count() const {
    const std::lock_guard lock(mutex_);
    return episodes_.size();
}

void Probe::Run() {
    for (std::uint64_t i = 0; !stop_; ++i) {
        Pause(5ms);
        const std::uint64_t episode = filler_.episode();
        if (!Filler::IsFull(episode)) {
            continue;
        }
        const std::string id = "probe-" + std::to_string(i);
        const auto told = [this, id, episode](const SendReceipt& receipt) {
            Tell(id, receipt, audit_);
            OnReceipt(episode, receipt);
        };
        if (Status taken = producer_.Send(MakeMessage(id, i, audit_), told); !taken.ok()) {
            told(Refused(std::move(taken)));
        }
    }
}

void Probe::OnReceipt(std::uint64_t episode, const SendReceipt& receipt) {
    if (receipt.outcome != SendOutcome::kRefused ||
        receipt.status.code() != StatusCode::kResourceExhausted) {
        return;
    }
    ++refused_;
    const std::lock_guard lock(mutex_);
    episodes_.insert(episode);
}

}  // namespace qmq::testing
