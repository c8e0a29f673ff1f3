// Key exchange against RFC 5903, RFC 7748 and arithmetic of our own on RFC 3526's primes. The vectors' private values
// are given to OpenSSL by the test; what is under test plays the other side.
#include <algorithm>
#include <memory>
#include <set>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include "crypto/dh.hpp"
#include "crypto/transforms.hpp"
#include "tests/crypto/support.hpp"

namespace postern::crypto {
namespace {

using test::Buffer;
using test::from_hex;
using test::to_hex;

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
using Number = Owned<BIGNUM>;

unsigned char* octets(Buffer& b) { return reinterpret_cast<unsigned char*>(b.data()); }
Number number(Bytes bytes) {
  return Number(
      BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()), nullptr));
}
Buffer padded(const BIGNUM* value, std::size_t size) {
  Buffer out(size);
  REQUIRE(BN_bn2binpad(value, octets(out), static_cast<int>(size)) == static_cast<int>(size));
  return out;
}

DhExchange exchange(DhGroup group) {
  auto out = DhExchange::create(group);
  REQUIRE(out);
  return std::move(*out);
}

// --- ECP -------------------------------------------------------------------------------------------------------------

struct EcpVector {
  DhGroup group;
  const char* curve;
  std::string_view i, gi, r, gr, shared;
};

// RFC 5903 §8.1 to §8.3; gi and gr are x | y.
constexpr EcpVector ecp_vectors[] = {
    {DhGroup::ecp256, "P-256", "c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433",
     "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c37725811805271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f583"
     "8"
     "9e0577b8990bb3",
     "c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53",
     "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf6356fbf3ca366cc23e8157854c13c58d6aac23f046ada30f835"
     "3"
     "e74f33039872ab",
     "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de"},
    {DhGroup::ecp384, "P-384",
     "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
     "667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa9482ed1fc0eeb9caf"
     "c"
     "4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
     "41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2960e4bd55a7448fc",
     "e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571dcfbec7aacf319647"
     "2"
     "169e838430367f66eebe3c6e70c416dd5f0c68759dd1fff83fa40142209dff5eaad96db9e6386c",
     "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746"},
    {DhGroup::ecp521, "P-521",
     "0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a095aa85a30fe1c2952c6771d937ba9777f5957b2639bab0724"
     "6"
     "2f68c27a57382d4a52",
     "0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3bf42e00b8e380aeae57c2d107564941885942af5a7f46"
     "0"
     "1723c4195d176ced3e017cae20b6641d2eeb695786d8c946146239d099e18e1d5a514c739d7cb4a10ad8a788015ac405d7799dc75e7b7d5b6"
     "c"
     "f2261a6a7f1507438bf01beb6ca3926f9582",
     "0145ba99a847af43793fdd0e872e7cdfa16be30fdc780f97bccc3f078380201e9c677d600b343757a3bdbf2a3163e4c2f869cca7458aa4a4e"
     "f"
     "fc311f5cb151685eb9",
     "00d0b3975ac4b799f5bea16d5e13e9af971d5e9b984c9f39728b5e5739735a219b97c356436adc6e95bb0352f6be64a6c2912d4ef2d0433ce"
     "d"
     "2b6171640012d9460f015c68226383956e3bd066e797b623c27ce0eac2f551a10c2c724d9852077b87220b6536c5c408a1d2aebb8e86d678a"
     "e"
     "49cb57091f4732296579ab44fcd17f0fc56a",
     "01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04d1427e73ca4baa240a34786859810c06b3c715a3a8cc3151f"
     "2"
     "bee417996d19f3ddea"},
};

// A key of OpenSSL's from a private value (may be empty) and x | y.
Owned<EVP_PKEY> ec_key(const char* curve, Bytes scalar, Bytes point) {
  const Owned<OSSL_PARAM_BLD> builder(OSSL_PARAM_BLD_new());
  Buffer encoded{std::byte{4}};
  encoded.insert(encoded.end(), point.begin(), point.end());
  const Number secret = number(scalar);
  REQUIRE(OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, curve, 0) == 1);
  REQUIRE(OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, encoded.data(), encoded.size()) ==
          1);
  if (!scalar.empty()) REQUIRE(OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_PRIV_KEY, secret.get()) == 1);
  const Owned<OSSL_PARAM> parameters(OSSL_PARAM_BLD_to_param(builder.get()));
  const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
  EVP_PKEY* key = nullptr;
  REQUIRE(EVP_PKEY_fromdata_init(context.get()) == 1);
  REQUIRE(EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_KEYPAIR, parameters.get()) == 1);
  return Owned<EVP_PKEY>(key);
}

