#include "sdk/client/src/base/runtime.h"

#include <algorithm>

#include "sdk/client/src/base/call_scope.h"

namespace qmq::internal {

namespace {

Random SeededBy(std::uint64_t seed) {
    return seed == 0 ? Random::FromSystem() : Random(seed);
}

std::unique_ptr<ThreadPool> OwnPool(const Executor* given, std::size_t threads, const char* name) {
    if (given != nullptr) {
        return nullptr;
    }
    ThreadPoolOptions options;
    options.threads = threads;
    options.name = name;
    return std::make_unique<ThreadPool>(options);
}

}  // namespace

std::shared_ptr<ClientRuntime> ClientRuntime::Make(const ClientOptions& options) {
    std::shared_ptr<ClientRuntime> runtime(new ClientRuntime(options));
    runtime->callbacks_->SetOwner(runtime, [weak = std::weak_ptr(runtime)] {
        if (auto live = weak.lock()) {
            live->WakeProducers();  // Callbacks often send the next message, and have all done so.
        }
    });
    return runtime;
}

ClientRuntime::ClientRuntime(const ClientOptions& options)
    : clock_(options.runtime.clock != nullptr ? *options.runtime.clock : SystemClock()),
      log_(std::make_shared<Logger>(options.log, options.runtime.executor)),
      client_id_(options.client_id),
      app_code_(options.app_code),
      reconnect_backoff_{options.initial_reconnect_backoff, options.max_reconnect_backoff},
      handler_threads_(options.handler_threads),
      inline_callbacks_(options.inline_callbacks),
      own_threads_(options.runtime.executor == nullptr && options.runtime.callbacks == nullptr &&
                   options.runtime.handlers == nullptr),
      random_(SeededBy(options.runtime.seed)),
      own_work_(OwnPool(options.runtime.executor, 1, "qmq-work")),
      own_callbacks_(OwnPool(options.runtime.callbacks, 1, "qmq-callback")),
      work_(own_work_ ? own_work_.get() : options.runtime.executor),
      given_handlers_(options.runtime.handlers) {
    Executor& callbacks = own_callbacks_ ? *own_callbacks_ : *options.runtime.callbacks;
    callbacks_ = std::make_shared<CallbackQueue>(
        this, callbacks, *work_, clock_, *log_, own_callbacks_ == nullptr);
    ids_ = std::make_unique<MessageIdGenerator>(clock_.WallNow(), random_);
    if (client_id_.empty()) {
        // A replayed run has the same name again.
        client_id_ =
            options.runtime.seed == 0 ? MakeClientId() : "client-" + std::to_string(random_.Next());
    }
}

ClientRuntime::~ClientRuntime() {
    callbacks_->Drop();
    Stop(std::chrono::steady_clock::now());
}

bool ClientRuntime::MayWaitForAnswers() const {
    if (own_work_ != nullptr && own_work_->RunsHere()) {
        return false;  // Executors, and destructors of what handlers hold, are called from here.
    }
    return own_threads_ ? !inline_callbacks_ || !CallScope::InsideCallbackOf(this)
                        : !CallScope::InsideClient(this);
}

std::shared_ptr<Executor> ClientRuntime::JoinHandlers(std::size_t handlers) {
    if (given_handlers_ != nullptr) {
        return {std::shared_ptr<Executor>(), given_handlers_};  // Its owner keeps it.
    }
    std::shared_ptr<HandlerPool> pool;
    {
        MutexLock lock(mutex_);
        if (own_handlers_ == nullptr) {
            own_handlers_ = OwnPool(nullptr, 1, "qmq-handler");
            handler_pool_ = std::make_shared<HandlerPool>(
                *own_handlers_,
                [threads = own_handlers_.get()](std::size_t count) { return threads->Grow(count); },
                handler_threads_,
                *work_,
                clock_);
        }
        pool = handler_pool_;
    }
    return pool->Join(handlers);
}

bool ClientRuntime::PostRenewal(Task task) {
    if (own_work_ == nullptr) {
        return work_->Post(std::move(task));  // The caller's executor, which does everything.
    }
    ThreadPool* pool = nullptr;
    std::size_t running = 0;
    {
        MutexLock lock(mutex_);
        if (own_renewals_ == nullptr) {
            own_renewals_ = OwnPool(nullptr, 1, "qmq-renew");
        }
        pool = own_renewals_.get();
        running = ++renewals_running_;
    }
    (void)pool->Grow(running);
    return pool->Post([this, task = std::move(task)]() mutable {
        task();
        MutexLock lock(mutex_);
        --renewals_running_;
    });
}

Random ClientRuntime::MakeRandom() {
    MutexLock lock(mutex_);
    return Random(random_.Next());
}

void ClientRuntime::Stop(TimePoint deadline) {
    MarkStopped();
    std::shared_ptr<HandlerPool> pool_of_handlers;
    ThreadPool* handlers = nullptr;
    ThreadPool* renewals = nullptr;
    {
        MutexLock lock(mutex_);
        pool_of_handlers = handler_pool_;
        handlers = own_handlers_.get();
        renewals = own_renewals_.get();
    }
    // Without the lock: tasks that never run are destroyed, with what the application captured.
    if (pool_of_handlers != nullptr) {
        pool_of_handlers->Stop();
    }
    for (ThreadPool* pool : {handlers, renewals, own_callbacks_.get(), own_work_.get()}) {
        if (pool != nullptr) {
            (void)pool->Stop(deadline);
        }
    }
    (void)log_->Finish(std::chrono::steady_clock::now());
}

}  // namespace qmq::internal
