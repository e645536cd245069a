#include "tests/simulation/world_plan.h"

#include <utility>

#include "qmq/random.h"
#include "qmq/subject.h"

namespace qmq::simulation {

std::vector<Seat> MakeSeats(const WorldPlan& plan) {
    const std::vector<std::string> all(kSubjects.begin(), kSubjects.end());
    std::vector<Seat> seats;
    for (int i = 0; i < 3; ++i) {
        seats.push_back({.group = "ticketing", .subjects = all});
        seats.push_back({.group = "accounting",
                         .subjects = all,
                         .filter = {TagMode::kAny, {"domestic"}},
                         .filtered_subject = kFilteredSubject});
    }
    const TagFilter domestic{TagMode::kAny, {"domestic"}};
    const std::array<TagFilter, 3> filters{domestic,
                                           TagFilter{TagMode::kAny, {"international"}},
                                           plan.split_filters ? domestic : TagFilter{}};
    for (std::uint32_t i = 0; plan.mixed_filters && i < filters.size(); ++i) {
        seats.push_back({.group = "mixed",
                         .subjects = {kFilteredSubject},
                         .filter = filters[i],
                         .filtered_subject = kFilteredSubject,
                         .max_attempts = 10'000 + i,
                         .is_of_mixed_group = true});
    }
    for (int i = 0; i < 2 && plan.has_strict(); ++i) {
        seats.push_back({.group = kStrict,
                         .subjects = {kStrictSubject},
                         .max_attempts = 3,
                         .manner = Manner::kFailing});
    }
    seats.push_back({.group = "ledger", .subjects = {"f.refunds"}, .manner = Manner::kFaithful});
    if (plan.has_strict()) {
        seats.push_back({.group = kAuditors,
                         .subjects = {DeadLetterSubject(kStrictSubject, kStrict)},
                         .manner = Manner::kAuditor});
    }
    if (plan.absences) {
        seats.push_back(
            {.group = kSeasonal, .subjects = {"f.refunds"}, .manner = Manner::kFaithful});
    }
    if (plan.at_most_once) {
        seats.push_back({.group = kOnceGroup, .subjects = {"f.refunds"}, .manner = Manner::kOnce});
    }
    return seats;
}

std::vector<testing::Audit::GroupRules> MakeGroups(const WorldPlan& plan) {
    std::vector<testing::Audit::GroupRules> groups{
        {.name = "ticketing"},
        {.name = "accounting"},
        {.name = "mixed", .subjects = {kFilteredSubject}, .is_mixed = true},
        {.name = "ledger", .subjects = {"f.refunds"}, .is_ordered = true}};
    if (plan.has_strict()) {
        groups.push_back({.name = kStrict, .subjects = {kStrictSubject}, .max_attempts = 3});
    }
    if (plan.absences) {
        groups.push_back({.name = kSeasonal, .subjects = {"f.refunds"}, .may_be_away = true});
    }
    if (plan.at_most_once) {
        groups.push_back({.name = kOnceGroup, .subjects = {"f.refunds"}, .is_at_most_once = true});
    }
    return groups;
}

WorldPlan::WorldPlan(const SimulationOptions& options) : seed_(options.seed) {
    // Apart from the world's own chances, so that leaving one part out changes no other.
    Random random(options.seed * 7 + 3);
    const auto draw = [&](const char* name, double chance) {
        return random.Chance(chance) && !options.without.contains(name);
    };
    retention_time = draw("retention_time", 0.2);
    retention_bytes = draw("retention_bytes", 0.2);
    drop_consumed = draw("drop_consumed", 0.33);
    small_disk = draw("small_disk", 0.33);
    wall_jumps = draw("wall_jumps", 0.33);
    bit_rot = draw("bit_rot", 0.15);
    live_rot = draw("live_rot", 0.1);
    bad_folders = draw("bad_folders", 0.33);
    interleaving = draw("interleaving", 0.5);
    operators = draw("operators", 0.25);
    visitors = draw("visitors", 0.25);
    wild_client = draw("wild_client", 0.25);
    clean_closes = draw("clean_closes", 0.5);
    hung_consumers = draw("hung_consumers", 0.33);
    mixed_filters = draw("mixed_filters", 0.5);
    long_delays = draw("long_delays", 0.33);
    absences = draw("absences", 0.15);
    at_most_once = draw("at_most_once", 0.33);
    kills_only = draw("kills_only", 0.2);
    last_restart = draw("last_restart", 0.5);
    outages = draw("outages", 0.3);
    split_filters = draw("split_filters", 0.5);
    removed_cuts = draw("removed_cuts", 0.3);
    unsteady_disk = draw("unsteady_disk", 0.25);
    lazy_flush = draw("lazy_flush", 0.3);
    wrong_clock = draw("wrong_clock", 0.04);
    if (wrong_clock) {
        // Nothing else takes messages, so none may be lost.
        retention_time = retention_bytes = wall_jumps = bit_rot = live_rot = false;
        absences = true;
    }
    unsynced_log = draw("unsynced_log", 0.1) && !wrong_clock;
    if (unsynced_log) {
        lazy_flush = removed_cuts = retention_time = true;
        bit_rot = live_rot = false;  // What is damaged at the end was never written.
        at_most_once = false;        // It relies on acks that are synced.
        // The broker lives until it looks for what is old, and finds nothing there that somebody
        // holds: moving that would have a sync of its own.
        kills_only = clean_closes = outages = hung_consumers = long_delays = false;
        small_disk = unsteady_disk = bad_folders = visitors = wild_client = false;
    }
    if (outages && mixed_filters && split_filters) {
        long_delays = true;
        last_restart = false;
    }
    renamed_cuts = (options.cut_after_rename || options.seed % 2 == 0) && !unsynced_log &&
                   !options.without.contains("renamed_cuts");
}

broker::BrokerOptions WorldPlan::MakeBrokerOptions() const {
    broker::BrokerOptions options;
    options.directory = "/data";
    options.shards = 2;
    options.default_durability = unsynced_log ? Durability::kPageCache : Durability::kFsync;
    options.subject_durability = {{"p.*", Durability::kPageCache},
                                  {"%RETRY%p.*", Durability::kPageCache}};
    options.flush_interval = unsynced_log ? 900ms : lazy_flush ? 500ms : 50ms;
    options.idle_group_retention = kIdleGroupRetention;
    options.store.segment_bytes = 64 * 1024;
    options.store.index_cache_bytes = 1U << 20;
    options.store.drop_consumed = drop_consumed;
    if (retention_time) {
        options.store.retention = std::chrono::seconds(3 + seed_ % (unsynced_log ? 3 : 5));
    }
    if (wrong_clock) {
        options.store.retention = kLongRetention;
    }
    if (retention_bytes) {
        options.store.retention_bytes = (3 + seed_ % 4) * options.store.segment_bytes;
    }
    return options;
}

}  // namespace qmq::simulation
