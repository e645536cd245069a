#include "server/store/snapshot_file.h"

#include <utility>

#include "qmq/crc32c.h"

#include "server/env/planted_bug.h"
#include "server/store/bytes.h"

namespace qmq::store {
namespace {

constexpr std::string_view kMagic = "QMQSNAP2";
constexpr std::size_t kCrcAt = 8;
constexpr std::size_t kAfterCrc = 12;

/// False when they are not ascending, or not below the next sequence.
bool TakeGaps(ByteReader& reader, std::uint32_t count, Snapshot::Subject& subject) {
    std::uint64_t least = 0;
    for (std::uint32_t i = 0; i < count && reader.ok(); ++i) {
        SubjectLog::Gap gap;
        gap.begin = reader.Take<std::uint64_t>();
        gap.end = reader.Take<std::uint64_t>();
        if (gap.begin < least || gap.end <= gap.begin || gap.end > subject.next_sequence) {
            return false;
        }
        least = gap.end;
        subject.gaps.push_back(gap);
    }
    return true;
}

}  // namespace

std::string EncodeSnapshot(const Snapshot& snapshot) {
    std::string out(kMagic);
    Put(out, std::uint32_t{0});  // The checksum.
    Put(out, snapshot.incarnation);
    Put(out, snapshot.position);
    Put(out, snapshot.sequence_floor);
    Put(out, static_cast<std::uint32_t>(snapshot.seed));
    Put(out, static_cast<std::uint32_t>(snapshot.clock.credits.size()));
    Put(out, std::int64_t{snapshot.clock.running.count()});
    Put(out, std::int64_t{snapshot.clock.date.time_since_epoch().count()});
    Put(out, std::int64_t{snapshot.clock.known.value_or(RunningTime{}).count()});
    Put(out, snapshot.clock.pending_from);
    Put(out, static_cast<std::uint64_t>(snapshot.subjects.size()));
    Put(out, static_cast<std::uint64_t>(snapshot.state.size()));
    for (const ClockCredit& credit : snapshot.clock.credits) {
        Put(out, credit.below);
        Put(out, std::int64_t{credit.time.count()});
    }
    for (const Snapshot::Subject& subject : snapshot.subjects) {
        Put(out, subject.first_sequence);
        Put(out, subject.next_sequence);
        Put(out, static_cast<std::uint32_t>(subject.name.size()));
        Put(out, static_cast<std::uint32_t>(subject.gaps.size()));
        out.append(subject.name);
        PutPadding(out);
        for (const SubjectLog::Gap& gap : subject.gaps) {
            Put(out, gap.begin);
            Put(out, gap.end);
        }
    }
    out.append(snapshot.state);
    Store(out.data() + kCrcAt, Crc32c(std::string_view(out).substr(kAfterCrc)));
    return out;
}

Result<Snapshot> ParseSnapshot(std::string_view bytes) {
    ByteReader reader(bytes);
    if (reader.Bytes(kMagic.size()) != kMagic) {
        return Status::DataLoss("it does not begin with " + std::string(kMagic));
    }
    const auto crc = reader.Take<std::uint32_t>();
    if (!reader.ok() ||
        (crc != Crc32c(bytes.substr(kAfterCrc)) && !env::Planted(env::PlantedBug::kSkipChecksum))) {
        return Status::DataLoss("its checksum differs");
    }
    Snapshot snapshot;
    snapshot.incarnation = reader.Take<std::uint32_t>();
    snapshot.position = reader.Take<std::uint64_t>();
    snapshot.sequence_floor = reader.Take<std::uint64_t>();
    snapshot.seed = LogSeed(reader.Take<std::uint32_t>());
    const auto credits = reader.Take<std::uint32_t>();
    snapshot.clock.running = RunningTime(reader.Take<std::int64_t>());
    snapshot.clock.date = WallTime(std::chrono::milliseconds(reader.Take<std::int64_t>()));
    snapshot.clock.known = std::chrono::milliseconds(reader.Take<std::int64_t>());
    snapshot.clock.pending_from = reader.Take<std::uint64_t>();
    const auto subjects = reader.Take<std::uint64_t>();
    const auto state_bytes = reader.Take<std::uint64_t>();
    if (credits > LogClock::kMostCredits) {
        return Status::DataLoss("it has " + std::to_string(credits) + " credits of time");
    }
    for (std::uint32_t i = 0; i < credits && reader.ok(); ++i) {
        const auto below = reader.Take<std::uint64_t>();
        snapshot.clock.credits.push_back(
            {below, std::chrono::microseconds(reader.Take<std::int64_t>())});
    }
    for (std::uint64_t i = 0; i < subjects && reader.ok(); ++i) {
        Snapshot::Subject subject;
        subject.first_sequence = reader.Take<std::uint64_t>();
        subject.next_sequence = reader.Take<std::uint64_t>();
        const auto name_bytes = reader.Take<std::uint32_t>();
        const auto gaps = reader.Take<std::uint32_t>();
        subject.name = reader.Bytes(name_bytes);
        reader.Align();
        if (gaps > SubjectLog::kMostGaps || !TakeGaps(reader, gaps, subject)) {
            return Status::DataLoss("the gaps of subject \"" + subject.name + "\" make no sense");
        }
        snapshot.subjects.push_back(std::move(subject));
    }
    snapshot.state = reader.Bytes(state_bytes);
    if (!reader.ok() || reader.left() != 0 || snapshot.position % kAlignment != 0) {
        return Status::DataLoss("its parts do not fill it");
    }
    return snapshot;
}

}  // namespace qmq::store
