#include "crypto/dh.hpp"

#include <algorithm>
#include <array>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/dh.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include "base/registers.hpp"
#include "crypto/transforms.hpp"

namespace postern::crypto {
namespace {

struct Free {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
  void operator()(BIGNUM* number) const { BN_free(number); }
  void operator()(BN_CTX* context) const { BN_CTX_free(context); }
  void operator()(OSSL_PARAM_BLD* builder) const { OSSL_PARAM_BLD_free(builder); }
  void operator()(OSSL_PARAM* parameters) const { OSSL_PARAM_free(parameters); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

// `oakley`: a safe prime that OpenSSL has no name for; `subgroup`: the generator makes but a part of the group.
enum class Kind : std::uint8_t { oakley, modp, subgroup, ecp, montgomery };

// OpenSSL's names. Its private exponents for RFC 3526's groups are twice the group's strength long (RFC 7919 §5.2).
struct Row {
  DhGroup group;
  Kind kind;
  const char* type;
  const char* name;
};
constexpr std::array<Row, 21> rows = {{{DhGroup::modp768, Kind::oakley, "DH", nullptr},
                                       {DhGroup::modp1024, Kind::oakley, "DH", nullptr},
                                       {DhGroup::modp1536, Kind::modp, "DH", "modp_1536"},
                                       {DhGroup::modp2048, Kind::modp, "DH", "modp_2048"},
                                       {DhGroup::modp3072, Kind::modp, "DH", "modp_3072"},
                                       {DhGroup::modp4096, Kind::modp, "DH", "modp_4096"},
                                       {DhGroup::modp6144, Kind::modp, "DH", "modp_6144"},
                                       {DhGroup::modp8192, Kind::modp, "DH", "modp_8192"},
                                       {DhGroup::ecp256, Kind::ecp, "EC", "P-256"},
                                       {DhGroup::ecp384, Kind::ecp, "EC", "P-384"},
                                       {DhGroup::ecp521, Kind::ecp, "EC", "P-521"},
                                       {DhGroup::modp1024s160, Kind::subgroup, "DH", "dh_1024_160"},
                                       {DhGroup::modp2048s224, Kind::subgroup, "DH", "dh_2048_224"},
                                       {DhGroup::modp2048s256, Kind::subgroup, "DH", "dh_2048_256"},
                                       {DhGroup::ecp192, Kind::ecp, "EC", "P-192"},
                                       {DhGroup::ecp224, Kind::ecp, "EC", "P-224"},
                                       {DhGroup::brainpool224, Kind::ecp, "EC", "brainpoolP224r1"},
                                       {DhGroup::brainpool256, Kind::ecp, "EC", "brainpoolP256r1"},
                                       {DhGroup::brainpool384, Kind::ecp, "EC", "brainpoolP384r1"},
                                       {DhGroup::brainpool512, Kind::ecp, "EC", "brainpoolP512r1"},
                                       {DhGroup::curve25519, Kind::montgomery, "X25519", nullptr}}};

const Row* find_row(DhGroup group) {
  const auto row = std::ranges::find(rows, group, &Row::group);
  return row == rows.end() ? nullptr : &*row;
}

bool is_modp(Kind kind) { return kind == Kind::oakley || kind == Kind::modp || kind == Kind::subgroup; }

const unsigned char* octets(const std::byte* p) { return reinterpret_cast<const unsigned char*>(p); }

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
  const Owned<BIGNUM> p(prime), y(BN_bin2bn(octets(value.data()), static_cast<int>(value.size()), nullptr));
  return y && BN_sub_word(p.get(), 1) == 1 && BN_cmp(y.get(), BN_value_one()) > 0 && BN_cmp(y.get(), p.get()) < 0;
}

// RFC 6989 §2.2: y^q is 1; values of other subgroups would give away parts of our private value.
bool in_subgroup(EVP_PKEY* own, Bytes value) {
  BIGNUM *prime = nullptr, *order = nullptr;
  const bool known = EVP_PKEY_get_bn_param(own, OSSL_PKEY_PARAM_FFC_P, &prime) == 1 &&
                     EVP_PKEY_get_bn_param(own, OSSL_PKEY_PARAM_FFC_Q, &order) == 1;
  const Owned<BIGNUM> p(prime), q(order), power(BN_new()),
      y(BN_bin2bn(octets(value.data()), static_cast<int>(value.size()), nullptr));
  const Owned<BN_CTX> scratch(BN_CTX_new());
  return known && y && power && scratch && BN_mod_exp(power.get(), y.get(), q.get(), p.get(), scratch.get()) == 1 &&
         BN_is_one(power.get()) == 1;
}

// RFC 7296 appendix B: the primes of groups 1 and 2, with the generator 2, as a template for keys.
Owned<EVP_PKEY> oakley_template(DhGroup group) {
  const Owned<BIGNUM> p(group == DhGroup::modp768 ? BN_get_rfc2409_prime_768(nullptr)
                                                  : BN_get_rfc2409_prime_1024(nullptr)),
      g(BN_new());
  const Owned<OSSL_PARAM_BLD> builder(OSSL_PARAM_BLD_new());
  if (!p || !g || !builder || BN_set_word(g.get(), 2) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_FFC_P, p.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_FFC_G, g.get()) != 1)
    return nullptr;
  const Owned<OSSL_PARAM> parameters(OSSL_PARAM_BLD_to_param(builder.get()));
  const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_name(nullptr, "DH", nullptr));
  EVP_PKEY* made = nullptr;
  if (!parameters || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &made, EVP_PKEY_KEY_PARAMETERS, parameters.get()) != 1)
    return nullptr;
  return Owned<EVP_PKEY>(made);
}

