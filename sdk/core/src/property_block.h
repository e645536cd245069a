#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

#include "qmq/message.h"
#include "qmq/status.h"

/// The property block of a message: properties one after another, as they lie in a batch.
namespace qmq::internal {

/// Set by the broker when it sends a message to a retry or dead-letter subject.
inline constexpr std::string_view kLastErrorName = "qmq_lastError";
inline constexpr std::size_t kMaxErrorBytes = 4'096;

/// Whether only the system may set a property of this name.
bool IsReservedName(std::string_view name);

/// Walks a block. Stops, with `malformed()`, at the first property that does not lie in it.
class PropertyReader {
public:
    explicit PropertyReader(std::string_view block) : block_(block) {}

    std::optional<Property> Next();
    /// Where the property that `Next` gave begins and ends.
    std::size_t begin() const { return begin_; }
    std::size_t end() const { return at_; }
    /// Empty, or what is wrong with the property at `end()`.
    std::string_view malformed() const { return malformed_; }

private:
    std::string_view block_;
    std::size_t begin_ = 0;
    std::size_t at_ = 0;
    std::string_view malformed_;
};

/// kInvalidArgument says what is wrong at which byte of the block.
Status CheckProperties(std::string_view block);

/// The last property of that name counts, as in other clients.
std::optional<Property> FindProperty(std::string_view block, std::string_view name);

/// The parts `<name>#part0…` that another client made of a large text, up to the first gap;
/// nothing without a part 0.
std::optional<std::string> JoinParts(std::string_view block, std::string_view name);

void AppendProperty(std::string_view name,
                    PropertyKind kind,
                    std::string_view text,
                    std::string& block);

/// Takes out what `name` has: the property, and the parts of a large text.
void EraseProperty(std::string_view name, std::string& block);

/// Which names a large block has, by their hashes: so that setting a new one needs no walk through
/// all that are there. A small block is walked.
class PropertyNames {
public:
    PropertyNames() = default;
    /// Learned anew when they are needed: most copies never are changed.
    PropertyNames(const PropertyNames& /*other*/) {}
    PropertyNames& operator=(const PropertyNames&) = delete;

    /// Whether `EraseProperty(name)` could find anything in `block`. Learns the names of `block`
    /// when it has become large; from then on it is told of every change.
    bool MayHave(std::string_view name, std::string_view block) {
        return hashes_ == nullptr && block.size() < kLarge ? !block.empty() : Look(name, block);
    }
    void Add(std::string_view name) {
        if (hashes_ != nullptr) {
            AddKnown(name);
        }
    }
    void Remove(std::string_view name);

private:
    static constexpr std::size_t kLarge = 1'024;

    bool Look(std::string_view name, std::string_view block);
    void AddKnown(std::string_view name);

    std::unique_ptr<std::unordered_set<std::size_t>> hashes_;  // Null: not known.
};

}  // namespace qmq::internal
