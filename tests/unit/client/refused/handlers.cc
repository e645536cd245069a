// What must not compile as a handler, and what the first error says. tests/support/refused.sh
// compiles the cases one by one.
//
// `Subscribe` took a std::function<void(const Message&)>, which accepts a callable with
// any result and drops it: a handler that returned HandlerOutcome::Retry, a Status that is not ok,
// false, or a coroutine's task was an ack.

#include <functional>
#include <memory>

#include "qmq/client.h"

struct Task {};  // A coroutine's.
struct Worker {
    void Handle(const qmq::Message& message);
};

void Try(qmq::Client& client, const qmq::SubscriptionOptions& options) {
    // What compiles: all forms, by name, by pointer, and with what can only be moved.
    (void)client.Subscribe(options, [](const qmq::Message&) {});
    (void)client.Subscribe(options, [](const auto&) {});
    (void)client.Subscribe(options, [](qmq::Message) {});
    (void)client.Subscribe(options, [](auto) {});
    (void)client.Subscribe(options, [](const qmq::Message&, qmq::DeliveryContext&) {});
    (void)client.Subscribe(options, [](const qmq::Message&) { return qmq::HandlerOutcome::Ack(); });
    (void)client.Subscribe(options, [](qmq::Delivery delivery) { delivery.Ack(); });
    (void)client.Subscribe(options, [](qmq::Delivery&& delivery) { delivery.Ack(); });
    (void)client.Subscribe(options, [owned = std::make_unique<int>(1)](const qmq::Message&) {});
    (void)client.Subscribe(options, std::function<void(const qmq::Message&)>());
    (void)client.Subscribe(options, static_cast<void (*)(const qmq::Message&)>(nullptr));
// clang-format off
#if CASE == 1  // error: a handler of (const qmq::Message&) returns void (returning acks, throwing delivers again) or qmq::HandlerOutcome
    (void)client.Subscribe(options, [](const qmq::Message&) { return false; });
#endif
#if CASE == 2  // error: a handler of (const qmq::Message&) returns void (returning acks, throwing delivers again) or qmq::HandlerOutcome
    (void)client.Subscribe(options, [](const qmq::Message&) { return qmq::Status::Ok(); });
#endif
#if CASE == 3  // error: a handler of (const qmq::Message&) returns void (returning acks, throwing delivers again) or qmq::HandlerOutcome
    (void)client.Subscribe(options, [](const qmq::Message&) -> Task { return {}; });
#endif
#if CASE == 4  // error: a handler of (qmq::Delivery) returns void: what it does with the delivery is the outcome
    (void)client.Subscribe(options, [](qmq::Delivery) { return qmq::HandlerOutcome::Ack(); });
#endif
#if CASE == 5  // error: a handler takes its qmq::Delivery by value, since it is to end it
    (void)client.Subscribe(options, [](const qmq::Delivery&) {});
#endif
#if CASE == 6  // error: a handler takes (const qmq::Message&) or (qmq::Delivery)
    (void)client.Subscribe(options, [](qmq::Message&) {});
#endif
#if CASE == 7  // error: a handler takes (const qmq::Message&) or (qmq::Delivery)
    (void)client.Subscribe(options, &Worker::Handle);
#endif
#if CASE == 8  // error: a handler takes (const qmq::Message&) or (qmq::Delivery)
    (void)client.Subscribe(options, nullptr);
#endif
#if CASE == 9  // error: a handler of (const qmq::Message&) returns void (returning acks, throwing delivers again) or qmq::HandlerOutcome
    (void)client.Subscribe(options, [](const qmq::Message&, qmq::DeliveryContext&) { return false; });
#endif
#if CASE == 10  // error: a handler takes (const qmq::Message&) or (qmq::Delivery)
    (void)client.Subscribe(options, [](qmq::Delivery, qmq::DeliveryContext&) {});
#endif
#if CASE == 11  // error: a handler takes (const qmq::Message&) or (qmq::Delivery)
    (void)client.Subscribe(options, [] {});
#endif
#if CASE == 12  // error: a handler takes (const qmq::Message&) or (qmq::Delivery)
    (void)client.Subscribe(options, [](qmq::DeliveryContext&, const qmq::Message&) {});
#endif
    // clang-format on
}