// A context that generates keys of the group.
Owned<EVP_PKEY_CTX> generator_of(const Row& row) {
  if (row.kind == Kind::oakley) {
    const Owned<EVP_PKEY> parameters = oakley_template(row.group);
    if (!parameters) return nullptr;
    Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_pkey(nullptr, parameters.get(), nullptr));
    if (!context || EVP_PKEY_keygen_init(context.get()) != 1) return nullptr;
    return context;
  }
  Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_name(nullptr, row.type, nullptr));
  if (!context || EVP_PKEY_keygen_init(context.get()) != 1 ||
      (row.name != nullptr && EVP_PKEY_CTX_set_group_name(context.get(), row.name) != 1))
    return nullptr;
  return context;
}

// `value` has the group's length.
Owned<EVP_PKEY> peer_key(const Row& row, EVP_PKEY* own, Bytes value) {
  if (row.kind == Kind::montgomery)
    return Owned<EVP_PKEY>(
        EVP_PKEY_new_raw_public_key_ex(nullptr, row.type, nullptr, octets(value.data()), value.size()));
  std::vector<unsigned char> encoded;
  if (row.kind == Kind::ecp) encoded.push_back(uncompressed);
  encoded.insert(encoded.end(), octets(value.data()), octets(value.data()) + value.size());
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
  const Owned<EVP_PKEY_CTX> context = generator_of(*row);
  EVP_PKEY* generated = nullptr;
  if (!context || EVP_PKEY_generate(context.get(), &generated) != 1) return refuse(group, "no key pair");
  auto implementation = std::make_unique<Implementation>(Owned<EVP_PKEY>(generated));
  clear_vector_registers();
  POSTERN_TRY(value, public_value_of(*row, generated));
  return DhExchange(group, std::move(value), std::move(implementation));
}

Result<Secret> DhExchange::shared(Bytes peer) const {
  const Row& row = *find_row(group_);
  EVP_PKEY* const own = implementation_->key.get();
  if (peer.size() != public_value_bytes(group_)) return refuse(group_, "the peer's public value has another length");
  if (is_modp(row.kind) && !in_range(own, peer)) return refuse(group_, "the peer's public value is out of range");
  if (row.kind == Kind::subgroup && !in_subgroup(own, peer))
    return refuse(group_, "the peer's public value is not of the subgroup");
  const Owned<EVP_PKEY> theirs = peer_key(row, own, peer);
  if (!theirs) return refuse(group_, "the peer's public value is not valid");
  const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_pkey(nullptr, own, nullptr));
  // A safe prime's values need no membership test (RFC 6989 §2.1), which would cost a second exponentiation.
  const int validate = row.kind == Kind::ecp ? 1 : 0;
  std::size_t size = 0;
  if (!context || EVP_PKEY_derive_init(context.get()) != 1 ||
      (is_modp(row.kind) && EVP_PKEY_CTX_set_dh_pad(context.get(), 1) != 1) ||
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
