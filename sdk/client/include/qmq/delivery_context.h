#pragma once

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

#include "qmq/clock.h"
#include "qmq/message.h"

namespace qmq {

/// One delivery while filters and its handler have it: what is known of it, and a place for what
/// filters hand on to each other and to the handler (a span, a transaction).
///
/// The client makes one for each delivery. It can be referred to inside `Filter::Handle`, the
/// handler and `Filter::OnSettled`, and no longer. It is not locked: where the application decides
/// a manual delivery on another thread before `Filter::Handle` has returned, `OnSettled` has it
/// there at the same time, so a filter puts in what it has before `next`. A test of a filter or
/// handler makes its own.
class DeliveryContext {
public:
    struct Facts {
        std::string_view group{};
        std::string_view broker_group{};
        /// Of the message in its subject, or in the group's retry subject where it was taken from
        /// there, at this broker group; as `SendReceipt::sequence`.
        std::uint64_t sequence = 0;
        /// Soon after this (`max_processing_time`; within a third of `ack_timeout`) the message is
        /// given up, and what becomes of the handler counts no more.
        TimePoint deadline = TimePoint::max();
        const std::stop_token* stop_token = nullptr;
    };

    explicit DeliveryContext(const Message& message) : DeliveryContext(message, Facts()) {}
    /// `message` and what `facts` refers to outlive it.
    DeliveryContext(const Message& message, const Facts& facts)
        : message_(message), facts_(facts) {}
    explicit DeliveryContext(const Message&&) = delete;  // It would refer to what is gone.
    DeliveryContext(const Message&&, const Facts&) = delete;
    DeliveryContext(const DeliveryContext&) = delete;
    DeliveryContext& operator=(const DeliveryContext&) = delete;
    /// What was put in last goes first.
    ~DeliveryContext() {
        while (!slots_.empty()) {
            slots_.pop_back();
        }
    }

    const Message& message() const { return message_; }
    std::string_view group() const { return facts_.group; }
    std::string_view broker_group() const { return facts_.broker_group; }
    std::uint64_t sequence() const { return facts_.sequence; }
    std::uint32_t attempt() const { return message_.attempt(); }
    TimePoint deadline() const { return facts_.deadline; }
    /// Asked to stop when the subscription closes or the client shuts down: a long handler may end
    /// early then, for instance by throwing `Later`. With `at_most_once`, when the time for that is
    /// over.
    std::stop_token stop_token() const {
        return facts_.stop_token == nullptr ? std::stop_token() : *facts_.stop_token;
    }

    /// Keeps `value` until the delivery has ended, in place of another one of its type.
    template <typename T>
    T& Put(T value) {
        auto kept = std::make_shared<T>(std::move(value));
        T& result = *kept;
        for (Slot& slot : slots_) {
            if (*slot.type == typeid(T)) {
                slot.value = std::move(kept);
                return result;
            }
        }
        slots_.push_back({&typeid(T), std::move(kept)});
        return result;
    }
    /// Null when nobody has put one in.
    template <typename T>
    T* Find() const {
        for (const Slot& slot : slots_) {
            if (*slot.type == typeid(T)) {
                return static_cast<T*>(slot.value.get());
            }
        }
        return nullptr;
    }

private:
    struct Slot {
        const std::type_info* type = nullptr;
        std::shared_ptr<void> value;
    };

    const Message& message_;
    const Facts facts_;
    std::vector<Slot> slots_;
};

}  // namespace qmq
