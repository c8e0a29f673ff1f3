#include "crypto/signature.hpp"

#include <algorithm>
#include <array>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

namespace postern::crypto {
namespace {

constexpr std::size_t secure_heap_bytes = 1U << 20, secure_heap_smallest = 32;

struct FreeSigning {
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(EVP_PKEY_CTX* p) const { EVP_PKEY_CTX_free(p); }
  void operator()(EVP_MD_CTX* p) const { EVP_MD_CTX_free(p); }
  void operator()(ECDSA_SIG* p) const { ECDSA_SIG_free(p); }
  void operator()(X509_ALGOR* p) const { X509_ALGOR_free(p); }
  void operator()(RSA_PSS_PARAMS* p) const { RSA_PSS_PARAMS_free(p); }
};
template <class T>
using Kept = std::unique_ptr<T, FreeSigning>;

std::unexpected<Error> refuse(const char* what) {
  ERR_clear_error();
  return fail(std::string("signature: ") + what);
}

const unsigned char* octets(Bytes bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }
unsigned char* octets(std::vector<std::byte>& bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }

struct HashRow {
  SignatureHash hash;
  const char* word;
  const EVP_MD* (*md)();
  int digest;  // NIDs
  int rsa, ecdsa;
};
constexpr std::array<HashRow, 4> hashes = {{
    {SignatureHash::sha1, "SHA-1", &EVP_sha1, NID_sha1, NID_sha1WithRSAEncryption, NID_ecdsa_with_SHA1},
    {SignatureHash::sha256, "SHA-256", &EVP_sha256, NID_sha256, NID_sha256WithRSAEncryption, NID_ecdsa_with_SHA256},
    {SignatureHash::sha384, "SHA-384", &EVP_sha384, NID_sha384, NID_sha384WithRSAEncryption, NID_ecdsa_with_SHA384},
    {SignatureHash::sha512, "SHA-512", &EVP_sha512, NID_sha512, NID_sha512WithRSAEncryption, NID_ecdsa_with_SHA512},
}};
const HashRow* row_of(SignatureHash hash) {
  const auto found = std::ranges::find(hashes, hash, &HashRow::hash);
  return found == hashes.end() ? nullptr : &*found;
}
const HashRow* row_of(int nid, int HashRow::* member) {
  const auto found = std::ranges::find(hashes, nid, member);
  return found == hashes.end() ? nullptr : &*found;
}

KeyKind kind_of(const EVP_PKEY* key) {
  switch (key == nullptr ? EVP_PKEY_NONE : EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS: return KeyKind::rsa;
    case EVP_PKEY_EC: return KeyKind::ecdsa;
    case EVP_PKEY_ED25519: return KeyKind::ed25519;
    default: return KeyKind::other;
  }
}

// RFC 7427 §4 leaves the salt to the signer; as long as the hash is what everybody takes (RFC 4055 §3.1).
bool set_padding(EVP_PKEY_CTX* context, const SignatureScheme& scheme, bool signing) {
  if (scheme.key != KeyKind::rsa) return true;
  if (!scheme.pss) return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) > 0;
  return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) > 0 &&
         EVP_PKEY_CTX_set_rsa_pss_saltlen(context, signing ? RSA_PSS_SALTLEN_DIGEST : RSA_PSS_SALTLEN_AUTO) > 0;
}

const EVP_MD* digest_of(const SignatureScheme& scheme) {
  const HashRow* const row = row_of(scheme.hash);
  return row == nullptr || scheme.key == KeyKind::ed25519 ? nullptr : row->md();
}

bool well_formed(const SignatureScheme& scheme, KeyKind key) {
  return scheme.key == key && (key == KeyKind::ed25519) == (scheme.hash == SignatureHash::identity);
}

std::size_t half_bytes(const EVP_PKEY* key) { return static_cast<std::size_t>((EVP_PKEY_get_bits(key) + 7) / 8); }

