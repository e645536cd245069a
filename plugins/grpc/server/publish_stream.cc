#include "plugins/grpc/server/publish_stream.h"

#include <utility>

namespace qmq::rpc {
namespace {

std::size_t BytesOf(const PublishRequest& request) {
    std::size_t bytes = 0;
    for (const SendBatch& batch : request.batches) {
        bytes += batch.batch.size();
    }
    return bytes;
}

}  // namespace

Status PublishStream::OnFrame(Slice frame) {
    auto requests = DecodePublishFrame(frame, {});
    if (!requests.ok()) {
        return requests.status();
    }
    // The batches hold the frame now; without this it would live until the end of the loop.
    frame = {};
    {
        const std::lock_guard lock(mutex_);
        stop_and_wait_.OnFrame(unanswered_);
        unanswered_ += requests->size();
        for (const PublishRequest& request : *requests) {
            unanswered_bytes_ += BytesOf(request);
        }
    }
    const auto self = std::static_pointer_cast<PublishStream>(shared_from_this());
    for (PublishRequest& request : *requests) {
        broker_.Send(
            std::move(request.batches),
            [self, id = request.id, bytes = BytesOf(request)](std::vector<BatchReceipt> receipts) {
                self->Answered(id, bytes, std::move(receipts));
            });
    }
    return Status::Ok();
}

void PublishStream::Answered(std::uint64_t id,
                             std::size_t bytes,
                             std::vector<BatchReceipt> receipts) {
    const PublishResult result{id, std::move(receipts)};
    Answer(ResultSize(result), [&](MessageGatherer* out) {
        --unanswered_;
        unanswered_bytes_ -= bytes;
        AppendResult(result, out->text());
    });
}

}  // namespace qmq::rpc
