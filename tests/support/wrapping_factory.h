#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qmq/transport.h"

namespace qmq::testing {

/// Makes what another factory makes, and wraps it.
class WrappingFactory final : public TransportFactory {
public:
    using Wrap = std::function<std::unique_ptr<Transport>(std::unique_ptr<Transport>)>;

    WrappingFactory(std::shared_ptr<TransportFactory> inner, Wrap wrap)
        : inner_(std::move(inner)), wrap_(std::move(wrap)) {}
    std::vector<std::string> Schemes() const override { return inner_->Schemes(); }
    Result<std::unique_ptr<Transport>> Make(const std::string& uri,
                                            const TransportContext& context) override {
        Result<std::unique_ptr<Transport>> made = inner_->Make(uri, context);
        if (!made.ok()) {
            return made;
        }
        return wrap_(*std::move(made));
    }

private:
    const std::shared_ptr<TransportFactory> inner_;
    const Wrap wrap_;
};

}  // namespace qmq::testing
