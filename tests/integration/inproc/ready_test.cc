// A subscription that is ready in the process.

#include <gtest/gtest.h>

#include "qmq/client.h"
#include "qmq/inproc.h"

#include "tests/support/ready_rounds.h"

namespace qmq {
namespace {

TEST(InprocReadyTest, WhatIsSentOnceASubscriptionIsReadyIsReceived) {
    ClientOptions options;
    options.app_code = "test";
    options.transports = {InprocTransport()};
    options.log = [](LogLevel, std::string_view) {};
    testing::ExpectThatReadyMeansReady(options, 30);
}

}  // namespace
}  // namespace qmq
