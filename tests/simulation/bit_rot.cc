#include "tests/simulation/bit_rot.h"

#include <algorithm>
#include <utility>

#include "qmq/batch.h"

#include "server/broker/actions.h"
#include "server/store/file_names.h"
#include "server/store/log_inspector.h"

namespace qmq::simulation {

namespace {

/// Finds the records of one kind, and the messages that are in them.
class RecordsOfKind final : public store::LogVisitor {
public:
    struct Found {
        store::LogPlace place;
        std::uint64_t bytes = 0;
        std::vector<std::string> ids;
        std::string action;
        std::uint64_t batch_bytes = 0;
        std::string subject;
        store::RecordHeader header;
    };
    explicit RecordsOfKind(store::RecordKind kind) : kind_(kind) {}

    bool OnRecord(const store::Record& record, const store::LogPlace& place) override {
        end = record.end();
        if (record.header.kind != kind_) {
            return true;
        }
        found.push_back({place,
                         record.header.record_bytes(),
                         {},
                         std::string(record.action),
                         record.batch.size(),
                         std::string(record.subject),
                         record.header});
        if (record.batch.empty()) {
            return true;
        }
        const BatchView batch = BatchView::Trusted(record.batch);
        BatchView::Iterator heads = batch.begin_heads();
        while (const auto head = heads.Next()) {
            found.back().ids.emplace_back(head->id);
        }
        return true;
    }
    bool OnDamage(const store::LogDamage&) override { return true; }

    std::vector<Found> found;
    store::LogOffset end = 0;  // Of the last record of any kind.

private:
    const store::RecordKind kind_;
};

/// Whether nothing lies behind it in the log, and no snapshot says that it was synced. (An index
/// says so of a segment only where another one has begun.)
bool IsTail(env::SimulatedFileSystem& disk,
            const std::string& directory,
            const RecordsOfKind& records,
            const RecordsOfKind::Found& hit) {
    const std::vector<std::string> names = disk.List(directory).value_or({});
    const bool is_known = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
        const auto file = store::ParseFileName(name);
        return file && file->kind == store::FileKind::kSnapshot && file->offset > hit.header.offset;
    });
    return hit.header.offset + hit.bytes == records.end && !is_known;
}

}  // namespace

BitRot::BitRot(std::uint64_t seed, env::SimulatedFileSystem& disk, testing::Audit& audit)
    : random_(seed), disk_(disk), audit_(audit) {}

std::string BitRot::Strike(TimePoint last_refusal) {
    last_refusal_ = last_refusal;
    const auto stores = store::FindStores(disk_, "/data");
    if (!stores.ok() || stores->empty()) {
        return "";
    }
    const std::string& directory = (*stores)[random_.Below(stores->size())];
    switch (random_.Below(10)) {
        case 8:
            return Garble(directory) ? "unreadable_action" : "";
        case 9:
            return Forge(directory) ? "forged_action" : "";
        case 0:
            return HitFile(directory, ".index", 1) ? "rotten_index" : "";
        case 1:
            // The last snapshot of all would take what the groups have acked with it.
            return HitFile(directory, ".snapshot", 2) ? "rotten_snapshot" : "";
        case 2:
            return HitRecord(directory, store::RecordKind::kMove) ? "rotten_move" : "";
        case 3:
            return HitRecord(directory, store::RecordKind::kAction) ? "rotten_action" : "";
        case 4:
            return HitRecord(directory, store::RecordKind::kStart) ? "rotten_start" : "";
        case 5:
            return HitRecord(directory, store::RecordKind::kMark) ? "rotten_mark" : "";
        default:
            return HitRecord(directory, store::RecordKind::kMessages) ? "rotten_messages" : "";
    }
}

bool BitRot::HitRecord(const std::string& directory, store::RecordKind kind) {
    RecordsOfKind records(kind);
    if (!store::InspectLog(disk_, directory, records).ok() || records.found.empty()) {
        return false;
    }
    const RecordsOfKind::Found& hit = records.found[random_.Below(records.found.size())];
    const std::uint64_t begin = hit.place.file_offset;
    const bool is_tail = IsTail(disk_, directory, records, hit);
    if (!disk_.FlipBit(hit.place.path, begin + random_.Below(hit.bytes), 3).ok()) {
        return false;
    }
    if (kind == store::RecordKind::kAction) {
        audit_.OnRecordsDamaged();
    }
    TellDamaged(hit.ids, is_tail);
    hits_.push_back({hit.place.path, begin, begin + hit.bytes});
    return true;
}

