#pragma once

#include <string>

namespace qmq {

/// A key and the certificate for it, PEM.
struct KeyPair {
    std::string key;
    std::string certificate;
};

/// A certificate authority that lives as long as a test.
class TestAuthority {
public:
    explicit TestAuthority(const std::string& name = "test authority");
    /// PEM.
    const std::string& certificate() const { return own_.certificate; }
    /// Signs a new key for `host`.
    KeyPair Issue(const std::string& host) const;

private:
    KeyPair own_;
};

}  // namespace qmq
