#include <iostream>
#include <string>

#include "qmq/sql/connection.h"
#include "qmq/sqlite.h"

int main() {
    auto database = qmq::sqlite::Open({.path = ":memory:"});
    if (!database.ok()) return std::cerr << database.status() << '\n', 1;
    auto rows = (*database)->Query("SELECT 6 * 7");
    if (!rows.ok() || !rows->Next().value()) return std::cerr << "no row\n", 1;
    const auto row = rows->As<std::int64_t>();
    std::cout << std::get<0>(row.value()) << '\n';
    return std::get<0>(row.value()) == 42 ? 0 : 1;
}
