#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "qmq/client.h"

namespace qmq::testing {

/// Prints the verdict "FAIL NAME: why" and ends the process, whatever still runs in it.
[[noreturn]] void Die(const std::string& why);
/// `Die` kills this process too: the server, which nothing else ends then.
void DieTogetherWith(pid_t pid);
/// What `Die` calls the test. "crash" unless set.
void SetTestName(std::string name);

/// A client for a broker that is killed again and again: it comes back fast, and says nothing of
/// lost connections, which are the point.
ClientOptions PatientClient(const std::string& uri, const std::string& name);

/// The body of every message is known from its id, so that a process that did not send it can tell
/// whether it is whole. Those of "probe-…" are large.
std::string BodyOf(std::string_view id);

/// The same number in every process.
std::uint64_t HashOf(std::string_view text);

/// Microseconds of the steady clock, which all processes of a machine share.
std::int64_t NowUs();

/// Lets the faults be spread over time: their moments are what is random here.
void Pause(std::chrono::milliseconds time);

}  // namespace qmq::testing
