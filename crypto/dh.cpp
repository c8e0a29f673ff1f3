#include "crypto/dh.hpp"

#include <algorithm>
#include <array>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/dh.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "base/registers.hpp"
#include "crypto/transforms.hpp"

namespace postern::crypto {
namespace {

struct Free {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
  void operator()(BIGNUM* number) const { BN_free(number); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

enum class Kind : std::uint8_t { modp, ecp, montgomery };

// OpenSSL's names. Its private exponents for RFC 3526's groups are twice the group's strength long (RFC 7919 §5.2).
struct Row {
  DhGroup group;
  Kind kind;
  const char* type;
  const char* name;
};
constexpr std::array<Row, 7> rows = {{{DhGroup::modp2048, Kind::modp, "DH", "modp_2048"},
                                      {DhGroup::modp3072, Kind::modp, "DH", "modp_3072"},
                                      {DhGroup::modp4096, Kind::modp, "DH", "modp_4096"},
                                      {DhGroup::ecp256, Kind::ecp, "EC", "P-256"},
                                      {DhGroup::ecp384, Kind::ecp, "EC", "P-384"},
                                      {DhGroup::ecp521, Kind::ecp, "EC", "P-521"},
                                      {DhGroup::curve25519, Kind::montgomery, "X25519", nullptr}}};

const Row* find_row(DhGroup group) {
  const auto row = std::ranges::find(rows, group, &Row::group);
  return row == rows.end() ? nullptr : &*row;
}

const unsigned char* dh_octets(const std::byte* p) { return reinterpret_cast<const unsigned char*>(p); }

std::unexpected<Error> refuse(DhGroup group, const char* what) {
  ERR_clear_error();
  return fail("DH group " + std::to_string(static_cast<unsigned>(group)) + ": " + what);
}

constexpr unsigned char uncompressed = 0x04;  // SEC 1 §2.3.3; RFC 5903 §7 leaves it out

Result<std::vector<std::byte>> public_value_of(const Row& row, EVP_PKEY* key) {
  unsigned char* encoded = nullptr;
  std::size_t size = EVP_PKEY_get1_encoded_public_key(key, &encoded);
  const std::unique_ptr<unsigned char, decltype([](unsigned char* p) { OPENSSL_free(p); })> owner(encoded);
  const unsigned char* first = encoded;
  if (row.kind == Kind::ecp && size > 0 && *first == uncompressed) ++first, --size;
  if (size != public_value_bytes(row.group)) return refuse(row.group, "no public value");
  const auto* const begin = reinterpret_cast<const std::byte*>(first);
  return std::vector<std::byte>(begin, begin + size);
}

// RFC 6989 §2.1: 1 < y < p - 1. OpenSSL refuses other values as well; nothing here leans on that.
bool in_range(EVP_PKEY* own, Bytes value) {
  BIGNUM* prime = nullptr;
  if (EVP_PKEY_get_bn_param(own, OSSL_PKEY_PARAM_FFC_P, &prime) != 1) return false;
  const Owned<BIGNUM> p(prime), y(BN_bin2bn(dh_octets(value.data()), static_cast<int>(value.size()), nullptr));
  return y && BN_sub_word(p.get(), 1) == 1 && BN_cmp(y.get(), BN_value_one()) > 0 && BN_cmp(y.get(), p.get()) < 0;
}

// `value` has the group's length.
Owned<EVP_PKEY> peer_key(const Row& row, EVP_PKEY* own, Bytes value) {
  if (row.kind == Kind::montgomery)
    return Owned<EVP_PKEY>(
        EVP_PKEY_new_raw_public_key_ex(nullptr, row.type, nullptr, dh_octets(value.data()), value.size()));
  std::vector<unsigned char> encoded;
  if (row.kind == Kind::ecp) encoded.push_back(uncompressed);
  encoded.insert(encoded.end(), dh_octets(value.data()), dh_octets(value.data()) + value.size());
  Owned<EVP_PKEY> peer(EVP_PKEY_new());
  if (!peer || EVP_PKEY_copy_parameters(peer.get(), own) != 1 ||
      EVP_PKEY_set1_encoded_public_key(peer.get(), encoded.data(), encoded.size()) != 1)
    return nullptr;
  return peer;
}

}  // namespace

std::size_t public_value_bytes(DhGroup group) {
  const NamedGroup* const row = find_group(static_cast<std::uint16_t>(group));
  return row == nullptr ? 0 : row->public_bytes;
}

struct DhExchange::Implementation {
  Owned<EVP_PKEY> key;
};

DhExchange::DhExchange(DhGroup group, std::vector<std::byte> public_value,
                       std::unique_ptr<Implementation> implementation)
    : group_(group), public_(std::move(public_value)), implementation_(std::move(implementation)) {}
DhExchange::DhExchange(DhExchange&&) noexcept = default;
DhExchange& DhExchange::operator=(DhExchange&&) noexcept = default;
DhExchange::~DhExchange() = default;

Result<DhExchange> DhExchange::create(DhGroup group) {
  const Row* const row = find_row(group);
  if (row == nullptr) return refuse(group, "not offered");
  const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_name(nullptr, row->type, nullptr));
  EVP_PKEY* generated = nullptr;
  if (!context || EVP_PKEY_keygen_init(context.get()) != 1 ||
      (row->name != nullptr && EVP_PKEY_CTX_set_group_name(context.get(), row->name) != 1) ||
      EVP_PKEY_generate(context.get(), &generated) != 1)
    return refuse(group, "no key pair");
  auto implementation = std::make_unique<Implementation>(Owned<EVP_PKEY>(generated));
  clear_vector_registers();
  POSTERN_TRY(value, public_value_of(*row, generated));
  return DhExchange(group, std::move(value), std::move(implementation));
}

Result<Secret> DhExchange::shared(Bytes peer) const {
  const Row& row = *find_row(group_);
  EVP_PKEY* const own = implementation_->key.get();
  if (peer.size() != public_value_bytes(group_)) return refuse(group_, "the peer's public value has another length");
  if (row.kind == Kind::modp && !in_range(own, peer)) return refuse(group_, "the peer's public value is out of range");
  const Owned<EVP_PKEY> theirs = peer_key(row, own, peer);
  if (!theirs) return refuse(group_, "the peer's public value is not valid");
  const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_pkey(nullptr, own, nullptr));
  // A safe prime's values need no membership test (RFC 6989 §2.1), which would cost a second exponentiation.
  const int validate = row.kind == Kind::ecp ? 1 : 0;
  std::size_t size = 0;
  if (!context || EVP_PKEY_derive_init(context.get()) != 1 ||
      (row.kind == Kind::modp && EVP_PKEY_CTX_set_dh_pad(context.get(), 1) != 1) ||
      EVP_PKEY_derive_set_peer_ex(context.get(), theirs.get(), validate) != 1 ||
      EVP_PKEY_derive(context.get(), nullptr, &size) != 1)
    return refuse(group_, "the peer's public value is not valid");
  Secret out(size);
  // OpenSSL refuses X25519's all-zero secret (RFC 7748 §6.1).
  const int derived =
      EVP_PKEY_derive(context.get(), reinterpret_cast<unsigned char*>(out.mutable_bytes().data()), &size);
  clear_vector_registers();
  if (derived != 1 || size != out.size()) return refuse(group_, "no shared secret with this public value");
  return out;
}

}  // namespace postern::crypto
