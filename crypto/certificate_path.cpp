#include "crypto/certificate_path.hpp"

#include <algorithm>
#include <memory>

#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

namespace postern::crypto {
namespace {

constexpr int deepest = 10, strength = 2;

struct FreePath {
  void operator()(X509_STORE* p) const { X509_STORE_free(p); }
  void operator()(X509_STORE_CTX* p) const { X509_STORE_CTX_free(p); }
  void operator()(STACK_OF(X509) * p) const { sk_X509_free(p); }
  void operator()(GENERAL_NAMES* p) const { GENERAL_NAMES_free(p); }
  void operator()(EXTENDED_KEY_USAGE* p) const { EXTENDED_KEY_USAGE_free(p); }
  void operator()(X509_NAME* p) const { X509_NAME_free(p); }
  void operator()(ASN1_OBJECT* p) const { ASN1_OBJECT_free(p); }
};
template <class T>
using Held = std::unique_ptr<T, FreePath>;

std::string duration_words(std::int64_t seconds) {
  if (seconds >= 2 * 86400) return std::to_string(seconds / 86400) + " days";
  if (seconds >= 2 * 3600) return std::to_string(seconds / 3600) + " hours";
  return std::to_string(seconds) + " seconds";
}

PathProblem date_problem(const Certificate& which, bool expired, std::int64_t now) {
  const std::string clock = "this machine's clock says " + time_text(now);
  if (expired)
    return {PathCheck::dates, which.subject(), "has expired",
            "valid until " + time_text(which.not_after()) + ", and " + clock + ", " +
                duration_words(now - which.not_after()) + " later",
            "renew the certificate; if it should be valid, set this machine's clock"};
  return {PathCheck::dates, which.subject(), "is not valid yet",
          "valid from " + time_text(which.not_before()) + ", and " + clock + ", " +
              duration_words(which.not_before() - now) + " earlier",
          "set the clock of this machine, or of the CA that issued it"};
}

PathProblem chain_problem(int error, const Certificate& which, const Certificate& leaf) {
  const std::string openssl = X509_verify_cert_error_string(error);
  PathProblem out{PathCheck::chain, which.subject(), openssl, "", "compare it with the CA of the trustpoint"};
  switch (error) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      out.summary = "no trusted certificate of its issuer is known";
      out.detail =
          "its issuer is " + which.issuer() + ", which is neither a CA of the trustpoint nor in what the peer sent";
      out.remedy =
          "let the peer send the intermediate certificates, or add the issuer to the trustpoint's ca_certificates";
      break;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      out.summary = "is signed by itself, and is no CA of the trustpoint";
      out.remedy = "add it to the trustpoint's ca_certificates if it is to be trusted";
      break;
    case X509_V_ERR_PERMITTED_VIOLATION:
    case X509_V_ERR_EXCLUDED_VIOLATION:
      out.check = PathCheck::constraints;
      out.certificate = leaf.subject();
      out.summary = "has a name that its CA may not give away (name constraints)";
      out.detail = openssl;
      out.remedy = "issue it by a CA whose name constraints allow its names";
      break;
    case X509_V_ERR_INVALID_CA:
    case X509_V_ERR_PATH_LENGTH_EXCEEDED:
    case X509_V_ERR_KEYUSAGE_NO_CERTSIGN:
      out.check = PathCheck::constraints;
      out.summary = "may not issue certificates here";
      out.detail = openssl;
      break;
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
    case X509_V_ERR_CA_MD_TOO_WEAK:
      out.check = PathCheck::strength;
      out.summary = "is too weak";
      out.detail = openssl;
      out.remedy = "use RSA of 2048 bits or more, or ECDSA, and SHA-2";
      break;
    default: break;
  }
  return out;
}

Certificate failed_one(X509_STORE_CTX* context, const Certificate& leaf) {
  X509* const current = X509_STORE_CTX_get_current_cert(context);
  if (current == nullptr || current == leaf.handle()) return leaf;
  unsigned char* der = nullptr;
  const int size = i2d_X509(current, &der);
  const std::unique_ptr<unsigned char, decltype([](unsigned char* p) { OPENSSL_free(p); })> owner(der);
  if (size <= 0) return leaf;
  auto copy = Certificate::parse({reinterpret_cast<const std::byte*>(der), static_cast<std::size_t>(size)});
  return copy ? *copy : leaf;
}

bool same_word(const ASN1_STRING* text, Bytes wanted) {
  const auto* const data = ASN1_STRING_get0_data(text);
  const auto lower = [](unsigned char c) { return c >= 'A' && c <= 'Z' ? static_cast<unsigned char>(c + 32) : c; };
  return std::ranges::equal(std::span(data, static_cast<std::size_t>(ASN1_STRING_length(text))), wanted, {}, lower,
                            [&](std::byte b) { return lower(std::to_integer<unsigned char>(b)); });
}

bool same_octets(const ASN1_STRING* text, Bytes wanted) {
  const auto* const data = reinterpret_cast<const std::byte*>(ASN1_STRING_get0_data(text));
  return std::ranges::equal(Bytes(data, static_cast<std::size_t>(ASN1_STRING_length(text))), wanted);
}

Held<X509_NAME> name_from(Bytes der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const auto* const end = at + der.size();
  Held<X509_NAME> name(d2i_X509_NAME(nullptr, &at, static_cast<long>(der.size())));
  ERR_clear_error();
  return at == end ? std::move(name) : nullptr;
}

// RFC 4945 §5.1.3.12, and what older CAs give to gateways: iKEIntermediate, and TLS's.
bool usable_purpose(const ASN1_OBJECT* purpose) {
  for (const char* const oid :
       {"1.3.6.1.5.5.7.3.17", "2.5.29.37.0", "1.3.6.1.5.5.8.2.2", "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}) {
    const Held<ASN1_OBJECT> known(OBJ_txt2obj(oid, 1));
    if (known && OBJ_cmp(known.get(), purpose) == 0) return true;
  }
  return false;
}

std::string purposes_text(const EXTENDED_KEY_USAGE* purposes) {
  std::string out;
  for (int i = 0; i < std::min(sk_ASN1_OBJECT_num(purposes), 16); ++i) {
    char text[80];
    OBJ_obj2txt(text, sizeof text, sk_ASN1_OBJECT_value(purposes, i), 0);
    out += (out.empty() ? "" : ", ") + std::string(text);
  }
  return out;
}

}  // namespace

Result<void, PathProblem> check_path(const Certificate& leaf, std::span<const Certificate> others,
                                     std::span<const Certificate> anchors, std::int64_t now) {
  const Held<X509_STORE> store(X509_STORE_new());
  const Held<STACK_OF(X509)> between(sk_X509_new_null());
  const Held<X509_STORE_CTX> context(X509_STORE_CTX_new());
  bool ready = store && between && context;
  for (const Certificate& one : anchors) ready = ready && X509_STORE_add_cert(store.get(), one.handle()) == 1;
  for (const Certificate& one : others) ready = ready && sk_X509_push(between.get(), one.handle()) > 0;
  ready = ready && X509_STORE_CTX_init(context.get(), store.get(), leaf.handle(), between.get()) == 1;
  if (!ready) {
    ERR_clear_error();
    return std::unexpected(
        PathProblem{PathCheck::chain, leaf.subject(), "cannot be checked", "OpenSSL has no memory for it", ""});
  }
  X509_VERIFY_PARAM* const rules = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(rules, static_cast<time_t>(now));
  X509_VERIFY_PARAM_set_depth(rules, deepest);
  X509_VERIFY_PARAM_set_auth_level(rules, strength);
  X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_CHECK_SS_SIGNATURE);
  const int verified = X509_verify_cert(context.get());
  ERR_clear_error();
  if (verified == 1) return {};
  const int error = X509_STORE_CTX_get_error(context.get());
  const Certificate which = failed_one(context.get(), leaf);
  const bool expired = error == X509_V_ERR_CERT_HAS_EXPIRED;
  if (expired || error == X509_V_ERR_CERT_NOT_YET_VALID) return std::unexpected(date_problem(which, expired, now));
  return std::unexpected(chain_problem(error, which, leaf));
}

