// The ids that clients give to messages: no two are the same, whoever makes them and when.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "qmq/id.h"

#include "tests/support/forked.h"
#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using testing::InChild;
using testing::ReceiptOf;
using ::testing::SizeIs;

/// In virtual time, so that all clients are made in the same millisecond.
class MessageIdsTest : public testing::ClientFixture {
protected:
    static constexpr std::size_t kCount = 100;

    /// With chance of its own.
    Client MakeUnseeded() {
        ClientOptions options = Options();
        options.runtime.seed = 0;
        return MakeClient(std::move(options));
    }
    std::vector<std::string> SendSome(Client& client) {
        Producer producer = MakeProducer(client);
        std::vector<SendFuture> futures;
        for (std::size_t i = 0; i < kCount; ++i) {
            futures.push_back(producer.Send(Message("s")));
        }
        Settle();
        std::vector<std::string> made;
        for (const SendFuture& future : futures) {
            EXPECT_TRUE(ReceiptOf(future).ok());
            made.push_back(ReceiptOf(future).message_id);
        }
        return made;
    }
    void Add(const std::vector<std::string>& some) { ids.insert(some.begin(), some.end()); }

    std::set<std::string> ids;
};

TEST_F(MessageIdsTest, TwoClientsOfOneProcessMakeDifferentOnes) {
    Client one = MakeUnseeded();
    Client other = MakeUnseeded();
    Add(SendSome(one));
    Add(SendSome(other));
    Add(SendSome(one));
    EXPECT_THAT(ids, SizeIs(3 * kCount));
}

TEST_F(MessageIdsTest, TwoProducersOfOneClientMakeDifferentOnes) {
    Client client = MakeUnseeded();
    Producer first = MakeProducer(client);
    Producer second = MakeProducer(client);
    for (std::size_t i = 0; i < kCount; ++i) {
        const SendFuture by_first = first.Send(Message("s"));
        const SendFuture by_second = second.Send(Message("s"));
        Settle();
        Add({ReceiptOf(by_first).message_id, ReceiptOf(by_second).message_id});
    }
    EXPECT_THAT(ids, SizeIs(2 * kCount));
}

/// Everything that was written to a pipe whose other end is closed.
std::string ReadAll(int from) {
    std::string text;
    char some[4'096];
    for (ssize_t count = 0; (count = read(from, some, sizeof(some))) > 0;) {
        text.append(some, static_cast<std::size_t>(count));
    }
    return text;
}

TEST_F(MessageIdsTest, AfterAForkParentAndChildMakeDifferentOnes) {
    QMQ_SKIP_UNLESS_CHILD_MAY_ALLOCATE();
    Client older = MakeUnseeded();
    Add(SendSome(older));
    int ends[2] = {};
    ASSERT_EQ(pipe(ends), 0);
    EXPECT_EQ(InChild([&] {
                  Client own = MakeUnseeded();
                  std::string text;
                  for (const std::string& id : SendSome(own)) {
                      text += id;
                  }
                  const ssize_t written = write(ends[1], text.data(), text.size());
                  return static_cast<std::size_t>(written) == text.size() ? 7 : 1;
              }),
              7);
    close(ends[1]);
    const std::string of_child = ReadAll(ends[0]);
    close(ends[0]);
    ASSERT_EQ(of_child.size(), kCount * MessageIdGenerator::kLength);
    for (std::size_t at = 0; at < of_child.size(); at += MessageIdGenerator::kLength) {
        ids.insert(of_child.substr(at, MessageIdGenerator::kLength));
    }
    Client newer = MakeUnseeded();
    Add(SendSome(newer));
    Add(SendSome(older));
    EXPECT_THAT(ids, SizeIs(4 * kCount));
}

}  // namespace
}  // namespace qmq
