#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "qmq/clock.h"
#include "qmq/function.h"
#include "qmq/status.h"

#include "server/env/file_system.h"
#include "server/store/background.h"
#include "server/store/segments.h"

namespace qmq::store {

/// Makes the files of segments; nobody else does.
///
/// A file is made under a temporary name that no other has, its room is reserved there, and only
/// `Take` gives it the name of a segment. So a segment's file is never short, nobody removes what
/// another has made, and what was made ahead of time serves whichever segment comes next.
///
/// Used from the strand; what may block and need not be waited for runs on `background`.
class SegmentFactory {
public:
    using Done = UniqueFunction<void()>;

    SegmentFactory(const Segments& segments, const Clock& clock, Background& background)
        : segments_(segments), clock_(clock), background_(background) {}

    /// Makes a file in the background, so that `Take` need not wait for one. Does nothing when
    /// there is one, or when the last attempt has failed just now; else `done` is called.
    void MakeAhead(std::uint32_t number, Done done);

    /// The file of segment `number`, all zeros, under its name. The folder is to be synced with the
    /// first record. An attempt that finds no room is answered again for `kRefusesFor`.
    Result<std::shared_ptr<env::File>> Take(std::uint32_t number);

    /// Segment `number` is not begun after all; its file has its name already.
    void PutBack(std::uint32_t number, std::shared_ptr<env::File> file);

    /// Removes what was made ahead, in the background; then `done`.
    void DropSpare(Done done);

private:
    static constexpr std::chrono::milliseconds kRefusesFor{10};
    static constexpr std::chrono::seconds kRestsAfterFailure{1};

    struct Made {
        std::uint32_t number = 0;  ///< Only the planted bug makes it for one in particular.
        std::string path;
        std::shared_ptr<env::File> file;
    };
    std::string NextPath(std::uint32_t number);
    Result<std::shared_ptr<env::File>> MakeNamed(std::uint32_t number);

    const Segments& segments_;
    const Clock& clock_;
    Background& background_;
    std::uint64_t made_count_ = 0;
    std::optional<Made> spare_;
    bool is_making_ = false;
    TimePoint rests_until_{};
    Status refusal_;
    TimePoint refuses_until_{};
    std::map<std::uint32_t, std::shared_ptr<env::File>> put_back_;
};

}  // namespace qmq::store