Result<void, PathProblem> check_usage(const Certificate& leaf) {
  const std::uint32_t usage = X509_get_key_usage(leaf.handle());  // all bits where the extension is not there
  if ((usage & (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION)) == 0)
    return std::unexpected(PathProblem{PathCheck::usage, leaf.subject(), "may not be used to sign (key usage)",
                                       "neither digitalSignature nor nonRepudiation is set",
                                       "issue a certificate with key usage digitalSignature"});
  const Held<EXTENDED_KEY_USAGE> purposes(
      static_cast<EXTENDED_KEY_USAGE*>(X509_get_ext_d2i(leaf.handle(), NID_ext_key_usage, nullptr, nullptr)));
  if (!purposes) return {};
  for (int i = 0; i < sk_ASN1_OBJECT_num(purposes.get()); ++i)
    if (usable_purpose(sk_ASN1_OBJECT_value(purposes.get(), i))) return {};
  return std::unexpected(
      PathProblem{PathCheck::usage, leaf.subject(), "is not for IKE (extended key usage)",
                  "it is for " + purposes_text(purposes.get()) + " alone",
                  "issue it with ipsecIKE, serverAuth or clientAuth, or without extended key usage"});
}

bool is_for_tls(const Certificate& leaf, bool server) {
  return X509_check_purpose(leaf.handle(), server ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT, 0) == 1;
}

bool names_identity(const Certificate& leaf, std::uint8_t type, Bytes identity) {
  if (type == 9) {
    const auto name = name_from(identity);
    return name && X509_NAME_cmp(name.get(), X509_get_subject_name(leaf.handle())) == 0;
  }
  const int wanted = type == 2 ? GEN_DNS : type == 3 ? GEN_EMAIL : type == 1 || type == 5 ? GEN_IPADD : -1;
  const Held<GENERAL_NAMES> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(leaf.handle(), NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && wanted >= 0 && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* const one = sk_GENERAL_NAME_value(names.get(), i);
    if (one->type != wanted) continue;
    if (wanted == GEN_IPADD ? same_octets(one->d.iPAddress, identity) : same_word(one->d.ia5, identity)) return true;
  }
  return false;
}

std::string name_of_der(Bytes der) {
  const auto name = name_from(der);
  if (!name) return "(no DN)";
  X509* const around = X509_new();
  if (around == nullptr) return "(no DN)";
  X509_set_subject_name(around, name.get());
  const std::unique_ptr<X509, decltype([](X509* p) { X509_free(p); })> owner(around);
  char text[256];
  X509_NAME_oneline(X509_get_subject_name(around), text, sizeof text);
  return text;
}

}  // namespace postern::crypto
