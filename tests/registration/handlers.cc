// Handlers in a static library that nothing else refers to.

#include <string>

#include "qmq/consumer.h"

namespace {

void OnRefund(const qmq::Message&) {}

qmq::HandlerOutcome OnSeat(const qmq::Message&) {
    return qmq::HandlerOutcome::Ack();
}

void OnInvoice(qmq::Delivery delivery) {
    delivery.Ack();
}

}  // namespace

QMQ_CONSUMER("order.paid", "ticketing", .tags = {"domestic", "international"}, .parallelism = 2)
(const qmq::Message& message) {
    (void)message.GetOr<std::string>("orderId", "");
}

QMQ_CONSUMER("order.paid", "accounting", .tags = qmq::AllOf("domestic", "large"))
(const qmq::Message&) {}

QMQ_CONSUMER_FN(OnRefund, "order.refunded", "ticketing");
QMQ_CONSUMER_FN(OnSeat, "seat.changed", "ticketing", .retry = {.max_attempts = 3});
QMQ_CONSUMER_FN(OnInvoice, "invoice.made", "accounting");