// RFC 4754 §7 and back.
Result<std::vector<std::byte>> fixed_from_der(const EVP_PKEY* key, Bytes der) {
  const auto* at = octets(der);
  const Kept<ECDSA_SIG> both(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
  const std::size_t half = half_bytes(key);
  std::vector<std::byte> out(2 * half);
  if (!both || BN_bn2binpad(ECDSA_SIG_get0_r(both.get()), octets(out), static_cast<int>(half)) < 0 ||
      BN_bn2binpad(ECDSA_SIG_get0_s(both.get()), octets(out) + half, static_cast<int>(half)) < 0)
    return refuse("an ECDSA signature that does not fit its curve");
  return out;
}

Result<std::vector<std::byte>> der_from_fixed(const EVP_PKEY* key, Bytes fixed) {
  const std::size_t half = half_bytes(key);
  if (fixed.size() != 2 * half) return refuse("its length is not that of the curve");
  const Kept<ECDSA_SIG> both(ECDSA_SIG_new());
  BIGNUM* const r = BN_bin2bn(octets(fixed), static_cast<int>(half), nullptr);
  BIGNUM* const s = BN_bin2bn(octets(fixed) + half, static_cast<int>(half), nullptr);
  if (!both || r == nullptr || s == nullptr || ECDSA_SIG_set0(both.get(), r, s) != 1) {
    BN_free(r);
    BN_free(s);
    return refuse("no memory");
  }
  const int size = i2d_ECDSA_SIG(both.get(), nullptr);
  std::vector<std::byte> out(static_cast<std::size_t>(std::max(size, 0)));
  auto* at = octets(out);
  i2d_ECDSA_SIG(both.get(), &at);
  return out;
}

std::vector<std::byte> der_of(const X509_ALGOR* algorithm) {
  const int size = i2d_X509_ALGOR(algorithm, nullptr);
  std::vector<std::byte> out(static_cast<std::size_t>(std::max(size, 0)));
  auto* at = octets(out);
  if (size > 0) i2d_X509_ALGOR(algorithm, &at);
  return out;
}

std::optional<SignatureScheme> pss_scheme(const X509_ALGOR* algorithm) {
  int type = 0;
  const void* value = nullptr;
  X509_ALGOR_get0(nullptr, &type, &value, algorithm);
  if (type != V_ASN1_SEQUENCE) return std::nullopt;
  const auto* const text = static_cast<const ASN1_STRING*>(value);
  const auto* at = ASN1_STRING_get0_data(text);
  const Kept<RSA_PSS_PARAMS> params(d2i_RSA_PSS_PARAMS(nullptr, &at, ASN1_STRING_length(text)));
  if (!params || params->hashAlgorithm == nullptr || params->maskGenAlgorithm == nullptr ||
      params->trailerField != nullptr)
    return std::nullopt;
  const auto nid_of = [](const X509_ALGOR* one) {
    const ASN1_OBJECT* object = nullptr;
    X509_ALGOR_get0(&object, nullptr, nullptr, one);
    return OBJ_obj2nid(object);
  };
  const HashRow* const row = row_of(nid_of(params->hashAlgorithm), &HashRow::digest);
  const void* inner = nullptr;
  X509_ALGOR_get0(nullptr, &type, &inner, params->maskGenAlgorithm);
  if (row == nullptr || nid_of(params->maskGenAlgorithm) != NID_mgf1 || type != V_ASN1_SEQUENCE) return std::nullopt;
  const auto* const mask = static_cast<const ASN1_STRING*>(inner);
  const auto* mask_at = ASN1_STRING_get0_data(mask);
  const Kept<X509_ALGOR> mask_hash(d2i_X509_ALGOR(nullptr, &mask_at, ASN1_STRING_length(mask)));
  if (!mask_hash || nid_of(mask_hash.get()) != row->digest) return std::nullopt;
  return SignatureScheme{KeyKind::rsa, row->hash, true, false};
}

// RFC 7427 appendix A.4.3: explicit hash, MGF1 with it, a salt as long.
std::vector<std::byte> pss_identifier(const HashRow& row) {
  const Kept<EVP_MD_CTX> context(EVP_MD_CTX_new());
  const Kept<RSA_PSS_PARAMS> params(RSA_PSS_PARAMS_new());
  const auto digest = [&] {
    X509_ALGOR* const out = X509_ALGOR_new();
    X509_ALGOR_set0(out, OBJ_nid2obj(row.digest), V_ASN1_NULL, nullptr);
    return out;
  };
  params->hashAlgorithm = digest();
  const Kept<X509_ALGOR> mask_hash(digest());
  ASN1_STRING* packed = nullptr;
  ASN1_item_pack(mask_hash.get(), ASN1_ITEM_rptr(X509_ALGOR), &packed);
  params->maskGenAlgorithm = X509_ALGOR_new();
  X509_ALGOR_set0(params->maskGenAlgorithm, OBJ_nid2obj(NID_mgf1), V_ASN1_SEQUENCE, packed);
  params->saltLength = ASN1_INTEGER_new();
  ASN1_INTEGER_set(params->saltLength, EVP_MD_get_size(row.md()));
  ASN1_STRING* whole = nullptr;
  ASN1_item_pack(params.get(), ASN1_ITEM_rptr(RSA_PSS_PARAMS), &whole);
  const Kept<X509_ALGOR> out(X509_ALGOR_new());
  X509_ALGOR_set0(out.get(), OBJ_nid2obj(NID_rsassaPss), V_ASN1_SEQUENCE, whole);
  return der_of(out.get());
}

}  // namespace

