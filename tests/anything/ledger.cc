#include "tests/anything/ledger.h"

#include <algorithm>

#include "qmq/subject.h"

namespace qmq::anything {
namespace {

bool IsReal(const std::string& subject) {
    return ParseSubject(subject).kind == SubjectKind::kReal;
}

/// A group is reached by the name of its retry subject as well.
std::string GroupSubject(const std::string& subject, const std::string& group) {
    const SubjectParts parts = ParseSubject(subject);
    return parts.kind == SubjectKind::kRetry && parts.group == group
               ? std::string(parts.real_subject)
               : subject;
}

ConsumerKey Resolved(ConsumerKey key) {
    std::string subject = GroupSubject(key.subject, key.group);
    if (subject != key.subject) {
        key.source = ConsumeSource::kRetry;
        key.subject = std::move(subject);
    }
    return key;
}

std::string NameOf(const ConsumerKey& key) {
    return "group " + key.group + " of " + key.subject;
}

}  // namespace

void Ledger::Problem(const std::string& text) {
    constexpr std::size_t kShown = 10;
    if (problems_.size() < kShown) {
        problems_.push_back(text);
    }
}

void Ledger::OnSend(const std::string& id, const std::string& subject, const std::string& body) {
    messages_[id] = Message{subject, body};
}

void Ledger::OnReceipt(const std::string& id, const BatchReceipt& receipt, std::uint64_t place) {
    Message& message = messages_.at(id);
    message.told = true;
    message.outcome = receipt.outcome;
    message.reached = receipt.durability;
    message.sequence = receipt.first_sequence + place;
}

void Ledger::CheckMessage(const ConsumerKey& key, const Handed& handed) {
    const auto found = messages_.find(handed.id);
    if (found == messages_.end()) {
        if (!opaque_) {
            Problem("message " + handed.id + " was never sent, and came to " + NameOf(key));
        }
        return;
    }
    const Message& message = found->second;
    if (message.body != handed.body) {
        Problem("message " + handed.id + " came to " + NameOf(key) + " with another body");
    }
    if (message.told && message.outcome == SendOutcome::kRefused) {
        Problem("message " + handed.id + " was told refused, and came to " + NameOf(key));
    }
}

void Ledger::OnHanded(const ConsumerKey& asked, const std::vector<Handed>& messages) {
    const ConsumerKey key = Resolved(asked);
    Book& book = books_[{key.subject, key.group}];
    Consumer& consumer = consumers_[key];
    consumer.key = key;
    for (const Handed& handed : messages) {
        CheckMessage(key, handed);
        consumer.handed.emplace_back(handed.pull, handed.id);
        if (handed.id == kUnreadable) {
            continue;
        }
        Fate& fate = book.fates[handed.id];
        if (fate.acked && IsReal(key.subject)) {
            Problem("message " + handed.id + " came to " + NameOf(key) +
                    " again after its ack was confirmed");
        }
        again_ += fate.open ? 1U : 0U;
        fate.open = false;
    }
}

std::uint32_t Ledger::OnAck(const ConsumerKey& asked, const std::vector<AckItem>& items) {
    const ConsumerKey key = Resolved(asked);
    Consumer& consumer = consumers_[key];
    consumer.key = key;
    for (const AckItem& item : items) {
        if (item.verdict == AckVerdict::kAck || item.verdict == AckVerdict::kDeadLetter) {
            consumer.settled.emplace_back(item.first, item.last);
        }
    }
    return books_[{key.subject, key.group}].resets_begun;
}

void Ledger::OnAcked(const ConsumerKey& key,
                     const std::vector<std::string>& ids,
                     bool durably,
                     std::uint32_t since) {
    Book& book = books_[{GroupSubject(key.subject, key.group), key.group}];
    if (book.resets > 0 || book.resets_begun != since) {
        return;  // It may have been carried out after the ack.
    }
    for (const std::string& id : ids) {
        if (id == kUnreadable) {
            continue;
        }
        Fate& fate = book.fates[id];
        fate.acked = true;
        fate.acked_durably = fate.acked_durably || durably;
        ++acked_;
    }
}

void Ledger::OnReset(const std::string& subject, const std::string& group) {
    Book& book = books_[{GroupSubject(subject, group), group}];
    ++book.resets;
    ++book.resets_begun;
    book.was_reset = true;
    for (auto& [id, fate] : book.fates) {
        fate = {};
    }
}

void Ledger::OnResetDone(const std::string& subject, const std::string& group) {
    Book& book = books_[{GroupSubject(subject, group), group}];
    --book.resets;
}

void Ledger::OnGroupsForgotten() {
    for (auto& [name, book] : books_) {
        for (auto& [id, fate] : book.fates) {
            fate.acked = fate.acked_durably = false;
        }
    }
}

void Ledger::OnLoss(Loss loss) {
    worst_loss_ = std::max(worst_loss_, loss);
    for (auto& [name, book] : books_) {
        book.resets = 0;  // What was under way is carried out or never will be.
        for (auto& [id, fate] : book.fates) {
            fate.open = false;
            fate.acked = loss == Loss::kPowerCut ? fate.acked_durably : fate.acked;
        }
    }
    for (auto& [key, consumer] : consumers_) {
        Book& book = books_[{key.subject, key.group}];
        if (!IsReal(key.subject) || book.was_reset) {
            continue;
        }
        for (const auto& [pull, id] : consumer.handed) {
            if (id != kUnreadable) {
                book.fates[id].open = true;
            }
        }
    }
    // Any of its consumers may have done with it.
    for (auto& [key, consumer] : consumers_) {
        Book& book = books_[{key.subject, key.group}];
        for (const auto& [pull, id] : consumer.handed) {
            for (const auto& [first, last] : consumer.settled) {
                if (first <= pull && pull <= last) {
                    book.fates[id].open = false;
                }
            }
        }
    }
    if (loss == Loss::kPowerCut) {
        // The hand-outs may be forgotten, and then a filter may pass over the messages.
        for (auto& [key, consumer] : consumers_) {
            consumer.handed.clear();
        }
    }
}

void Ledger::OnReadAgain(const std::string& subject, const std::vector<Handed>& messages) {
    for (const Handed& handed : messages) {
        CheckMessage({subject, "reader", "reader"}, handed);
        if (ParseSubject(subject).kind == SubjectKind::kDeadLetter) {
            dead_[subject].insert(handed.id);
        }
        const auto found = messages_.find(handed.id);
        if (found == messages_.end() || found->second.subject != subject) {
            continue;
        }
        Message& message = found->second;
        const bool elsewhere = message.told && message.outcome == SendOutcome::kPersisted &&
                               message.sequence != handed.sequence;
        // A later attempt comes from a retry subject, which counts for itself.
        if (elsewhere && handed.attempt == 1 && IsReal(subject)) {
            Problem("message " + handed.id + " was told sequence " +
                    std::to_string(message.sequence) + " and has " +
                    std::to_string(handed.sequence));
        }
        // A retry subject has later copies as well.
        message.read_again = message.read_again || !elsewhere;
    }
}

void Ledger::CheckOpen() {
    for (const auto& [name, book] : books_) {
        const auto& dead = dead_[DeadLetterSubject(name.first, name.second)];
        for (const auto& [id, fate] : book.fates) {
            const auto found = messages_.find(id);
            if (fate.open && found != messages_.end() && found->second.read_again &&
                !dead.contains(id)) {
                Problem("message " + id + " was handed to group " + name.second + " of " +
                        name.first + ", never acked there, and did not come again");
            }
        }
    }
}

bool Ledger::MustBeThere(const Message& message) const {
    const Durability least =
        worst_loss_ == Loss::kPowerCut ? Durability::kFsync : Durability::kPageCache;
    return message.told && message.outcome == SendOutcome::kPersisted && message.reached >= least;
}

void Ledger::Judge() {
    if (!terms_.all_is_kept) {
        return;
    }
    for (const auto& [id, message] : messages_) {
        if (!MustBeThere(message)) {
            continue;
        }
        ++required_;
        if (!message.read_again) {
            Problem("message " + id + " of " + message.subject + " was told persisted (" +
                    std::string(ToString(message.reached)) + ") and is lost");
        }
    }
    if (terms_.time_passes) {
        CheckOpen();
    }
}

bool Ledger::AllRead() const {
    return std::all_of(messages_.begin(), messages_.end(), [this](const auto& entry) {
        return entry.second.read_again || !MustBeThere(entry.second);
    });
}

void Ledger::CountInto(std::map<std::string, std::uint64_t>& counters) const {
    counters["messages"] += messages_.size();
    counters["messages that must be there"] += required_;
    counters["acks that must hold"] += acked_;
    counters["handed out again"] += again_;
}

std::vector<std::pair<std::string, std::string>> Ledger::groups() const {
    std::vector<std::pair<std::string, std::string>> all;
    for (const auto& [name, book] : books_) {
        if (!book.fates.empty() && IsReal(name.first)) {
            all.push_back(name);
        }
    }
    return all;
}

std::set<std::string> Ledger::subjects() const {
    std::set<std::string> all;
    for (const auto& [id, message] : messages_) {
        if (message.told && message.outcome == SendOutcome::kPersisted) {
            all.insert(message.subject);
        }
    }
    return all;
}

}  // namespace qmq::anything
