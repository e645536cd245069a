#pragma once

#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <memory>

#include "qmq/status.h"

#include "plugins/grpc/codec/status_map.h"

namespace qmq::rpc {

class UnaryReactor;

/// The right to answer one unary call, once. Whoever comes second, be it the broker after the
/// client has gone or the other way round, finds the call answered and touches nothing of it.
class UnaryAnswer {
public:
    explicit UnaryAnswer(UnaryReactor* reactor) : reactor_(reactor) {}

    /// Fills the reply by `fill()`, unless the call was answered before: then it says false.
    template <typename Fill>
    bool Give(Fill fill);
    void Give(const Status& status) {
        static_cast<void>(Give([&] { return ToGrpc(status); }));
    }

private:
    UnaryReactor* const reactor_;  // Alive until it is answered.
    std::atomic<bool> given_{false};
};

/// A unary call. Deletes itself.
class UnaryReactor final : public grpc::ServerUnaryReactor {
public:
    std::shared_ptr<UnaryAnswer> answer() { return answer_; }

private:
    void OnCancel() override { answer_->Give(Status::Cancelled("the client gave up")); }
    void OnDone() override { delete this; }

    const std::shared_ptr<UnaryAnswer> answer_ = std::make_shared<UnaryAnswer>(this);
};

template <typename Fill>
bool UnaryAnswer::Give(Fill fill) {
    if (given_.exchange(true)) {
        return false;
    }
    reactor_->Finish(fill());
    return true;
}

}  // namespace qmq::rpc
