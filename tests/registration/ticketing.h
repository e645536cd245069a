#pragma once

#include "qmq/message.h"

struct Ticketing {
    void OnPrint(const qmq::Message& message);
    int printed = 0;
};
