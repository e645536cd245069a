#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>
#include <variant>

#include "qmq/delivery_context.h"
#include "qmq/filter.h"
#include "qmq/function.h"
#include "qmq/message.h"
#include "qmq/subscription.h"

namespace qmq {

namespace internal {

class HandlerChain;

/// What the signature of a callable says about it as a handler.
enum class HandlerSignature : std::uint8_t {
    kMessage,
    kOutcome,
    kDelivery,
    kMessageWithOtherResult,
    kDeliveryWithResult,
    kDeliveryByReference,
    kOther
};

/// What a result of a handler of messages makes of it.
template <typename Result>
constexpr HandlerSignature SignatureWithResult() {
    using R = std::remove_cvref_t<Result>;
    return std::is_void_v<R>                   ? HandlerSignature::kMessage
           : std::is_same_v<R, HandlerOutcome> ? HandlerSignature::kOutcome
                                               : HandlerSignature::kMessageWithOtherResult;
}

/// Callable with a message and its context.
template <typename F>
inline constexpr bool kTakesContext = std::is_invocable_v<F&, const Message&, DeliveryContext&>;

template <typename F>
constexpr HandlerSignature SignatureOf() {
    // One question at a time: the body of a generic lambda is compiled by being asked about.
    if constexpr (std::is_invocable_v<F&, const Message&>) {
        return SignatureWithResult<std::invoke_result_t<F&, const Message&>>();
    } else if constexpr (kTakesContext<F>) {
        return SignatureWithResult<std::invoke_result_t<F&, const Message&, DeliveryContext&>>();
    } else if constexpr (std::is_invocable_v<F&, const Delivery&>) {
        return HandlerSignature::kDeliveryByReference;
    } else if constexpr (std::is_invocable_v<F&, Delivery>) {
        if constexpr (std::is_void_v<std::invoke_result_t<F&, Delivery>>) {
            return HandlerSignature::kDelivery;
        } else {
            return HandlerSignature::kDeliveryWithResult;
        }
    } else {
        return HandlerSignature::kOther;
    }
}

/// An empty `std::function` or a null pointer to a function.
template <typename F>
bool IsEmptyFunction(const F& callable) {
    if constexpr (std::is_constructible_v<F, std::nullptr_t> &&
                  std::is_constructible_v<bool, const F&>) {
        return !static_cast<bool>(callable);
    } else {
        return false;
    }
}

}  // namespace internal

/// What a subscription calls for each message. It is made from anything callable, also what can
/// only be moved, whose signature is one of these three:
///
///     [](const qmq::Message& message) { … }                         // Returning acks.
///     [](const qmq::Message& message) -> qmq::HandlerOutcome { … }  // Says the outcome.
///     [](qmq::Delivery delivery) { … }  // Ends the delivery itself, perhaps later and elsewhere.
///
/// The first two may take a `qmq::DeliveryContext&` behind the message: what is known of the
/// delivery, and what filters have put in.
///
/// Whatever can be called in one of these ways will do, also one that takes its parameter by value
/// or is a template. Other parameters or results do not compile: a handler that returns a `Status`,
/// a `bool` or a coroutine's task would otherwise ack messages whose failure it has just returned.
/// The signature of the outermost callable counts, so do not wrap such a handler into a
/// `std::function<void(const qmq::Message&)>`.
///
/// Throwing `RetryLater`, `Later` or `Reject` does what they say. Throwing anything else delivers
/// the message again, with the text of the exception. A handler may run for hours; it is called
/// from many threads at once when `SubscriptionOptions::parallelism` > 1.
class Handler {
public:
    enum class Form : std::uint8_t {
        kEmpty,
        kMessage,  ///< Its return ends the message: the first two signatures.
        kDelivery
    };

    Handler() = default;

    template <typename F>  // NOLINTNEXTLINE(google-explicit-constructor): Subscribe takes a lambda.
    requires(!std::is_same_v<std::remove_cvref_t<F>, Handler>) Handler(F&& callable)
        : call_(MakeCall(std::forward<F>(callable))) {}

    Form form() const { return static_cast<Form>(call_.index()); }
    explicit operator bool() const { return form() != Form::kEmpty; }

private:
    friend class internal::HandlerChain;
    using MessageCall = UniqueFunction<HandlerOutcome(const Message&, DeliveryContext&)>;
    using DeliveryCall = UniqueFunction<void(Delivery)>;
    using Call = std::variant<std::monostate, MessageCall, DeliveryCall>;

    template <typename F>
    static Call MakeCall(F&& callable) {
        using Callable = std::decay_t<F>;
        using Signature = internal::HandlerSignature;
        constexpr Signature kSignature = internal::SignatureOf<Callable>();
        if constexpr (kSignature <= Signature::kDelivery) {
            if (internal::IsEmptyFunction<Callable>(callable)) {
                return {};
            }
        }
        if constexpr (kSignature <= Signature::kOutcome) {
            return MessageCall([call = Callable(std::forward<F>(callable))](
                                   const Message& message, DeliveryContext& context) mutable {
                return CallMessage(call, message, context);
            });
        } else if constexpr (kSignature == Signature::kDelivery) {
            return DeliveryCall(std::forward<F>(callable));
        } else {
            static_assert(
                kSignature != Signature::kMessageWithOtherResult,
                "a handler of (const qmq::Message&) returns void (returning acks, throwing "
                "delivers again) or qmq::HandlerOutcome");
            static_assert(
                kSignature != Signature::kDeliveryWithResult,
                "a handler of (qmq::Delivery) returns void: what it does with the delivery "
                "is the outcome");
            static_assert(kSignature != Signature::kDeliveryByReference,
                          "a handler takes its qmq::Delivery by value, since it is to end it");
            static_assert(kSignature != Signature::kOther,
                          "a handler takes (const qmq::Message&) or (qmq::Delivery)");
            return {};
        }
    }

    template <typename Callable>
    static HandlerOutcome CallMessage(Callable& call,
                                      const Message& message,
                                      DeliveryContext& context) {
        const auto invoke = [&]() -> decltype(auto) {
            if constexpr (std::is_invocable_v<Callable&, const Message&>) {
                return std::invoke(call, message);
            } else {
                return std::invoke(call, message, context);
            }
        };
        if constexpr (std::is_void_v<decltype(invoke())>) {
            invoke();
            return HandlerOutcome::Ack();
        } else {
            return invoke();
        }
    }

    Call call_;
};

}  // namespace qmq
