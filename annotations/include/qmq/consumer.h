#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "qmq/client.h"

/// Handlers declared where they are written. `QMQ_CONSUMER` opens a function; `QMQ_CONSUMER_FN`
/// names one that exists:
///
///     QMQ_CONSUMER("order.paid", "ticketing", .tags = {"domestic"}, .parallelism = 8)
///     (const qmq::Message& message) { IssueTicket(message.Get<std::string>("orderId")); }
///
///     QMQ_CONSUMER_FN(OnRefund, "order.refunded", "ticketing")
///     QMQ_CONSUMER_FN(&Seats::OnChange, "seat.changed", "ticketing", .executor = "seats")
///
/// `StartConsumers(client)` in `main` subscribes them all. The program's target is named once in
/// CMake, by `qmq_add_consumers(target)`: without it a linker drops handlers that lie in static
/// libraries, so start-up refuses to go on.
namespace qmq {

/// A few names, known when the program is compiled.
template <std::size_t kCapacity>
struct NameList {
    constexpr NameList() = default;
    constexpr NameList(std::initializer_list<const char*> given) {
        for (const char* name : given) {
            if (count < kCapacity) {
                names[count] = name;
            }
            ++count;  // One too many is reported at start, with file and line.
        }
    }
    std::array<const char*, kCapacity> names{};
    std::size_t count = 0;
};

/// Options of a declared consumer. In a macro they are given by name, in this order, any of them
/// left out. What they mean, and their ranges, is said at `SubscriptionOptions`.
struct ConsumerOptions {
    /// `{"a", "b"}` is any of them, `qmq::AllOf("a", "b")` all of them.
    LiteralTags tags = {};
    std::uint32_t parallelism = 4;
    RetryPolicy retry = {};
    bool broadcast = false;
    bool at_most_once = false;
    StartPosition start = StartPosition::kLatest;
    std::uint32_t prefetch_count = 0;
    std::chrono::milliseconds ack_timeout{60'000};
    std::chrono::milliseconds max_processing_time{12 * 3'600'000};
    /// Names that `ConsumerBindings` resolves at start; a missing one fails the start.
    NameList<16> filters = {};
    const char* idempotency = "";
    const char* executor = "";
};

/// What the names in declarations mean in this program. Everything named outlives the client.
class ConsumerBindings {
public:
    ConsumerBindings& AddExecutor(std::string name, Executor& executor);
    ConsumerBindings& AddFilter(std::string name, std::shared_ptr<Filter> filter);
    ConsumerBindings& AddIdempotency(std::string name, std::shared_ptr<IdempotencyStore> store);
    /// The object whose member functions `QMQ_CONSUMER_FN(&T::…)` named. For a member that T
    /// inherits it is `AddObject<Base>`, with the base class that has the member.
    template <typename T>
    ConsumerBindings& AddObject(T& object) {
        objects_[&kTypeKey<T>] = &object;
        return *this;
    }
    /// Takes the list of consumers at start, one line each; standard error when not set.
    ConsumerBindings& SetLog(LogSink log);

private:
    friend struct ConsumerStarter;
    template <typename T>
    friend struct ConsumerTypeKey;
    template <typename T>
    static constexpr char kTypeKey = 0;

