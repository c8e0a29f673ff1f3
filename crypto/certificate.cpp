#include "crypto/certificate.hpp"

#include <algorithm>
#include <ctime>

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/net_types.hpp"
#include "crypto/digest.hpp"

namespace postern::crypto {
namespace {

constexpr std::size_t longest_text = 256, most_names = 32;

template <auto Function>
struct FreeBy {
  template <class T>
  void operator()(T* p) const {
    Function(p);
  }
};
using Bio = std::unique_ptr<BIO, FreeBy<BIO_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, FreeBy<GENERAL_NAMES_free>>;
using OsslText = std::unique_ptr<char, decltype([](char* p) { OPENSSL_free(p); })>;

std::string name_text(const X509_NAME* name) {
  const Bio out(BIO_new(BIO_s_mem()));
  if (!out || name == nullptr || X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_RFC2253) < 0) return "(unreadable)";
  char* data = nullptr;
  const long size = BIO_get_mem_data(out.get(), &data);
  std::string text(data, static_cast<std::size_t>(std::max(size, 0L)));
  if (text.size() > longest_text) text = text.substr(0, longest_text) + "...";
  return text.empty() ? "(empty)" : text;
}

std::string escaped_name(const ASN1_STRING* text) {
  std::string out;
  const auto* const data = ASN1_STRING_get0_data(text);
  for (int i = 0; i < std::min(ASN1_STRING_length(text), static_cast<int>(longest_text)); ++i) {
    const unsigned char c = data[i];
    out += c > 0x20 && c < 0x7f ? static_cast<char>(c) : '?';
  }
  return out;
}

std::string address_text(const ASN1_OCTET_STRING* address) {
  const auto* const data = ASN1_STRING_get0_data(address);
  const int size = ASN1_STRING_length(address);
  std::array<std::uint8_t, 16> mapped{};
  if (size == 4) mapped[10] = mapped[11] = 0xff;
  if (size != 4 && size != 16) return "(unreadable)";
  std::copy_n(data, size, mapped.end() - size);
  return IpAddress::from_mapped(mapped).text();
}

std::int64_t seconds_of(const ASN1_TIME* time) {
  std::tm broken{};
  return time != nullptr && ASN1_TIME_to_tm(time, &broken) == 1 ? static_cast<std::int64_t>(::timegm(&broken)) : 0;
}

template <class T>
std::vector<std::byte> encoded(int (*encode)(const T*, unsigned char**), const T* object) {
  const int size = encode(object, nullptr);
  std::vector<std::byte> out(static_cast<std::size_t>(std::max(size, 0)));
  auto* at = reinterpret_cast<unsigned char*>(out.data());
  if (size > 0) encode(object, &at);
  return out;
}

}  // namespace

std::string text(KeyKind kind) {
  switch (kind) {
    case KeyKind::rsa: return "RSA";
    case KeyKind::ecdsa: return "ECDSA";
    case KeyKind::ed25519: return "Ed25519";
    case KeyKind::other: break;
  }
  return "unknown";
}

std::string time_text(std::int64_t seconds) {
  const auto time = static_cast<std::time_t>(seconds);
  std::tm broken{};
  std::array<char, 32> out{};
  if (::gmtime_r(&time, &broken) == nullptr) return "(no time)";
  return {out.data(), std::strftime(out.data(), out.size(), "%Y-%m-%dT%H:%M:%SZ", &broken)};
}

Certificate::Certificate(x509_st* owned) : handle_(owned, &X509_free) {}

Result<Certificate> Certificate::parse(Bytes der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const auto* const end = at + der.size();
  X509* const made = d2i_X509(nullptr, &at, static_cast<long>(der.size()));
  ERR_clear_error();
  if (made == nullptr) return fail("not a DER certificate", EINVAL);
  Certificate out(made);
  if (at != end) return fail("bytes are left over behind the certificate", EINVAL);
  return out;
}

Result<std::vector<Certificate>> Certificate::from_pem(Bytes text, std::size_t most) {
  const Bio in(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  std::vector<Certificate> out;
  while (in) {
    X509* const made = PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr);
    if (made == nullptr) break;
    out.push_back(Certificate(made));
    if (out.size() > most) return fail("more than " + std::to_string(most) + " certificates", E2BIG);
  }
  ERR_clear_error();
  if (out.empty()) return fail("no PEM certificate in it", EINVAL);
  return out;
}

std::vector<std::byte> Certificate::der() const { return encoded<X509>(&i2d_X509, handle()); }

std::vector<std::byte> Certificate::subject_der() const {
  return encoded<X509_NAME>(&i2d_X509_NAME, X509_get_subject_name(handle()));
}

std::string Certificate::subject() const { return name_text(X509_get_subject_name(handle())); }
std::string Certificate::issuer() const { return name_text(X509_get_issuer_name(handle())); }

std::string Certificate::serial() const {
  const std::unique_ptr<BIGNUM, FreeBy<BN_free>> number(ASN1_INTEGER_to_BN(X509_get0_serialNumber(handle()), nullptr));
  const OsslText hex(number ? BN_bn2hex(number.get()) : nullptr);
  return hex ? std::string(hex.get()).substr(0, longest_text) : "";
}

std::int64_t Certificate::not_before() const { return seconds_of(X509_get0_notBefore(handle())); }
std::int64_t Certificate::not_after() const { return seconds_of(X509_get0_notAfter(handle())); }
bool Certificate::is_authority() const { return X509_check_ca(handle()) > 0; }
evp_pkey_st* Certificate::key() const { return X509_get0_pubkey(handle()); }

KeyKind Certificate::key_kind() const {
  EVP_PKEY* const pkey = key();
  if (pkey == nullptr) return KeyKind::other;
  switch (EVP_PKEY_get_base_id(pkey)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS: return KeyKind::rsa;
    case EVP_PKEY_EC: return KeyKind::ecdsa;
    case EVP_PKEY_ED25519: return KeyKind::ed25519;
    default: return KeyKind::other;
  }
}

int Certificate::key_bits() const { return key() == nullptr ? 0 : EVP_PKEY_get_bits(key()); }

Result<std::array<std::byte, 20>> Certificate::key_hash() const {
  const auto info = encoded<X509_PUBKEY>(&i2d_X509_PUBKEY, X509_get_X509_PUBKEY(handle()));
  return sha1({info});
}

Result<std::array<std::byte, 32>> Certificate::fingerprint() const {
  const auto whole = der();
  return sha256({whole});
}

std::vector<std::string> Certificate::alternative_names() const {
  std::vector<std::string> out;
  const Names names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(handle(), NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()) && out.size() < most_names; ++i) {
    const GENERAL_NAME* const one = sk_GENERAL_NAME_value(names.get(), i);
    if (one->type == GEN_DNS) out.push_back("DNS:" + escaped_name(one->d.dNSName));
    if (one->type == GEN_EMAIL) out.push_back("email:" + escaped_name(one->d.rfc822Name));
    if (one->type == GEN_IPADD) out.push_back("IP:" + address_text(one->d.iPAddress));
  }
  return out;
}

}  // namespace postern::crypto
