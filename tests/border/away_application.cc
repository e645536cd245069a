#include "tests/border/away_application.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

namespace qmq::border {

using std::chrono::milliseconds;

namespace {

/// Futures that have their answers and are not read; with more the application waits for its own
/// reader. Each keeps the outcome of its batch, which may be one message.
constexpr std::size_t kMostUnread = 10'000;
/// Of what it keeps when it was answered long ago, the SDK's share: the ids of its batch.
constexpr std::uint64_t kIdBytes = 32;

}  // namespace

struct Application::Books {
    explicit Books(bool is_slow) : slow(is_slow) {}

    const bool slow;
    std::atomic<std::uint64_t> taken{0};
    std::atomic<std::uint64_t> refused{0};
    std::atomic<std::uint64_t> persisted{0};
    std::atomic<std::uint64_t> failed{0};
    std::atomic<std::uint64_t> unknown{0};
    std::atomic<std::uint64_t> dropped{0};
    std::atomic<std::uint64_t> own_bytes{0};
    std::atomic<std::uint64_t> handled{0};

    void Take(const SendReceipt& receipt) {
        switch (receipt.outcome) {
            case SendOutcome::kPersisted:
                ++persisted;
                break;
            case SendOutcome::kRefused:
                ++failed;
                break;
            case SendOutcome::kUnknown:
                ++unknown;
                break;
        }
        if (slow && handled++ % 16 == 0) {
            std::this_thread::sleep_for(milliseconds(1));
        }
    }
};

/// Captured by a callback.
class Application::Called {
public:
    explicit Called(std::shared_ptr<Books> books) : books_(std::move(books)) {}
    Called(Called&&) noexcept = default;
    Called& operator=(Called&&) = delete;
    ~Called() {
        if (books_ != nullptr) {
            ++books_->dropped;
        }
    }
    void operator()(const SendReceipt& receipt) {
        const auto books = std::move(books_);
        books->Take(receipt);
    }

private:
    std::shared_ptr<Books> books_;
};

/// Begins at once and destroys itself at its end; its frame is counted as the application's.
class Application::Coroutine {
public:
    struct promise_type {
        Coroutine get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::abort(); }
        static std::atomic<std::uint64_t>& Bytes() {
            static std::atomic<std::uint64_t> bytes{0};
            return bytes;
        }
        void* operator new(std::size_t size) {
            Bytes() += size + 16;  // With what the heap needs for it.
            return ::operator new(size);
        }
        void operator delete(void* memory, std::size_t size) {
            Bytes() -= size + 16;
            ::operator delete(memory);
        }
    };
};

Application::Application(const CaseOptions& options, Producer producer)
    : options_(options),
      producer_(std::move(producer)),
      books_(std::make_shared<Books>(options.slow)) {
    for (std::uint32_t i = 0; i < options.subjects; ++i) {
        subjects_.push_back("away.subject-" + std::to_string(i));
    }
    if (options_.form == Form::kFuture) {
        reader_ = std::thread([this] { ReadFutures(); });
    }
}

Application::~Application() {
    StopSending();
    reader_ends_ = true;
    if (reader_.joinable()) {
        reader_.join();
    }
}

Message Application::Make(std::uint64_t number) const {
    // Three small ones, and one of 4 KiB: what a message costs beside its body shows as well.
    const std::size_t bytes = number % 4 == 3 ? 4'096 : 16 + number % 112;
    return Message(subjects_[number % subjects_.size()]).SetBody(std::string(bytes, 'x'));
}

void Application::StartSending() {
    for (std::uint32_t i = 0; i < 2; ++i) {
        senders_.emplace_back([this, i] { Run(i); });
    }
}

void Application::StopSending() {
    stop_ = true;
    for (std::thread& sender : senders_) {
        sender.join();
    }
    senders_.clear();
}

void Application::Run(std::uint32_t seed) {
    for (std::uint64_t number = seed * 7'919ULL; !stop_; ++number) {
        (void)SendOne(Make(number), milliseconds(30'000));
    }
}

void Application::SendSome(std::uint64_t count, milliseconds timeout) {
    // A little room stays: who calls would wait for it for ever, since the broker is away.
    constexpr std::size_t kRoom = 64U << 10;
    for (std::uint64_t number = 0; number < count; ++number) {
        if (producer_.stats().pending_bytes + kRoom > options_.limit_bytes ||
            !SendOne(Make(number), timeout)) {
            break;
        }
    }
}

Application::Coroutine Application::Await(std::shared_ptr<Books> books, SendFuture future) {
    const SendReceipt receipt = co_await future;
    books->Take(receipt);
}

bool Application::SendOne(Message&& message, milliseconds timeout) {
    if (options_.form == Form::kCallback) {
        const Status sent = producer_.Send(std::move(message), timeout, Called(books_));
        ++(sent.ok() ? books_->taken : books_->refused);
        if (!sent.ok()) {
            --books_->dropped;  // What is not taken owes nothing.
        }
        return sent.ok();
    }
    SendFuture future = producer_.Send(std::move(message), timeout);
    if (future.ready()) {
        if (future.Get().status.code() == StatusCode::kResourceExhausted) {
            ++books_->refused;
            return false;
        }
    }
    ++books_->taken;
    if (options_.form == Form::kCoroutine) {
        Await(books_, std::move(future));
        return true;
    }
    for (;;) {
        {
            const std::lock_guard lock(mutex_);
            if (stop_ || futures_.size() < producer_.stats().pending_count + kMostUnread) {
                futures_.push_back(std::move(future));
                return true;
            }
        }
        std::this_thread::sleep_for(milliseconds(1));
    }
}

void Application::ReadFutures() {
    while (!reader_ends_) {
        std::optional<SendFuture> next;
        {
            const std::lock_guard lock(mutex_);
            if (!futures_.empty() && futures_.front().ready()) {
                next = std::move(futures_.front());
                futures_.pop_front();
            }
        }
        if (next.has_value()) {
            books_->Take(next->Get());
        } else {
            std::this_thread::sleep_for(milliseconds(1));
        }
    }
}

Application::Counts Application::counts() const {
    return {books_->taken,
            books_->refused,
            books_->persisted,
            books_->failed,
            books_->unknown,
            books_->dropped};
}

std::uint64_t Application::own_bytes() const {
    switch (options_.form) {
        case Form::kFuture: {
            const Counts now = counts();
            const std::uint64_t kept = now.taken - std::min(now.taken, now.answered());
            return kept * (sizeof(SendFuture) + (options_.slow ? kIdBytes : 0));
        }
        case Form::kCoroutine:
            return Coroutine::promise_type::Bytes();
        default:
            return 0;
    }
}

}  // namespace qmq::border