std::string text(const SignatureScheme& scheme) {
  const HashRow* const row = row_of(scheme.hash);
  const std::string name = text(scheme.key) + (scheme.pss ? "-PSS" : "");
  return row == nullptr ? name : name + " with " + row->word;
}

Result<void> lock_private_keys() {
  if (CRYPTO_secure_malloc_initialized() == 1) return {};
  // 2: the heap is there, but could not be locked or protected.
  if (CRYPTO_secure_malloc_init(secure_heap_bytes, secure_heap_smallest) != 1)
    return fail("OpenSSL's heap for private keys cannot be locked", ENOMEM);
  return {};
}

Result<void> wake_signatures() {
  const std::array<std::byte, 32> message{};
  for (const char* const curve : {"P-256", "P-384", "P-521", ""}) {
    EVP_PKEY* const made = *curve != '\0' ? EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", curve)
                                          : EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(made, &EVP_PKEY_free);
    const Kept<EVP_MD_CTX> context(EVP_MD_CTX_new());
    std::array<std::byte, 160> out{};
    std::size_t size = out.size();
    if (!key || !context ||
        EVP_DigestSignInit(context.get(), nullptr, *curve != '\0' ? EVP_sha256() : nullptr, nullptr, key.get()) != 1 ||
        EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(out.data()), &size, octets(message),
                       message.size()) != 1)
      return refuse("OpenSSL cannot sign");
  }
  return {};
}

PrivateKey::PrivateKey(evp_pkey_st* owned) : handle_(owned, &EVP_PKEY_free) {}

