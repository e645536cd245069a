#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qmq/filter.h"

#include "tests/unit/client/client_fixture.h"

namespace qmq::testing {

/// Does what the test says, else goes on.
class ScriptFilter final : public Filter {
public:
    using Script = std::function<HandlerOutcome(DeliveryContext&, Next&)>;
    using Settled = std::function<void(DeliveryContext&, const HandlerOutcome&)>;
    explicit ScriptFilter(Script script, Settled settled = nullptr)
        : script_(std::move(script)), settled_(std::move(settled)) {}
    HandlerOutcome Handle(DeliveryContext& context, Next& next) override {
        return script_ ? script_(context, next) : next();
    }
    void OnSettled(DeliveryContext& context, const HandlerOutcome& verdict) override {
        if (settled_) {
            settled_(context, verdict);
        }
    }

private:
    const Script script_;
    const Settled settled_;
};

/// With a subscription whose filters do what the test says.
class FilterFixture : public ClientFixture {
protected:
    FilterFixture() : client(MakeClient()) {}

    Subscription Subscribe(Handler handler) {
        return MakeSubscription(client, options, std::move(handler));
    }
    Handler Note(const std::string& what) {
        return [this, what](const Message&) { notes.push_back(what); };
    }
    void Add(ScriptFilter::Script script, ScriptFilter::Settled settled = nullptr) {
        options.filters.push_back(
            std::make_shared<ScriptFilter>(std::move(script), std::move(settled)));
    }
    static std::shared_ptr<Filter> Around(const std::string& name,
                                          std::vector<std::string>* notes) {
        return std::make_shared<ScriptFilter>(
            [name, notes](DeliveryContext&, Filter::Next& next) {
                notes->push_back(name + "(");
                HandlerOutcome outcome = next();
                notes->push_back(name + ")");
                return outcome;
            },
            [name, notes](DeliveryContext&, const HandlerOutcome&) { notes->push_back(name); });
    }
    /// Notes how deliveries end: "kind error".
    void NoteEnds() {
        Add(nullptr, [this](DeliveryContext& context, const HandlerOutcome& verdict) {
            ends.push_back(std::to_string(static_cast<int>(verdict.kind)) + " " + verdict.error);
            EXPECT_EQ(context.message().subject(), "s");
        });
    }

    SubscriptionOptions options = Consumer();
    Client client;
    std::vector<std::string> notes;
    std::vector<std::string> ends;
    std::vector<Delivery> kept;
};

}  // namespace qmq::testing
