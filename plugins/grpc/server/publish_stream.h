#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "plugins/grpc/codec/publish_frames.h"
#include "plugins/grpc/server/server_stream.h"
#include "plugins/grpc/server/stop_and_wait.h"
#include "server/broker/broker.h"

namespace qmq::rpc {

struct StreamLimits {
    std::size_t max_unanswered = 1'024;
    std::size_t max_unanswered_bytes = 64U << 20;
    std::size_t max_subscriptions = 4'096;
};

/// Publish: each request goes to the broker as it is, and its receipts come back as they come.
class PublishStream final : public ServerStream {
public:
    PublishStream(std::shared_ptr<StreamRegistry> registry,
                  broker::Broker& broker,
                  const StreamLimits& limits)
        : ServerStream(std::move(registry)), broker_(broker), limits_(limits) {}

private:
    Status OnFrame(Slice frame) override;
    bool HasRoom() const override {
        return unanswered_ < limits_.max_unanswered && unwritten_bytes() < kMostUnwrittenBytes &&
               unanswered_bytes_ < limits_.max_unanswered_bytes &&
               (unanswered_ == 0 || !stop_and_wait_.expected());
    }
    bool OwesAnswers() const override { return unanswered_ > 0; }
    void Answered(std::uint64_t id, std::size_t bytes, std::vector<BatchReceipt> receipts);

    broker::Broker& broker_;
    const StreamLimits limits_;
    StopAndWait stop_and_wait_;         // guarded by mutex_
    std::size_t unanswered_ = 0;        // guarded by mutex_
    std::size_t unanswered_bytes_ = 0;  // guarded by mutex_
};

}  // namespace qmq::rpc
