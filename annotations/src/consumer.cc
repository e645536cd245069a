#include "qmq/consumer.h"

#include <algorithm>
#include <cstdio>
#include <tuple>
#include <utility>

#include "qmq/subject.h"

// Defined by the source that qmq_add_consumers() adds to a program; absent in a program linked
// without it.
extern "C" [[gnu::weak]] const char* qmq_consumers_were_added();

namespace qmq {

namespace {

using internal::ConsumerDeclaration;

// Zero before any constructor runs, so that the order of initialisation between files does not
// matter.
constinit ConsumerDeclaration* first_declaration = nullptr;

std::vector<const ConsumerDeclaration*> Sorted() {
    std::vector<const ConsumerDeclaration*> all;
    for (const ConsumerDeclaration* each = first_declaration; each != nullptr; each = each->next) {
        all.push_back(each);
    }
    const auto key = [](const ConsumerDeclaration* each) {
        return std::tuple<std::string_view, std::string_view, std::string_view, int>(
            each->subject, each->group, each->file, each->line);
    };
    std::ranges::sort(all, {}, key);
    return all;
}

std::string Where(const ConsumerDeclaration& declaration) {
    return std::string(declaration.file) + ":" + std::to_string(declaration.line);
}

}  // namespace

namespace internal {

ConsumerRegistrar::ConsumerRegistrar(ConsumerDeclaration& declaration) {
    declaration.next = std::exchange(first_declaration, &declaration);
}

}  // namespace internal

ConsumerBindings& ConsumerBindings::AddExecutor(std::string name, Executor& executor) {
    executors_[std::move(name)] = &executor;
    return *this;
}

ConsumerBindings& ConsumerBindings::AddFilter(std::string name, std::shared_ptr<Filter> filter) {
    filters_[std::move(name)] = std::move(filter);
    return *this;
}

ConsumerBindings& ConsumerBindings::AddIdempotency(std::string name,
                                                   std::shared_ptr<IdempotencyStore> store) {
    idempotency_[std::move(name)] = std::move(store);
    return *this;
}

ConsumerBindings& ConsumerBindings::SetLog(LogSink log) {
    log_ = std::move(log);
    return *this;
}

/// Checks all declarations first and subscribes then, so that a program with a mistake handles
/// nothing.
struct ConsumerStarter {
    const ConsumerBindings& bindings;
    std::string problems;

    void Problem(const ConsumerDeclaration& declaration, const std::string& text) {
        if (!problems.empty()) {
            problems += "\n";
        }
        problems += Where(declaration) + ": consumer of \"" + declaration.subject + "\": " + text;
    }

    template <typename Map>
    auto Named(const Map& map,
               const ConsumerDeclaration& declaration,
               const char* kind,
               std::string_view name) -> typename Map::mapped_type {
        const auto found = map.find(name);
        if (found == map.end() || found->second == nullptr) {
            Problem(declaration,
                    std::string(kind) + " \"" + std::string(name) +
                        (found == map.end() ? "\" is not bound" : "\" is bound to a null pointer") +
                        "; add it with ConsumerBindings::Add" +
                        static_cast<char>(kind[0] - 'a' + 'A') + (kind + 1));
            return {};
        }
        return found->second;
    }

    void ReadTags(const ConsumerDeclaration& declaration, SubscriptionOptions& options) {
        const LiteralTags& tags = declaration.options.tags;
        if (tags.count() > Message::kMaxTags) {
            Problem(declaration,
                    "tags has " + std::to_string(tags.count()) + " entries; range: [0, " +
                        std::to_string(Message::kMaxTags) + "]");
            return;
        }
        options.tags = tags;
    }

    void ReadNames(const ConsumerDeclaration& declaration, SubscriptionOptions& options) {
        const ConsumerOptions& from = declaration.options;
        if (from.filters.count > from.filters.names.size()) {
            Problem(declaration,
                    "filters has " + std::to_string(from.filters.count) + " entries; range: [0, " +
                        std::to_string(from.filters.names.size()) + "]");
            return;
        }
        for (std::size_t i = 0; i < from.filters.count; ++i) {
            options.filters.push_back(
                Named(bindings.filters_, declaration, "filter", from.filters.names[i]));
        }
        if (*from.idempotency != '\0') {
            options.idempotency =
                Named(bindings.idempotency_, declaration, "idempotency", from.idempotency);
        }
        if (*from.executor != '\0') {
            options.executor = Named(bindings.executors_, declaration, "executor", from.executor);
        }
    }

