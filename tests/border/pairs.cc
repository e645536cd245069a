#include "tests/border/pairs.h"

#include <cstdio>

namespace qmq::border {

namespace {

constexpr std::array<const char*, kPlaceCount> kPlaces{"thread",
                                                       "handler",
                                                       "outcome",
                                                       "manual",
                                                       "filter",
                                                       "idempotency",
                                                       "key",
                                                       "executor",
                                                       "callback",
                                                       "ack_done",
                                                       "pull_done",
                                                       "shutdown_done",
                                                       "coroutine",
                                                       "log_sink",
                                                       "destructor"};

constexpr std::array<const char*, kThingCount> kThings{
    "send",          "send_callback", "send_co_await",     "send_get",      "send_wait_for",
    "send_refused",  "flush",         "make_producer",     "drop_producer", "wait_ready",
    "subscribe",     "close",         "drop_subscription", "pause_resume",  "stats",
    "make_puller",   "pull",          "pull_async",        "close_puller",  "drop_puller",
    "ack",           "nack",          "retry_in",          "reject",        "drop_delivery",
    "block",         "throw",         "destroy_coroutine", "shutdown",      "shutdown_async",
    "destroy_client"};

std::array<bool, kPlaceCount> g_places_left_out{};
std::array<bool, kThingCount> g_things_left_out{};

std::size_t Index(Place place, Thing thing) {
    return static_cast<std::size_t>(place) * kThingCount + static_cast<std::size_t>(thing);
}

template <typename F>
void ForEachPair(F&& call) {
    for (std::size_t thing = 0; thing < kThingCount; ++thing) {
        for (std::size_t place = 0; place < kPlaceCount; ++place) {
            call(static_cast<Place>(place), static_cast<Thing>(thing));
        }
    }
}

}  // namespace

const char* ToString(Place place) {
    return kPlaces[static_cast<std::size_t>(place)];
}
const char* ToString(Thing thing) {
    return kThings[static_cast<std::size_t>(thing)];
}

bool IsEnding(Thing thing) {
    return thing == Thing::kShutdown || thing == Thing::kShutdownAsync ||
           thing == Thing::kDestroyClient;
}

bool Blocks(Thing thing) {
    switch (thing) {
        case Thing::kSendGet:
        case Thing::kSendWait:
        case Thing::kFlush:
        case Thing::kWaitReady:
        case Thing::kClose:
        case Thing::kPull:
        case Thing::kClosePuller:
        case Thing::kBlock:
        case Thing::kShutdown:
        case Thing::kDestroyClient:
            return true;
        default:
            return false;
    }
}

bool LeaveOut(const std::string& name) {
    bool found = false;
    for (std::size_t i = 0; i < kPlaceCount; ++i) {
        g_places_left_out[i] = g_places_left_out[i] || name == kPlaces[i];
        found = found || name == kPlaces[i];
    }
    for (std::size_t i = 0; i < kThingCount; ++i) {
        g_things_left_out[i] = g_things_left_out[i] || name == kThings[i];
        found = found || name == kThings[i];
    }
    return found;
}

bool IsAllowed(Place place, Thing thing) {
    if (g_places_left_out[static_cast<std::size_t>(place)] ||
        g_things_left_out[static_cast<std::size_t>(thing)]) {
        return false;
    }
    if (place == Place::kExecutor) {
        return !Blocks(thing) && thing != Thing::kDestroyCoroutine;
    }
    if (thing == Thing::kDestroyCoroutine) {
        return place == Place::kSendCallback || place == Place::kAckCompletion ||
               place == Place::kPullCallback || place == Place::kCoroutine;
    }
    // `done` of a shutdown is the last call of the client: what it throws has nobody to go to.
    return thing != Thing::kThrow ||
           (place != Place::kDestructor && place != Place::kShutdownCallback);
}

void PairTable::Count(Place place, Thing thing) {
    counts_[Index(place, thing)].fetch_add(1, std::memory_order_relaxed);
}

std::uint64_t PairTable::count(Place place, Thing thing) const {
    return counts_[Index(place, thing)].load(std::memory_order_relaxed);
}

void PairTable::Add(const std::string& place, const std::string& thing, std::uint64_t count) {
    for (std::size_t p = 0; p < kPlaceCount; ++p) {
        for (std::size_t t = 0; t < kThingCount; ++t) {
            if (place == kPlaces[p] && thing == kThings[t]) {
                counts_[p * kThingCount + t].fetch_add(count, std::memory_order_relaxed);
            }
        }
    }
}

std::vector<std::pair<Place, Thing>> PairTable::Below(std::uint64_t least) const {
    std::vector<std::pair<Place, Thing>> below;
    ForEachPair([&](Place place, Thing thing) {
        if (IsAllowed(place, thing) && count(place, thing) < least) {
            below.emplace_back(place, thing);
        }
    });
    return below;
}

std::string PairTable::Table() const {
    std::string text;
    char cell[32];
    std::snprintf(cell, sizeof(cell), "%-18s", "");
    text += cell;
    for (const char* place : kPlaces) {
        std::snprintf(cell, sizeof(cell), "%14s", place);
        text += cell;
    }
    text += '\n';
    for (std::size_t thing = 0; thing < kThingCount; ++thing) {
        std::snprintf(cell, sizeof(cell), "%-18s", kThings[thing]);
        text += cell;
        for (std::size_t place = 0; place < kPlaceCount; ++place) {
            const auto p = static_cast<Place>(place);
            const auto t = static_cast<Thing>(thing);
            if (IsAllowed(p, t)) {
                std::snprintf(
                    cell, sizeof(cell), "%14llu", static_cast<unsigned long long>(count(p, t)));
            } else {
                std::snprintf(cell, sizeof(cell), "%14s", "-");
            }
            text += cell;
        }
        text += '\n';
    }
    return text;
}

std::string PairTable::Lines() const {
    std::string text;
    ForEachPair([&](Place place, Thing thing) {
        if (const std::uint64_t done = count(place, thing); done > 0) {
            text += "pair " + std::string(ToString(place)) + " " + ToString(thing) + " " +
                    std::to_string(done) + "\n";
        }
    });
    return text;
}

}  // namespace qmq::border
