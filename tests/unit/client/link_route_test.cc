// Links and routes that change while somebody is on the way with the old ones.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/scripted_transport.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using testing::Refuse;

class LinkRouteTest : public testing::ClientFixture {
protected:
    LinkRouteTest() : client(MakeClientOf(cluster)) { inside.AddBroker("a"); }

    Client MakeClientOf(testing::FakeCluster& of) {
        ClientOptions options = Options();
        options.transports = {testing::MakeScriptedFactory(of.factory(), script)};
        return MakeClient(std::move(options));
    }
    void Send(Producer& producer, const std::string& subject) {
        producer.Send(Message(subject)).Detach();
        Settle();
    }

    /// A producer that knows the route of every subject while that is asked for again, in `held`.
    Producer AskAgainForEverySubject() {
        cluster.SetEverySubject(true);
        Producer producer = MakeProducer(client);
        Send(producer, "s");
        script->slow_subject = "s";
        Advance(seconds(61));
        return producer;
    }

    void AnswerHeld() {
        script->slow_subject.clear();
        for (Task& ask : std::exchange(script->held, {})) {
            ask();
        }
        Settle();
    }

    const std::shared_ptr<testing::Script> script = std::make_shared<testing::Script>();
    testing::FakeCluster inside;  // Answers inside the calls.
    Client client;
};

// It waited for an answer that did not come, up to five seconds.
TEST_F(LinkRouteTest, ANewSubjectTakesTheRouteOfEverySubjectWhileThatIsAskedForAgain) {
    Producer producer = AskAgainForEverySubject();
    ASSERT_EQ(script->held.size(), 1U);
    Send(producer, "new");
    EXPECT_EQ(cluster.broker("a").stored().size(), 2U);
    AnswerHeld();
}

// Each time that a subject was new again while one question was out, the router noted it again, and
// asked for each of these.
TEST_F(LinkRouteTest, ASubjectIsAskedForOnceHoweverOftenItWasNewMeanwhile) {
    const Producer producer = AskAgainForEverySubject();
    for (int i = 0; i < 10; ++i) {
        Producer brief = MakeProducer(client);
        Send(brief, "new");
    }
    Producer other = MakeProducer(client);
    Send(other, "new");
    cluster.SetEverySubject(false);
    const std::size_t asked = cluster.discover_count();
    AnswerHeld();
    EXPECT_EQ(cluster.discover_count(), asked + 2);
    EXPECT_EQ(cluster.broker("a").stored().size(), 12U);
}

// It waited out its own back-off, or the answer of its own question, although the route was known.
TEST_F(LinkRouteTest, WhoHasNoRouteTakesThatOfEverySubjectAsSoonAsItIsKnown) {
    cluster.SetEverySubject(true);
    cluster.SetDiscoverError(Status::Unavailable("down"));
    Producer producer = MakeProducer(client);
    producer.Send(Message("waits"), minutes(5)).Detach();
    Advance(seconds(30));
    script->slow_subject = "asks";
    Send(producer, "asks");
    ASSERT_EQ(script->held.size(), 1U);
    cluster.SetDiscoverError(Status::Ok());
    Send(producer, "s");
    Advance(milliseconds(1));
    EXPECT_EQ(cluster.broker("a").stored().size(), 3U);
    AnswerHeld();
}

// The answer to an older question of its own replaced it, and was then told to nobody: the number
// was too low.
TEST_F(LinkRouteTest, AnOlderAnswerOfItsOwnDoesNotReplaceTheRouteOfEverySubject) {
    cluster.SetEverySubject(true);
    Producer producer = MakeProducer(client);
    script->slow_subject = "asks";
    Send(producer, "asks");
    ASSERT_EQ(script->held.size(), 1U);
    Send(producer, "s");
    Advance(milliseconds(1));
    cluster.SetEverySubject(false);
    cluster.AddBroker("b");
    cluster.RemoveBroker("a");
    AnswerHeld();
    Send(producer, "asks");
    EXPECT_EQ(cluster.broker("a").stored().size(), 3U);
    Advance(minutes(2));
    Send(producer, "asks");
    EXPECT_EQ(cluster.broker("b").stored().size(), 1U);
}