/// An action becomes one that nobody can read, in a record that is sound: as when a bit turned over
/// before the checksum was made.
bool BitRot::Garble(const std::string& directory) {
    RecordsOfKind records(store::RecordKind::kAction);
    const auto seeds = store::FindSeeds(disk_, directory).value_or({});
    if (seeds.empty() || !store::InspectLog(disk_, directory, records).ok() ||
        records.found.empty()) {
        return false;
    }
    const RecordsOfKind::Found& hit = records.found[random_.Below(records.found.size())];
    constexpr std::size_t kKindAndVersion = 2;
    std::string action = hit.action;
    const std::size_t kept = std::min(action.size(), kKindAndVersion);
    action.replace(kept, std::string::npos, action.size() - kept, '\xff');
    if (broker::DecodeAction(action).status().code() != StatusCode::kDataLoss) {
        return false;
    }
    store::Record record;
    record.header = hit.header;
    record.action = action;
    const std::string bytes = store::EncodeRecord(record, seeds.front().seed);
    if (bytes.size() != hit.bytes ||
        !disk_.Damage(hit.place.path, hit.place.file_offset, bytes).ok()) {
        return false;
    }
    audit_.OnRecordsDamaged();
    hits_.push_back({hit.place.path, hit.place.file_offset, hit.place.file_offset + hit.bytes});
    return true;
}

/// A producer has guessed where its message would come to lie, and wrote a record of the log for
/// that place into its body; then the record around it is damaged. The forged one sets the group
/// that reads it back to the beginning.
bool BitRot::Forge(const std::string& directory) {
    RecordsOfKind records(store::RecordKind::kMessages);
    if (!store::InspectLog(disk_, directory, records).ok()) {
        return false;
    }
    std::string action;
    for (std::size_t i = records.found.size(); i > records.found.size() * 3 / 4; --i) {
        const RecordsOfKind::Found& hit = records.found[i - 1];
        broker::Encode(broker::GroupPlaced{{hit.subject, "ticketing"}, 0, true}, action);
        store::Record forged;
        forged.header.kind = store::RecordKind::kAction;
        forged.header.incarnation = hit.header.incarnation;
        forged.action = action;
        const std::uint64_t bytes = store::EncodedBytes(forged);
        if (hit.batch_bytes < bytes + 64) {
            continue;
        }
        // Records lie at multiples of 8, and the end of this one is in its batch.
        const std::uint64_t before = (hit.bytes - bytes - 16) / 8 * 8;
        forged.header.offset = hit.header.offset + before;
        const std::uint64_t begin = hit.place.file_offset;
        const bool is_tail = IsTail(disk_, directory, records, hit);
        if (!disk_
                 .Damage(
                     hit.place.path, begin + before, store::EncodeRecord(forged, store::LogSeed{}))
                 .ok()) {
            return false;
        }
        TellDamaged(hit.ids, is_tail);
        hits_.push_back({hit.place.path, begin, begin + hit.bytes});
        return true;
    }
    return false;
}

void BitRot::TellDamaged(const std::vector<std::string>& ids, bool is_tail) {
    for (const std::string& id : ids) {
        if (is_tail) {
            audit_.OnTailDamaged(id, last_refusal_);
        } else {
            audit_.OnDamaged(id);
        }
    }
}

bool BitRot::HitFile(const std::string& directory,
                     std::string_view suffix,
                     std::size_t least_files) {
    std::vector<std::string> names = disk_.List(directory).value_or({});
    // What it hit before is no file that a start could fall back on.
    std::erase_if(names, [&](const std::string& name) {
        return !name.ends_with(suffix) ||
               std::any_of(hits_.begin(), hits_.end(), [&](const Hit& hit) {
                   return hit.path == directory + "/" + name;
               });
    });
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
