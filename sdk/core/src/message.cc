#include "qmq/message.h"

#include <functional>
#include <limits>
#include <utility>

#include "qmq/id.h"
#include "qmq/subject.h"

#include "sdk/core/src/batch_codec.h"
#include "sdk/core/src/little_endian.h"
#include "sdk/core/src/property_block.h"
#include "sdk/core/src/utf8.h"
#include "sdk/core/src/value_text.h"

namespace qmq {

using internal::NumberText;
using internal::Quote;

struct Message::Own {
    std::string subject;
    std::string id;
    std::string tags;
    std::string key;
    std::string properties;
    std::string body;
    internal::PropertyNames names;  // Of `properties`.
};

namespace {

// Whether growing `owner` could take `view` away.
bool LiesIn(std::string_view view, std::string_view owner) {
    const std::less<const char*> before;
    return !before(view.data(), owner.data()) && before(view.data(), owner.data() + owner.size());
}

bool IsGoodName(std::string_view name) {
    return !name.empty() && name.size() <= Message::kMaxNameBytes && internal::IsUtf8(name);
}

/// What is wrong with a name that is not good.
std::string NameError(std::string_view what, std::string_view name) {
    if (name.empty()) {
        return std::string(what) + " is empty";
    }
    std::string error = std::string(what) + " " + Quote(name);
    if (name.size() <= Message::kMaxNameBytes) {
        return error.append(" is not UTF-8");
    }
    return error.append(" has ")
        .append(std::to_string(name.size()))
        .append(" bytes; at most ")
        .append(std::to_string(Message::kMaxNameBytes))
        .append(" are allowed");
}

bool TagsContain(std::string_view tags, std::string_view tag) {
    while (!tags.empty()) {
        const std::size_t size = internal::Load16(tags.data());
        if (tags.substr(2, size) == tag) {
            return true;
        }
        tags.remove_prefix(2 + size);
    }
    return false;
}

}  // namespace

Message::Message() = default;

Message::Message(std::string subject)
    : own_(std::make_unique<Own>()), error_(ValidateSubject(subject)) {
    own_->subject = std::move(subject);
}

Message::Message(const char* subject) : Message(std::string(subject != nullptr ? subject : "")) {
    if (subject == nullptr) {
        error_ = Status::InvalidArgument("the subject is a null pointer");
    }
}

Message::Message(const Message& other)
    : own_(other.own_ ? std::make_unique<Own>(*other.own_) : nullptr),
      source_(other.source_),
      views_(other.views_),
      created_(other.created_),
      deliver_at_(other.deliver_at_),
      attempt_(other.attempt_),
      tag_count_(other.tag_count_),
      due_time_came_(other.due_time_came_),
      error_(other.error_) {}

Message& Message::operator=(const Message& other) {
    if (this != &other) {
        *this = Message(other);
    }
    return *this;
}

// Not defaulted: what was moved from must not keep views into bytes that it no longer shares.
Message::Message(Message&& other) noexcept
    : own_(std::move(other.own_)),
      source_(std::move(other.source_)),
      views_(std::exchange(other.views_, {})),
      created_(std::exchange(other.created_, {})),
      deliver_at_(std::exchange(other.deliver_at_, {})),
      attempt_(std::exchange(other.attempt_, 1)),
      tag_count_(std::exchange(other.tag_count_, std::uint8_t{0})),
      due_time_came_(std::exchange(other.due_time_came_, false)),
      error_(std::exchange(other.error_, {})) {}

Message& Message::operator=(Message&& other) noexcept {
    if (this != &other) {
        own_ = std::move(other.own_);
        source_ = std::move(other.source_);
        views_ = std::exchange(other.views_, {});
        created_ = std::exchange(other.created_, {});
        deliver_at_ = std::exchange(other.deliver_at_, {});
        attempt_ = std::exchange(other.attempt_, 1);
        tag_count_ = std::exchange(other.tag_count_, std::uint8_t{0});
        due_time_came_ = std::exchange(other.due_time_came_, false);
        error_ = std::exchange(other.error_, {});
    }
    return *this;
}

Message::~Message() = default;

Message::Views Message::Parts() const {
    if (own_ == nullptr) {
        return views_;
    }
    return {own_->subject, own_->id, own_->tags, own_->key, own_->properties, own_->body};
}

Message::Own& Message::Mutable() {
    if (own_ == nullptr) {
        own_ = std::make_unique<Own>(Own{std::string(views_.subject),
                                         std::string(views_.id),
                                         std::string(views_.tags),
                                         std::string(views_.key),
                                         std::string(views_.properties),
                                         std::string(views_.body),
                                         {}});
        if (source_ != nullptr && error_.ok()) {
            error_ = ValidateSubject(own_->subject);
        }
        views_ = {};
        source_.reset();
    }
    return *own_;
}

void Message::Fail(std::string mistake) {
    if (error_.ok()) {
        error_ = Status::InvalidArgument(std::move(mistake));
    }
}

std::string_view Message::subject() const {
    return own_ ? own_->subject : views_.subject;
}
std::string_view Message::id() const {
    return own_ ? own_->id : views_.id;
}
std::string_view Message::body() const {
    return own_ ? own_->body : views_.body;
}
std::string_view Message::ordering_key() const {
    return own_ ? own_->key : views_.key;
}
WallTime Message::created_time() const {
    return created_;
}
std::uint32_t Message::attempt() const {
    return attempt_;
}

void Message::FailNull(std::string_view what) {
    Fail(std::string(what) + " is a null pointer");
}

Message& Message::SetId(const char* id) {
    return FailIfNull(id, "the message id") ? *this : SetId(std::string(id));
}

Message& Message::SetId(std::string id) {
    const std::optional<std::size_t> length = internal::CountCodePoints(id);
    if (!length || *length == 0 || *length > kMaxNameLength) {
        Fail("message id " + Quote(id) +
             (!length ? std::string(" is not UTF-8")
                      : " has " + std::to_string(*length) + " characters; 1 to 100 are allowed"));
        return *this;
    }
    Mutable().id = std::move(id);
    return *this;
}

Message& Message::SetText(std::string_view name, PropertyKind kind, std::string_view text) {
    if (!IsGoodName(name)) {
        Fail(NameError("property name", name));
        return *this;
    }
    if (internal::IsReservedName(name)) {
        Fail("property name " + Quote(name) + " is reserved for the system; choose another name");
        return *this;
    }
    if (text.size() > kMaxMessageBytes) {
        Fail("property " + Quote(name) + " has a value of " + std::to_string(text.size()) +
             " bytes; a whole message has at most " + std::to_string(kMaxMessageBytes));
        return *this;
    }
    // Both may be views into this very message, received or own.
    const auto keep = source_;
    std::string& block = Mutable().properties;
    if (LiesIn(name, block) || LiesIn(text, block)) {
        const std::string own_name(name);
        const std::string own_text(text);
        return SetText(own_name, kind, own_text);
    }
    internal::PropertyNames& names = own_->names;
    if (names.MayHave(name, block)) {
        internal::EraseProperty(name, block);
        names.Remove(name);
    }
    internal::AppendProperty(name, kind, text, block);
    names.Add(name);
    return *this;
}

Message& Message::Set(NameView name, bool value) {
    return SetText(name, PropertyKind::kBool, value ? "true" : "false");
}
Message& Message::Set(NameView name, std::int32_t value) {
    return SetText(name, PropertyKind::kInt, NumberText(std::int64_t{value}).view());
}
Message& Message::Set(NameView name, std::int64_t value) {
    return SetText(name, PropertyKind::kInt, NumberText(value).view());
}
Message& Message::Set(NameView name, float value) {
    return SetText(name, PropertyKind::kDouble, NumberText(value).view());
}
Message& Message::Set(NameView name, double value) {
    return SetText(name, PropertyKind::kDouble, NumberText(value).view());
}
Message& Message::Set(NameView name, WallTime value) {
    const std::int64_t milliseconds = value.time_since_epoch().count();
    return SetText(name, PropertyKind::kTime, NumberText(milliseconds).view());
}
Message& Message::Set(NameView name, std::string_view value) {
    const bool text = internal::IsUtf8(value);
    return SetText(name, text ? PropertyKind::kString : PropertyKind::kBytes, value);
}

Message& Message::SetNull(std::string_view name) {
    FailNull("the value of property " + Quote(name));
    return *this;
}

std::optional<std::string_view> Message::FindText(NameView name) const {
    const auto found = internal::FindProperty(Parts().properties, name);
    return found ? std::optional(found->text) : std::nullopt;
}

bool Message::Has(NameView name) const {
    return FindText(name).has_value() ||
           internal::FindProperty(Parts().properties, std::string(name) + "#part0").has_value();
}

std::vector<Property> Message::properties() const {
    std::vector<Property> all;
    internal::PropertyReader reader(Parts().properties);
    while (const std::optional<Property> property = reader.Next()) {
        all.push_back(*property);
    }
    return all;
}

Message& Message::AddTag(std::string_view tag) {
    if (!IsGoodName(tag)) {
        Fail(NameError("tag", tag));
        return *this;
    }
    if (HasTag(tag)) {
        return *this;
    }
    if (tag_count_ >= kMaxTags) {
        Fail("tag " + Quote(tag) + " is one too many: a message has at most " +
             std::to_string(kMaxTags) + " tags");
        return *this;
    }
    const auto keep = source_;
    std::string& tags = Mutable().tags;
    if (LiesIn(tag, tags)) {
        const std::string own_tag(tag);  // The tags now move.
        return AddTag(own_tag);
    }
    const std::size_t begin = tags.size();
    tags.resize(begin + 2 + tag.size());
    char* to = internal::Store(tags.data() + begin, static_cast<std::uint16_t>(tag.size()));
    internal::StoreBytes(to, tag);
    ++tag_count_;
    return *this;
}

std::vector<std::string_view> Message::tags() const {
    std::vector<std::string_view> all;
    all.reserve(tag_count_);
    for (std::string_view rest = Parts().tags; !rest.empty();) {
        const std::size_t size = internal::Load16(rest.data());
        all.push_back(rest.substr(2, size));
        rest.remove_prefix(2 + size);
    }
    return all;
}

bool Message::HasTag(NameView tag) const {
    return TagsContain(own_ ? own_->tags : views_.tags, tag);
}

Message& Message::SetBody(std::string body) {
    if (body.size() > kMaxMessageBytes) {
        Fail("the body has " + std::to_string(body.size()) +
             " bytes; a whole message has at most " + std::to_string(kMaxMessageBytes));
        return *this;
    }
    Mutable().body = std::move(body);
    return *this;
}

Message& Message::SetBody(const char* body) {
    return FailIfNull(body, "the body") ? *this : SetBody(std::string(body));
}

Message& Message::SetOrderingKey(const char* key) {
    return FailIfNull(key, "the ordering key") ? *this : SetOrderingKey(std::string_view(key));
}

Message& Message::SetOrderingKey(std::string_view key) {
    if (!IsGoodName(key)) {
        Fail(NameError("ordering key", key));
        return *this;
    }
    const auto keep = source_;
    Mutable().key.assign(key);
    return *this;
}

Message& Message::SetDelay(std::chrono::milliseconds delay, const Clock& clock) {
    const WallTime now = clock.WallNow();
    if (delay.count() < 0 || delay > WallTime::max() - std::max(now, WallTime{})) {
        Fail("a delay of " + std::to_string(delay.count()) + " ms is " +
             (delay.count() < 0 ? "negative" : "beyond the end of the calendar") +
             "; give 0 or more");
        return *this;
    }
    return SetDeliverAt(now + delay);
}

Message& Message::SetDeliverAt(WallTime when) {
    deliver_at_ = when;
    due_time_came_ = false;
    return *this;
}

std::optional<WallTime> Message::deliver_at() const {
    return deliver_at_ == WallTime{} ? std::nullopt : std::optional(deliver_at_);
}

Message& Message::SetCreatedTime(WallTime when) {
    created_ = when;
    return *this;
}

std::string Message::last_error() const {
    return std::string(FindText(internal::kLastErrorName).value_or(std::string_view()));
}

Status Message::Validate() const {
    std::size_t bytes = 0;
    return internal::MessageAccess::Validate(*this, &bytes);
}

Status internal::MessageAccess::Validate(const Message& message, std::size_t* encoded_bytes) {
    if (!message.error_.ok()) {
        return message.error_;
    }
    if (message.subject().empty()) {
        return Status::InvalidArgument("the message has no subject; make it with one");
    }
    if (message.own_ == nullptr) {  // It came, perhaps from a subject that nobody may send to.
        if (Status status = ValidateSubject(message.subject()); !status.ok()) {
            return status;
        }
    }
    *encoded_bytes = message.encoded_bytes();
    if (*encoded_bytes > Message::kMaxMessageBytes) {
        return Status::InvalidArgument("the message has " + std::to_string(*encoded_bytes) +
                                       " bytes as it travels; at most " +
                                       std::to_string(Message::kMaxMessageBytes) + " are allowed");
    }
    return Status::Ok();
}

bool internal::MessageAccess::ForgetDeliveries(Message& message) {
    if (message.attempt_ == 1 && message.source_ == nullptr && !message.due_time_came_) {
        return false;
    }
    bool changed = std::exchange(message.attempt_, 1U) != 1;
    if (message.due_time_came_) {
        message.SetDeliverAt(WallTime{});
        changed = true;
    }
    if (message.FindText(kLastErrorName).has_value()) {
        Message::Own& own = message.Mutable();
        EraseProperty(kLastErrorName, own.properties);
        own.names.Remove(kLastErrorName);
        changed = true;
    }
    return changed;
}

std::size_t Message::encoded_bytes() const {
    const internal::MessageFields fields = internal::MessageAccess::Fields(*this);
    const std::size_t generated_id = fields.id.empty() ? MessageIdGenerator::kLength : 0;
    return internal::EncodedBytes(fields) + generated_id;
}

}  // namespace qmq
