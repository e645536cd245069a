#pragma once

#include "qmq/check.h"

namespace qmq::internal {

template <typename T>
class HookList;

/// A place of its owner in one list, which the owner leaves when it ends. Not thread-safe.
template <typename T>
class ListHook {
public:
    explicit ListHook(T& owner) : owner_(&owner) {}
    ListHook(const ListHook&) = delete;
    ListHook& operator=(const ListHook&) = delete;
    ~ListHook() { Unlink(); }

    bool is_linked() const { return behind_ != nullptr; }
    void Unlink() {
        if (is_linked()) {
            before_->behind_ = behind_;
            behind_->before_ = before_;
            before_ = behind_ = nullptr;
        }
    }

private:
    friend HookList<T>;
    ListHook() = default;  // Of a list: before the first and behind the last.

    T* const owner_ = nullptr;
    ListHook* before_ = nullptr;
    ListHook* behind_ = nullptr;
};

/// Things in an order, not owned; each has a hook for it.
template <typename T>
class HookList {
public:
    HookList() { end_.before_ = end_.behind_ = &end_; }
    HookList(const HookList&) = delete;
    HookList& operator=(const HookList&) = delete;
    ~HookList() { Clear(); }

    bool empty() const { return end_.behind_ == &end_; }
    /// Of one that is not empty.
    T& front() const { return *end_.behind_->owner_; }
    /// A hook that is not linked.
    void PushBack(ListHook<T>& hook) {
        QMQ_CHECK(!hook.is_linked(), "it is in a list already");
        Link(hook, hook);
    }
    void PopFront() { end_.behind_->Unlink(); }
    void Clear() {
        while (!empty()) {
            PopFront();
        }
    }
    /// Moves all of `other` behind what is here.
    void TakeAll(HookList& other) {
        if (!other.empty()) {
            ListHook<T>& first = *other.end_.behind_;
            ListHook<T>& last = *other.end_.before_;
            other.end_.before_ = other.end_.behind_ = &other.end_;
            Link(first, last);
        }
    }
    /// Calls `call` with each until it answers false.
    template <typename F>
    void ForEach(F&& call) const {
        for (const ListHook<T>* at = end_.behind_; at != &end_ && call(*at->owner_);) {
            at = at->behind_;
        }
    }

private:
    void Link(ListHook<T>& first, ListHook<T>& last) {
        first.before_ = end_.before_;
        last.behind_ = &end_;
        end_.before_->behind_ = &first;
        end_.before_ = &last;
    }

    ListHook<T> end_;
};

}  // namespace qmq::internal
