#pragma once

#include <grpc/support/time.h>
#include <grpcpp/client_context.h>

#include <chrono>
#include <memory>
#include <utility>

#include "qmq/function.h"
#include "qmq/status.h"

#include "plugins/grpc/client/connection.h"
#include "plugins/grpc/client/live_calls.h"

namespace qmq::rpc {

/// By the monotonic clock: a step of the wall clock must not end calls.
inline void SetTimeout(grpc::ClientContext* context, std::chrono::nanoseconds timeout) {
    context->set_deadline(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                       gpr_time_from_nanos(timeout.count(), GPR_TIMESPAN)));
}

/// What one unary call needs until it is answered.
template <typename Request, typename Reply>
struct UnaryState final : Cancelable {
    grpc::ClientContext context;
    Request request;
    Reply reply;
    UniqueFunction<void(Result<Reply>)> done;

    void Cancel() override { context.TryCancel(); }
};

/// Makes a unary call on a connection; `start(stub, context, request, reply, done)` names which.
/// `done` comes once.
template <typename Request, typename Reply, typename Start>
void CallUnary(const std::shared_ptr<ConnectionCore>& core,
               Request request,
               Start start,
               UniqueFunction<void(Result<Reply>)> done) {
    auto state = std::make_shared<UnaryState<Request, Reply>>();
    state->request = std::move(request);
    state->done = std::move(done);
    std::uint64_t id = 0;
    if (!core->BeginUnary(state, &id)) {
        const LiveCalls::CallbackScope scope(core->calls());
        return state->done(core->Lost());
    }
    core->PrepareContext(&state->context);
    std::function<void(grpc::Status)> ended = [core, state, id](const grpc::Status& status) {
        {
            const LiveCalls::CallbackScope scope(core->calls());
            if (status.ok()) {
                state->done(std::move(state->reply));
            } else {
                state->done(core->Explain(status));
            }
            state->done = nullptr;
        }
        core->EndUnary(id);
    };
    start(core->stub().async(), &state->context, &state->request, &state->reply, std::move(ended));
}

}  // namespace qmq::rpc
