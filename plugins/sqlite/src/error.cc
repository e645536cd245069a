#include "plugins/sqlite/src/error.h"

#include <string>

namespace qmq::sqlite {

namespace {

constexpr int Primary(int rc) {
    return rc & 0xff;
}

StatusCode CodeOfConstraint(int rc) {
    switch (rc) {
        case SQLITE_CONSTRAINT_UNIQUE:
        case SQLITE_CONSTRAINT_PRIMARYKEY:
        case SQLITE_CONSTRAINT_ROWID:
            return StatusCode::kAlreadyExists;
        default:
            return StatusCode::kFailedPrecondition;
    }
}

StatusCode CodeOf(int rc) {
    if (rc == SQLITE_IOERR_DATA || rc == SQLITE_IOERR_CORRUPTFS) {
        return StatusCode::kDataLoss;
    }
    if (rc == SQLITE_READONLY_DBMOVED) {
        return StatusCode::kUnavailable;
    }
    switch (Primary(rc)) {
        case SQLITE_CONSTRAINT:
            return CodeOfConstraint(rc);
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
        case SQLITE_PROTOCOL:
        case SQLITE_FULL:
        case SQLITE_NOMEM:
        case SQLITE_INTERRUPT:
            return StatusCode::kResourceExhausted;
        case SQLITE_IOERR:
        case SQLITE_CANTOPEN:
            return StatusCode::kUnavailable;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return StatusCode::kDataLoss;
        case SQLITE_READONLY:
        case SQLITE_PERM:
        case SQLITE_AUTH:
            return StatusCode::kPermissionDenied;
        case SQLITE_ERROR:
        case SQLITE_TOOBIG:
        case SQLITE_MISMATCH:
        case SQLITE_RANGE:
        case SQLITE_ABORT:
            return StatusCode::kInvalidArgument;
        default:
            return StatusCode::kInternal;
    }
}

std::string_view Name(int rc) {
    constexpr std::string_view kNames[] = {
        "OK",       "ERROR",    "INTERNAL",  "PERM",   "ABORT",   "BUSY",       "LOCKED",
        "NOMEM",    "READONLY", "INTERRUPT", "IOERR",  "CORRUPT", "NOTFOUND",   "FULL",
        "CANTOPEN", "PROTOCOL", "EMPTY",     "SCHEMA", "TOOBIG",  "CONSTRAINT", "MISMATCH",
        "MISUSE",   "NOLFS",    "AUTH",      "FORMAT", "RANGE",   "NOTADB"};
    const auto index = static_cast<std::size_t>(Primary(rc));
    return index < std::size(kNames) ? kNames[index] : "UNKNOWN";
}

std::string_view Advice(int rc) {
    switch (Primary(rc)) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            return "; another connection holds the lock: roll back and run the transaction again";
        case SQLITE_FULL:
            return "; make room on the disk, then run the transaction again";
        case SQLITE_IOERR:
            return "; look at the disk and the system's log, then use a new connection";
        case SQLITE_CORRUPT:
            return "; restore the file from a backup";
        default:
            return "";
    }
}

}  // namespace

Status ToStatus(int rc, sqlite3* handle, std::string_view what) {
    // The handle's text belongs to `rc` only if no other call came between.
    const bool current =
        handle != nullptr && Primary(sqlite3_extended_errcode(handle)) == Primary(rc);
    std::string message(what);
    message.append(": ").append(current ? sqlite3_errmsg(handle) : sqlite3_errstr(rc));
    message.append(" (SQLITE_").append(Name(rc)).append(" ").append(std::to_string(rc)).append(")");
    message.append(Advice(rc));
    return {CodeOf(rc), std::move(message)};
}

bool Breaks(int rc) {
    return Primary(rc) == SQLITE_IOERR || Primary(rc) == SQLITE_CANTOPEN ||
           Primary(rc) == SQLITE_CORRUPT || Primary(rc) == SQLITE_NOTADB ||
           rc == SQLITE_READONLY_DBMOVED;
}

}  // namespace qmq::sqlite
