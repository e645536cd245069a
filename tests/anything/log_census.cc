#include "tests/anything/log_census.h"

#include <variant>

#include "server/broker/actions.h"
#include "server/store/log_inspector.h"

namespace qmq::anything {
namespace {

const char* NameOf(const broker::Action& action) {
    constexpr const char* kNames[] = {"group_placed",
                                      "group_gone",
                                      "subscribed",
                                      "handed_out",
                                      "skipped",
                                      "acked",
                                      "released",
                                      "deferred",
                                      "moved",
                                      "consumer_gone"};
    static_assert(std::size(kNames) == std::variant_size_v<broker::Action>);
    return kNames[action.index()];
}

/// What an action says beyond its kind, of what the engine does in more than one way.
class Details {
public:
    explicit Details(Counters& counters) : counters_(counters) {}

    void operator()(const broker::GroupPlaced& placed) { Count("group reset", placed.reset); }
    void operator()(const broker::HandedOut& handed) {
        for (const broker::HandOutRun& run : handed.runs) {
            Count("handed out of redelivery", run.from == broker::TakenFrom::kRedelivery);
            Count("handed out when due", run.from == broker::TakenFrom::kWaiting);
            Count("handed out as suspect", run.deaths >= broker::kSuspectDeaths);
        }
        Count("set aside", !handed.aside.empty());
    }
    void operator()(const broker::Skipped& skipped) {
        Count("set aside", !skipped.aside.empty());
        Count("passed over", !skipped.passed.empty());
    }
    void operator()(const broker::Released& released) {
        Count("released as returned", released.cause == broker::ReleaseCause::kReturned);
        Count("released as lost", released.cause == broker::ReleaseCause::kLost);
        Count("released as begun", !released.begun.empty());
    }
    void operator()(const broker::Moved& moved) {
        constexpr const char* kCauses[] = {
            "verdict", "kept held", "kept redelivery", "kept waiting"};
        ++counters_[std::string("moved: ") + kCauses[static_cast<std::size_t>(moved.cause)]];
    }
    void operator()(const broker::ConsumerGone& gone) {
        Count("consumer gone as begun", !gone.begun.empty());
    }
    void operator()(const auto&) {}

private:
    void Count(const char* what, bool happened) { counters_[what] += happened ? 1U : 0U; }

    Counters& counters_;
};

class Census final : public store::LogVisitor {
public:
    explicit Census(Counters& counters) : counters_(counters) {}
    bool OnRecord(const store::Record& record, const store::LogPlace& place) override {
        if (!record.has_action()) {
            return true;
        }
        const Result<broker::Action> action = broker::DecodeAction(record.action);
        if (action.ok()) {
            ++counters_[std::string("action ") + NameOf(*action)];
            std::visit(Details(counters_), *action);
        } else if (error_.empty()) {
            error_ = "an action in " + place.path + " at " + std::to_string(place.file_offset) +
                     " cannot be read: " + action.status().ToString();
        }
        return true;
    }
    bool OnDamage(const store::LogDamage&) override { return true; }
    const std::string& error() const { return error_; }

private:
    Counters& counters_;
    std::string error_;
};

}  // namespace

std::string CountActions(env::FileSystem& files, const std::string& directory, Counters& counters) {
    Census census(counters);
    const Status walked = store::InspectLog(files, directory, census);
    if (!walked.ok() && walked.code() != StatusCode::kNotFound) {
        return "the log in " + directory + " cannot be walked: " + walked.ToString();
    }
    return census.error();
}

}  // namespace qmq::anything
