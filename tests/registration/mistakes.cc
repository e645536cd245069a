// Every mistake that a declaration can have, one a line.

#include "qmq/consumer.h"

// clang-format off
QMQ_CONSUMER("order.paid", "ticketing") (const qmq::Message&) {}
QMQ_CONSUMER("order.paid", "ticketing") (const qmq::Message&) {}
QMQ_CONSUMER("order.lost", "") (const qmq::Message&) {}
QMQ_CONSUMER("order.wide", "ticketing", .parallelism = 5'000) (const qmq::Message&) {}
QMQ_CONSUMER("order.tagged", "g", .tags = {"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"}) (const qmq::Message&) {}
QMQ_CONSUMER("order.named", "ticketing", .executor = "nobody") (const qmq::Message&) {}
// clang-format on
