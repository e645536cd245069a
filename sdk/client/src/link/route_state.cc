#include "sdk/client/src/link/route_state.h"

#include <algorithm>
#include <set>
#include <string>
#include <string_view>

#include "qmq/batch.h"
#include "qmq/message.h"

namespace qmq::internal {

Status CheckRoute(const std::vector<BrokerGroup>& groups) {
    static const std::uint64_t least = BatchHeader::kBytes + Message("s").encoded_bytes();
    std::set<std::string_view> names;
    for (const BrokerGroup& group : groups) {
        if (!names.insert(group.name).second) {
            return Status::Internal("the route names broker group " + group.name + " twice");
        }
        if (const std::uint64_t most = group.limits.max_batch_bytes; most < least) {
            return Status::Internal("the route says that broker group " + group.name +
                                    " takes batches of " + std::to_string(most) +
                                    " bytes, and the smallest has " + std::to_string(least));
        }
    }
    return Status::Ok();
}

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
