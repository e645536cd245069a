#include "sdk/client/src/link/route_state.h"

#include <algorithm>

namespace qmq::internal {

RouteState::Step RouteState::OnAnswer(Result<std::vector<BrokerGroup>> answer,
                                      TimePoint now,
                                      Random& random) {
    if (answer.ok() && answer->empty()) {
        answer = Status::Unavailable("no broker group serves the subject");
    }
    if (!answer.ok()) {
        last_error_ = answer.status();
        return {false, again_.OnDown(now, random)};
    }
    std::vector<BrokerGroup> groups = std::move(answer).value();
    // One order whatever the answer's, so that equal routes are recognised.
    std::sort(groups.begin(), groups.end(), [](const BrokerGroup& a, const BrokerGroup& b) {
        return a.name < b.name;
    });
    again_.Recovered();
    const bool news = groups != groups_ || !last_error_.ok();
    last_error_ = Status::Ok();
    groups_ = std::move(groups);
    return {news, now + refresh_};
}

}  // namespace qmq::internal
