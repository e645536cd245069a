#pragma once

#include <concepts>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include "qmq/check.h"

namespace qmq {

template <typename Signature>
class UniqueFunction;

/// A callable that is moved and never copied; `std::move_only_function` before C++23. Callables of
/// at most 64 bytes that move without throwing are kept inside, so that handing one over allocates
/// nothing. An empty `std::function`, or a null pointer to a function, makes an empty one.
template <typename R, typename... Args>
class UniqueFunction<R(Args...)> {
public:
    UniqueFunction() = default;
    UniqueFunction(std::nullptr_t) {}  // NOLINT(google-explicit-constructor): like std::function.

    template <typename F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, UniqueFunction> &&
             std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
        UniqueFunction(F&& callable) {  // NOLINT(google-explicit-constructor): like std::function.
        using Callable = std::decay_t<F>;
        // A function by its name is never null, and compilers warn of who asks.
        if constexpr (kMayBeNull<Callable> && !std::is_function_v<std::remove_reference_t<F>>) {
            if (callable == nullptr) {
                return;
            }
        }
        if constexpr (kFitsInside<Callable>) {
            ::new (static_cast<void*>(&storage_)) Callable(std::forward<F>(callable));
            table_ = &kInsideTable<Callable>;
        } else {
            ::new (static_cast<void*>(&storage_))
                Callable*(new Callable(std::forward<F>(callable)));
            table_ = &kHeapTable<Callable>;
        }
    }

    UniqueFunction(UniqueFunction&& other) noexcept { MoveFrom(other); }
    UniqueFunction& operator=(UniqueFunction&& other) noexcept {
        if (this != &other) {
            Reset();
            MoveFrom(other);
        }
        return *this;
    }
    UniqueFunction(const UniqueFunction&) = delete;
    UniqueFunction& operator=(const UniqueFunction&) = delete;
    ~UniqueFunction() { Reset(); }

    explicit operator bool() const { return table_ != nullptr; }
    friend bool operator==(const UniqueFunction& function, std::nullptr_t) { return !function; }

    /// Calls it. Calling an empty one ends the process.
    R operator()(Args... args) {
        QMQ_CHECK(table_ != nullptr, "a UniqueFunction is called that is empty or was moved from");
        return table_->invoke(&storage_, std::forward<Args>(args)...);
    }

private:
    static constexpr std::size_t kInsideBytes = 64;

    struct Table {
        R (*invoke)(void* storage, Args&&... args);
        void (*move)(void* from, void* to) noexcept;  // Leaves `from` destroyed.
        void (*destroy)(void* storage) noexcept;
    };

    /// Can be made from null and compared with it: `std::function` and its like, and pointers. Not
    /// a lambda, although one that captures nothing turns into a pointer.
    template <typename Callable>
    static constexpr bool kMayBeNull =
        std::is_constructible_v<Callable, std::nullptr_t>&& requires(const Callable& callable) {
        { callable == nullptr } -> std::convertible_to<bool>;
    };

    template <typename Callable>
    static constexpr bool kFitsInside = sizeof(Callable) <= kInsideBytes &&
                                        alignof(Callable) <= alignof(std::max_align_t) &&
                                        std::is_nothrow_move_constructible_v<Callable>;

    template <typename Callable>
    static constexpr Table kInsideTable = {
        [](void* storage, Args&&... args) -> R {
            return (*static_cast<Callable*>(storage))(std::forward<Args>(args)...);
        },
        [](void* from, void* to) noexcept {
            auto* callable = static_cast<Callable*>(from);
            ::new (to) Callable(std::move(*callable));
            callable->~Callable();
        },
        [](void* storage) noexcept { static_cast<Callable*>(storage)->~Callable(); }};

    template <typename Callable>
    static constexpr Table kHeapTable = {
        [](void* storage, Args&&... args) -> R {
            return (**static_cast<Callable**>(storage))(std::forward<Args>(args)...);
        },
        [](void* from, void* to) noexcept { ::new (to) Callable*(*static_cast<Callable**>(from)); },
        [](void* storage) noexcept { delete *static_cast<Callable**>(storage); }};

    void MoveFrom(UniqueFunction& other) noexcept {
        if (other.table_ != nullptr) {
            other.table_->move(&other.storage_, &storage_);
            table_ = std::exchange(other.table_, nullptr);
        }
    }
    void Reset() noexcept {
        if (table_ != nullptr) {
            std::exchange(table_, nullptr)->destroy(&storage_);
        }
    }

    alignas(std::max_align_t) std::byte storage_[kInsideBytes];
    const Table* table_ = nullptr;
};

/// What an executor runs.
using Task = UniqueFunction<void()>;

}  // namespace qmq
