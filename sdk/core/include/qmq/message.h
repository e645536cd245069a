#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/clock.h"
#include "qmq/name_view.h"
#include "qmq/slice.h"
#include "qmq/status.h"

namespace qmq {

namespace internal {
struct MessageAccess;
struct MessageSource;
}  // namespace internal

/// Thrown by `Message::Get` when a property is absent or cannot be read as the type asked for.
/// Inside a handler it needs no catching: the message is delivered again and in the end becomes a
/// dead letter with this text.
class PropertyError : public std::exception {
public:
    explicit PropertyError(std::string what) : what_(std::move(what)) {}
    const char* what() const noexcept override { return what_.c_str(); }

private:
    std::string what_;
};

/// What a property's value was when it was set. On the wire every value is text, so that clients in
/// all languages read it; the kind travels beside it.
enum class PropertyKind : std::uint8_t {
    kString = 0,
    kBool = 1,
    kInt = 2,
    kDouble = 3,
    kTime = 4,
    kBytes = 5
};

/// One property as it is stored. Views live as long as the message is neither changed nor
/// destroyed.
struct Property {
    std::string_view name;
    PropertyKind kind = PropertyKind::kString;
    std::string_view text;
};

/// The types that a property can have.
template <typename T>
concept PropertyType = std::same_as<T, bool> || std::same_as<T, std::int32_t> ||
    std::same_as<T, std::int64_t> || std::same_as<T, float> || std::same_as<T, double> ||
    std::same_as<T, WallTime> || std::same_as<T, std::string>;

/// A message: a subject, typed properties, tags, and a body of any bytes.
///
/// A value type. Copies of a received message share its bytes; changing one copies them first. Not
/// thread-safe: one thread changes it, or many read it.
///
/// Setters never fail in place: the first mistake is kept, `Validate()` and every send report it,
/// and nothing half-set is sent.
///
/// A message that was received can be sent again, as it is or changed, unless it came from a dead
/// letter subject: it keeps its id and creation time, and begins at its first attempt, without the
/// last error and its due time.
class Message {
public:
    /// Most tags. [I]: other clients cannot read more.
    static constexpr std::size_t kMaxTags = 10;
    /// Most bytes of a tag, a property's name or an ordering key.
    static constexpr std::size_t kMaxNameBytes = 32'767;
    /// Most bytes of a whole message as it travels that any broker can be set to take. What the
    /// brokers of a subject take is 4 MiB unless they say otherwise; `Producer::Send` checks it.
    static constexpr std::size_t kMaxMessageBytes = 64U << 20;

    Message();
    explicit Message(std::string subject);
    /// As above. A null pointer, here and in every setter, is a mistake that `Validate()` tells; a
    /// null name is an empty one, which no property has.
    explicit Message(const char* subject);
    Message(const Message&);
    Message& operator=(const Message&);
    Message(Message&&) noexcept;
    Message& operator=(Message&&) noexcept;
    ~Message();

    std::string_view subject() const;

    /// Unique among all processes, containers and restarts. Empty until the message is sent, unless
    /// `SetId` set it.
    std::string_view id() const;
    /// Replaces the generated id. 1 to 100 characters.
    Message& SetId(std::string id);
    Message& SetId(const char* id);

    /// Sets property `name`, replacing what it had: then it is the last one. Names starting "qmq_"
    /// are refused when they are one of the reserved keys of the system; a name that is empty, over
    /// `kMaxNameBytes` or not UTF-8, too. Values of any size up to `kMaxMessageBytes` are kept
    /// whole, never split; one that is not UTF-8 becomes a property of kind kBytes. The views may
    /// lie in this message. To set a new name costs the same however many there are; to replace one
    /// walks all of them.
    Message& Set(NameView name, bool value);
    Message& Set(NameView name, std::int32_t value);
    Message& Set(NameView name, std::int64_t value);
    Message& Set(NameView name, float value);
    Message& Set(NameView name, double value);
    Message& Set(NameView name, WallTime value);
    Message& Set(NameView name, std::string_view value);
    Message& Set(NameView name, const char* value) {
        return value == nullptr ? SetNull(name) : Set(name, std::string_view(value));
    }
    Message& Set(NameView name, const std::string& value) {
        return Set(name, std::string_view(value));
    }

