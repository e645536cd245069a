#include "server/app/group_text.h"

#include <cstdio>
#include <string_view>

#include "server/app/message_text.h"

namespace qmq::app {

namespace {

/// A number under its heading; texts are never cut, so that a long name moves the rest.
std::string Right(const std::string& text, std::size_t width) {
    return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}
std::string Left(const std::string& text, std::size_t width) {
    return text.size() < width ? text + std::string(width - text.size(), ' ') : text;
}

std::string Row(const std::string& subject,
                const std::string& group,
                const std::vector<std::string>& cells) {
    constexpr std::size_t kWidths[] = {12, 10, 10, 8, 8, 7};
    std::string row = Left(Printable(subject), 32) + ' ' + Left(Printable(group), 24);
    for (std::size_t i = 0; i < std::size(kWidths); ++i) {
        row += ' ' + Right(cells[i], kWidths[i]);
    }
    return row + "  " + cells.back();
}

std::uint64_t LostCount(const GroupInfo& group) {
    return group.lost_to_retention_count + group.lost_to_full_disk_count +
           group.lost_to_damage_count + group.lost_to_burial_count;
}

/// Appends "NUMBER WHAT" when there are any.
void Add(std::uint64_t count, std::string_view what, std::string* list) {
    if (count > 0) {
        *list += (list->empty() ? "" : ", ") + std::to_string(count) + ' ' + std::string(what);
    }
}

}  // namespace

std::string GroupHeading() {
    return Row("SUBJECT",
               "GROUP",
               {"NEXT", "LAG", "IN FLIGHT", "RETRIES", "LOST", "MEMBERS", "OLDEST UN-ACKED"});
}

std::string GroupLine(const GroupInfo& group) {
    return Row(group.subject,
               group.group,
               {std::to_string(group.next_sequence),
                std::to_string(group.lag_count),
                std::to_string(group.in_flight_count),
                std::to_string(group.waiting_retry_count),
                std::to_string(LostCount(group)),
                std::to_string(group.consumer_count),
                group.oldest_unacked_age ? std::to_string(group.oldest_unacked_age->count()) + " ms"
                                         : std::string("-")});
}

std::vector<std::string> GroupNotes(const GroupInfo& group) {
    const std::string name = Printable(group.subject + '/' + group.group) + ": ";
    std::vector<std::string> notes;
    if (!group.waits_for.empty()) {
        notes.push_back(name + "waits for " + Printable(group.waits_for));
    }
    std::string lag;
    Add(group.set_aside_count, "set aside for another member", &lag);
    Add(group.unwanted_count, "wanted by no member that is there", &lag);
    Add(group.suspect_count, "suspected of having ended their consumer", &lag);
    if (!lag.empty()) {
        notes.push_back(name + "of its lag " + lag);
    }
    std::string lost;
    Add(group.lost_to_retention_count, "to retention", &lost);
    Add(group.lost_to_full_disk_count, "to a full disk", &lost);
    Add(group.lost_to_damage_count, "to damage", &lost);
    Add(group.lost_to_burial_count, "as dead letters that fit nowhere", &lost);
    if (!lost.empty()) {
        notes.push_back(name + "lost " + lost);
    }
    return notes;
}

}  // namespace qmq::app
