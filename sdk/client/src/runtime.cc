#include "sdk/client/src/runtime.h"

#include <algorithm>

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
            live->KickProducers();  // Callbacks often send the next message, and have all done so.
        }
    });
    return runtime;
}

ClientRuntime::ClientRuntime(const ClientOptions& options)
    : clock_(options.runtime.clock != nullptr ? *options.runtime.clock : SystemClock()),
      log_(options.log),
      client_id_(options.client_id),
      app_code_(options.app_code),
      reconnect_backoff_{options.initial_reconnect_backoff, options.max_reconnect_backoff},
      handler_threads_(options.handler_threads),
      inline_callbacks_(options.inline_callbacks),
      random_(SeededBy(options.runtime.seed)),
      own_work_(OwnPool(options.runtime.executor, 1, "qmq-work")),
      own_callbacks_(OwnPool(options.runtime.callbacks, 1, "qmq-callback")),
      work_(own_work_ ? own_work_.get() : options.runtime.executor),
      given_handlers_(options.runtime.handlers) {
    Executor& callbacks = own_callbacks_ ? *own_callbacks_ : *options.runtime.callbacks;
    callbacks_ = std::make_shared<CallbackQueue>(
        this, callbacks, *work_, clock_, log_, own_callbacks_ == nullptr);
    ids_ = std::make_unique<MessageIdGenerator>(clock_.WallNow(), random_);
    if (client_id_.empty()) {
        // A replayed run has the same name again.
        client_id_ =
            options.runtime.seed == 0 ? MakeClientId() : "client-" + std::to_string(random_.Next());
    }
}

ClientRuntime::~ClientRuntime() {
    callbacks_->Drop();
    Stop(std::chrono::milliseconds(0));
}

Executor& ClientRuntime::handlers() {
    if (given_handlers_ != nullptr) {
        return *given_handlers_;
    }
    std::lock_guard lock(mutex_);
    if (own_handlers_ == nullptr) {
        own_handlers_ = OwnPool(nullptr, handler_threads_, "qmq-handler");
    }
    return *own_handlers_;
}

Random ClientRuntime::MakeRandom() {
    std::lock_guard lock(mutex_);
    return Random(random_.Next());
}

void ClientRuntime::Stop(std::chrono::milliseconds wait) {
    MarkStopped();
    std::lock_guard lock(mutex_);
    const auto until = std::chrono::steady_clock::now() + wait;
    for (ThreadPool* pool : {own_handlers_.get(), own_callbacks_.get(), own_work_.get()}) {
        if (pool != nullptr) {
            pool->Stop(std::max(std::chrono::duration_cast<std::chrono::milliseconds>(
                                    until - std::chrono::steady_clock::now()),
                                std::chrono::milliseconds(0)));
        }
    }
}

}  // namespace qmq::internal
