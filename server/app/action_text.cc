#include "server/app/action_text.h"

#include <sstream>
#include <variant>

#include "server/app/message_text.h"
#include "server/broker/actions.h"

namespace qmq::app {

namespace {

using broker::ConsumerName;
using broker::GroupName;

/// Writes one kind of action after the other; one operator for each.
struct Describer {
    std::ostringstream text;

    void Group(const GroupName& name) { text << name.subject << '/' << name.group; }
    void Consumer(const ConsumerName& name) {
        text << (name.consumer_id.empty() ? std::string_view("nobody") : name.consumer_id)
             << " of ";
        Group(name.group);
    }
    void Range(std::uint64_t first, std::uint64_t last) {
        text << ' ' << first;
        if (last != first) {
            text << '-' << last;
        }
    }
    void Ranges(const std::vector<PullRange>& ranges, std::string_view what = "pull sequences") {
        text << ", " << what;
        for (const PullRange& range : ranges) {
            Range(range.first, range.last);
        }
    }
    void Begun(const std::vector<PullRange>& begun) {
        if (!begun.empty()) {
            Ranges(begun, "of which handlers had begun");
        }
    }
    void Runs(std::string_view what, const std::vector<broker::SequenceRun>& runs) {
        if (runs.empty()) {
            return;
        }
        text << ", " << what;
        for (const broker::SequenceRun& run : runs) {
            Range(run.first, run.first + run.count - 1);
        }
    }
    std::string_view SequencesOf(broker::Origin origin) {
        switch (origin) {
            case broker::Origin::kRetry:
                return "retry sequences";
            case broker::Origin::kKept:
                return "kept sequences";
            case broker::Origin::kSubject:
                break;
        }
        return "sequences";
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
            std::string_view sequence = SequencesOf(run.origin);
            sequence.remove_suffix(1);
            text << ' ' << run.count << " from " << sequence << ' ' << run.first_sequence
                 << " (attempt " << run.attempt;
            if (run.deaths > 0) {
                text << ", lost by " << int{run.deaths} << " consumers before";
            }
            text << ')';
        }
        Runs("set aside for another member: sequences", action.aside);
    }
    void operator()(const broker::Skipped& action) {
        text << "filtered out for ";
        Group(action.group);
        text << " below sequence " << action.next_sequence;
        Runs("set aside for another member: sequences", action.aside);
        Runs("set aside before, and wanted by nobody now: sequences", action.passed);
    }
    void operator()(const broker::Acked& action) {
        text << "acked by ";
        Consumer(action.consumer);
        Ranges(action.ranges);
    }
    void operator()(const broker::Released& action) {
        text << (action.cause == broker::ReleaseCause::kLost ? "to be delivered again, lost by "
                                                             : "handed back by ");
        Consumer(action.consumer);
        Ranges(action.ranges);
        Begun(action.begun);
    }
    void operator()(const broker::Deferred& action) {
        text << "to be delivered again at " << action.due_ms << " ms of running time, held by ";
        Consumer(action.consumer);
        Ranges(action.ranges);
    }
    void operator()(const broker::Moved& action) {
        switch (action.cause) {
            case broker::MoveCause::kVerdict:
                if (action.consumer.consumer_id.empty()) {
                    text << "moved, after too many attempts of ";
                    Group(action.consumer.group);
                    Ranges(action.ranges, SequencesOf(action.origin));
                    return;
                }
                text << "moved, held by ";
                break;
            case broker::MoveCause::kKeptHeld:
                text << "kept, since their segment goes, held by ";
                break;
            case broker::MoveCause::kKeptRedelivery:
                text << "kept, since their segment goes, to be delivered again to ";
                Group(action.consumer.group);
                Ranges(action.ranges, SequencesOf(action.origin));
                return;
            case broker::MoveCause::kKeptWaiting:
                text << "kept, since their segment goes, to be tried again at " << action.due_ms
                     << " ms of running time by ";
                Group(action.consumer.group);
                Ranges(action.ranges, SequencesOf(action.origin));
                return;
        }
        Consumer(action.consumer);
        Ranges(action.ranges);
    }
    void operator()(const broker::ConsumerGone& action) {
        text << "consumer gone: ";
        Consumer(action.consumer);
        Begun(action.begun);
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
    return Printable(describer.text.str());  // A consumer's id is any text of its own choice.
}

}  // namespace qmq::app
