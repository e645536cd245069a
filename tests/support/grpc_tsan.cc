// Shows ThreadSanitizer how gRPC hands work from thread to thread.
//
// Debian's libgrpc is built without ThreadSanitizer and synchronises by its own atomics and
// futexes, so to the sanitizer whatever one thread gave to gRPC and another got back is a race:
// also in the templates of gRPC's headers, which are compiled into our objects, and whose innermost
// frames are often the standard library's, where no suppression could tell them from ours.
//
// What gRPC promises is: an operation that is started happens before its completion, and both carry
// the same tag. That is said here, for exactly these two, by standing between libgrpc++ and libgrpc
// (an executable's symbols come first). Besides, a server is started before it calls anybody, and
// OnDone and OnCancel go to a thread by a queue, which here is one that the sanitizer can see.
// Nothing is suppressed by it: two callbacks that no operation orders are still a race.
//
// Linked into every program that links the gRPC transport, in builds with -fsanitize=thread only.

#include <dlfcn.h>
#include <grpc/grpc.h>
#include <grpc/support/alloc.h>
#include <grpcpp/support/client_callback.h>
#include <grpcpp/support/server_callback.h>

#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);

namespace {

char g_new_call;  // An address for the sanitizer.

/// Runs tasks on a thread of its own, as gRPC's default executor does.
class VisibleExecutor {
public:
    static VisibleExecutor& Get() {
        static auto* const executor = new VisibleExecutor;  // Its thread may outlive everything.
        return *executor;
    }
    void Post(std::function<void()> task) {
        const std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
        changed_.notify_one();
    }

private:
    VisibleExecutor() {
        std::thread([this] { Run(); }).detach();
    }
    void Run() {
        for (;;) {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return !tasks_.empty(); });
            const std::function<void()> task = std::move(tasks_.front());
            tasks_.pop_front();
            lock.unlock();
            task();
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> tasks_;  // guarded by mutex_
};

}  // namespace

namespace grpc::internal {

// As libgrpc++ has them, but for the executor. The counters say who may come here; where libgrpc++
// counted down, the sanitizer did not see it.

void ServerCallbackCall::ScheduleOnDone(bool inline_ondone) {
    __tsan_acquire(&callbacks_outstanding_);
    if (inline_ondone) {
        return CallOnDone();
    }
    VisibleExecutor::Get().Post([this] { CallOnDone(); });
}

void ServerCallbackCall::CallOnCancel(ServerReactor* reactor) {
    __tsan_acquire(&on_cancel_conditions_remaining_);
    if (reactor->InternalInlineable()) {
        return reactor->OnCancel();
    }
    Ref();
    VisibleExecutor::Get().Post([this, reactor] {
        reactor->OnCancel();
        MaybeDone();
    });
}

void ClientReactor::InternalScheduleOnDone(grpc::Status status) {
    VisibleExecutor::Get().Post([this, status] { OnDone(status); });
}

}  // namespace grpc::internal

extern "C" {

grpc_call_error grpc_call_start_batch(
    grpc_call* call, const grpc_op* ops, size_t nops, void* tag, void* reserved) {
    static const auto real = reinterpret_cast<decltype(&grpc_call_start_batch)>(
        dlsym(RTLD_NEXT, "grpc_call_start_batch"));
    if (tag != nullptr) {
        __tsan_release(tag);
    }
    return real(call, ops, nops, tag, reserved);
}

grpc_event grpc_completion_queue_next(grpc_completion_queue* queue,
                                      gpr_timespec deadline,
                                      void* reserved) {
    static const auto real = reinterpret_cast<decltype(&grpc_completion_queue_next)>(
        dlsym(RTLD_NEXT, "grpc_completion_queue_next"));
    const grpc_event event = real(queue, deadline, reserved);
    if (event.type == GRPC_OP_COMPLETE && event.tag != nullptr) {
        __tsan_acquire(event.tag);
        __tsan_acquire(&g_new_call);
    }
    return event;
}

void grpc_server_start(grpc_server* server) {
    static const auto real =
        reinterpret_cast<decltype(&grpc_server_start)>(dlsym(RTLD_NEXT, "grpc_server_start"));
    __tsan_release(&g_new_call);
    real(server);
}

grpc_event grpc_completion_queue_pluck(grpc_completion_queue* queue,
                                       void* tag,
                                       gpr_timespec deadline,
                                       void* reserved) {
    static const auto real = reinterpret_cast<decltype(&grpc_completion_queue_pluck)>(
        dlsym(RTLD_NEXT, "grpc_completion_queue_pluck"));
    const grpc_event event = real(queue, tag, deadline, reserved);
    if (event.type == GRPC_OP_COMPLETE) {
        __tsan_acquire(tag);
    }
    return event;
}

/// The first thing that libgrpc++ does with the room for a call. (Clients call it too, once for
/// each call they begin: so beginning a call is seen as earlier than all that completes after it.)
void grpc_metadata_array_init(grpc_metadata_array* array) {
    static const auto real = reinterpret_cast<decltype(&grpc_metadata_array_init)>(
        dlsym(RTLD_NEXT, "grpc_metadata_array_init"));
    real(array);
    __tsan_release(&g_new_call);
}

// Memory that the library has freed and got again is new memory; asked for from within the library,
// the sanitizer would take what is done to it for accesses to what was there before.
void* gpr_malloc(size_t size) {
    return std::malloc(size);
}
void* gpr_zalloc(size_t size) {
    return std::calloc(size, 1);
}
void* gpr_realloc(void* memory, size_t size) {
    return std::realloc(memory, size);
}
void gpr_free(void* memory) {
    std::free(memory);
}

}  // extern "C"
