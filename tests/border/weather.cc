#include "tests/border/weather.h"

#include <utility>

#include "tests/border/weather_line.h"

namespace qmq::border {

/// What the weather knows of one client's transport.
class StormyTransport {
public:
    StormyTransport(std::shared_ptr<Weather> weather, std::string uri, TransportContext context)
        : weather_(std::move(weather)), uri_(std::move(uri)), context_(std::move(context)) {}

    Status Open() {
        const std::lock_guard making(making_);
        if (closed_) {
            return Away();
        }
        Result<std::unique_ptr<Transport>> made = weather_->MakeInner(uri_, context_);
        if (!made.ok()) {
            return made.status();
        }
        const std::lock_guard lock(mutex_);
        inner_ = std::move(*made);
        return Status::Ok();
    }

    /// The client goes, and `context_` with it. `calls_` first: what comes after is passed on at
    /// once.
    void Close() {
        calls_->Close();
        const std::lock_guard making(making_);
        closed_ = true;
        CloseInner();
    }

    void Restart() {
        const std::lock_guard making(making_);
        if (!closed_) {
            CloseInner();
        }
    }

    void Cut() {
        for (const auto& line : TakeLines()) {
            line->Lose();
        }
    }

    void Discover(DiscoverRequest request,
                  TimePoint deadline,
                  UniqueFunction<void(Result<Route>)> done) {
        if (const auto inner = get()) {
            return inner->Discover(
                std::move(request),
                deadline,
                [calls = calls_, done = std::move(done)](Result<Route> route) mutable {
                    calls->Deliver([done = std::move(done), route = std::move(route)]() mutable {
                        done(std::move(route));
                    });
                });
        }
        calls_->Deliver([done = std::move(done)]() mutable { done(Away()); });
    }

    std::unique_ptr<BrokerConnection> Connect(const BrokerGroup& group,
                                              std::shared_ptr<ConnectionListener> listener) {
        auto line = std::make_shared<Line>();
        auto stormy = ListenThrough(calls_, std::move(listener));
        if (const auto inner = get()) {
            {
                const std::lock_guard lock(mutex_);
                std::erase_if(lines_, [](const auto& weak) { return weak.expired(); });
                lines_.push_back(line);
            }
            std::shared_ptr<BrokerConnection> connection = inner->Connect(group, std::move(stormy));
            const std::lock_guard lock(line->mutex);
            line->connection = std::move(connection);
        } else {
            stormy->OnClosed(Away());
        }
        return ConnectThrough(calls_, std::move(line));
    }

    Calls& calls() { return *calls_; }

private:
    void CloseInner() {
        std::shared_ptr<Transport> inner;
        {
            const std::lock_guard lock(mutex_);
            inner.swap(inner_);
        }
        Cut();
    }
    std::shared_ptr<Transport> get() {
        const std::lock_guard lock(mutex_);
        return inner_;
    }
    std::vector<std::shared_ptr<Line>> TakeLines() {
        std::vector<std::shared_ptr<Line>> lines;
        const std::lock_guard lock(mutex_);
        for (const auto& weak : lines_) {
            if (auto line = weak.lock()) {
                lines.push_back(std::move(line));
            }
        }
        return lines;
    }

    const std::shared_ptr<Weather> weather_;
    const std::string uri_;
    const TransportContext context_;
    const std::shared_ptr<Calls> calls_ = std::make_shared<Calls>();
    /// Nothing is made below a client that has gone. Recursive, as what a restart cuts may call the
    /// application, which may end the client.
    std::recursive_mutex making_;
    bool closed_ = false;  // guarded by making_
    std::mutex mutex_;
    std::shared_ptr<Transport> inner_;        // guarded by mutex_; null while there is none.
    std::vector<std::weak_ptr<Line>> lines_;  // guarded by mutex_
};

namespace {

/// What the client holds.
class TransportHandle final : public Transport {
public:
    explicit TransportHandle(std::shared_ptr<StormyTransport> to) : to_(std::move(to)) {}
    ~TransportHandle() override { to_->Close(); }
    void Discover(DiscoverRequest request,
                  TimePoint deadline,
                  UniqueFunction<void(Result<Route>)> done) override {
        to_->Discover(std::move(request), deadline, std::move(done));
    }
    std::unique_ptr<BrokerConnection> Connect(
        const BrokerGroup& group, std::shared_ptr<ConnectionListener> listener) override {
        return to_->Connect(group, std::move(listener));
    }

private:
    const std::shared_ptr<StormyTransport> to_;
};

}  // namespace

class StormyFactory final : public TransportFactory {
public:
    explicit StormyFactory(std::shared_ptr<Weather> weather) : weather_(std::move(weather)) {}
    std::vector<std::string> Schemes() const override { return weather_->inner_->Schemes(); }
    Result<std::unique_ptr<Transport>> Make(const std::string& uri,
                                            const TransportContext& context) override {
        auto transport = std::make_shared<StormyTransport>(weather_, uri, context);
        if (Status opened = transport->Open(); !opened.ok()) {
            return opened;
        }
        weather_->Add(transport);
        return std::unique_ptr<Transport>(std::make_unique<TransportHandle>(std::move(transport)));
    }

private:
    const std::shared_ptr<Weather> weather_;
};

std::shared_ptr<TransportFactory> Weather::factory() {
    return std::make_shared<StormyFactory>(shared_from_this());
}

Result<std::unique_ptr<Transport>> Weather::MakeInner(const std::string& uri,
                                                      const TransportContext& context) {
    return inner_->Make(uri, context);
}

void Weather::Add(const std::shared_ptr<StormyTransport>& transport) {
    bool hanging = false;
    {
        const std::lock_guard lock(mutex_);
        std::erase_if(transports_, [](const auto& weak) { return weak.expired(); });
        transports_.push_back(transport);
        hanging = hanging_;
    }
    if (hanging) {
        transport->calls().SetHanging(true);
    }
}

std::vector<std::shared_ptr<StormyTransport>> Weather::transports() {
    std::vector<std::shared_ptr<StormyTransport>> living;
    const std::lock_guard lock(mutex_);
    for (const auto& weak : transports_) {
        if (auto transport = weak.lock()) {
            living.push_back(std::move(transport));
        }
    }
    return living;
}

void Weather::Cut() {
    for (const auto& transport : transports()) {
        transport->Cut();
    }
}

void Weather::SetHanging(bool hanging) {
    {
        const std::lock_guard lock(mutex_);
        hanging_ = hanging;
    }
    for (const auto& transport : transports()) {
        transport->calls().SetHanging(hanging);
    }
}

void Weather::Restart() {
    const auto living = transports();
    for (const auto& transport : living) {
        transport->Restart();
    }
    for (const auto& transport : living) {
        (void)transport->Open();  // What fails is away until the next restart.
    }
}

}  // namespace qmq::border
