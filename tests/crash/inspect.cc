#include "tests/crash/inspect.h"

#include <future>
#include <memory>
#include <sstream>
#include <utility>

#include "qmq/executor.h"
#include "qmq/grpc.h"
#include "qmq/transport.h"

namespace qmq::testing {

namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 10s;

class QuietListener final : public ConnectionListener {
public:
    void OnReady() override {}
    void OnClosed(const Status&) override {}  // The question is answered with the reason as well.
};

/// Asks the one broker behind `uri`: `ask` is given its connection and whom to tell.
template <typename T, typename Ask>
Result<T> AskBroker(const std::string& uri, Ask ask) {
    ThreadPool timers{ThreadPoolOptions{}};
    Result<std::unique_ptr<Transport>> transport =
        GrpcTransport()->Make(uri, {SystemClock(), timers, "inspector"});
    if (!transport.ok()) {
        return transport.status();
    }
    auto route = std::make_shared<std::promise<Result<Route>>>();
    DiscoverRequest request;
    request.subject = "inspection";
    request.app_code = "inspector";
    request.client_id = "inspector";
    (*transport)->Discover(request, SystemClock().Now() + kPatience, [route](Result<Route> found) {
        route->set_value(std::move(found));
    });
    const Result<Route> found = route->get_future().get();
    if (!found.ok()) {
        return found.status();
    }
    auto answer = std::make_shared<std::promise<Result<T>>>();
    std::future<Result<T>> future = answer->get_future();
    const std::unique_ptr<BrokerConnection> connection =
        (*transport)->Connect(found->groups.at(0), std::make_shared<QuietListener>());
    ask(*connection, [answer](Result<T> told) { answer->set_value(std::move(told)); });
    if (future.wait_for(kPatience) != std::future_status::ready) {
        return Status::DeadlineExceeded("no answer within 10 s");
    }
    return future.get();
}

}  // namespace

Result<std::vector<GroupInfo>> AskGroups(const std::string& uri, const std::string& subject) {
    return AskBroker<std::vector<GroupInfo>>(uri,
                                             [&subject](BrokerConnection& connection, auto done) {
                                                 connection.ListGroups(subject, std::move(done));
                                             });
}

Result<std::vector<SubjectInfo>> AskSubjects(const std::string& uri) {
    return AskBroker<std::vector<SubjectInfo>>(uri, [](BrokerConnection& connection, auto done) {
        connection.ListSubjects(std::move(done));
    });
}

std::string Describe(const GroupInfo& group) {
    std::ostringstream text;
    text << "group " << group.group << " of " << group.subject << ": next " << group.next_sequence
         << ", lag " << group.lag_count << ", in flight " << group.in_flight_count
         << ", waiting for retry " << group.waiting_retry_count << ", suspect "
         << group.suspect_count << ", consumers " << group.consumer_count << ", lost to retention "
         << group.lost_to_retention_count << ", to the full disk " << group.lost_to_full_disk_count
         << ", to damage " << group.lost_to_damage_count << ", to burial "
         << group.lost_to_burial_count;
    if (!group.waits_for.empty()) {
        text << "; waits for " << group.waits_for;
    }
    return text.str();
}

}  // namespace qmq::testing
