#include "tests/simulation/bit_rot.h"

#include <algorithm>
#include <utility>

#include "qmq/batch.h"

#include "server/store/log_inspector.h"

namespace qmq::simulation {

namespace {

/// Finds the records with messages, and who is in them.
class MessageRecords final : public store::LogVisitor {
public:
    struct Found {
        store::LogPlace place;
        std::uint64_t bytes = 0;
        std::vector<std::string> ids;
    };
    bool OnRecord(const store::Record& record, const store::LogPlace& place) override {
        if (record.header.kind == store::RecordKind::kMessages) {
            Found one{place, record.header.record_bytes(), {}};
            const BatchView batch = BatchView::Trusted(record.batch);
            BatchView::Iterator heads = batch.begin_heads();
            while (const auto head = heads.Next()) {
                one.ids.emplace_back(head->id);
            }
            found.push_back(std::move(one));
        }
        return true;
    }
    bool OnDamage(const store::LogDamage&) override { return true; }

    std::vector<Found> found;
};

}  // namespace

BitRot::BitRot(std::uint64_t seed, env::SimulatedFileSystem& disk, testing::Audit& audit)
    : random_(seed), disk_(disk), audit_(audit) {}

std::string BitRot::Strike() {
    const auto stores = store::FindStores(disk_, "/data");
    if (!stores.ok() || stores->empty()) {
        return "";
    }
    const std::string& directory = (*stores)[random_.Below(stores->size())];
    switch (random_.Below(4)) {
        case 0:
            return HitFile(directory, ".index", 1) ? "rotten_index" : "";
        case 1:
            // The last snapshot of all would take what the groups have acked with it.
            return HitFile(directory, ".snapshot", 2) ? "rotten_snapshot" : "";
        default:
            return HitRecord(directory) ? "rotten_record" : "";
    }
}

bool BitRot::HitRecord(const std::string& directory) {
    MessageRecords records;
    if (!store::InspectLog(disk_, directory, records).ok() || records.found.empty()) {
        return false;
    }
    const MessageRecords::Found& hit = records.found[random_.Below(records.found.size())];
    const std::uint64_t begin = hit.place.file_offset;
    if (!disk_.FlipBit(hit.place.path, begin + random_.Below(hit.bytes), 3).ok()) {
        return false;
    }
    for (const std::string& id : hit.ids) {
        audit_.OnDamaged(id);
    }
    hits_.push_back({hit.place.path, begin, begin + hit.bytes});
    return true;
}

bool BitRot::HitFile(const std::string& directory,
                     std::string_view suffix,
                     std::size_t least_files) {
    std::vector<std::string> names = disk_.List(directory).value_or({});
    std::erase_if(names, [suffix](const std::string& name) { return !name.ends_with(suffix); });
    if (names.size() < least_files) {
        return false;
    }
    const std::string path = directory + "/" + *std::max_element(names.begin(), names.end());
    const std::uint64_t size = disk_.Contents(path).value().size();
    if (size == 0 || !disk_.FlipBit(path, random_.Below(size), 3).ok()) {
        return false;
    }
    hits_.push_back({path, 0, size});
    return true;
}

bool BitRot::Explains(const store::RecoveryReport::Corruption& corruption) const {
    const std::uint64_t begin = corruption.file_offset;
    const std::uint64_t end = begin + (corruption.end - corruption.begin);
    return std::any_of(hits_.begin(), hits_.end(), [&](const Hit& hit) {
        return hit.path == corruption.path && begin < hit.end && end >= hit.begin;
    });
}

}  // namespace qmq::simulation
