#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "tests/support/audit_story.h"

/// Which delivery of a message follows which. A part of the audit.
namespace qmq::testing {

/// Of so many hand-outs that no handler saw, those that have used up an attempt each.
inline std::uint64_t Counted(std::uint64_t unseen) {
    constexpr std::uint64_t kFreeDeaths = 2;  // Of a consumer, for each message that it held.
    return unseen > kFreeDeaths ? unseen - kFreeDeaths : 0;
}

/// The deliveries of a message to a group as trees, one for each copy that its producer stored:
/// each delivery follows the one that it repeats. It has one follower, but where a power cut took
/// the records between a copy and its retry, so that both go on.
class StoryTree {
public:
    /// Which of two copies has led to a retry, where both fit alike: nobody says it.
    enum class Reading : std::uint8_t { kNewest, kOldest, kNewestDue, kOldestDue };
    static constexpr std::array kReadings{
        Reading::kNewest, Reading::kOldest, Reading::kNewestDue, Reading::kOldestDue};
    static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
    struct Node {
        const Step* step = nullptr;
        std::size_t parent = kNone;
        std::size_t follower = kNone;  // The first.
        bool is_fork = false;
    };

    /// `choices`: which of the deliveries that a copy may follow it does follow, for each time that
    /// there are several; the first one where nothing is said. What is handed in must outlive it.
    StoryTree(const Story& story,
              const StoryRules& rules,
              const History& history,
              Reading reading,
              std::vector<std::size_t> choices = {});

    /// In the order of the deliveries.
    const std::vector<Node>& nodes() const { return nodes_; }
    /// The copies of which the trees are.
    std::size_t CountCopies() const;
    /// The choices of the next reading. False: this was the last one.
    bool NextChoices(std::vector<std::size_t>& choices) const;

    /// Whether a power cut before the next delivery, which had seen `cut_count` of them by `when`,
    /// may have made the system forget how the delivery of `node` ended.
    /// `follower`: what it led to, where it is not in its place yet.
    bool IsForgiven(const Node& node,
                    std::size_t cut_count,
                    TimePoint when,
                    const Step* follower = nullptr) const;
    bool IsForgiven(const Node& node, const Step& now) const;
    /// Whether that of `now` may follow `node` beside another one.
    bool MayFork(const Node& node, const Step& now) const;

private:
    bool IsEndedAgain(const Node& node, const Step& now) const;
    void Place(const Step& step);
    std::size_t LastOfSameCopy(const Step& step) const;
    std::vector<std::size_t> OthersOfSameSequence(std::size_t same, const Step& now) const;
    std::size_t BestParent(const Step& step);
    bool HasRoom() const;
    std::size_t Choose(const std::vector<std::size_t>& fitting);
    std::vector<std::size_t> OthersThatFit(std::size_t best, TimePoint made, const Step& now) const;
    bool MayBeMoved(const Step& now) const;
    bool FitsBetter(const Node& node, const Node& other, const Step& now) const;
    unsigned Misfit(const Node& node, const Step& now) const;
    bool ComesAgainItself(const Node& node, const Step& now) const;

    const Story& story_;
    const StoryRules& rules_;
    const History& history_;
    const Reading reading_;
    const std::vector<std::size_t> choices_;
    std::vector<std::size_t> choice_counts_;  // How many there were each time.
    std::vector<Node> nodes_;
};

}  // namespace qmq::testing
