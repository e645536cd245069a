#include "server/store/file_names.h"

#include <array>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <utility>

namespace qmq::store {
namespace {

constexpr std::size_t kDigits = 20;
constexpr std::array<std::pair<std::string_view, FileKind>, 3> kExtensions{{
    {".log", FileKind::kLog},
    {".index", FileKind::kIndex},
    {".snapshot", FileKind::kSnapshot},
}};
constexpr std::string_view kTemporary = ".tmp";

}  // namespace

std::string FileName(LogOffset offset, FileKind kind) {
    std::array<char, kDigits + 1> digits;
    std::snprintf(digits.data(), digits.size(), "%020" PRIu64, offset);
    std::string name(digits.data());
    for (const auto& [extension, known] : kExtensions) {
        if (known == kind) {
            return name.append(extension);
        }
    }
    return name.append(kTemporary);
}

std::optional<NamedFile> ParseFileName(std::string_view name) {
    if (name.ends_with(kTemporary)) {
        return NamedFile{0, FileKind::kTemporary};
    }
    if (name.size() <= kDigits) {
        return std::nullopt;
    }
    NamedFile file;
    const char* const end = name.data() + kDigits;
    const auto parsed = std::from_chars(name.data(), end, file.offset);
    if (parsed.ec != std::errc() || parsed.ptr != end) {
        return std::nullopt;
    }
    for (const auto& [extension, kind] : kExtensions) {
        if (name.substr(kDigits) == extension) {
            file.kind = kind;
            return file;
        }
    }
    return std::nullopt;
}

}  // namespace qmq::store
