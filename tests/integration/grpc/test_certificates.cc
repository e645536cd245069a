#include "tests/integration/grpc/test_certificates.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>

#include "qmq/check.h"

namespace qmq {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;

std::string Contents(const Bio& bio) {
    char* data = nullptr;
    const auto size = BIO_get_mem_data(bio.get(), &data);
    return {data, static_cast<std::size_t>(size)};
}

std::string KeyPem(const Key& key) {
    const Bio bio(BIO_new(BIO_s_mem()), BIO_free);
    QMQ_CHECK(
        PEM_write_bio_PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1,
        "key");
    return Contents(bio);
}

std::string CertificatePem(const Certificate& certificate) {
    const Bio bio(BIO_new(BIO_s_mem()), BIO_free);
    QMQ_CHECK(PEM_write_bio_X509(bio.get(), certificate.get()) == 1, "certificate");
    return Contents(bio);
}

void Extend(X509* certificate, X509* issuer, int what, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, what, value.c_str());
    QMQ_CHECK(extension != nullptr, value);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

bool IsNumber(const std::string& host) {
    return host.find_first_not_of("0123456789.") == std::string::npos;
}

/// A certificate for `name`, not signed yet, valid for an hour around now.
Certificate Blank(const Key& key, const std::string& name, long serial) {
    Certificate certificate(X509_new(), X509_free);
    X509_set_version(certificate.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3'600);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3'600);
    X509_set_pubkey(certificate.get(), key.get());
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()),
                               "CN",
                               MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()),
                               -1,
                               -1,
                               0);
    return certificate;
}

}  // namespace

TestAuthority::TestAuthority(const std::string& name) {
    const Key key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    const Certificate certificate = Blank(key, name, 1);
    X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate.get()));
    Extend(certificate.get(), certificate.get(), NID_basic_constraints, "critical,CA:TRUE");
    X509_sign(certificate.get(), key.get(), EVP_sha256());
    own_ = {KeyPem(key), CertificatePem(certificate)};
}

KeyPair TestAuthority::Issue(const std::string& host) const {
    const Bio key_bio(BIO_new_mem_buf(own_.key.data(), -1), BIO_free);
    const Bio certificate_bio(BIO_new_mem_buf(own_.certificate.data(), -1), BIO_free);
    const Key issuer_key(PEM_read_bio_PrivateKey(key_bio.get(), nullptr, nullptr, nullptr),
                         EVP_PKEY_free);
    const Certificate issuer(PEM_read_bio_X509(certificate_bio.get(), nullptr, nullptr, nullptr),
                             X509_free);
    const Key key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    const Certificate certificate = Blank(key, host, 2);
    X509_set_issuer_name(certificate.get(), X509_get_subject_name(issuer.get()));
    Extend(certificate.get(),
           issuer.get(),
           NID_subject_alt_name,
           (IsNumber(host) ? "IP:" : "DNS:") + host);
    X509_sign(certificate.get(), issuer_key.get(), EVP_sha256());
    return {KeyPem(key), CertificatePem(certificate)};
}

}  // namespace qmq
