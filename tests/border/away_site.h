#pragma once

#include <memory>

#include "qmq/client.h"

#include "tests/border/away_case.h"

namespace qmq::border {

/// The broker of a case, and its time.
class Site {
public:
    virtual ~Site() = default;
    /// Uri, transports and runtime.
    virtual void Prepare(ClientOptions& options) = 0;
    /// The broker goes, with its connections.
    virtual void Away() = 0;
    virtual void Back() = 0;
    /// Lets time pass. What runs in it may run on this thread.
    virtual void Pass(std::chrono::milliseconds time) = 0;
    virtual ShutdownReport Shutdown(Client& client, std::chrono::milliseconds timeout) = 0;
};

/// The program `qmq`, over gRPC, and the machine's clock; or a fake and a clock that is told.
std::unique_ptr<Site> MakeRealSite(const CaseOptions& options);
std::unique_ptr<Site> MakeVirtualSite();

}  // namespace qmq::border