    std::map<std::string, Executor*, std::less<>> executors_;
    std::map<std::string, std::shared_ptr<Filter>, std::less<>> filters_;
    std::map<std::string, std::shared_ptr<IdempotencyStore>, std::less<>> idempotency_;
    std::map<const void*, void*> objects_;
    LogSink log_;
};

/// One declaration, for people and tools.
struct DeclaredConsumer {
    std::string_view subject;
    std::string_view group;
    std::string_view function;
    std::string_view file;
    int line = 0;
};

/// All declarations of this program, by subject, group, file and line.
std::vector<DeclaredConsumer> DeclaredConsumers();

/// Subscribes every declared consumer, after it has checked them all; all or none is started. Lists
/// them.
///
/// kInvalidArgument names every problem with file and line: two handlers for one subject and group,
/// an empty group without broadcast, an option out of range, a name or an object that `bindings`
/// does not have. kFailedPrecondition: the program was linked without `qmq_add_consumers`; or it
/// has no declared consumer.
Result<std::vector<Subscription>> StartConsumers(Client& client,
                                                 const ConsumerBindings& bindings = {});

namespace internal {

using StartFunction = Result<Subscription> (*)(Client& client,
                                               SubscriptionOptions options,
                                               void* object);

/// A node of the list of declarations: made by the macros, before `main`, without allocating.
struct ConsumerDeclaration {
    const char* subject;
    const char* group;
    ConsumerOptions options;
    StartFunction start;
    const void* object_key;  // Null for a free function.
    const char* function;
    const char* file;
    int line;
    ConsumerDeclaration* next = nullptr;
};

class ConsumerRegistrar {
public:
    explicit ConsumerRegistrar(ConsumerDeclaration& declaration);
};

template <typename T>
struct MemberOf;
template <typename R, typename T, typename... Args>
struct MemberOf<R (T::*)(Args...)> {
    using Object = T;
};
template <typename R, typename T, typename... Args>
struct MemberOf<R (T::*)(Args...) const> {
    using Object = T;
};
template <typename R, typename T, typename... Args>
struct MemberOf<R (T::*)(Args...) noexcept> {
    using Object = T;
};
template <typename R, typename T, typename... Args>
struct MemberOf<R (T::*)(Args...) const noexcept> {
    using Object = T;
};

/// A member function together with its object: callable with what the function takes.
template <auto kFunction, typename Object>
struct BoundMember {
    Object* object;
    template <typename... Arguments>
    auto operator()(Arguments&&... arguments) const
        -> std::invoke_result_t<decltype(kFunction), Object&, Arguments...> {
        return (object->*kFunction)(std::forward<Arguments>(arguments)...);
    }
};

template <auto kFunction>
Result<Subscription> StartConsumer(Client& client, SubscriptionOptions options, void* object) {
    if constexpr (std::is_member_function_pointer_v<decltype(kFunction)>) {
        using Object = typename MemberOf<decltype(kFunction)>::Object;
        auto* target = static_cast<Object*>(object);
        // Whatever it takes and returns, `Handler` says whether that is a form of a handler.
        return client.Subscribe(std::move(options), BoundMember<kFunction, Object>{target});
    } else {
        (void)object;
        return client.Subscribe(std::move(options), kFunction);
    }
}

}  // namespace internal

/// The address that stands for a type in `ConsumerBindings`; null for a free function's.
template <typename T>
struct ConsumerTypeKey {
    static constexpr const void* Get() { return nullptr; }
};
template <typename F>
requires std::is_member_function_pointer_v<F>
struct ConsumerTypeKey<F> {
    static constexpr const void* Get() {
        return &ConsumerBindings::template kTypeKey<typename internal::MemberOf<F>::Object>;
    }
};

}  // namespace qmq

// The options come last and may be missing: a comma is added so that there always is a rest, and
// the initialiser takes the trailing one.
#define QMQ_INTERNAL_FIRST(first, ...) first
#define QMQ_INTERNAL_REST(first, ...) __VA_ARGS__
#define QMQ_INTERNAL_JOIN2(a, b) a##b
#define QMQ_INTERNAL_JOIN(a, b) QMQ_INTERNAL_JOIN2(a, b)

#define QMQ_INTERNAL_DECLARE(unique, function, text, subject, ...)                                \
    static constinit ::qmq::internal::ConsumerDeclaration QMQ_INTERNAL_JOIN(unique, Declaration){ \
        subject,                                                                                  \
        QMQ_INTERNAL_FIRST(__VA_ARGS__, ),                                                        \
        ::qmq::ConsumerOptions{QMQ_INTERNAL_REST(__VA_ARGS__, )},                                 \
        &::qmq::internal::StartConsumer<function>,                                                \
        ::qmq::ConsumerTypeKey<std::decay_t<decltype(function)>>::Get(),                          \
        text,                                                                                     \
        __FILE__,                                                                                 \
        __LINE__};                                                                                \
    [[maybe_unused]] static const ::qmq::internal::ConsumerRegistrar QMQ_INTERNAL_JOIN(           \
        unique, Registrar)(QMQ_INTERNAL_JOIN(unique, Declaration))

#define QMQ_INTERNAL_OPEN(unique, subject, ...)                                 \
    static void unique(const ::qmq::Message&);                                  \
    QMQ_INTERNAL_DECLARE(unique, unique, "QMQ_CONSUMER", subject, __VA_ARGS__); \
    static void unique

/// Opens a consumer: `QMQ_CONSUMER(subject, group, options…) (const qmq::Message& message) { … }`,
/// at namespace scope. Returning acks; throwing delivers again (`qmq::RetryLater`, `qmq::Reject`
/// say how).
#define QMQ_CONSUMER(subject, ...) \
    QMQ_INTERNAL_OPEN(QMQ_INTERNAL_JOIN(qmq_consumer_, __COUNTER__), subject, __VA_ARGS__)

/// Declares an existing function or member function of any handler form, after its declaration, at
/// namespace scope: `QMQ_CONSUMER_FN(function, subject, group, options…);`.
#define QMQ_CONSUMER_FN(function, subject, ...) \
    QMQ_INTERNAL_DECLARE(                       \
        QMQ_INTERNAL_JOIN(qmq_consumer_, __COUNTER__), function, #function, subject, __VA_ARGS__)
