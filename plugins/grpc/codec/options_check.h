#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "qmq/status.h"

/// What the options of both halves are checked and read with.
namespace qmq::rpc {

/// Gathers every problem, so that a configuration is put right in one go.
class OptionProblems {
public:
    /// `what` is the name of the struct, and lives as long.
    explicit OptionProblems(const char* what) : what_(what) {}

    void Add(const std::string& problem);
    void Range(const char* field, std::int64_t value, std::int64_t low, std::int64_t high);
    Status Done() const;

private:
    const char* const what_;
    std::string text_;
};

/// Reads the file at `path` into `text`; an empty path leaves `text` alone. kInvalidArgument names
/// `option` and the path, never what is in the file.
Status ReadInto(const std::string& path, const char* option, std::string* text);

/// Takes the line end off a token that came from a file.
void TrimToken(std::string* token);
/// kInvalidArgument when it cannot travel in a header.
Status CheckToken(std::string_view token);

}  // namespace qmq::rpc
