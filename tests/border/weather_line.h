#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "qmq/transport.h"

#include "tests/border/weather_calls.h"

namespace qmq::border {

/// What is said when nobody can be reached.
Status Away();

/// The stream of one consumer over a line.
struct StreamLine {
    std::mutex mutex;
    std::shared_ptr<DeliveryStream> stream;  // guarded by mutex; null: lost.

    std::shared_ptr<DeliveryStream> get();
    void Lose();
};

/// The part of a connection that is lost by a cut: shared by the client's handles and the weather.
struct Line {
    std::mutex mutex;
    std::shared_ptr<BrokerConnection> connection;    // guarded by mutex; null: lost.
    std::vector<std::weak_ptr<StreamLine>> streams;  // guarded by mutex

    std::shared_ptr<BrokerConnection> get();
    void Lose();
};

/// `to`, as `calls` lets it through.
std::shared_ptr<ConnectionListener> ListenThrough(std::shared_ptr<Calls> calls,
                                                  std::shared_ptr<ConnectionListener> to);
/// What the client holds: it goes over `line` while there is one.
std::unique_ptr<BrokerConnection> ConnectThrough(std::shared_ptr<Calls> calls,
                                                 std::shared_ptr<Line> line);

}  // namespace qmq::border
