// The clients of a world: the real SDK, with handlers that do everything that handlers may do.

#include <utility>

#include "tests/simulation/world.h"

namespace qmq::simulation {

namespace {

constexpr const char* kFailed = "failed by the simulation";
/// First deliveries of one message to one group in the quiet phase: if attempts did not count, it
/// would fail for ever.
constexpr int kMostDecisions = 10;

}  // namespace

Client World::MakeClient(SimExecutor& executor, const std::string& name) {
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

void World::StartProducer(int number, int messages) {
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

void World::Send(ProducerProcess& process, const std::string& id) {
    const std::string subject = kSubjects[random().Below(kSubjects.size())];
    const std::string tag = random().Chance(0.5) ? "domestic" : "international";
    std::string body = "body of " + id;
    body.append(random().Below(random().Chance(plan_.unsynced_log ? 0.2 : 0.1) ? 6'000 : 200), 'x');
    if (random().Chance(0.004)) {
        // It hardly fits into a segment, or not; its retry is larger.
        Fault("large_message");
        body.resize(64 * 1024 - 100 - random().Below(random().Chance(0.5) ? 300 : 10'000), 'x');
    }
    const bool filtered = subject == kFilteredSubject && tag == "international";
    audit_.OnSend({.id = id,
                   .body = body,
                   .not_for = filtered ? "accounting" : "",
                   .promised = plan_.PromisedBy(subject),
                   .subject = subject,
                   .tags = {tag}});
    ++to_tell_;
    ++process.unanswered;
    Message message(subject);
    message.SetId(id).SetBody(std::move(body)).Set("n", std::int64_t{1}).AddTag(tag);
    const auto told = [this, &process, id, sent = scheduler_.Now()](const SendReceipt& receipt) {
        --process.unanswered;
        if (receipt.outcome == SendOutcome::kPersisted) {
            CheckTaken(id, sent);
        }
        scheduler_.Note(static_cast<std::uint64_t>(receipt.outcome));
        Trace(id,
              "told " + std::string(ToString(receipt.outcome)) + ", frames " +
                  std::to_string(receipt.attempts) + ", sequence " +
                  std::to_string(receipt.sequence));
        audit_.OnTold(id, receipt.outcome, receipt.attempts, receipt.durability, receipt.sequence);
    };
    if (Status taken = process.producer.Send(std::move(message), told); !taken.ok()) {
        SendReceipt refused;
        refused.outcome = SendOutcome::kRefused;
        refused.status = std::move(taken);
        told(refused);
    }
}

void World::StartConsumer(std::size_t number) {
    const Seat& seat = seats_[number];
    consumers_[number] = std::make_unique<ConsumerProcess>(scheduler_, NextProcess(), number);
    ConsumerProcess& process = *consumers_[number];
    process.client.emplace(MakeClient(process.executor, "c" + std::to_string(next_process_)));
    for (const std::string& subject : seat.subjects) {
        Subscribe(process, seat, subject);
    }
    if (seat.is_of_mixed_group) {
        // By then the broker knows it, even if it was down.
        After(6s, [this, number, name = process.client->client_id()] {
            const auto& now = consumers_[number];
            if (broker_ && now && now->client->client_id() == name) {
                const Seat& its = seats_[number];
                audit_.OnMember({its.group, kFilteredSubject, name, its.filter});
            }
        });
    }
}

void World::Subscribe(ConsumerProcess& process, const Seat& seat, const std::string& subject) {
    SubscriptionOptions options;
    options.subject = subject;
    options.group = seat.group;
    options.start = StartPosition::kEarliest;
    options.parallelism = seat.manner == Manner::kFaithful ? 1 : 4;
    options.prefetch_count = plan_.hung_consumers ? 5 : 20;  // One that hangs soon has no credit.
    options.ack_timeout = kAckTimeout;
    options.max_processing_time = kLongestProcessing;
    options.retry = {.max_attempts = seat.max_attempts,
                     .initial_backoff = 20ms,
                     .multiplier = 1.5,
                     .max_backoff = kLongestBackoff};
    options.tags = Tags(seat.FilterOn(subject));
    options.at_most_once = seat.manner == Manner::kOnce;
    (void)process.client
        ->Subscribe(std::move(options),
                    [this, &process, &seat](Delivery delivery) {
                        Handle(process, seat, std::move(delivery));
                    })
        .value();
}

void World::Handle(ConsumerProcess& process, const Seat& seat, Delivery delivery) {
    const Message& message = delivery.message();
    scheduler_.Note(message.attempt());
    if (seat.manner == Manner::kAuditor) {
        TakeDeadLetter(std::move(delivery));
        return;
    }
    Trace(std::string(message.id()),
          "handled by " + seat.group + " " + process.client->client_id() + ", attempt " +
              std::to_string(message.attempt()));
    const Audit::DeliveryId id = audit_.OnHandled({.group = seat.group,
                                                   .id = std::string(message.id()),
                                                   .body = message.body(),
                                                   .attempt = message.attempt(),
                                                   .consumer = process.client->client_id(),
                                                   .copy = network_.CopyOf(message)});
    const bool is_faithful = seat.manner == Manner::kFaithful;
    if (seat.manner == Manner::kOnce) {
        delivery.Ack();  // It was, on receipt.
    } else if (is_leaving_ && seat.group == kSeasonal) {
        process.executor.PostAt(scheduler_.Now() + 10min,
                                [kept = std::move(delivery)]() mutable {});
    } else if (!is_faithful && quiet_ && message.attempt() == 1 &&
               ++quiet_decisions_[seat.group] < kMostDecisions) {
        DecideInQuiet(process, id, std::move(delivery));
    } else if (is_faithful || healed_) {
        Ack(id, std::move(delivery));
    } else if (seat.manner == Manner::kFailing && random().Chance(0.5)) {
        DecideBadly(id, std::move(delivery));
    } else {
        Decide(process, id, std::move(delivery));
    }
}

void World::Decide(ConsumerProcess& process, Audit::DeliveryId id, Delivery delivery) {
    if (plan_.unsynced_log && random().Chance(0.05)) {
        FailBeforeLook(process, id, std::move(delivery));
        return;
    }
    const std::uint64_t dice = random().Below(100);
    if (dice < 60) {
        Ack(id, std::move(delivery));
    } else if (dice < 85) {
        Later(process, RandomTime(2s), id, std::move(delivery));
    } else if (dice < 87 && !plan_.unsynced_log) {
        Later(process, 2s + RandomTime(12s), id, std::move(delivery));
    } else if (dice < 92) {
        const bool is_long = plan_.long_delays && random().Chance(0.3);
        Fault(is_long ? "long_retry" : "short_retry");
        Fail(id,
             std::move(delivery),
             std::chrono::milliseconds(random().Below(is_long ? 12'000 : 300)));
    } else if (dice < 97) {
        Fail(id, std::move(delivery), std::nullopt);
    } else {
        Forget(id, std::move(delivery));
    }
}

void World::FailBeforeLook(ConsumerProcess& process, Audit::DeliveryId id, Delivery delivery) {
    const auto lived = (scheduler_.Now() - started_) % kLooksForOld;
    const TimePoint look = scheduler_.Now() + (kLooksForOld - lived);
    process.executor.PostAt(look - RandomTime(400ms),
                            [this, id, delivery = std::move(delivery)]() mutable {
                                // So late that it is not acked before the power goes.
                                Fail(id, std::move(delivery), 1'500ms);
                            });
}

void World::DecideBadly(Audit::DeliveryId id, Delivery delivery) {
    if (random().Chance(0.1)) {
        Reject(id, std::move(delivery));
    } else {
        Fail(id, std::move(delivery), std::nullopt);
    }
}

void World::DecideInQuiet(ConsumerProcess& process, Audit::DeliveryId id, Delivery delivery) {
    switch (quiet_number_ % 10) {
        case 1:
            Fail(id, std::move(delivery), std::nullopt);
            break;
        case 3:
            Fail(id, std::move(delivery), 700ms + std::chrono::milliseconds(random().Below(3'000)));
            break;
        case 5:
            Forget(id, std::move(delivery));
            break;
        case 7: {
            // The process dies with it.
            const TimePoint due = scheduler_.Now() + kGrace + kAckTimeout;
            After(RandomTime(100ms),
                  [this, seat = process.seat, due] { CrashConsumer(seat, due); });
            process.executor.PostAt(scheduler_.Now() + 10min,
                                    [kept = std::move(delivery)]() mutable {});
            break;
        }
        case 9: {
            // Never decided: the client gives it up.
            audit_.OnAsked(id,
                           {AckVerdict::kRetry,
                            scheduler_.Now() + kLongestProcessing + kAckTimeout + kLongestBackoff,
                            ""});
            process.executor.PostAt(scheduler_.Now() + kLongestProcessing + 10s,
                                    [kept = std::move(delivery)]() mutable {});
            break;
        }
        default:
            Ack(id, std::move(delivery));
    }
}

void World::TakeDeadLetter(Delivery delivery) {
    const Message& message = delivery.message();
    const std::string id(message.id());
    Trace(id,
          "dead letter of attempt " + std::to_string(message.attempt()) + ": " +
              message.last_error());
    Fault("dead_letter");
    audit_.OnDeadLetter({.group = kStrict,
                         .id = id,
                         .body = message.body(),
                         .attempt = message.attempt(),
                         .error = message.last_error(),
                         .copy = network_.CopyOf(message)});
    delivery.Ack();
}

void World::Later(ConsumerProcess& process,
                  std::chrono::nanoseconds time,
                  Audit::DeliveryId id,
                  Delivery delivery) {
    process.executor.PostAt(
        scheduler_.Now() + time,
        [this, id, delivery = std::move(delivery)]() mutable { Ack(id, std::move(delivery)); });
}

void World::Ack(Audit::DeliveryId id, Delivery delivery) {
    audit_.OnAsked(id, {AckVerdict::kAck});
    auto answered = Answered(id, delivery, "ack");
    delivery.Ack(std::move(answered));
}

/// In `delay`, or by the group's back-off.
void World::Fail(Audit::DeliveryId id,
                 Delivery delivery,
                 std::optional<std::chrono::milliseconds> delay) {
    audit_.OnAsked(
        id, {AckVerdict::kRetry, scheduler_.Now() + delay.value_or(kLongestBackoff), kFailed});
    if (delay.has_value()) {
        delivery.RetryIn(*delay, kFailed, Answered(id, delivery, "retry"));
    } else {
        delivery.Nack(kFailed, Answered(id, delivery, "nack"));
    }
}

void World::Reject(Audit::DeliveryId id, Delivery delivery) {
    const std::string error = "rejected by the simulation";
    audit_.OnAsked(id, {AckVerdict::kDeadLetter, scheduler_.Now(), error});
    delivery.Reject(error, Answered(id, delivery, "reject"));
}

void World::Forget(Audit::DeliveryId id, Delivery) {
    audit_.OnAsked(id, {AckVerdict::kRetry, scheduler_.Now() + kLongestBackoff, "forgotten"});
}

UniqueFunction<void(const Status&)> World::Answered(Audit::DeliveryId id,
                                                    const Delivery& delivery,
                                                    const char* what) {
    return [this, id, message = std::string(delivery.message().id()), what](const Status& status) {
        scheduler_.Note(static_cast<std::uint64_t>(status.code()));
        Trace(message, std::string(what) + ": " + status.ToString());
        audit_.OnAnswered(id, status);
    };
}

}  // namespace qmq::simulation
