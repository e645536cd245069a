#include "plugins/grpc/codec/options_check.h"

#include <fstream>
#include <sstream>

namespace qmq::rpc {

void OptionProblems::Add(const std::string& problem) {
    text_ += (text_.empty() ? "" : "; ") + problem;
}

void OptionProblems::Range(const char* field,
                           std::int64_t value,
                           std::int64_t low,
                           std::int64_t high) {
    if (value < low || value > high) {
        Add(std::string(field) + " is " + std::to_string(value) + ", range [" +
            std::to_string(low) + ", " + std::to_string(high) + "]");
    }
}

Status OptionProblems::Done() const {
    return text_.empty() ? Status::Ok()
                         : Status::InvalidArgument(std::string(what_) + ": " + text_);
}

Status ReadInto(const std::string& path, const char* option, std::string* text) {
    if (path.empty()) {
        return Status::Ok();
    }
    std::ifstream file(path, std::ios::binary);
    std::ostringstream read;
    read << file.rdbuf();  // An iterator would throw where this only fails, as for a directory.
    if (!file || !read) {
        return Status::InvalidArgument(std::string(option) + " \"" + path +
                                       "\" cannot be read or is empty");
    }
    *text = std::move(read).str();
    return Status::Ok();
}

void TrimToken(std::string* token) {
    while (!token->empty() && (token->back() == '\n' || token->back() == '\r')) {
        token->pop_back();
    }
}

Status CheckToken(std::string_view token) {
    for (const char c : token) {
        if (c <= ' ' || c > '~') {
            return Status::InvalidArgument(
                "the token contains a character that is not printable ASCII");
        }
    }
    return Status::Ok();
}

}  // namespace qmq::rpc
