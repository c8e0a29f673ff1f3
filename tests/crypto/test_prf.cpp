// IKE's key derivation and digests. The PRFs' own known answers stand in test_vectors.cpp.
#include "crypto/digest.hpp"
#include "crypto/prf.hpp"
#include "tests/crypto/support.hpp"

namespace postern::crypto {
namespace {

using test::Buffer;
using test::from_hex;
using test::to_hex;

struct PrfRow {
  Prf prf;
  const char* digest;
  std::size_t bytes;
};
constexpr PrfRow rows[] = {{Prf::hmac_md5, "MD5", 16},
                           {Prf::hmac_sha1, "SHA1", 20},
                           {Prf::hmac_sha256, "SHA256", 32},
                           {Prf::hmac_sha384, "SHA384", 48},
                           {Prf::hmac_sha512, "SHA512", 64}};

// RFC 7296 §2.13, written down as it stands there.
Buffer reference_prf_plus(const char* digest, Bytes key, Bytes seed, unsigned blocks) {
  Buffer out, last;
  for (unsigned n = 1; n <= blocks; ++n) {
    Buffer input = last;
    input.insert(input.end(), seed.begin(), seed.end());
    input.push_back(static_cast<std::byte>(n));
    last = test::reference_hmac(digest, key, input);
    out.insert(out.end(), last.begin(), last.end());
  }
  return out;
}

// A vector of NIST's CAVS for SP 800-135 §4.1.2 (IKEv2, SHA-1).
TEST_CASE("prf and prf+: the IKEv2 key derivation of CAVS") {
  const Buffer ni = from_hex("3651fef5c9c35e93"), nr = from_hex("c09a8b90a3f04d59"),
               nonces = from_hex("3651fef5c9c35e93c09a8b90a3f04d59");
  const Buffer spi_i = from_hex("8e5c3ae507221684"), spi_r = from_hex("b1f201bb155c3acd");
  const Buffer gir = from_hex(
      "d084a30166a50fb7325c3960874a839449ef9741c2f4f947d0201dd8c1269273d79509f37e3ca3eb4fa2fe2a28254e289cd3f34dad4eb4df"
      "1a07685a4b8a94fa61e2491f7598b3ce65547ff133b3f63d1ac4175eaa695033f3cedb026a6873a36455172a8540b8a5d23a0143bed0390e"
      "e49b168269d75fffee9fb62be965993c");
  const Buffer gir_new = from_hex(
      "52f00ab174c25d5b7139ae5ff4e8e9eddee5992d2e36adf8a559ffd90dab1442e4fbe429d320c0f33552a17d1557fa41ea70e8fb916c4fa2"
      "7ed52b5f8ebd8461afa78f1159159a64055ac5f6319e29c28eae58cbc6847770f32c3fed1d04750484f854790f95e9ec01bc5bc461f24966"
      "462e359511329305038e94deb6dd42c2");
  const auto seed = prf(Prf::hmac_sha1, nonces, {gir});
  REQUIRE(seed);
  CHECK(to_hex(seed->bytes()) == "cd2e8050137832245f1dbacc6e4f0a92f94d45d6");

  const auto keys = prf_plus(Prf::hmac_sha1, seed->bytes(), {ni, nr, spi_i, spi_r}, 132);
  REQUIRE(keys);
  CHECK(
      to_hex(keys->bytes()) ==
      "6f1b12cad3cbe097b35430356d869d54cddb0198ec859174d53ceb92dddedbe2436db69f60977c58fa63bbb667f8d36920b109baae8f6c61"
      "a9ac49feda01843225d080ec5539d5881a25521ffb2a0a91874a9c0a27fcc2d717eb8963a9e3a89c7ab264757284c28cf8c3ca40576f4220"
      "b052b1fb8e9ad60ba3c80557323331a8cbb89f20");

  const Bytes sk_d = keys->bytes().first(20);
  const auto child = prf_plus(Prf::hmac_sha1, sk_d, {ni, nr}, 132);
  REQUIRE(child);
  CHECK(
      to_hex(child->bytes()) ==
      "4727dc0ef94eb326ce131cf282fb652faa638ad0ddae3786a11bcc0309876009f8c485de011ad962c5b1ca8a41ff8145445749079c5686e2"
      "6ffebbc342f06981f3da745e11ca0976424d1f8caec623d59dc7186deb20a27b411d1dcb70a365440bf7de905088b0692e8addc094e18d19"
      "39bdb67e89798ca6b239e2ccb81c2409dac0106c");
  const auto child_dh = prf_plus(Prf::hmac_sha1, sk_d, {gir_new, ni, nr}, 132);
  REQUIRE(child_dh);
  CHECK(
      to_hex(child_dh->bytes()) ==
      "b109c21ad4c0797768c1cec9e63554681e48f224bca7f23c20c4ea7041983451e9aa1d5408656c8a975ff1b9d9a12c75ffeb64bdecb30174"
      "664cccb4e14f1c377b7f6d1525af77c7092aac3e47f917ebae8297fb5539d2008ce830823a09cc197361d4a289c72745f6ce9fefe812be5b"
      "f55b3200fbb82e41a4a40877d3fe106db909707b");
  const auto rekeyed = prf(Prf::hmac_sha1, sk_d, {gir_new, ni, nr});
  REQUIRE(rekeyed);
  CHECK(to_hex(rekeyed->bytes()) == "3b03bce748c96d5e8306918d2ff89b68f0648da3");
}

TEST_CASE("prf+: every length up to several blocks, and the last block there is") {
  std::mt19937_64 random(41);
  for (const PrfRow& row : rows) {
    CAPTURE(row.digest);
    CHECK(prf_bytes(row.prf) == row.bytes);
    const Buffer key = test::random_buffer(row.bytes, random), seed = test::random_buffer(80, random);
    const Buffer expected = reference_prf_plus(row.digest, key, seed, 255);
    const Bytes first = Bytes(seed).first(33), second = Bytes(seed).subspan(33);
    for (std::size_t size = 0; size <= 5 * row.bytes; ++size) {
      const auto got = prf_plus(row.prf, key, {first, second}, size);
      REQUIRE(got);
      REQUIRE(got->size() == size);
      REQUIRE(std::ranges::equal(got->bytes(), Bytes(expected).first(size)));
    }
    const auto longest = prf_plus(row.prf, key, {seed}, 255 * row.bytes);
    REQUIRE(longest);
    CHECK(std::ranges::equal(longest->bytes(), expected));
    CHECK_FALSE(prf_plus(row.prf, key, {seed}, 255 * row.bytes + 1));
  }
}

TEST_CASE("prf: the empty key and the empty message") {
  for (const PrfRow& row : rows) {
    const auto got = prf(row.prf, {}, {});
    REQUIRE(got);
    CHECK(to_hex(got->bytes()) == to_hex(test::reference_hmac(row.digest, {}, {})));
  }
}

// RFC 4434 §4, RFC 4615 §4: keys of 16, 10 and 18 bytes.
TEST_CASE("prf: AES-XCBC and AES-CMAC with keys of any length") {
  const Buffer message = from_hex("000102030405060708090a0b0c0d0e0f10111213");
  const auto check = [&](Prf algorithm, std::string_view key, std::string_view expected) {
    CAPTURE(key);
    const auto got = prf(algorithm, from_hex(key), {Bytes(message).first(7), Bytes(message).subspan(7)});
    REQUIRE(got);
    CHECK(to_hex(got->bytes()) == expected);
  };
  check(Prf::aes_xcbc, "000102030405060708090a0b0c0d0e0f", "47f51b4564966215b8985c63055ed308");
  check(Prf::aes_xcbc, "00010203040506070809", "0fa087af7d866e7653434e602fdde835");
  check(Prf::aes_xcbc, "000102030405060708090a0b0c0d0e0fedcb", "8cd3c93ae598a9803006ffb67c40e9e4");
  check(Prf::aes_cmac, "000102030405060708090a0b0c0d0e0f", "980ae87b5f4c9c5214f5b6a8455e4c2d");
  check(Prf::aes_cmac, "00010203040506070809", "290d9e112edb09ee141fcf64c0b72f3d");
  check(Prf::aes_cmac, "000102030405060708090a0b0c0d0e0fedcb", "84a348a4a45d235babfffc0d2b4da09a");
}

TEST_CASE("prf+ over a MAC of AES: every length, block by block") {
  std::mt19937_64 random(43);
  for (const Prf algorithm : {Prf::aes_xcbc, Prf::aes_cmac}) {
    CHECK(prf_bytes(algorithm) == 16);
    const Integrity mac = algorithm == Prf::aes_xcbc ? Integrity::aes_xcbc_96 : Integrity::aes_cmac_96;
    const Buffer key = test::random_buffer(16, random), seed = test::random_buffer(80, random);
    Buffer expected, last;
    for (unsigned n = 1; n <= 255; ++n) {
      Buffer input = last;
      input.insert(input.end(), seed.begin(), seed.end());
      input.push_back(static_cast<std::byte>(n));
      last = test::reference_mac(mac, key, input);
      REQUIRE(last.size() == 16);
      expected.insert(expected.end(), last.begin(), last.end());
    }
    for (const std::size_t size : {0U, 1U, 15U, 16U, 17U, 80U, 255U * 16U}) {
      const auto got = prf_plus(algorithm, key, {seed}, size);
      REQUIRE(got);
      REQUIRE(std::ranges::equal(got->bytes(), Bytes(expected).first(size)));
    }
    CHECK_FALSE(prf_plus(algorithm, key, {seed}, 255 * 16 + 1));
  }
}

TEST_CASE("prf: numbers that are not offered") {
  for (const unsigned id : {0U, 3U, 9U, 65535U}) {
    const auto none = static_cast<Prf>(id);
    CHECK(prf_bytes(none) == 0);
    CHECK_FALSE(prf(none, {}, {}));
    CHECK_FALSE(prf_plus(none, {}, {}, 1));
  }
}

// FIPS 180-4's examples.
TEST_CASE("digests: known answers, in one part and in several") {
  const auto check = [](std::initializer_list<Bytes> parts, std::string_view by_sha1, std::string_view by_sha256) {
    const auto one = sha1(parts);
    const auto two = sha256(parts);
    REQUIRE(one);
    REQUIRE(two);
    CHECK(to_hex(*one) == by_sha1);
    CHECK(to_hex(*two) == by_sha256);
  };
  check({}, "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  check({as_bytes("abc")}, "a9993e364706816aba3e25717850c26c9cd0d89d",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  check({as_bytes("abcdbcdecdefdefgefgh"), {}, as_bytes("fghighijhijkijkljklmklmnlmnomnopnopq")},
        "84983e441c3bd26ebaae4aa1f95129e5e54670f1", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

}  // namespace
}  // namespace postern::crypto
