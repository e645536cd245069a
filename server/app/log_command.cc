#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "server/app/action_text.h"
#include "server/app/client_options.h"
#include "server/app/commands.h"
#include "server/app/message_text.h"
#include "server/broker/actions.h"
#include "server/env/file_system.h"
#include "server/store/log_inspector.h"

namespace qmq::app {

namespace {

std::vector<std::string> Stores(const std::string& directory) {
    std::vector<std::string> stores =
        OrFail(store::FindStores(env::RealFileSystem(), directory), kExitFailed, directory);
    if (stores.empty()) {
        Fail(kExitFailed,
             directory +
                 ": no store here; name the directory that `qmq dev --data` or store.root names");
    }
    return stores;
}

void PrintDamage(const store::LogDamage& damage) {
    std::printf("%12llu  DAMAGE    %llu bytes, %s at %llu: %s%s\n",
                static_cast<unsigned long long>(damage.begin),
                static_cast<unsigned long long>(damage.end - damage.begin),
                damage.place.path.c_str(),
                static_cast<unsigned long long>(damage.place.file_offset),
                damage.reason.c_str(),
                damage.is_tail ? " (a torn tail: the next start cuts it)" : "");
}

/// One line a record, up to a limit.
class Dumper final : public store::LogVisitor {
public:
    Dumper(std::string subject, std::uint64_t limit) : subject_(std::move(subject)), left_(limit) {}

    bool OnRecord(const store::Record& record, const store::LogPlace& place) override {
        if (!subject_.empty() && (!record.has_messages() || record.subject != subject_)) {
            return true;
        }
        std::printf("%12llu  %-8s  %s at %llu, %llu bytes, incarnation %u, synced below %llu",
                    static_cast<unsigned long long>(record.header.offset),
                    std::string(store::ToString(record.header.kind)).c_str(),
                    place.path.substr(place.path.rfind('/') + 1).c_str(),
                    static_cast<unsigned long long>(place.file_offset),
                    static_cast<unsigned long long>(record.header.record_bytes()),
                    record.header.incarnation,
                    static_cast<unsigned long long>(record.header.committed));
        if (record.has_messages()) {
            std::printf("; %s sequence %llu, %u messages",
                        Printable(record.subject).c_str(),
                        static_cast<unsigned long long>(record.first_sequence),
                        record.count);
        }
        if (record.has_action()) {
            std::printf("; %s", DescribeAction(record.action).c_str());
        }
        std::printf("\n");
        return --left_ > 0;
    }

    bool OnDamage(const store::LogDamage& damage) override {
        PrintDamage(damage);
        return true;
    }

private:
    const std::string subject_;
    std::uint64_t left_;
};

void Dump(const std::string& directory, const std::string& subject, std::uint64_t limit) {
    for (const std::string& each : Stores(directory)) {
        std::printf("%s\n", each.c_str());
        Dumper dumper(subject, limit);
        const Status status = store::InspectLog(env::RealFileSystem(), each, dumper);
        if (!status.ok()) {
            Fail(kExitFailed, each + ": " + status.ToString());
        }
    }
}

Status CheckAction(std::string_view action) {
    return broker::DecodeAction(action).status();
}

void Verify(const std::string& directory) {
    bool sound = true;
    for (const std::string& each : Stores(directory)) {
        const store::VerifyReport report =
            OrFail(store::VerifyStore(env::RealFileSystem(), each, CheckAction), kExitFailed, each);
        std::printf(
            "%s: %llu records, %llu messages of %llu subjects, %llu actions, %llu segments, %llu "
            "index files, "
            "%llu snapshots\n",
            each.c_str(),
            static_cast<unsigned long long>(report.record_count),
            static_cast<unsigned long long>(report.message_count),
            static_cast<unsigned long long>(report.subject_count),
            static_cast<unsigned long long>(report.action_count),
            static_cast<unsigned long long>(report.segment_count),
            static_cast<unsigned long long>(report.index_count),
            static_cast<unsigned long long>(report.snapshot_count));
        if (report.torn_tail_bytes > 0) {
            std::printf("  a torn tail of %llu bytes, which the next start cuts\n",
                        static_cast<unsigned long long>(report.torn_tail_bytes));
        }
        if (report.missing_message_count > 0) {
            std::printf("  %llu messages are missing\n",
                        static_cast<unsigned long long>(report.missing_message_count));
        }
        for (const std::string& problem : report.problems) {
            std::printf("  %s\n", problem.c_str());
        }
        sound = sound && report.problems.empty();
    }
    std::printf("%s\n", sound ? "sound" : "NOT sound");
    if (!sound) {
        throw CLI::RuntimeError(kExitFailed);
    }
}

}  // namespace

void AddLogCommand(CLI::App& program) {
    struct Arguments {
        std::string directory;
        std::string subject;
        std::uint64_t limit = 1'000'000;
    };
    auto arguments = std::make_shared<Arguments>();
    CLI::App* log =
        program.add_subcommand("log", "Look into a data directory, without changing it");
    log->require_subcommand(1);

    CLI::App* dump = log->add_subcommand("dump", "One line for each record");
    dump->add_option("directory", arguments->directory, "The data directory, or one shard's")
        ->required();
    dump->add_option("--subject", arguments->subject, "Only messages of this subject");
    dump->add_option("--limit", arguments->limit, "At most so many records of a shard")
        ->check(CLI::PositiveNumber);
    dump->callback(
        [arguments] { Dump(arguments->directory, arguments->subject, arguments->limit); });

    CLI::App* verify =
        log->add_subcommand("verify", "Read and check everything; fails when anything is wrong");
    verify->add_option("directory", arguments->directory, "The data directory, or one shard's")
        ->required();
    verify->callback([arguments] { Verify(arguments->directory); });
}

}  // namespace qmq::app
