#include "server/app/action_text.h"

#include <sstream>
#include <variant>

#include "server/broker/actions.h"

namespace qmq::app {

namespace {

using broker::ConsumerName;
using broker::GroupName;
using broker::PullRange;

/// Writes one kind of action after the other; one operator for each.
struct Describer {
    std::ostringstream text;

    void Group(const GroupName& name) { text << name.subject << '/' << name.group; }
    void Consumer(const ConsumerName& name) {
        text << (name.consumer_id.empty() ? std::string_view("nobody") : name.consumer_id)
             << " of ";
        Group(name.group);
    }
    void Ranges(const std::vector<PullRange>& ranges) {
        text << ", pull sequences";
        for (const PullRange& range : ranges) {
            text << ' ' << range.first;
            if (range.last != range.first) {
                text << '-' << range.last;
            }
        }
    }

    void operator()(const broker::GroupPlaced& action) {
        text << (action.reset ? "group reset: " : "group made: ");
        Group(action.group);
        text << " at sequence " << action.next_sequence;
    }
    void operator()(const broker::GroupGone& action) {
        text << "group forgotten: ";
        Group(action.group);
    }
    void operator()(const broker::Subscribed& action) {
        text << "subscribed: ";
        Consumer(action.consumer);
    }
    void operator()(const broker::HandedOut& action) {
        text << "handed out to ";
        Consumer(action.consumer);
        text << " from pull sequence " << action.first_pull_sequence << ':';
        for (const broker::HandOutRun& run : action.runs) {
            text << ' ' << run.count << " from "
                 << (run.origin == broker::Origin::kRetry ? "retry " : "") << "sequence "
                 << run.first_sequence << " (attempt " << run.attempt << ')';
        }
    }
    void operator()(const broker::Skipped& action) {
        text << "filtered out for ";
        Group(action.group);
        text << " below sequence " << action.next_sequence;
    }
    void operator()(const broker::Acked& action) {
        text << "acked by ";
        Consumer(action.consumer);
        Ranges(action.ranges);
    }
    void operator()(const broker::Released& action) {
        text << (action.counted ? "to be delivered again, held by " : "handed back by ");
        Consumer(action.consumer);
        Ranges(action.ranges);
    }
    void operator()(const broker::Deferred& action) {
        text << "to be delivered again at " << action.due_ms << " ms, held by ";
        Consumer(action.consumer);
        Ranges(action.ranges);
    }
    void operator()(const broker::Moved& action) {
        text << "moved, held by ";
        Consumer(action.consumer);
        Ranges(action.ranges);
    }
    void operator()(const broker::ConsumerGone& action) {
        text << "consumer gone: ";
        Consumer(action.consumer);
    }
};

}  // namespace

std::string DescribeAction(std::string_view action) {
    const Result<broker::Action> decoded = broker::DecodeAction(action);
    if (!decoded.ok()) {
        return "action that cannot be read: " + decoded.status().ToString();
    }
    Describer describer;
    std::visit(describer, *decoded);
    return describer.text.str();
}

}  // namespace qmq::app