// It stayed for ever: the same route again is no news.
TEST_F(LinkRouteTest, ARouteThatIsToldAfterANewerOneChangesNothing) {
    {
        Producer first = MakeProducer(client);
        Send(first, "s");
    }
    Settle();
    cluster.AddBroker("b");
    cluster.RemoveBroker("a");
    Advance(milliseconds(59'999));
    // While the second producer is told of {a} the route is asked for again, and is {b}.
    script->on_connect = [this] { Advance(milliseconds(2)); };
    Producer second = MakeProducer(client);
    Send(second, "s");
    Advance(minutes(10));
    Send(second, "s");
    EXPECT_EQ(broker("a").stored().size(), 1U);
    EXPECT_EQ(broker("b").stored().size(), 2U);
}

// The connection to the old address stayed, or was tried again for ever.
TEST_F(LinkRouteTest, AGroupThatMovesWhileItIsConnectedToIsConnectedToWhereItIs) {
    Client other = MakeClientOf(inside);
    script->on_connect = [this, &other] {
        script->address = "new";
        (void)other.WaitReady("other", milliseconds(0));  // Another thread learns of it.
    };
    Producer producer = MakeProducer(other);
    Send(producer, "s");
    Advance(seconds(10));
    EXPECT_THAT(script->connected, ElementsAre("old", "new"));
}

// What was known of another subject moved the link that all share back to an address that is dead.
TEST_F(LinkRouteTest, AnOlderRouteMovesNoLinkBack) {
    Producer producer = MakeProducer(client);
    Send(producer, "s1");
    Advance(seconds(10));
    Send(producer, "s2");
    script->address = "new";
    Advance(seconds(51));  // The route of s1 is asked for again, that of s2 is not yet.
    ASSERT_THAT(script->connected, ElementsAre("old", "new"));
    (void)client.WaitReady("s2", milliseconds(0));
    Advance(seconds(5));
    EXPECT_THAT(script->connected, ElementsAre("old", "new"));
}

// Each new subject moved the link to the second address and back.
TEST_F(LinkRouteTest, ARouteThatNamesAGroupTwiceIsAWrongAnswer) {
    Producer producer = MakeProducer(client);
    Send(producer, "s");
    script->each_group_twice = true;
    for (int i = 0; i < 20; ++i) {
        Send(producer, "s" + std::to_string(i));
        Advance(seconds(2));
    }
    Advance(minutes(2));
    Send(producer, "s");
    EXPECT_EQ(broker().stored().size(), 2U);
    EXPECT_THAT(script->connected, ElementsAre("old"));
    EXPECT_TRUE(Logged("names broker group a twice; the known route is kept"));
}

// It was thrown away after 15 s, again and again, whatever the transport's own time-out was.
TEST_F(LinkRouteTest, AConnectionHasTheTimeThatItsTransportSays) {
    script->connect_timeout = seconds(30);
    script->on_ready = [this](const std::shared_ptr<ConnectionListener>& listener) {
        (void)time.executor.PostAt(time.clock.Now() + seconds(20),
                                   [listener] { listener->OnReady(); });
    };
    Producer producer = MakeProducer(client);
    const SendFuture future = producer.Send(Message("s"), minutes(5));
    Advance(seconds(21));
    EXPECT_TRUE(future.ready());
    EXPECT_THAT(script->connected, ElementsAre("old"));
}

// It was answered with what was known, and nobody asked for the next minute.
TEST_F(LinkRouteTest, ARouteThatDoesNotFitIsAskedForSoonAlsoWhenAllSubjectsHaveJustGotIt) {
    cluster.SetEverySubject(true);
    Producer producer = MakeProducer(client);
    Send(producer, "s");
    Advance(seconds(10));
    Send(producer, "t");
    Advance(milliseconds(50'200));
    const std::size_t asked = cluster.discover_count();
    bool fits = false;
    broker().SetSendHook([&fits](const SendBatch&) {
        return std::exchange(fits, true) ? std::nullopt
                                         : std::optional(Refuse(Status::Unavailable("moved")));
    });
    Send(producer, "t");
    Advance(seconds(2));
    EXPECT_EQ(cluster.discover_count(), asked + 1);
}

// It overflowed, and the time was over at once.
TEST_F(LinkRouteTest, ATransportMayHaveNoConnectTimeout) {
    script->connect_timeout = milliseconds::max();
    script->on_ready = [this](const std::shared_ptr<ConnectionListener>& listener) {
        (void)time.executor.PostAt(time.clock.Now() + seconds(1),
                                   [listener] { listener->OnReady(); });
    };
    Producer producer = MakeProducer(client);
    const SendFuture future = producer.Send(Message("s"));
    Advance(seconds(2));
    EXPECT_TRUE(future.ready() && future.Get().ok());
    EXPECT_THAT(script->connected, ElementsAre("old"));
}

// The answer to question 1 comes after that to question 2, and is newer. The link took it for
// older; to "a" it was known from then on, so that no later answer was news, and nobody told the
// link.
TEST_F(LinkRouteTest, AnAnswerThatCameLateMovesTheLinkAtTheLatestWhenItIsAskedForAgain) {
    script->slow_subject = "a";
    Producer first = MakeProducer(client);
    Send(first, "a");  // Question 1.
    std::optional<Producer> second = MakeProducer(client);
    Send(*second, "b");  // Question 2: "old".
    ASSERT_THAT(script->connected, ElementsAre("old"));
    script->address = "new";
    AnswerHeld();  // Answer 1: "new".
    second.reset();
    Advance(minutes(10));  // "a" is asked for ten times: "new".
    Send(first, "a");
    EXPECT_THAT(script->connected, ElementsAre("old", "new"));
}

// The same answer again did not raise the link's number.
TEST_F(LinkRouteTest, AnOlderAnswerMovesNoLinkThatANewerOneHasConfirmed) {
    script->address = "new";
    Producer first = MakeProducer(client);
    Send(first, "a");  // Question 1: "new".
    script->slow_subject = "b";
    std::optional<Producer> second = MakeProducer(client);
    Send(*second, "b");  // Question 2.
    bool fits = false;
    broker().SetSendHook([&fits](const SendBatch& batch) {
        return batch.subject != "a" || std::exchange(fits, true)
                   ? std::nullopt
                   : std::optional(Refuse(Status::Unavailable("hurry")));
    });
    Send(first, "a");
    Advance(seconds(2));  // Question 3, answered: "new", as known.
    script->address = "old";
    AnswerHeld();  // Answer 2, of a meta server that is behind.
    script->address = "new";
    second.reset();
    Advance(minutes(10));
    EXPECT_THAT(script->connected, ElementsAre("new"));
}

}  // namespace
}  // namespace qmq
