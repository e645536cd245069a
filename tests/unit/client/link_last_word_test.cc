// A link is where the last answer of all subjects says, and not the last that was news to its own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;

struct Meta {
    std::string address = "old";
    std::string slow;  // Questions for this subject wait in `held`.
    std::vector<Task> held;
    std::vector<std::string> connected;
};

class MetaTransport final : public Transport {
public:
    MetaTransport(std::shared_ptr<Transport> inner, std::shared_ptr<Meta> meta)
        : inner_(std::move(inner)), meta_(std::move(meta)) {}
    void Discover(DiscoverRequest request,
                  TimePoint deadline,
                  UniqueFunction<void(Result<Route>)> done) override {
        const bool waits = request.subject == meta_->slow;
        Task ask =
            [inner = inner_, meta = meta_, request, deadline, done = std::move(done)]() mutable {
                inner->Discover(std::move(request),
                                deadline,
                                [meta, done = std::move(done)](Result<Route> route) mutable {
                                    for (BrokerGroup& group : route->groups) {
                                        group.address = meta->address;
                                    }
                                    done(std::move(route));
                                });
            };
        if (waits) {
            meta_->held.push_back(std::move(ask));
        } else {
            ask();
        }
    }
    std::unique_ptr<BrokerConnection> Connect(
        const BrokerGroup& group, std::shared_ptr<ConnectionListener> listener) override {
        meta_->connected.push_back(group.address);
        return inner_->Connect(group, std::move(listener));
    }

private:
    const std::shared_ptr<Transport> inner_;
    const std::shared_ptr<Meta> meta_;
};

class MetaFactory final : public TransportFactory {
public:
    MetaFactory(std::shared_ptr<TransportFactory> inner, std::shared_ptr<Meta> meta)
        : inner_(std::move(inner)), meta_(std::move(meta)) {}
    std::vector<std::string> Schemes() const override { return inner_->Schemes(); }
    Result<std::unique_ptr<Transport>> Make(const std::string& uri,
                                            const TransportContext& context) override {
        auto made = inner_->Make(uri, context);
        if (!made.ok()) {
            return made.status();
        }
        return std::unique_ptr<Transport>(std::make_unique<MetaTransport>(std::move(*made), meta_));
    }

private:
    const std::shared_ptr<TransportFactory> inner_;
    const std::shared_ptr<Meta> meta_;
};

class LinkLastWordTest : public testing::ClientFixture {
protected:
    LinkLastWordTest() {
        ClientOptions options = Options();
        options.transports = {std::make_shared<MetaFactory>(cluster.factory(), meta)};
        client.emplace(MakeClient(std::move(options)));
    }
    void Send(Producer& producer, const std::string& subject) {
        producer.Send(Message(subject)).Detach();
        Settle();
    }
    void Release() {
        meta->slow.clear();
        for (Task& ask : std::exchange(meta->held, {})) {
            ask();
        }
        Settle();
    }
    const std::shared_ptr<Meta> meta = std::make_shared<Meta>();
    std::optional<Client> client;
};

// The answer to question 1 comes after that to question 2, and is newer. The link took it for
// older; to "a" it was known from then on, so that no later answer was news, and nobody told the
// link.
TEST_F(LinkLastWordTest, AnAnswerThatCameLateMovesTheLinkAtTheLatestWhenItIsAskedForAgain) {
    meta->slow = "a";
    Producer first = MakeProducer(*client);
    Send(first, "a");  // Question 1.
    std::optional<Producer> second = MakeProducer(*client);
    Send(*second, "b");  // Question 2: "old".
    ASSERT_THAT(meta->connected, ElementsAre("old"));
    meta->address = "new";
    Release();  // Answer 1: "new".
    second.reset();
    Advance(minutes(10));  // "a" is asked for ten times: "new".
    Send(first, "a");
    EXPECT_THAT(meta->connected, ElementsAre("old", "new"));
}

// The same answer again did not raise the link's number.
TEST_F(LinkLastWordTest, AnOlderAnswerMovesNoLinkThatANewerOneHasConfirmed) {
    meta->address = "new";
    Producer first = MakeProducer(*client);
    Send(first, "a");  // Question 1: "new".
    meta->slow = "b";
    std::optional<Producer> second = MakeProducer(*client);
    Send(*second, "b");  // Question 2.
    bool fits = false;
    broker().SetSendHook([&fits](const SendBatch& batch) {
        return batch.subject != "a" || std::exchange(fits, true)
                   ? std::nullopt
                   : std::optional(testing::Refuse(Status::Unavailable("hurry")));
    });
    Send(first, "a");
    Advance(seconds(2));  // Question 3, answered: "new", as known.
    meta->address = "old";
    Release();  // Answer 2, of a meta server that is behind.
    meta->address = "new";
    second.reset();
    Advance(minutes(10));
    EXPECT_THAT(meta->connected, ElementsAre("new"));
}

}  // namespace
}  // namespace qmq