Result<PrivateKey> PrivateKey::from_pem(Bytes text) {
  const Kept<BIO> in(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  const auto no_passphrase = [](char*, int, int, void*) { return 0; };
  EVP_PKEY* const made = in ? PEM_read_bio_PrivateKey(in.get(), nullptr, no_passphrase, nullptr) : nullptr;
  if (made == nullptr) return refuse("no PEM private key, or one under a passphrase");
  PrivateKey out(made);
  if (out.kind() == KeyKind::other) return refuse("a private key of a kind that IKE does not use");
  return out;
}

bool PrivateKey::belongs_to(const Certificate& certificate) const {
  const bool same = certificate.key() != nullptr && EVP_PKEY_eq(handle(), certificate.key()) == 1;
  ERR_clear_error();
  return same;
}

KeyKind PrivateKey::kind() const { return kind_of(handle()); }
int PrivateKey::bits() const { return EVP_PKEY_get_bits(handle()); }

Result<std::vector<std::byte>> sign(const PrivateKey& key, const SignatureScheme& scheme, Bytes message) {
  if (!well_formed(scheme, key.kind())) return refuse("the key is of another kind");
  const Kept<EVP_MD_CTX> context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* of_key = nullptr;
  std::size_t size = 0;
  if (!context || EVP_DigestSignInit(context.get(), &of_key, digest_of(scheme), nullptr, key.handle()) != 1 ||
      !set_padding(of_key, scheme, true) ||
      EVP_DigestSign(context.get(), nullptr, &size, octets(message), message.size()) != 1)
    return refuse("OpenSSL does not sign so");
  std::vector<std::byte> out(size);
  if (EVP_DigestSign(context.get(), octets(out), &size, octets(message), message.size()) != 1)
    return refuse("OpenSSL does not sign");
  out.resize(size);
  if (scheme.fixed_form) return fixed_from_der(key.handle(), out);
  return out;
}

Result<void> verify(const Certificate& signer, const SignatureScheme& scheme, Bytes message, Bytes signature) {
  if (!well_formed(scheme, signer.key_kind())) return refuse("the certificate's key is of another kind");
  std::vector<std::byte> der;
  if (scheme.fixed_form) {
    POSTERN_TRY(converted, der_from_fixed(signer.key(), signature));
    der = std::move(converted);
    signature = der;
  }
  const Kept<EVP_MD_CTX> context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* of_key = nullptr;
  const bool good =
      context && EVP_DigestVerifyInit(context.get(), &of_key, digest_of(scheme), nullptr, signer.key()) == 1 &&
      set_padding(of_key, scheme, false) &&
      EVP_DigestVerify(context.get(), octets(signature), signature.size(), octets(message), message.size()) == 1;
  ERR_clear_error();
  if (!good) return fail("signature: it does not verify");
  return {};
}

std::vector<std::byte> algorithm_identifier(const SignatureScheme& scheme) {
  const HashRow* const row = row_of(scheme.hash);
  const Kept<X509_ALGOR> out(X509_ALGOR_new());
  if (scheme.key == KeyKind::ed25519) {
    X509_ALGOR_set0(out.get(), OBJ_nid2obj(NID_ED25519), V_ASN1_UNDEF, nullptr);
    return der_of(out.get());
  }
  if (row == nullptr) return {};
  if (scheme.pss) return pss_identifier(*row);
  const bool rsa = scheme.key == KeyKind::rsa;
  X509_ALGOR_set0(out.get(), OBJ_nid2obj(rsa ? row->rsa : row->ecdsa), rsa ? V_ASN1_NULL : V_ASN1_UNDEF, nullptr);
  return der_of(out.get());
}

std::optional<SignatureScheme> scheme_of(Bytes identifier) {
  const auto* at = octets(identifier);
  const auto* const end = at + identifier.size();
  const Kept<X509_ALGOR> algorithm(d2i_X509_ALGOR(nullptr, &at, static_cast<long>(identifier.size())));
  ERR_clear_error();
  if (!algorithm || at != end) return std::nullopt;
  const ASN1_OBJECT* object = nullptr;
  X509_ALGOR_get0(&object, nullptr, nullptr, algorithm.get());
  const int nid = OBJ_obj2nid(object);
  if (nid == NID_ED25519) return SignatureScheme{KeyKind::ed25519, SignatureHash::identity, false, false};
  if (nid == NID_rsassaPss) return pss_scheme(algorithm.get());
  if (const HashRow* const row = row_of(nid, &HashRow::rsa))
    return SignatureScheme{KeyKind::rsa, row->hash, false, false};
  if (const HashRow* const row = row_of(nid, &HashRow::ecdsa))
    return SignatureScheme{KeyKind::ecdsa, row->hash, false, false};
  return std::nullopt;
}

std::optional<SignatureHash> hash_in_rsa_signature(const Certificate& signer, Bytes signature) {
  if (signer.key_kind() != KeyKind::rsa) return std::nullopt;
  const Kept<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new(signer.key(), nullptr));
  std::vector<std::byte> info(static_cast<std::size_t>(EVP_PKEY_get_size(signer.key())));
  std::size_t size = info.size();
  const bool opened =
      context && EVP_PKEY_verify_recover_init(context.get()) == 1 &&
      EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_PADDING) > 0 &&
      EVP_PKEY_verify_recover(context.get(), octets(info), &size, octets(signature), signature.size()) == 1;
  ERR_clear_error();
  if (!opened || size > info.size()) return std::nullopt;
  // RFC 8017 §9.2: DigestInfo. The hash inside is at its end, so that the algorithm has one length for each hash.
  for (const HashRow& row : hashes) {
    const auto digest = static_cast<std::size_t>(EVP_MD_get_size(row.md()));
    const std::size_t around = row.hash == SignatureHash::sha1 ? 15 : 19;
    if (size == digest + around) return row.hash;
  }
  return std::nullopt;
}

}  // namespace postern::crypto
