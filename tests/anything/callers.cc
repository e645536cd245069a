#include "tests/anything/callers.h"

#include <algorithm>
#include <cstdio>

#include "qmq/batch.h"
#include "qmq/message.h"
#include "qmq/subject.h"

namespace qmq::anything {
namespace {

constexpr std::size_t kClients = 4;

std::string Short(const std::string& name) {
    std::string text;
    for (const char c : name.substr(0, 40)) {
        text += c >= ' ' && c < 127 ? c : '?';
    }
    return name.size() <= 40 ? text : text + "... (" + std::to_string(name.size()) + " bytes)";
}

std::string Show(const ConsumerKey& key) {
    return Short(key.subject) + "/" + Short(key.group) + "/" + Short(key.consumer_id) + "/" +
           std::to_string(static_cast<int>(key.source));
}

std::string Show(const SubscribeRequest& request) {
    std::string text = Show(request.key) + ", filter " +
                       std::to_string(static_cast<int>(request.filter.mode)) + " of " +
                       std::to_string(request.filter.tags.size()) + " tags, start " +
                       std::to_string(static_cast<int>(request.start)) + ", attempts " +
                       std::to_string(request.retry.max_attempts) + ", back-off " +
                       std::to_string(request.retry.initial_backoff.count()) + " x " +
                       std::to_string(request.retry.multiplier) + " to " +
                       std::to_string(request.retry.max_backoff.count()) + " ms, lease " +
                       std::to_string(request.ack_timeout.count()) + " ms, grace " +
                       std::to_string(request.reconnect_grace.count()) + " ms";
    if (request.resume) {
        text += ", resume " + std::to_string(request.resume->incarnation) + " at " +
                std::to_string(request.resume->next_pull_sequence);
    }
    return text;
}

std::string Show(const std::vector<AckItem>& items) {
    std::string text;
    for (const AckItem& item : items) {
        text += " " + std::to_string(static_cast<int>(item.verdict)) + ":[" +
                std::to_string(item.first) + "," + std::to_string(item.last) + "]";
        text += item.delay ? " in " + std::to_string(item.delay->count()) + " ms" : "";
        text += item.error.empty() ? "" : " error of " + std::to_string(item.error.size());
        text += " durability " + std::to_string(static_cast<int>(item.durability));
    }
    return text;
}

const char* NameOf(AckVerdict verdict) {
    constexpr const char* kNames[] = {"ack", "retry", "dead_letter", "renew", "release", "begin"};
    const auto number = static_cast<std::size_t>(verdict);
    return number < std::size(kNames) ? kNames[number] : "unknown";
}

}  // namespace

void Callers::Trace(const std::string& text) const {
    if (options_.trace) {
        std::printf("  %s\n", text.c_str());
        std::fflush(stdout);  // The next call may be the last one.
    }
}

void Callers::Connect(Engine& engine, WallTime now) {
    engine_ = &engine;
    now_ = now;
    members_.clear();
    pullers_.clear();
}

void Callers::Note(const char* call, const Status& status) {
    ++counters_["code " + std::string(ToString(status.code()))];
    Trace(std::string("    ") + call + ": " + status.ToString().substr(0, 160));
}

void Callers::Call() {
    const std::uint64_t dice = choices_.Below(100);
    if (dice < 28) {
        Send();
    } else if (dice < 42) {
        Subscribe();
    } else if (dice < 54) {
        Grant();
    } else if (dice < 76) {
        Ack();
    } else if (dice < 80) {
        Leave();
    } else if (dice < 87) {
        Pull();
    } else if (dice < 92) {
        PlainAck();
    } else if (dice < 94) {
        Reset();
    } else if (dice < 98) {
        List();
    } else {
        Garbage();
    }
}

std::string Callers::Opaque() {
    switch (choices_.Below(6)) {
        case 0:
            return "";
        case 1:
            return MakeBatchHeader(static_cast<std::uint32_t>(hostile_.Number()), "");
        case 2:
            return MakeBatchHeader(1, "body") + "body";
        case 3:
            return std::string(70'000, '\0');
        default: {
            // Another count or another byte, with the checksum that fits.
            std::vector<std::string> ids;
            Message message("subject");
            message.SetBody("opaque").AddTag("domestic").Set("n", std::int64_t{1});
            BatchBuilder builder;
            builder.Add(message, kUnreadable, now_);
            std::string body = builder.Finish().substr(BatchHeader::kBytes);
            body[choices_.Below(body.size())] = static_cast<char>(choices_.Below(256));
            return MakeBatchHeader(choices_.Percent(80) ? 1 : 2, body) + body;
        }
    }
}

SendBatch Callers::MakeBatch(std::vector<std::string>& ids) {
    SendBatch batch{hostile_.Subject(), {}, Durability::kDefault};
    if (choices_.Percent(15)) {
        batch.durability = hostile_.AnyDurability();
    }
    if (choices_.Percent(4)) {
        ledger_.OnOpaqueSend();
        batch.batch = Slice::Own(Opaque());
        return batch;
    }
    BatchBuilder builder;
    const std::uint64_t count = 1 + choices_.Below(choices_.Percent(90) ? 3 : 20);
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::string id = "m" + std::to_string(++last_message_);
        std::string body = "body of " + id;
        body.append(choices_.Below(choices_.Percent(5) ? 8'000 : 100), 'x');
        Message message("subject");
        message.SetBody(body);
        for (std::uint64_t tag = choices_.Below(3); tag > 0; --tag) {
            message.AddTag(tag == 1 ? "domestic" : "international");
        }
        if (choices_.Percent(1)) {
            message.SetDeliverAt(now_ + std::chrono::hours(1));
        }
        builder.Add(message, id, now_);
        ids.push_back(id);
        ledger_.OnSend(id, batch.subject, body);
    }
    std::string bytes = builder.Finish();
    if (choices_.Percent(2)) {
        bytes[choices_.Below(bytes.size())] ^= 1;  // On the way; no checksum fits it any more.
    }
    batch.batch = Slice::Own(std::move(bytes));
    return batch;
}

void Callers::Send() {
    std::vector<SendBatch> batches;
    std::vector<std::vector<std::string>> ids(choices_.Percent(80) ? 1 : choices_.Below(4));
    std::string text;
    for (auto& each : ids) {
        batches.push_back(MakeBatch(each));
        text += " " + Short(batches.back().subject) + " x " + std::to_string(each.size()) +
                (each.empty() ? "" : " from " + each.front()) + " durability " +
                std::to_string(static_cast<int>(batches.back().durability)) + ",";
    }
    ++counters_["call send"];
    Trace("send" + text);
    engine_->Send(choices_.Below(kClients),
                  std::move(batches),
                  [this, ids](const std::vector<BatchReceipt>& receipts) {
                      if (receipts.size() != ids.size()) {
                          return ledger_.Problem("a send of " + std::to_string(ids.size()) +
                                                 " batches got " + std::to_string(receipts.size()) +
                                                 " receipts");
                      }
                      for (std::size_t i = 0; i < receipts.size(); ++i) {
                          Note("send", receipts[i].status);
                          ++counters_["outcome " + std::string(ToString(receipts[i].outcome))];
                          for (std::size_t n = 0; n < ids[i].size(); ++n) {
                              ledger_.OnReceipt(ids[i][n], receipts[i], n);
                          }
                      }
                  });
}

void Callers::Subscribe() {
    const SubscribeRequest request = hostile_.Subscription();
    auto member = std::make_shared<Member>();
    member->key = request.key;
    ++counters_["call subscribe"];
    ++counters_["source " + std::to_string(static_cast<int>(request.key.source))];
    Trace("subscribe " + Show(request));
    Ears ears;
    ears.subscribed = [this](const SubscribeReply&) { Note("subscribed", Status::Ok()); };
    ears.handed = [this, member](const std::vector<Handed>& messages, std::uint64_t unreadable) {
        counters_["handed"] += messages.size();
        counters_["handed unreadable"] += unreadable;
        for (const Handed& handed : messages) {
            Trace("    handed " + handed.id + " as " + std::to_string(handed.pull) + " of " +
                  Show(member->key) + ", attempt " + std::to_string(handed.attempt));
            member->seen.push_back({handed.pull, handed.id});
        }
        ledger_.OnHanded(member->key, messages);
    };
    ears.closed = [this, member](const Status& status) {
        Note("closed", status);
        member->closed = true;
    };
    member->id = engine_->Subscribe(choices_.Below(kClients), request, std::move(ears));
    members_.push_back(member);
    if (choices_.Percent(80)) {
        engine_->Grant(member->id, hostile_.GrantedCredit());
    }
}

std::shared_ptr<Callers::Member> Callers::AnyMember() {
    // Mostly one of the last: the first ones are closed by then.
    if (members_.empty()) {
        return nullptr;
    }
    const std::size_t back = choices_.Below(
        choices_.Percent(80) ? std::min<std::size_t>(members_.size(), 6) : members_.size());
    return members_[members_.size() - 1 - back];
}

void Callers::Grant() {
    if (const auto member = AnyMember()) {
        const Credit credit = hostile_.GrantedCredit();
        ++counters_["call grant"];
        Trace("grant " + std::to_string(credit.messages) + " messages, " +
              std::to_string(credit.bytes) + " bytes to " + Show(member->key));
        engine_->Grant(member->id, credit);
    }
}

std::vector<AckItem> Callers::Items(const Member& member) {
    std::vector<std::uint64_t> around;
    const std::size_t from = member.seen.size() < 8 ? 0 : member.seen.size() - 8;
    for (std::size_t i = from; i < member.seen.size(); ++i) {
        around.push_back(member.seen[i].pull);
    }
    std::vector<AckItem> items;
    if (!around.empty() && choices_.Percent(30)) {
        AckItem exact;  // As clients do.
        exact.first = exact.last = around.front();
        exact.durability = choices_.Percent(50) ? Durability::kFsync : Durability::kMemory;
        items.push_back(exact);
        return items;
    }
    for (std::uint64_t count = choices_.Percent(60) ? 1 : choices_.Below(5); count > 0; --count) {
        items.push_back(hostile_.Item(around));
    }
    return items;
}

AckDone Callers::Judge(const std::shared_ptr<Member>& member,
                       const std::vector<AckItem>& items,
                       bool trusted) {
    const std::uint32_t since = ledger_.OnAck(member->key, items);
    const bool only_acks = std::all_of(items.begin(), items.end(), [](const AckItem& item) {
        return item.verdict == AckVerdict::kAck;
    });
    const bool all_known = std::all_of(items.begin(), items.end(), [](const AckItem& item) {
        return item.verdict <= AckVerdict::kBegin;
    });
    const bool durably = std::all_of(items.begin(), items.end(), [](const AckItem& item) {
        return item.durability == Durability::kFsync;
    });
    std::vector<std::string> ids;
    for (const Seen& seen : member->seen) {
        for (const AckItem& item : items) {
            if (item.first <= seen.pull && seen.pull <= item.last) {
                ids.push_back(seen.id);
                break;
            }
        }
    }
    return [this, member, items, ids, only_acks, all_known, durably, trusted, since](
               const Result<AckReply>& reply) {
        Note("ack", reply.status());
        if (!reply.ok()) {
            counters_["unknown verdict refused"] += all_known ? 0U : 1U;
            return;
        }
        if (!all_known) {
            ledger_.Problem("an ack with a verdict that nobody knows was answered with OK");
        }
        for (const AckItem& item : items) {
            ++counters_[std::string("verdict ") + NameOf(item.verdict)];
        }
        if (trusted && only_acks && reply->not_held_count() == 0) {
            ledger_.OnAcked(member->key, ids, durably, since);
        }
    };
}

void Callers::Ack() {
    if (const auto member = AnyMember()) {
        std::vector<AckItem> items = Items(*member);
        ++counters_["call ack"];
        Trace("ack by " + Show(member->key) + Show(items));
        AckDone done = Judge(member, items, !member->closed);
        engine_->Ack(member->id, std::move(items), std::move(done));
    }
}

void Callers::Leave() {
    if (const auto member = AnyMember()) {
        const bool close = choices_.Percent(50);
        ++counters_[close ? "call close" : "call detach"];
        Trace((close ? "close " : "detach ") + Show(member->key));
        close ? engine_->Close(member->id) : engine_->Detach(member->id);
    }
}

void Callers::Pull() {
    broker::PullRequest request = hostile_.PullCall();
    const ConsumerKey key = request.consumer.key;
    ++counters_["call pull"];
    Trace("pull " + std::to_string(request.max_messages) + " messages, " +
          std::to_string(request.max_bytes) + " bytes, within " +
          std::to_string(request.max_wait.count()) + " ms, " + Show(request.consumer));
    engine_->Pull(std::move(request), [this, key](Result<Pulled> pulled) {
        Note("pull", pulled.status());
        if (!pulled.ok()) {
            return;
        }
        auto& member = pullers_[key];
        if (member == nullptr) {
            member = std::make_shared<Member>();
            member->key = key;
        }
        for (const Handed& handed : pulled->messages) {
            Trace("    pulled " + handed.id + " as " + std::to_string(handed.pull));
            member->seen.push_back({handed.pull, handed.id});
        }
        ledger_.OnHanded(key, pulled->messages);
    });
}

void Callers::PlainAck() {
    std::shared_ptr<Member> member;
    if (!pullers_.empty() && choices_.Percent(80)) {
        auto at = pullers_.begin();
        std::advance(at, static_cast<std::ptrdiff_t>(choices_.Below(pullers_.size())));
        member = at->second;
    } else {
        member = std::make_shared<Member>();
        member->key = hostile_.Key();
    }
    std::vector<AckItem> items = Items(*member);
    ++counters_["call plain_ack"];
    Trace("plain ack by " + Show(member->key) + Show(items));
    // What was pulled may have been given to another one since: nobody tells a plain consumer.
    AckDone done = Judge(member, items, false);
    engine_->Ack(member->key, std::move(items), std::move(done));
}

void Callers::Reset() {
    const std::string subject = hostile_.Subject();
    const std::string group = hostile_.Group();
    const StartPosition position = hostile_.Position();
    ++counters_["call reset"];
    Trace("reset " + Short(subject) + "/" + Short(group) + " to " +
          std::to_string(static_cast<int>(position)));
    ledger_.OnReset(subject, group);
    engine_->Reset(subject, group, position, [this, subject, group](const Status& status) {
        Note("reset", status);
        ledger_.OnResetDone(subject, group);
    });
}

void Callers::List() {
    if (choices_.Percent(50)) {
        ++counters_["call list_subjects"];
        Trace("list subjects");
        engine_->ListSubjects([this](const Result<std::vector<SubjectInfo>>& subjects) {
            Note("list subjects", subjects.status());
        });
        return;
    }
    const std::string subject = choices_.Percent(50) ? "" : hostile_.Subject();
    ++counters_["call list_groups"];
    Trace("list groups of " + Short(subject));
    engine_->ListGroups(subject, [this](const Result<std::vector<GroupInfo>>& groups) {
        Note("list groups", groups.status());
    });
}

void Callers::Garbage() {
    std::string bytes;
    for (std::uint64_t count = choices_.Below(40); count > 0; --count) {
        bytes += static_cast<char>(choices_.Below(256));
    }
    ++counters_["call garbage"];
    Trace("garbage of " + std::to_string(bytes.size()) + " bytes");
    engine_->Garbage(choices_.Below(kClients), std::move(bytes));
}

}  // namespace qmq::anything
