#include <iostream>

#include "qmq/status.h"

int main() {
    const qmq::Status status = qmq::Status::NotFound("nothing here");
    std::cout << status << '\n';
    return status.code() == qmq::StatusCode::kNotFound ? 0 : 1;
}
