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

RouteGroups SharedGroups(std::vector<BrokerGroup> groups) {
    if (groups.empty()) {
        return nullptr;
    }
    std::sort(groups.begin(), groups.end(), [](const BrokerGroup& a, const BrokerGroup& b) {
        return a.name < b.name;
    });
    return std::make_shared<const std::vector<BrokerGroup>>(std::move(groups));
}

RouteState::Step RouteState::OnAnswer(const Result<RouteGroups>& answer,
                                      TimePoint now,
                                      Random& random) {
    if (!answer.ok() || *answer == nullptr) {
        last_error_ = answer.ok() ? Status::Unavailable("no broker group serves the subject")
                                  : answer.status();
        return {false, again_.OnDown(now, random)};
    }
    const RouteGroups& groups = *answer;
    again_.Recovered();
    const bool same = groups == groups_ || (groups_ != nullptr && *groups == *groups_);
    const bool news = !same || !last_error_.ok();
    last_error_ = Status::Ok();
    groups_ = groups;
    return {news, now + refresh_};
}

}  // namespace qmq::internal