Buffer derive(EVP_PKEY* own, EVP_PKEY* peer) {
  const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_pkey(nullptr, own, nullptr));
  REQUIRE(EVP_PKEY_derive_init(context.get()) == 1);
  REQUIRE(EVP_PKEY_derive_set_peer(context.get(), peer) == 1);
  Buffer out(80);
  std::size_t size = out.size();
  REQUIRE(EVP_PKEY_derive(context.get(), octets(out), &size) == 1);
  out.resize(size);
  return out;
}

TEST_CASE("ECP: the peers of RFC 5903 §8 agree with us") {
  for (const EcpVector& v : ecp_vectors) {
    CAPTURE(v.curve);
    const Owned<EVP_PKEY> initiator = ec_key(v.curve, from_hex(v.i), from_hex(v.gi));
    const Owned<EVP_PKEY> responder = ec_key(v.curve, from_hex(v.r), from_hex(v.gr));
    CHECK(to_hex(derive(initiator.get(), responder.get())) == v.shared);  // the test's own side is right

    const DhExchange ours = exchange(v.group);
    CHECK(ours.group() == v.group);
    CHECK(ours.public_value().size() == v.gi.size() / 2);
    const Owned<EVP_PKEY> us = ec_key(v.curve, {}, ours.public_value());
    for (const auto& [peer, value] : {std::pair(initiator.get(), v.gi), std::pair(responder.get(), v.gr)}) {
      const auto shared = ours.shared(from_hex(value));
      REQUIRE(shared);
      CHECK(to_hex(shared->bytes()) == to_hex(derive(peer, us.get())));
      CHECK(shared->size() == v.shared.size() / 2);
    }
  }
}

TEST_CASE("ECP: an x coordinate with leading zeros keeps them") {
  const EcpVector& v = ecp_vectors[0];
  const Owned<EVP_PKEY> peer = ec_key(v.curve, from_hex(v.i), from_hex(v.gi));
  for (int tries = 0; tries < 20000; ++tries) {
    const DhExchange ours = exchange(v.group);
    const Owned<EVP_PKEY> us = ec_key(v.curve, {}, ours.public_value());
    const Buffer expected = derive(peer.get(), us.get());
    if (expected.front() != std::byte{0}) continue;
    const auto shared = ours.shared(from_hex(v.gi));
    REQUIRE(shared);
    CHECK(to_hex(shared->bytes()) == to_hex(expected));
    return;
  }
  FAIL("no such value found");
}

TEST_CASE("ECP: points off the curve, of another curve and of another length are refused") {
  for (const EcpVector& v : ecp_vectors) {
    CAPTURE(v.curve);
    const DhExchange ours = exchange(v.group);
    const Buffer good = from_hex(v.gr);
    CHECK(ours.shared(good));
    for (std::size_t byte = 0; byte < good.size(); byte += 7) {
      Buffer bad = good;
      bad[byte] ^= std::byte{1};
      CHECK_FALSE(ours.shared(bad));
    }
    CHECK_FALSE(ours.shared(Buffer(good.size())));                   // the point at infinity, as some write it
    CHECK_FALSE(ours.shared(Buffer(good.size(), std::byte{0xff})));  // coordinates above the prime
    CHECK_FALSE(ours.shared(Bytes(good).first(good.size() - 1)));
    CHECK_FALSE(ours.shared(Bytes(good).first(good.size() / 2)));  // x alone
    CHECK_FALSE(ours.shared({}));
    Buffer encoded{std::byte{4}};  // as TLS would send it
    encoded.insert(encoded.end(), good.begin(), good.end());
    CHECK_FALSE(ours.shared(encoded));
    CHECK(ours.shared(good));  // a refusal leaves nothing behind
  }
}

// --- Curve25519 ------------------------------------------------------------------------------------------------------

Owned<EVP_PKEY> x25519_key(Bytes secret) {
  Owned<EVP_PKEY> key(EVP_PKEY_new_raw_private_key(
      EVP_PKEY_X25519, nullptr, reinterpret_cast<const unsigned char*>(secret.data()), secret.size()));
  REQUIRE(key);
  return key;
}
Owned<EVP_PKEY> x25519_public(Bytes value) {
  Owned<EVP_PKEY> key(EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nullptr,
                                                  reinterpret_cast<const unsigned char*>(value.data()), value.size()));
  REQUIRE(key);
  return key;
}