    SubscriptionOptions Read(const ConsumerDeclaration& declaration) {
        const ConsumerOptions& from = declaration.options;
        SubscriptionOptions options;
        options.subject = declaration.subject;
        options.group = declaration.group;
        options.broadcast = from.broadcast;
        options.at_most_once = from.at_most_once;
        options.start = from.start;
        options.parallelism = from.parallelism;
        options.prefetch_count = from.prefetch_count;
        options.retry = from.retry;
        options.ack_timeout = from.ack_timeout;
        options.max_processing_time = from.max_processing_time;
        ReadTags(declaration, options);
        ReadNames(declaration, options);
        if (Status status = Validate(options); !status.ok()) {
            Problem(declaration, std::string(status.message()));
        }
        return options;
    }

    void* Object(const ConsumerDeclaration& declaration) {
        if (declaration.object_key == nullptr) {
            return nullptr;
        }
        const auto found = bindings.objects_.find(declaration.object_key);
        if (found == bindings.objects_.end()) {
            Problem(declaration,
                    std::string("no object is bound for ") + declaration.function +
                        "; add it with ConsumerBindings::AddObject");
            return nullptr;
        }
        return found->second;
    }

    void FindDuplicates(const std::vector<const ConsumerDeclaration*>& all) {
        for (std::size_t i = 1; i < all.size(); ++i) {
            const ConsumerDeclaration& one = *all[i - 1];
            const ConsumerDeclaration& other = *all[i];
            if (std::string_view(one.subject) == other.subject &&
                std::string_view(one.group) == other.group) {
                Problem(other,
                        std::string("group \"") + other.group + "\" has a handler already, at " +
                            Where(one) + "; give one of them another group");
            }
        }
    }

    void List(const std::vector<const ConsumerDeclaration*>& all) const {
        const auto say = [this](const std::string& line) {
            if (bindings.log_) {
                bindings.log_(LogLevel::kInfo, line);
            } else {
                std::fprintf(stderr, "%s\n", line.c_str());
            }
        };
        say("qmq: " + std::to_string(all.size()) + (all.size() == 1 ? " consumer" : " consumers"));
        for (const ConsumerDeclaration* each : all) {
            const std::string group = each->options.broadcast ? "(broadcast)" : each->group;
            say("qmq:   " + std::string(each->subject) + " -> " + group + "  " + each->function +
                "  " + Where(*each));
        }
    }

    Result<std::vector<Subscription>> Start(Client& client) {
        const std::vector<const ConsumerDeclaration*> all = Sorted();
        std::vector<std::pair<SubscriptionOptions, void*>> prepared;
        for (const ConsumerDeclaration* each : all) {
            prepared.emplace_back(Read(*each), Object(*each));
        }
        FindDuplicates(all);
        if (!problems.empty()) {
            return Status::InvalidArgument(problems);
        }
        List(all);
        std::vector<Subscription> started;
        for (std::size_t i = 0; i < all.size(); ++i) {
            // Paused, so that no handler has begun when a later one is refused.
            prepared[i].first.start_paused = true;
            Result<Subscription> subscription =
                all[i]->start(client, std::move(prepared[i].first), prepared[i].second);
            if (!subscription.ok()) {
                for (Subscription& each : started) {
                    (void)each.Close(
                        std::chrono::milliseconds(0));  // Nothing has begun that could be lost.
                }
                return subscription.status().WithContext(Where(*all[i]));
            }
            started.push_back(*std::move(subscription));
        }
        for (Subscription& each : started) {
            each.Resume();
        }
        return started;
    }
};

std::vector<DeclaredConsumer> DeclaredConsumers() {
    std::vector<DeclaredConsumer> declared;
    for (const ConsumerDeclaration* each : Sorted()) {
        declared.push_back({each->subject, each->group, each->function, each->file, each->line});
    }
    return declared;
}

Result<std::vector<Subscription>> StartConsumers(Client& client, const ConsumerBindings& bindings) {
    if (qmq_consumers_were_added == nullptr) {
        return Status::FailedPrecondition(
            "this program was linked without qmq_add_consumers(<target>) in its CMakeLists.txt, so "
            "handlers in static "
            "libraries may be missing; add that line after the program's target_link_libraries");
    }
    if (first_declaration == nullptr) {
        return Status::FailedPrecondition(
            "no consumer is declared in this program: is the library with QMQ_CONSUMER linked to "
            "the target that "
            "qmq_add_consumers names?");
    }
    return ConsumerStarter{bindings, {}}.Start(client);
}

}  // namespace qmq
