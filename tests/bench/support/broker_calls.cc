#include "tests/bench/support/broker_calls.h"

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <utility>

namespace qmq::bench {

namespace {

using namespace std::chrono_literals;

constexpr std::chrono::seconds kPatience{60};
constexpr std::size_t kBodyBytes = 128;

/// What one call needs until it is answered.
template <typename Request, typename Reply>
struct Call {
    Call() { context.set_deadline(std::chrono::system_clock::now() + kPatience); }
    grpc::ClientContext context;
    Request request;
    Reply reply;
};

std::string Describe(const char* what, const grpc::Status& status) {
    return std::string(what) + ": gRPC status " + std::to_string(status.error_code()) + ", " +
           status.error_message();
}

/// Counts what is under way, and starts the next when one ends.
class AllJobs {
public:
    AllJobs(std::size_t count, const std::function<void(std::size_t, BrokerCalls::Done)>& job)
        : count_(count), job_(job) {}

    void StartNext() {
        std::size_t place = 0;
        {
            const std::lock_guard lock(mutex_);
            if (next_ == count_ || !failure_.empty()) {
                return;
            }
            place = next_++;
            ++under_way_;
        }
        job_(place, [this](std::string failure) { OnDone(std::move(failure)); });
    }

    void Wait() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock,
                      [this] { return under_way_ == 0 && (next_ == count_ || !failure_.empty()); });
        if (!failure_.empty()) {
            throw std::runtime_error(failure_);
        }
    }

private:
    void OnDone(std::string failure) {
        if (!failure.empty()) {
            const std::lock_guard lock(mutex_);
            failure_ = failure_.empty() ? std::move(failure) : failure_;
        }
        StartNext();
        // Last, under the lock: `Wait` may return at once and destroy this.
        const std::lock_guard lock(mutex_);
        --under_way_;
        changed_.notify_all();
    }

    const std::size_t count_;
    const std::function<void(std::size_t, BrokerCalls::Done)>& job_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t next_ = 0;       // guarded by mutex_
    std::size_t under_way_ = 0;  // guarded by mutex_
    std::string failure_;        // guarded by mutex_
};

/// Waits for the one call that `start` makes.
void WaitForOne(const std::function<void(BrokerCalls::Done)>& start) {
    BrokerCalls::RunAll(
        1, 1, [&start](std::size_t, BrokerCalls::Done done) { start(std::move(done)); });
}

}  // namespace

BrokerCalls::BrokerCalls(const std::string& address)
    : stub_(v1::Broker::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))) {
}

void BrokerCalls::SendOne(const std::string& subject, Done done) {
    auto call = std::make_shared<Call<v1::SendRequest, v1::SendReply>>();
    call->request.set_subject(subject);
    v1::Message& message = *call->request.add_messages();
    message.set_body(std::string(kBodyBytes, 'x'));
    message.add_tags("domestic");
    v1::Property& property = *message.add_properties();
    property.set_name("orderId");
    property.set_string_value("order-0000000001");
    stub_->async()->Send(&call->context,
                         &call->request,
                         &call->reply,
                         [call, done = std::move(done)](const grpc::Status& status) {
                             done(status.ok() ? "" : Describe("Send", status));
                         });
}

void BrokerCalls::PullAndAckOne(const std::string& subject, const std::string& group, Done done) {
    const std::string consumer = group + "-1";
    auto pull = std::make_shared<Call<v1::PullRequest, v1::PullReply>>();
    v1::SubscribeRequest& subscribe = *pull->request.mutable_consumer();
    subscribe.set_subject(subject);
    subscribe.set_group(group);
    subscribe.set_consumer_id(consumer);
    subscribe.set_start(v1::SubscribeRequest::START_EARLIEST);
    pull->request.set_max_messages(1);
    pull->request.set_max_wait_ms(10'000);

    auto ack = std::make_shared<Call<v1::AckRequest, v1::AckReply>>();
    ack->request.set_subject(subject);
    ack->request.set_group(group);
    ack->request.set_consumer_id(consumer);
    const auto on_acked = [ack, subject, group](const grpc::Status& status) -> std::string {
        if (!status.ok()) {
            return Describe("Ack", status);
        }
        return ack->reply.not_held_count() == 0
                   ? ""
                   : "Ack: " + group + " on " + subject + " did not hold the message it pulled";
    };
    const auto on_pulled = [this, pull, ack, on_acked, subject, group, done = std::move(done)](
                               const grpc::Status& status) {
        if (!status.ok() || pull->reply.messages().empty()) {
            done(status.ok() ? "Pull: nothing came to " + group + " on " + subject
                             : Describe("Pull", status));
            return;
        }
        v1::AckItem& item = *ack->request.add_items();
        item.set_first(pull->reply.messages(0).pull_sequence());
        item.set_last(pull->reply.messages(0).pull_sequence());
        stub_->async()->Ack(
            &ack->context, &ack->request, &ack->reply, [on_acked, done](const grpc::Status& end) {
                done(on_acked(end));
            });
    };
    stub_->async()->Pull(&pull->context, &pull->request, &pull->reply, on_pulled);
}

void BrokerCalls::RunAll(std::size_t count,
                         std::size_t in_flight,
                         const std::function<void(std::size_t, Done)>& job) {
    AllJobs jobs(count, job);
    for (std::size_t i = 0; i < in_flight; ++i) {
        jobs.StartNext();
    }
    jobs.Wait();
}

FirstAck StartToFirstAck(ServerProcess& server,
                         const std::string& subject,
                         const std::string& group) {
    FirstAck times;
    server.Start();
    BrokerCalls calls(server.address());
    WaitForOne([&](BrokerCalls::Done done) { calls.SendOne(subject, std::move(done)); });
    times.persisted = std::chrono::steady_clock::now() - server.started();
    WaitForOne(
        [&](BrokerCalls::Done done) { calls.PullAndAckOne(subject, group, std::move(done)); });
    times.acked = std::chrono::steady_clock::now() - server.started();
    return times;
}

}  // namespace qmq::bench
