#include "qmq/version.h"

#define QMQ_INTERNAL_TEXT2(value) #value
#define QMQ_INTERNAL_TEXT(value) QMQ_INTERNAL_TEXT2(value)

namespace qmq {

std::string_view Version() {
    return QMQ_INTERNAL_TEXT(QMQ_VERSION_MAJOR) "." QMQ_INTERNAL_TEXT(
        QMQ_VERSION_MINOR) "." QMQ_INTERNAL_TEXT(QMQ_VERSION_PATCH);
}

}  // namespace qmq
