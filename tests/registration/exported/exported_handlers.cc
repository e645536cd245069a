#include "qmq/consumer.h"

QMQ_CONSUMER("form.exported", "registration")(const qmq::Message&) {}
