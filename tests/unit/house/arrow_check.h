#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/status.h"

namespace qmq::house {

/// A tree of source files: path from the repository's top, with `/`, to the text.
using SourceTree = std::map<std::string, std::string>;

/// One line of arrows.txt.
struct Component {
    std::string name;
    std::string folder;
    /// Every component that this one may use, itself included, with what those may use.
    std::set<std::string> allowed;
    std::vector<std::string> libraries;
    std::set<std::string> never;
    bool may_use_all = false;
};

/// The rules of arrows.txt.
class Arrows {
public:
    /// kInvalidArgument with the line number when `text` is not such a table.
    static Result<Arrows> Parse(std::string_view text);

    const std::map<std::string, Component>& components() const { return components_; }

    /// The component whose folder `path` lies in, or null.
    const Component* OwnerOf(std::string_view path) const;
    bool IsFree(std::string_view path) const;

private:
    Status AddLine(std::string_view line);
    Status AddComponent(std::string_view line);

    std::map<std::string, Component> components_;
    std::vector<std::string> free_;
};

/// Holds `tree` against `arrows`. One sentence for each include, link or file that breaks them,
/// with the file and the line, in order of path; none when all is well.
std::vector<std::string> Check(const Arrows& arrows, const SourceTree& tree);

/// Reads the C++ and CMake files below `top`; folders named build* and those that begin with a dot
/// are left out. kNotFound when there is no such folder.
Result<SourceTree> ReadTree(const std::string& top);

}  // namespace qmq::house
