#include "server/store/snapshot_file.h"

#include <utility>

#include "qmq/crc32c.h"

#include "server/env/planted_bug.h"
#include "server/store/bytes.h"

namespace qmq::store {
namespace {

constexpr std::string_view kMagic = "QMQSNAP1";
constexpr std::size_t kCrcAt = 8;
constexpr std::size_t kAfterCrc = 12;

}  // namespace

std::string EncodeSnapshot(const Snapshot& snapshot) {
    std::string out(kMagic);
    Put(out, std::uint32_t{0});  // The checksum.
    Put(out, snapshot.incarnation);
    Put(out, snapshot.position);
    Put(out, snapshot.sequence_floor);
    Put(out, static_cast<std::uint64_t>(snapshot.subjects.size()));
    Put(out, static_cast<std::uint64_t>(snapshot.state.size()));
    for (const Snapshot::Subject& subject : snapshot.subjects) {
        Put(out, subject.first_sequence);
        Put(out, subject.next_sequence);
        Put(out, static_cast<std::uint64_t>(subject.name.size()));
        out.append(subject.name);
        PutPadding(out);
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
    const auto subjects = reader.Take<std::uint64_t>();
    const auto state_bytes = reader.Take<std::uint64_t>();
    for (std::uint64_t i = 0; i < subjects && reader.ok(); ++i) {
        Snapshot::Subject subject;
        subject.first_sequence = reader.Take<std::uint64_t>();
        subject.next_sequence = reader.Take<std::uint64_t>();
        subject.name = reader.Bytes(reader.Take<std::uint64_t>());
        reader.Align();
        snapshot.subjects.push_back(std::move(subject));
    }
    snapshot.state = reader.Bytes(state_bytes);
    if (!reader.ok() || reader.left() != 0 || snapshot.position % kAlignment != 0) {
        return Status::DataLoss("its parts do not fill it");
    }
    return snapshot;
}

}  // namespace qmq::store
