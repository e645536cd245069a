#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "qmq/transport.h"

namespace qmq::border {

class StormyTransport;

/// What stands between clients and a broker, so that any transport can be cut, hung and restarted
/// under them. Thread-safe, but for `Restart` and `SetHanging`, which come from one thread.
class Weather : public std::enable_shared_from_this<Weather> {
public:
    /// `inner` makes the transports below.
    explicit Weather(std::shared_ptr<TransportFactory> inner) : inner_(std::move(inner)) {}

    /// For clients. Keeps the weather alive.
    std::shared_ptr<TransportFactory> factory();

    /// All connections are lost: what is not answered is unknown.
    void Cut();
    /// Nothing comes back any more, until it does again, in the order in which it came.
    void SetHanging(bool hanging);
    /// As `Cut`, and the transports below are closed and made again: where the broker is inside of
    /// this process it goes with them, unless somebody keeps it.
    void Restart();

private:
    friend class StormyFactory;
    friend class StormyTransport;

    Result<std::unique_ptr<Transport>> MakeInner(const std::string& uri,
                                                 const TransportContext& context);
    void Add(const std::shared_ptr<StormyTransport>& transport);
    std::vector<std::shared_ptr<StormyTransport>> transports();

    const std::shared_ptr<TransportFactory> inner_;
    std::mutex mutex_;
    std::vector<std::weak_ptr<StormyTransport>> transports_;  // guarded by mutex_
    bool hanging_ = false;                                    // guarded by mutex_
};

}  // namespace qmq::border
