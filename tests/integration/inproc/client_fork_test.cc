// A child by fork() of a process with an embedded broker: a child that left by exit(), or called
// Shutdown, waited for threads that are not there.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "qmq/client.h"
#include "qmq/inproc.h"

#include "tests/support/forked.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::InChild;
using testing::IsForkRefusal;

ClientOptions Options(const std::shared_ptr<TransportFactory>& transport) {
    ClientOptions options;
    options.uri = "inproc:";
    options.app_code = "test";
    options.transports = {transport};
    options.log = [](LogLevel, std::string_view) {};
    return options;
}

TEST(InprocForkTest, AChildThatExitsWithAStaticClientEnds) {
    QMQ_SKIP_UNLESS_CHILD_MAY_ALLOCATE();
    static const std::shared_ptr<TransportFactory> transport = InprocTransport();
    static Client client = std::move(*Client::Create(Options(transport)));
    static Producer producer = *client.MakeProducer();
    ASSERT_TRUE(producer.Send(Message("s")).Get().ok());
    EXPECT_EQ(InChild([] { return 7; }), 7);
    EXPECT_TRUE(producer.Send(Message("s")).Get().ok());
}

TEST(InprocForkTest, InAChildTheClientSaysWhatToDoAndHandlesMayGo) {
    QMQ_SKIP_UNLESS_CHILD_MAY_ALLOCATE();
    std::shared_ptr<TransportFactory> transport = InprocTransport();
    auto client = std::make_unique<Client>(std::move(*Client::Create(Options(transport))));
    auto producer = std::make_unique<Producer>(*client->MakeProducer());
    ASSERT_TRUE(producer->Send(Message("s")).Get().ok());
    EXPECT_EQ(InChild([&] {
                  const bool refused = IsForkRefusal(producer->Send(Message("s")).Get().status) &&
                                       IsForkRefusal(client->Shutdown(milliseconds(500)).status);
                  producer.reset();
                  client.reset();
                  transport.reset();
                  return refused ? 7 : 1;
              }),
              7);
    EXPECT_TRUE(producer->Send(Message("s")).Get().ok());
    EXPECT_TRUE(client->Shutdown(seconds(20)).drained);
}

TEST(InprocForkTest, AClientThatIsMadeInTheChildWorksAlsoWithTheParentsFactory) {
    QMQ_SKIP_UNLESS_CHILD_MAY_ALLOCATE();
    QMQ_SKIP_UNLESS_CHILD_MAY_START_THREADS();
    const std::shared_ptr<TransportFactory> transport = InprocTransport();
    Client client = std::move(*Client::Create(Options(transport)));
    Producer producer = *client.MakeProducer();
    ASSERT_TRUE(producer.Send(Message("s")).Get().ok());
    EXPECT_EQ(InChild([&] {
                  auto made = Client::Create(Options(transport));
                  if (!made.ok()) {
                      return 1;
                  }
                  Producer own = *made->MakeProducer();
                  if (!own.Send(Message("s")).Get().ok()) {
                      return 2;
                  }
                  return made->Shutdown(seconds(20)).drained ? 7 : 3;
              }),
              7);
    EXPECT_TRUE(producer.Send(Message("s")).Get().ok());
}

}  // namespace
}  // namespace qmq