    /// The value of `name`, read from its text. Throws `PropertyError` when it is absent or not
    /// such a value. Booleans: case-insensitive "true", all else is false. Numbers and times are
    /// decimal; a double takes Java's words for infinities and not-a-number. A large text that
    /// another client split into parts is put together.
    template <PropertyType T>
    T Get(NameView name) const;
    /// As `Get`, without throwing: kNotFound when absent, kInvalidArgument when it is not such a
    /// value.
    template <PropertyType T>
    Result<T> Find(NameView name) const;
    /// As `Find`, with `fallback` for both errors; makes no text of them.
    template <PropertyType T>
    T GetOr(NameView name, T fallback) const {
        std::optional<T> found = TryGet<T>(name);
        return found ? std::move(*found) : std::move(fallback);
    }
    bool Has(NameView name) const;
    /// The text of `name` as it is stored, without a copy; nothing when absent. The view lives as
    /// long as the message is neither changed nor destroyed.
    std::optional<std::string_view> FindText(NameView name) const;
    /// In the order in which they were set.
    std::vector<Property> properties() const;

    /// Adds a tag: non-empty UTF-8, at most `kMaxNameBytes`. A tag that is there already is not
    /// added again; an 11th is refused.
    Message& AddTag(std::string_view tag);
    Message& AddTag(const char* tag) {
        return FailIfNull(tag, "a tag") ? *this : AddTag(std::string_view(tag));
    }
    std::vector<std::string_view> tags() const;
    bool HasTag(NameView tag) const;

    /// Any bytes.
    Message& SetBody(std::string body);
    Message& SetBody(const char* body);
    std::string_view body() const;

    /// The key is stored with the message. One producer sends the messages of one key of a subject
    /// to one broker group, in the order of its calls, also after a retry (`Producer`). Handlers of
    /// one subscription may handle them at the same time. 1 to `kMaxNameBytes` bytes of UTF-8.
    Message& SetOrderingKey(std::string_view key);
    Message& SetOrderingKey(const char* key);
    std::string_view ordering_key() const;

    /// The message is to be delivered no earlier than this; less than 500 ms from its send it is
    /// delivered at once. Negative delays are refused.
    Message& SetDelay(std::chrono::milliseconds delay, const Clock& clock = SystemClock());
    Message& SetDeliverAt(WallTime when);
    std::optional<WallTime> deliver_at() const;

    /// When the message was made; it keeps this through retries. Set when sent unless set before.
    WallTime created_time() const;
    Message& SetCreatedTime(WallTime when);

    /// Which delivery this is, from 1; counted by the server, so that a process that dies on a
    /// message counts too: where the server had heard that a handler had begun, else from the third
    /// such death on.
    std::uint32_t attempt() const;
    /// Why the delivery before this one failed, if the handler said so; empty at first.
    std::string last_error() const;

    /// Ok, or kInvalidArgument with the first mistake made while setting: a subject that may not be
    /// sent to, or more than `kMaxMessageBytes` in all, is one too.
    Status Validate() const;

    /// Bytes that it takes in a batch, headers included.
    std::size_t encoded_bytes() const;

private:
    friend struct internal::MessageAccess;

    struct Views {
        std::string_view subject;
        std::string_view id;
        std::string_view tags;  // Encoded as in a batch.
        std::string_view key;
        std::string_view properties;  // Encoded as in a batch.
        std::string_view body;
    };
    struct Own;

    Views Parts() const;
    Own& Mutable();
    void Fail(std::string mistake);
    Message& SetText(std::string_view name, PropertyKind kind, std::string_view text);
    /// Adds the mistake that `what` is null. True when it is.
    bool FailIfNull(const char* value, std::string_view what) {
        if (value == nullptr) {
            FailNull(what);
        }
        return value == nullptr;
    }
    void FailNull(std::string_view what);
    Message& SetNull(std::string_view name);
    /// The value, or nothing when it is absent or no such value.
    template <PropertyType T>
    std::optional<T> TryGet(std::string_view name) const;

    // Exactly one of the two: what we made, or what we received and share with its batch.
    std::unique_ptr<Own> own_;
    std::shared_ptr<const internal::MessageSource> source_;
    Views views_;  // Into source_.
    WallTime created_{};
    WallTime deliver_at_{};  // The epoch when there is none.
    std::uint32_t attempt_ = 1;
    std::uint8_t tag_count_ = 0;
    bool due_time_came_ = false;  // With a delivery; nobody has set it since.
    Status error_;
};

}  // namespace qmq
