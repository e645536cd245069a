#pragma once

#include <functional>
#include <memory>
#include <string>

#include "qmq/executor.h"
#include "qmq/inproc.h"
#include "qmq/status.h"

#include "plugins/inproc/codec/inproc_broker.h"
#include "plugins/inproc/server/event_fan.h"
#include "server/broker/broker.h"
#include "server/env/event_reporter.h"
#include "server/env/file_system.h"

namespace qmq::inproc {

/// A broker with all that it stands on: files, and threads of its own. Passes calls through.
class EmbeddedBroker final : public Broker {
public:
    /// An empty `directory` means in memory. `release` is what `Release` does. `fan` hears what the
    /// engine has to tell people.
    static Result<std::unique_ptr<EmbeddedBroker>> Open(const std::string& directory,
                                                        const InprocOptions& options,
                                                        std::shared_ptr<EventFan> fan,
                                                        std::function<void(bool)> release);
    /// Closes the broker and waits for that. Not inside one of its callbacks.
    ~EmbeddedBroker() override;

    BrokerLimits limits() const override { return limits_; }
    void Send(std::vector<SendBatch> batches, SendDone done) override {
        broker_->Send(std::move(batches), std::move(done));
    }
    std::unique_ptr<Session> Subscribe(SubscribeRequest request,
                                       std::shared_ptr<Sink> sink) override;
    void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) override {
        broker_->ListSubjects(std::move(done));
    }
    void ListGroups(std::string subject,
                    UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) override {
        broker_->ListGroups(std::move(subject), std::move(done));
    }
    void ResetGroup(std::string subject,
                    std::string group,
                    StartPosition position,
                    UniqueFunction<void(Status)> done) override {
        broker_->ResetGroup(std::move(subject), std::move(group), position, std::move(done));
    }
    /// On one of its own threads it cannot wait for its end either, whoever drops the last user.
    void Release(bool inside_callback) override {
        release_(inside_callback || io_.RunsHere() || timers_.RunsHere());
    }

private:
    EmbeddedBroker(const InprocOptions& options,
                   std::shared_ptr<EventFan> fan,
                   std::function<void(bool)> release);

    const std::function<void(bool)> release_;
    BrokerLimits limits_;
    env::EventReporter events_;
    std::unique_ptr<env::FileSystem> memory_;  // Null for a directory.
    ThreadPool io_;
    ThreadPool timers_;
    std::unique_ptr<broker::Broker> broker_;  // Destroyed first.
};

}  // namespace qmq::inproc
