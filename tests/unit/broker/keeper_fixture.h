#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/unit/broker/broker_fixture.h"
#include "tests/unit/broker/faulty_files.h"

namespace qmq::broker::testing {

/// A broker with small segments that go soon.
class KeeperTest : public BrokerTest {
protected:
    KeeperTest() {
        options_.store.segment_bytes = 64U << 10U;
        options_.store.retention = std::chrono::seconds(10);
    }
    static AckItem Retry(std::uint64_t pull, std::chrono::milliseconds delay) {
        return AckItem{AckVerdict::kRetry, pull, pull, delay, "why"};
    }
    std::uint64_t FirstSequence(const std::string& subject) {
        std::uint64_t first = 0;
        broker_->ListSubjects([&](Result<std::vector<SubjectInfo>> r) {
            for (const SubjectInfo& info : *r) {
                first = info.subject == subject ? info.first_sequence : first;
            }
        });
        time_.Settle();
        return first;
    }
    void ExpectNothingLost(const std::string& subject, const std::string& group) {
        const GroupInfo info = Info(subject, group);
        EXPECT_EQ(info.lost_to_retention_count, 0U);
        EXPECT_EQ(info.lost_to_full_disk_count, 0U);
        EXPECT_EQ(info.lost_to_damage_count, 0U);
        EXPECT_EQ(info.lost_to_burial_count, 0U);
    }
    /// Of two that failed, over a restart and many times the retention.
    std::vector<std::string> RetriesThatCome() {
        Open();
        Member member = Join(Patient("orders"));
        Send("orders", {"a", "b"});
        EXPECT_TRUE(Judge(member, {Retry(0, 5min), Retry(1, 6min)}).ok());
        time_.Advance(4min);
        CrashAndOpen();
        Member again = Join(Patient("orders", "c2"));
        time_.Advance(59s);
        EXPECT_THAT(again.got(), ::testing::IsEmpty());
        time_.Advance(61s);
        return again.bodies();
    }
    /// A time-out that does not end while the test waits.
    SubscribeRequest Patient(const std::string& subject, const std::string& id = "c1") {
        SubscribeRequest request = MakeRequest(subject, "billing", id);
        request.ack_timeout = 12h;
        request.reconnect_grace = 1h;
        return request;
    }
};

}  // namespace qmq::broker::testing
