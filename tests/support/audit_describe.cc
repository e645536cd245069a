#include <chrono>
#include <sstream>

#include "tests/support/audit_story.h"

namespace qmq::testing {

namespace {

const char* AskedOf(const Step& step) {
    if (!step.asked.has_value()) {
        return "undecided";
    }
    return *step.asked == AckVerdict::kAck     ? "acked"
           : *step.asked == AckVerdict::kRetry ? "failed"
                                               : "rejected";
}

const char* AnswerOf(Step::Answer answer) {
    switch (answer) {
        case Step::Answer::kNone:
            return "no answer";
        case Step::Answer::kRecorded:
            return "recorded";
        case Step::Answer::kNotHeld:
            return "not held";
        case Step::Answer::kUnknown:
            return "answer unknown";
    }
    return "";
}

}  // namespace

std::string Describe(const Story& story) {
    std::ostringstream text;
    for (const Step& step : story.steps) {
        text << (&step == story.steps.data() ? "" : "; ");
        if (step.copy.has_value()) {
            text << (step.copy->from_retry ? "retry " : "sequence ") << step.copy->sequence << ", ";
        }
        text << "attempt " << step.attempt << " of " << step.consumer << " after "
             << std::chrono::duration_cast<std::chrono::milliseconds>(step.at -
                                                                      story.steps.front().at)
                    .count()
             << " ms"
             << ": " << AskedOf(step) << ", " << AnswerOf(step.answer)
             << (step.is_gone ? ", died" : "");
    }
    for (const StoryDeadLetter& letter : story.dead_letters) {
        text << "; dead letter with attempt " << letter.attempt;
    }
    return text.str();
}

}  // namespace qmq::testing
