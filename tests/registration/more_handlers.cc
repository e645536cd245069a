// A second file, so that a unity build puts two files with the same names together.

#include "qmq/consumer.h"

#include "ticketing.h"

namespace {

void OnCancel(const qmq::Message&) {}

}  // namespace

QMQ_CONSUMER("order.cancelled", "ticketing")(const qmq::Message&) {}
QMQ_CONSUMER_FN(OnCancel, "order.cancelled", "accounting", .broadcast = false);
QMQ_CONSUMER_FN(&Ticketing::OnPrint, "ticket.printed", "ticketing");

void Ticketing::OnPrint(const qmq::Message&) {
    ++printed;
}