TEST_CASE("Curve25519: the peers of RFC 7748 §6.1 agree with us") {
  const Owned<EVP_PKEY> alice =
      x25519_key(from_hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
  const Owned<EVP_PKEY> bob = x25519_key(from_hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
  const Buffer alice_public = from_hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  const Buffer bob_public = from_hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
  CHECK(to_hex(derive(alice.get(), x25519_public(bob_public).get())) ==
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");

  const DhExchange ours = exchange(DhGroup::curve25519);
  const Owned<EVP_PKEY> us = x25519_public(ours.public_value());
  for (const auto& [peer, value] : {std::pair(alice.get(), alice_public), std::pair(bob.get(), bob_public)}) {
    const auto shared = ours.shared(value);
    REQUIRE(shared);
    CHECK(to_hex(shared->bytes()) == to_hex(derive(peer, us.get())));
  }
}

// RFC 7748 §6.1: values of small order give zeros, whatever our private value is.
TEST_CASE("Curve25519: an all-zero secret and other lengths are refused") {
  const DhExchange ours = exchange(DhGroup::curve25519);
  for (const std::string_view bad : {"0000000000000000000000000000000000000000000000000000000000000000",
                                     "0100000000000000000000000000000000000000000000000000000000000000",
                                     "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                                     "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                                     "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                                     "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
                                     "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"}) {
    CAPTURE(bad);
    CHECK_FALSE(ours.shared(from_hex(bad)));
  }
  const Buffer good = from_hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
  CHECK_FALSE(ours.shared(Bytes(good).first(31)));
  Buffer longer = good;
  longer.push_back(std::byte{0});
  CHECK_FALSE(ours.shared(longer));
  CHECK_FALSE(ours.shared({}));
  CHECK(ours.shared(good));
}

// --- MODP ------------------------------------------------------------------------------------------------------------

// floor(2^bits * arctan(1/x) * 2^64): the series with 64 guard bits.
Number arctan_of_inverse(unsigned x, int bits) {
  Number sum(BN_new()), power(BN_new());
  BN_set_bit(power.get(), bits + 64);
  BN_div_word(power.get(), x);
  for (unsigned n = 1; !BN_is_zero(power.get()); n += 2) {
    const Number term(BN_dup(power.get()));
    BN_div_word(term.get(), n);
    if (n % 4 == 1)
      BN_add(sum.get(), sum.get(), term.get());
    else
      BN_sub(sum.get(), sum.get(), term.get());
    BN_div_word(power.get(), x * x);
  }
  return sum;
}

// RFC 3526: 2^n - 2^(n-64) - 1 + 2^64 * (floor(2^(n-130) * pi) + k), with Machin's pi.
Number rfc3526_prime(int n, unsigned k) {
  Number pi = arctan_of_inverse(5, n - 130), other = arctan_of_inverse(239, n - 130);
  BN_mul_word(pi.get(), 16);
  BN_mul_word(other.get(), 4);
  BN_sub(pi.get(), pi.get(), other.get());
  BN_rshift(pi.get(), pi.get(), 64);
  BN_add_word(pi.get(), k);
  BN_lshift(pi.get(), pi.get(), 64);
  Number out(BN_new()), high(BN_new());
  BN_set_bit(out.get(), n);
  BN_set_bit(high.get(), n - 64);
  BN_sub(out.get(), out.get(), high.get());
  BN_sub_word(out.get(), 1);
  BN_add(out.get(), out.get(), pi.get());
  return out;
}

struct ModpGroup {
  DhGroup group;
  int bits;
  unsigned k;  // of RFC 7296 appendix B.1 and B.2, RFC 3526 §2 to §7
};
constexpr ModpGroup modp_groups[] = {{DhGroup::modp768, 768, 149686},    {DhGroup::modp1024, 1024, 129093},
                                     {DhGroup::modp1536, 1536, 741804},  {DhGroup::modp6144, 6144, 929484},
                                     {DhGroup::modp8192, 8192, 4743158}, {DhGroup::modp2048, 2048, 124476},
                                     {DhGroup::modp3072, 3072, 1690314}, {DhGroup::modp4096, 4096, 240904}};

TEST_CASE("MODP: our side agrees with plain arithmetic on RFC 3526's primes") {
  const Owned<BN_CTX> scratch(BN_CTX_new());
  std::mt19937_64 random(51);
  for (const ModpGroup& g : modp_groups) {
    CAPTURE(g.bits);
    const std::size_t size = static_cast<std::size_t>(g.bits) / 8;
    const Number p = rfc3526_prime(g.bits, g.k), two(BN_new()), y(BN_new()), expected(BN_new());
    BN_set_word(two.get(), 2);
    const Number x = number(test::random_buffer(40, random));
    BN_mod_exp(y.get(), two.get(), x.get(), p.get(), scratch.get());
    const DhExchange ours = exchange(g.group);
    REQUIRE(ours.public_value().size() == size);
    BN_mod_exp(expected.get(), number(ours.public_value()).get(), x.get(), p.get(), scratch.get());
    const auto shared = ours.shared(padded(y.get(), size));
    REQUIRE(shared);
    CHECK(to_hex(shared->bytes()) == to_hex(padded(expected.get(), size)));
  }
}

TEST_CASE("MODP: a secret with leading zeros is padded to the prime's length") {
  const Owned<BN_CTX> scratch(BN_CTX_new());
  const Number p = rfc3526_prime(2048, 124476), y(BN_new()), secret(BN_new());
  const DhExchange ours = exchange(DhGroup::modp2048);
  const Number gi = number(ours.public_value());
  BN_one(y.get());
  BN_one(secret.get());
  for (int x = 1; x < 10000; ++x) {
    BN_mod_lshift1(y.get(), y.get(), p.get(), scratch.get());
    BN_mod_mul(secret.get(), secret.get(), gi.get(), p.get(), scratch.get());
    if (BN_num_bytes(secret.get()) == 256) continue;
    const auto shared = ours.shared(padded(y.get(), 256));
    REQUIRE(shared);
    CHECK(shared->bytes().front() == std::byte{0});
    CHECK(to_hex(shared->bytes()) == to_hex(padded(secret.get(), 256)));
    return;
  }
  FAIL("no such value found");
}

// RFC 6989 §2.1.
TEST_CASE("MODP: values that give the secret away, and other lengths, are refused") {
  for (const ModpGroup& g : modp_groups) {
    CAPTURE(g.bits);
    const std::size_t size = static_cast<std::size_t>(g.bits) / 8;
    const DhExchange ours = exchange(g.group);
    const Number p = rfc3526_prime(g.bits, g.k);
    const auto plus = [&](const BIGNUM* from, int distance) {
      const Number value(BN_dup(from));
      distance < 0 ? BN_sub_word(value.get(), static_cast<BN_ULONG>(-distance))
                   : BN_add_word(value.get(), static_cast<BN_ULONG>(distance));
      return padded(value.get(), size);
    };
    const Number zero(BN_new());
    for (const int small : {0, 1}) CHECK_FALSE(ours.shared(plus(zero.get(), small)));
    for (const int near : {-1, 0, 1, 2}) CHECK_FALSE(ours.shared(plus(p.get(), near)));
    CHECK_FALSE(ours.shared(Buffer(size, std::byte{0xff})));
    CHECK(ours.shared(plus(zero.get(), 2)));
    CHECK(ours.shared(plus(p.get(), -2)));
    const Buffer two = plus(zero.get(), 2);
    CHECK_FALSE(ours.shared(Bytes(two).last(size - 1)));
    CHECK_FALSE(ours.shared(Bytes(two).last(1)));
    CHECK_FALSE(ours.shared({}));
    Buffer longer(size + 1);
    longer.back() = std::byte{2};
    CHECK_FALSE(ours.shared(longer));
  }
}

// RFC 5114 §2.1 to §2.3: the order of the subgroup has so many bits.
TEST_CASE("MODP with a subgroup: values of other orders are refused, and ours are of the right one") {
  const Owned<BN_CTX> scratch(BN_CTX_new());
  struct Row {
    DhGroup group;
    const char* name;
    int order_bits;
  };
  for (const Row& row : {Row{DhGroup::modp1024s160, "dh_1024_160", 160}, Row{DhGroup::modp2048s224, "dh_2048_224", 224},
                         Row{DhGroup::modp2048s256, "dh_2048_256", 256}}) {
    CAPTURE(row.name);
    const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_name(nullptr, "DH", nullptr));
    EVP_PKEY* made = nullptr;
    REQUIRE(EVP_PKEY_keygen_init(context.get()) == 1);
    REQUIRE(EVP_PKEY_CTX_set_group_name(context.get(), row.name) == 1);
    REQUIRE(EVP_PKEY_generate(context.get(), &made) == 1);
    const Owned<EVP_PKEY> key(made);
    BIGNUM *prime = nullptr, *subgroup = nullptr;
    REQUIRE(EVP_PKEY_get_bn_param(made, OSSL_PKEY_PARAM_FFC_P, &prime) == 1);
    REQUIRE(EVP_PKEY_get_bn_param(made, OSSL_PKEY_PARAM_FFC_Q, &subgroup) == 1);
    const Number p(prime), q(subgroup), power(BN_new());
    CHECK(BN_num_bits(q.get()) == row.order_bits);
    const DhExchange ours = exchange(row.group);
    const std::size_t size = ours.public_value().size();
    BN_mod_exp(power.get(), number(ours.public_value()).get(), q.get(), p.get(), scratch.get());
    CHECK(BN_is_one(power.get()));
    CHECK(ours.shared(exchange(row.group).public_value()));
    // 2^q is of an order that divides the cofactor; 3 and p - 2 of nearly every order there is.
    const Number two(BN_new()), small(BN_new());
    BN_set_word(two.get(), 2);
    BN_mod_exp(small.get(), two.get(), q.get(), p.get(), scratch.get());
    REQUIRE_FALSE(BN_is_one(small.get()));
    CHECK_FALSE(ours.shared(padded(small.get(), size)));
    BN_set_word(small.get(), 3);
    CHECK_FALSE(ours.shared(padded(small.get(), size)));
    BN_sub(small.get(), p.get(), two.get());
    CHECK_FALSE(ours.shared(padded(small.get(), size)));
  }
}

TEST_CASE("ECP: the other curves agree with OpenSSL's own, and refuse what is off them") {
  struct Row {
    DhGroup group;
    const char* curve;
  };
  for (const Row& row :
       {Row{DhGroup::ecp192, "P-192"}, Row{DhGroup::ecp224, "P-224"}, Row{DhGroup::brainpool224, "brainpoolP224r1"},
        Row{DhGroup::brainpool256, "brainpoolP256r1"}, Row{DhGroup::brainpool384, "brainpoolP384r1"},
        Row{DhGroup::brainpool512, "brainpoolP512r1"}}) {
    CAPTURE(row.curve);
    const Owned<EVP_PKEY> peer(EVP_EC_gen(row.curve));
    REQUIRE(peer);
    unsigned char* encoded = nullptr;
    const std::size_t length = EVP_PKEY_get1_encoded_public_key(peer.get(), &encoded);
    const auto* const point = reinterpret_cast<const std::byte*>(encoded);
    const Buffer value(point + 1, point + length);
    OPENSSL_free(encoded);
    const DhExchange ours = exchange(row.group);
    REQUIRE(ours.public_value().size() == value.size());
    const auto shared = ours.shared(value);
    REQUIRE(shared);
    CHECK(to_hex(shared->bytes()) == to_hex(derive(peer.get(), ec_key(row.curve, {}, ours.public_value()).get())));
    Buffer bad = value;
    bad.back() ^= std::byte{1};
    CHECK_FALSE(ours.shared(bad));
    CHECK_FALSE(ours.shared(Buffer(value.size())));
  }
}

// --- all -------------------------------------------------------------------------------------------------------------

TEST_CASE("DH: two of ours agree, a third does not, and no public value comes twice") {
  for (const NamedGroup& named : named_groups()) {
    CAPTURE(named.name);
    const DhExchange a = exchange(named.group), b = exchange(named.group), c = exchange(named.group);
    CHECK(a.public_value().size() == public_value_bytes(named.group));
    const auto ab = a.shared(b.public_value()), ba = b.shared(a.public_value()), ac = a.shared(c.public_value());
    REQUIRE(ab);
    REQUIRE(ba);
    REQUIRE(ac);
    CHECK(*ab == *ba);
    CHECK_FALSE(*ab == *ac);
    CHECK(std::set{to_hex(a.public_value()), to_hex(b.public_value()), to_hex(c.public_value())}.size() == 3);
  }
}

TEST_CASE("DH: moves, and groups that are not offered") {
  DhExchange a = exchange(DhGroup::curve25519), b = exchange(DhGroup::ecp256);
  const Buffer value(a.public_value().begin(), a.public_value().end());
  b = std::move(a);
  CHECK(b.group() == DhGroup::curve25519);
  CHECK(std::ranges::equal(b.public_value(), value));
  CHECK(b.shared(exchange(DhGroup::curve25519).public_value()));
  for (const unsigned number : {0U, 3U, 4U, 13U, 32U, 65535U}) {
    const auto group = static_cast<DhGroup>(number);
    CHECK(public_value_bytes(group) == 0);
    CHECK_FALSE(DhExchange::create(group));
  }
}

}  // namespace
}  // namespace postern::crypto
