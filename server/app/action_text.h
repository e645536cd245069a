#pragma once

#include <string>
#include <string_view>

namespace qmq::app {

/// An action of a broker's log, for people: "handed out to c1 of order.paid/ticketing: 3 from
/// sequence 7, attempt 1". What cannot be read is said to be so, with the reason.
std::string DescribeAction(std::string_view action);

}  // namespace qmq::app
