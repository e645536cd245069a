#pragma once

#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/anything/callers.h"
#include "tests/anything/engine.h"
#include "tests/anything/ledger.h"

namespace qmq::anything {

/// After a start: consumers who take all there is and ack it, and tell the ledger.
class AllReader {
public:
    /// `matters`: whether it is a problem that a subscription is closed. All outlive it, and it
    /// may go before its consumers do.
    AllReader(Engine& engine, Ledger& ledger, const Callers& callers, std::function<bool()> matters)
        : engine_(engine), ledger_(ledger), callers_(callers), matters_(std::move(matters)) {}

    /// By a group that is new; each subject once.
    void ReadSubjects(const std::set<std::string>& subjects);
    /// What groups of before are still to get.
    void ReadGroups(const std::vector<std::pair<std::string, std::string>>& groups);

private:
    void Join(const ConsumerKey& key, std::function<void(const std::vector<Handed>&)> take);

    Engine& engine_;
    Ledger& ledger_;
    const Callers& callers_;
    const std::function<bool()> matters_;
    std::set<std::string> read_;
};

}  // namespace qmq::anything
