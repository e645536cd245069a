#include "tests/unit/house/arrow_check.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

namespace qmq::house {
namespace {

std::vector<std::string> Words(std::string_view text) {
    std::istringstream in{std::string(text)};
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);
    return words;
}

bool LiesIn(std::string_view path, std::string_view folder) {
    return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

bool Matches(std::string_view header, std::string_view pattern) {
    if (pattern == "*") return true;
    if (pattern.starts_with('*')) return header.ends_with(pattern.substr(1));
    return header.starts_with(pattern);
}

/// The system's headers, that `posix` in the table stands for.
bool IsPosix(std::string_view header) {
    static constexpr std::array kNames{"dirent.h",
                                       "dlfcn.h",
                                       "fcntl.h",
                                       "netdb.h",
                                       "poll.h",
                                       "pthread.h",
                                       "pwd.h",
                                       "sched.h",
                                       "spawn.h",
                                       "termios.h",
                                       "unistd.h",
                                       "cpuid.h"};
    static constexpr std::array kFolders{"sys/", "net/", "netinet/", "arpa/", "linux/"};
    return std::ranges::find(kNames, header) != kNames.end() ||
           std::ranges::any_of(kFolders, [&](const char* f) { return header.starts_with(f); });
}

/// The standard library's headers, C's among them, and the compiler's own for its instructions.
bool IsStandard(std::string_view header) {
    static constexpr std::array kCompiler{
        "immintrin.h", "nmmintrin.h", "wmmintrin.h", "x86intrin.h", "arm_acle.h"};
    static constexpr std::array kC{"assert.h",
                                   "ctype.h",
                                   "errno.h",
                                   "inttypes.h",
                                   "limits.h",
                                   "math.h",
                                   "signal.h",
                                   "stddef.h",
                                   "stdint.h",
                                   "stdio.h",
                                   "stdlib.h",
                                   "string.h",
                                   "time.h"};
    if (header.find('/') != std::string_view::npos) return false;
    return header.find('.') == std::string_view::npos ||
           std::ranges::find(kCompiler, header) != kCompiler.end() ||
           std::ranges::find(kC, header) != kC.end();
}

bool HasName(std::string_view code, std::string_view name) {
    const auto continues = [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == ':';
    };
    for (std::size_t at = code.find(name); at != std::string_view::npos;
         at = code.find(name, at + 1)) {
        const std::size_t end = at + name.size();
        if (end == code.size() || !continues(code[end])) return true;
    }
    return false;
}

struct Include {
    int line = 0;
    std::string header;
    bool quoted = false;
};

/// What stands between the quotes or brackets of an include; empty for a macro, which we cannot
/// read.
std::optional<Include> ParseInclude(std::string_view line) {
    const auto skip_blanks = [&] {
        while (!line.empty() && (line[0] == ' ' || line[0] == '\t')) line.remove_prefix(1);
    };
    skip_blanks();
    if (!line.starts_with('#')) return std::nullopt;
    line.remove_prefix(1);
    skip_blanks();
    if (!line.starts_with("include")) return std::nullopt;
    line.remove_prefix(std::string_view("include").size());
    skip_blanks();
    Include include;
    if (line.empty()) return include;
    include.quoted = line[0] == '"';
    if (!include.quoted && line[0] != '<') return include;
    const std::size_t end = line.find(include.quoted ? '"' : '>', 1);
    if (end != std::string_view::npos) include.header = line.substr(1, end - 1);
    return include;
}

std::vector<Include> IncludesOf(const std::string& text) {
    std::vector<Include> includes;
    std::istringstream in(text);
    int number = 0;
    for (std::string line; std::getline(in, line);) {
        ++number;
        if (auto include = ParseInclude(line)) {
            include->line = number;
            includes.push_back(*include);
        }
    }
    return includes;
}

bool IsCMake(std::string_view path) {
    return path.ends_with("CMakeLists.txt");
}

/// The walk over one tree: what each file may see, and what it does see.
class Checker {
public:
    Checker(const Arrows& arrows, const SourceTree& tree) : arrows_(arrows), tree_(tree) {
        for (const auto& [name, component] : arrows.components()) {
            const std::string include = component.folder + "/include";
            const auto it = tree.lower_bound(include + "/");
            if (it != tree.end() && LiesIn(it->first, include)) include_folders_[name] = include;
        }
    }

    std::vector<std::string> Run() {
        for (const auto& [path, text] : tree_) {
            if (IsCMake(path))
                CheckLinks(path, text);
            else
                CheckIncludes(path, text);
        }
        return std::move(broken_);
    }

private:
    void CheckIncludes(const std::string& path, const std::string& text) {
        if (arrows_.IsFree(path)) return;
        const Component* owner = arrows_.OwnerOf(path);
        if (owner == nullptr) {
            broken_.push_back(path + ": lies in no component; add its folder to arrows.txt");
            return;
        }
        CheckWords(*owner, path, text);
        for (const Include& include : IncludesOf(text)) {
            if (const std::string why = WhyNot(*owner, path, include); !why.empty())
                broken_.push_back(path + ":" + std::to_string(include.line) + ": " + why);
        }
    }

    /// Names such as `std::thread`, as a whole word outside comments: `std::thread::id` is another.
    void CheckWords(const Component& owner, const std::string& path, const std::string& text) {
        std::istringstream in(text);
        int number = 0;
        for (std::string line; std::getline(in, line);) {
            ++number;
            const std::string_view code = std::string_view(line).substr(0, line.find("//"));
            for (const std::string& word : owner.never) {
                if (word.find("::") != std::string::npos && HasName(code, word))
                    broken_.push_back(path + ":" + std::to_string(number) + ": " + owner.name +
                                      " must not use " + word);
            }
        }
    }

    std::string WhyNot(const Component& owner, const std::string& path, const Include& include) {
        if (include.header.empty()) return "an include that names no header cannot be checked";
        if (owner.never.contains(include.header))
            return owner.name + " must not include <" + include.header + ">";
        const std::optional<std::string> file = Find(path, include);
        if (file) return WhyNotFile(owner, *file);
        if (include.header.starts_with("qmq/"))
            return "\"" + include.header + "\" is in no component's include/";
        return WhyNotLibrary(owner, include.header);
    }

    std::string WhyNotFile(const Component& owner, const std::string& file) {
        const Component* target = arrows_.OwnerOf(file);
        if (target == &owner) return "";
        if (target == nullptr)
            return arrows_.IsFree(file) ? owner.name + " must not include " + file
                                        : file + " lies in no component";
        if (!owner.may_use_all && !owner.allowed.contains(target->name))
            return owner.name + " must not include " + file + ", which belongs to " + target->name;
        const auto public_folder = include_folders_.find(target->name);
        if (public_folder != include_folders_.end() && !LiesIn(file, public_folder->second) &&
            !file.ends_with(".proto"))
            return file + " is private to " + target->name;
        return "";
    }

    static std::string WhyNotLibrary(const Component& owner, const std::string& header) {
        if (IsStandard(header)) return "";
        for (const std::string& library : owner.libraries) {
            if (library == "posix" ? IsPosix(header) : Matches(header, library)) return "";
        }
        return owner.name + " must not include <" + header + ">: no library of its line has it";
    }

    /// The file of the tree that an include means: beside the includer, from the top, or in an
    /// include/. A generated header below a component's folder counts as that component's.
    std::optional<std::string> Find(const std::string& path, const Include& include) {
        if (include.quoted) {
            const std::string beside =
                (std::filesystem::path(path).parent_path() / include.header).lexically_normal();
            if (Exists(beside)) return beside;
        }
        if (auto proto = FindProto(include.header)) return proto;
        for (const auto& [name, folder] : include_folders_) {
            const std::string file = folder + "/" + include.header;
            if (Exists(file)) return file;
        }
        if (Exists(include.header) || arrows_.OwnerOf(include.header) != nullptr)
            return include.header;
        return std::nullopt;
    }

    /// "qmq/v1/x.grpc.pb.h" is made from the one file that ends in "/qmq/v1/x.proto".
    std::optional<std::string> FindProto(std::string_view header) const {
        for (const std::string_view ending : {".grpc.pb.h", ".pb.h"}) {
            if (!header.ends_with(ending)) continue;
            header.remove_suffix(ending.size());
            const std::string proto = "/" + std::string(header) + ".proto";
            for (const auto& [path, text] : tree_) {
                if (path.ends_with(proto)) return path;
            }
        }
        return std::nullopt;
    }

    bool Exists(const std::string& path) const {
        return tree_.contains(path) || tree_.contains(path + ".in");
    }

    /// Every `qmq::name` between the parentheses of `qmq_component(name …)` is a link of that
    /// component.
    void CheckLinks(const std::string& path, const std::string& text) {
        static constexpr std::string_view kCall = "qmq_component(";
        for (std::size_t at = text.find(kCall); at != std::string::npos;
             at = text.find(kCall, at + 1)) {
            const std::size_t begin = at + kCall.size();
            const auto words = Words(text.substr(begin, text.find(')', begin) - begin));
            if (words.empty()) continue;
            const auto owner = arrows_.components().find(words[0]);
            if (owner == arrows_.components().end()) {
                broken_.push_back(path + ": " + words[0] + " is not in arrows.txt");
                continue;
            }
            for (const std::string& word : words) CheckLink(path, owner->second, word);
        }
    }

    void CheckLink(const std::string& path, const Component& owner, const std::string& word) {
        const std::size_t at = word.find("qmq::");
        if (at == std::string::npos || owner.may_use_all) return;
        const std::string target = word.substr(at + 5, word.find('>', at) - (at + 5));
        if (!owner.allowed.contains(target))
            broken_.push_back(path + ": " + owner.name + " must not link qmq::" + target);
    }

    const Arrows& arrows_;
    const SourceTree& tree_;
    std::map<std::string, std::string> include_folders_;
    std::vector<std::string> broken_;
};

bool IsRead(const std::filesystem::path& path) {
    static constexpr std::array kEndings{".h", ".cc", ".hpp", ".cpp", ".ipp", ".inc", ".proto"};
    const bool configured = path.extension() == ".in";
    const std::string ending = (configured ? path.stem() : path).extension().string();
    return path.filename() == "CMakeLists.txt" ||
           std::ranges::find(kEndings, ending) != kEndings.end();
}

bool IsSkipped(const std::filesystem::path& folder) {
    const std::string name = folder.filename().string();
    return name.starts_with('.') || name.starts_with("build") || name == "cmake" || name == "out";
}

}  // namespace

Result<Arrows> Arrows::Parse(std::string_view text) {
    Arrows arrows;
    std::istringstream in{std::string(text)};
    int number = 0;
    for (std::string line; std::getline(in, line);) {
        ++number;
        if (Status added = arrows.AddLine(std::string_view(line).substr(0, line.find('#')));
            !added.ok())
            return added.WithContext("line " + std::to_string(number));
    }
    return arrows;
}

Status Arrows::AddLine(std::string_view line) {
    const std::vector<std::string> words = Words(line);
    if (words.empty()) return Status::Ok();
    if (words[0] == "free") {
        free_.insert(free_.end(), words.begin() + 1, words.end());
        return Status::Ok();
    }
    if (words[0] != "never") return AddComponent(line);
    const auto component = words.size() > 1 ? components_.find(words[1]) : components_.end();
    if (component == components_.end())
        return Status::InvalidArgument("'never' needs a component that stands above");
    component->second.never.insert(words.begin() + 2, words.end());
    return Status::Ok();
}

Status Arrows::AddComponent(std::string_view line) {
    const std::size_t arrow = line.find("->");
    const std::size_t bar = line.find('|');
    if (arrow == std::string_view::npos || bar == std::string_view::npos || bar < arrow)
        return Status::InvalidArgument("expected: component folder -> components | libraries");
    const std::vector<std::string> left = Words(line.substr(0, arrow));
    if (left.size() != 2) return Status::InvalidArgument("expected a component and its folder");
    Component component{
        .name = left[0], .folder = left[1], .allowed = {left[0]}, .libraries = {}, .never = {}};
    for (const std::string& word : Words(line.substr(arrow + 2, bar - arrow - 2))) {
        if (word == "*") {
            component.may_use_all = true;
            continue;
        }
        const auto used = components_.find(word);
        if (used == components_.end())
            return Status::InvalidArgument(left[0] + " may use " + word +
                                           ", which does not stand above it");
        component.allowed.insert(used->second.allowed.begin(), used->second.allowed.end());
    }
    component.libraries = Words(line.substr(bar + 1));
    if (!components_.emplace(left[0], std::move(component)).second)
        return Status::InvalidArgument(left[0] + " stands there twice");
    return Status::Ok();
}

const Component* Arrows::OwnerOf(std::string_view path) const {
    const Component* owner = nullptr;
    for (const auto& [name, component] : components_) {
        const bool closer = owner == nullptr || component.folder.size() > owner->folder.size();
        if (closer && LiesIn(path, component.folder)) owner = &component;
    }
    return owner;
}

bool Arrows::IsFree(std::string_view path) const {
    return std::ranges::any_of(free_,
                               [&](const std::string& folder) { return LiesIn(path, folder); });
}

std::vector<std::string> Check(const Arrows& arrows, const SourceTree& tree) {
    return Checker(arrows, tree).Run();
}

Result<SourceTree> ReadTree(const std::string& top) {
    namespace fs = std::filesystem;
    if (!fs::is_directory(top)) return Status::NotFound(top + ": no such folder");
    SourceTree tree;
    for (auto it = fs::recursive_directory_iterator(top); it != fs::recursive_directory_iterator();
         ++it) {
        if (it->is_directory()) {
            if (IsSkipped(it->path())) it.disable_recursion_pending();
            continue;
        }
        if (!IsRead(it->path())) continue;
        std::ifstream in(it->path());
        std::stringstream text;
        text << in.rdbuf();
        tree[fs::relative(it->path(), top).generic_string()] = text.str();
    }
    return tree;
}

}  // namespace qmq::house
