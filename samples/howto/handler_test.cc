// A handler is tested alone, without client, broker or threads.

#include <gtest/gtest.h>

#include "qmq/client.h"
#include "qmq/testing.h"

#include "tickets.h"

namespace {

using qmq::testing::MakeReceived;

// excerpt: test
qmq::Message Order(std::int64_t cents) {
    qmq::Message order("order.paid");
    order.Set("orderId", "A-1").Set("cents", cents);
    return order;
}

TEST(TicketsTest, APaidOrderGetsOneTicket) {
    Tickets tickets;
    EXPECT_EQ(tickets.OnPaid(MakeReceived(Order(1000))).kind, qmq::HandlerOutcome::Kind::kAck);
    tickets.OnPaid(MakeReceived(Order(1000)));  // Twice, as it may happen.
    EXPECT_EQ(tickets.issued().size(), 1U);
}

TEST(TicketsTest, TheFourthAttemptRaisesAnAlarm) {
    Tickets tickets;
    tickets.OnPaid(MakeReceived(Order(1000), {.attempt = 4, .last_error = "no paper"}));
    EXPECT_EQ(tickets.alarms().at("A-1"), "no paper");
}
// end

TEST(TicketsTest, ANegativePriceIsADeadLetter) {
    Tickets tickets;
    const qmq::HandlerOutcome outcome = tickets.OnPaid(MakeReceived(Order(-1)));
    EXPECT_EQ(outcome.kind, qmq::HandlerOutcome::Kind::kDeadLetter);
    EXPECT_EQ(outcome.error, "a negative price");
}

TEST(TicketsTest, AnOrderWithoutIdComesAgain) {
    Tickets tickets;
    qmq::Message order("order.paid");
    EXPECT_THROW(tickets.OnPaid(MakeReceived(order)), qmq::PropertyError);
}

}  // namespace
