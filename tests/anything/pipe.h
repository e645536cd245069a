#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "qmq/function.h"
#include "qmq/slice.h"
#include "qmq/status.h"

namespace qmq::anything {

/// What carries bytes between a client and the service of broker.proto.
class Pipe {
public:
    enum class Method : std::uint8_t { kPublish, kConsume };
    using StreamId = std::uint64_t;

    struct StreamEars {
        std::function<void(Slice frame)> frame;
        std::function<void(const Status&)> ended;  ///< Last, once.
    };

    virtual ~Pipe() = default;
    virtual StreamId Open(Method method, StreamEars ears) = 0;
    /// Nothing when the stream has ended.
    virtual void Write(StreamId stream, std::string frame) = 0;
    /// The connection is lost.
    virtual void Cut(StreamId stream) = 0;
    /// A plain call, by its name in broker.proto.
    virtual void Call(const std::string& name,
                      std::string request,
                      UniqueFunction<void(Result<std::string>)> done) = 0;
    /// Moves one piece on its way. False: nothing is under way.
    virtual bool Pump() { return false; }
};

}  // namespace qmq::anything
