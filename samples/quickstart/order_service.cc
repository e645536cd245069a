// Takes orders: writes each into its own SQLite database and tells the world.
//
//     order_service grpc://127.0.0.1:7777 orders.db 5
//
// An order stays "new" until the broker has said that its message is stored, so an order service
// that is killed in between sends it when it runs again; a consumer may then see it twice, never
// not at all.

#include <cstdlib>
#include <iostream>
#include <string>
#include <tuple>
#include <vector>

#include "qmq/client.h"
#include "qmq/grpc.h"
#include "qmq/sql/connection.h"
#include "qmq/sql/transaction.h"
#include "qmq/sqlite.h"

namespace {

using namespace std::chrono_literals;

struct Order {
    std::string id;
    std::int64_t cents = 0;
};

qmq::Status MakeTables(qmq::sql::Connection& database) {
    return database
        .Execute(
            "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, cents INTEGER NOT NULL, state "
            "TEXT NOT NULL)")
        .status();
}

/// The order and the fact that it still has to be told are one transaction.
qmq::Status WriteOrder(qmq::sql::Connection& database, const Order& order) {
    auto transaction = qmq::sql::Transaction::Begin(database);
    if (!transaction.ok()) return transaction.status();
    auto inserted = transaction->Execute(
        "INSERT INTO orders (id, cents, state) VALUES (?, ?, 'new') ON CONFLICT (id) DO NOTHING",
        {order.id, order.cents});
    if (!inserted.ok()) return inserted.status();
    return transaction->Commit();
}

qmq::Result<std::vector<Order>> OrdersToTell(qmq::sql::Connection& database) {
    auto rows = database.Query("SELECT id, cents FROM orders WHERE state = 'new' ORDER BY id");
    if (!rows.ok()) return rows.status();
    std::vector<Order> orders;
    while (true) {
        auto more = rows->Next();
        if (!more.ok()) return more.status();
        if (!*more) return orders;
        auto row = rows->As<std::string, std::int64_t>();
        if (!row.ok()) return row.status();
        orders.push_back({std::get<0>(*row), std::get<1>(*row)});
    }
}

qmq::Message OrderPaid(const Order& order) {
    qmq::Message message("order.paid");
    message.SetId("paid-" + order.id)
        .Set("orderId", order.id)
        .Set("cents", order.cents)
        .AddTag("domestic");
    return message;
}

qmq::Status Run(const std::string& uri, const std::string& path, int count) {
    auto database = qmq::sqlite::Open({.path = path});
    if (!database.ok()) return database.status();
    if (qmq::Status made = MakeTables(**database); !made.ok()) return made;
    for (int i = 1; i <= count; ++i) {
        const Order order{"A-" + std::to_string(i), 1000 * i};
        if (qmq::Status written = WriteOrder(**database, order); !written.ok()) return written;
    }

    qmq::ClientOptions options;
    options.uri = uri;
    options.app_code = "order-service";
    options.transports = {qmq::GrpcTransport()};
    auto client = qmq::Client::Create(std::move(options));
    if (!client.ok()) return client.status();
    auto producer = client->MakeProducer();
    if (!producer.ok()) return producer.status();

    auto orders = OrdersToTell(**database);
    if (!orders.ok()) return orders.status();
    std::vector<qmq::SendFuture> sends;  // All on their way at once.
    for (const Order& order : *orders) sends.push_back(producer->Send(OrderPaid(order)));
    for (std::size_t i = 0; i < sends.size(); ++i) {
        const qmq::SendReceipt receipt = sends[i].Get();
        if (!receipt.ok()) return receipt.status;  // Still "new": the next run sends it.
        auto updated = (*database)->Execute("UPDATE orders SET state = 'told' WHERE id = ?",
                                            {(*orders)[i].id});
        if (!updated.ok()) return updated.status();
        std::cout << "order " << (*orders)[i].id << " stored as message " << receipt.message_id
                  << " (" << ToString(receipt.durability) << ")" << std::endl;
    }
    return client->Shutdown(5s).drained ? qmq::Status::Ok()
                                        : qmq::Status::DeadlineExceeded("shutdown");
}

}  // namespace

int main(int argc, char** argv) {
    const std::string uri = argc > 1 ? argv[1] : "grpc://127.0.0.1:7777";
    const std::string path = argc > 2 ? argv[2] : "orders.db";
    const int count = argc > 3 ? std::atoi(argv[3]) : 5;
    if (const qmq::Status status = Run(uri, path, count); !status.ok()) {
        std::cerr << "order service: " << status << '\n';
        return 1;
    }
    return 0;
}
