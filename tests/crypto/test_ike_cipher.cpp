#include <algorithm>
#include <set>

#include "crypto/ike_cipher.hpp"
#include "crypto/transforms.hpp"
#include "tests/crypto/support.hpp"

namespace postern::crypto {
namespace {

using test::Buffer;
using test::from_hex;
using test::to_hex;

IkeCipher make(const test::Keys& keys) {
  auto cipher = IkeCipher::create(keys.transform, keys.cipher, keys.integrity);
  REQUIRE(cipher);
  return std::move(*cipher);
}

test::Keys keys_for(const Transform& transform, std::mt19937_64& random) {
  const auto sizes = ike_sizes_of(transform);
  REQUIRE(sizes);
  return {transform, test::random_buffer(sizes->key_bytes, random),
          test::random_buffer(sizes->integrity_key_bytes, random)};
}

// `body`'s text before it is encrypted: header | room for the IV | plain | padding | pad length | room for the ICV.
Buffer laid_out(const TransformSizes& sizes, Bytes header, Bytes plain, std::size_t padding, unsigned pad_length) {
  const std::size_t front = header.size() + sizes.iv_bytes, text = plain.size() + padding + 1;
  Buffer out(front + text + sizes.icv_bytes, std::byte{0xa5});
  std::ranges::copy(header, out.begin());
  std::ranges::copy(plain, MutableBytes(out).subspan(front).begin());
  out[front + text - 1] = static_cast<std::byte>(pad_length);
  return out;
}

Buffer sealed_by_reference(const test::Keys& keys, Bytes header, Bytes plain, std::size_t padding, unsigned pad_length,
                           Bytes iv) {
  const Buffer clear = laid_out(*ike_sizes_of(keys.transform), header, plain, padding, pad_length);
  const Buffer whole = test::reference_seal(keys, clear, iv, header.size());
  return {whole.begin() + static_cast<std::ptrdiff_t>(header.size()), whole.end()};
}

// RFC 7634 appendix B.
TEST_CASE("IkeCipher: the IKEv2 message of RFC 7634 appendix B") {
  const IkeCipher cipher = make({{Cipher::chacha20_poly1305, 256, Integrity::none},
                                 from_hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3"),
                                 {}});
  const Buffer header = from_hex("c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029");
  const Buffer body = from_hex("1011121314151617610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2");
  const auto opened = cipher.open(header, body);
  REQUIRE(opened);
  CHECK(to_hex(*opened) == "0000000c000040010000000a");
}

// draft-mcgrew-gcm-test-01 §4 (ESP): the same construction (RFC 5282 §3), another header. The text's last byte is a pad
// length here.
TEST_CASE("IkeCipher: AES-GCM opens published packets") {
  struct Row {
    std::string_view key, header, body, plain;
  };
  const Row rows[] = {
      {"feffe9928665731c6d6a8f9467308308cafebabe", "0000a5f80000000a",
       "facedbaddecaf888deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec41664"
       "2"
       "cfbb85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a",
       "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d0010000010000000000000373697009637962657263697479"
       "02646b0000010001"},
      {"abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344", "4a2cbfe300000002",
       "0102030405060708ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99"
       "d"
       "ef842d8eb335f4eecfdbf831824b4c4915956c96",
       "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b4010104020102"},
  };
  for (const Row& row : rows) {
    const auto bits = static_cast<std::uint16_t>((row.key.size() / 2 - 4) * 8);
    const IkeCipher cipher = make({{Cipher::aes_gcm_16, bits, Integrity::none}, from_hex(row.key), {}});
    const auto opened = cipher.open(from_hex(row.header), from_hex(row.body));
    REQUIRE(opened);
    CHECK(to_hex(*opened) == row.plain);
  }
}

TEST_CASE("IkeCipher: every length, against the reference, and back") {
  std::mt19937_64 random(61);
  for (const Transform& transform : test::ike_transforms) {
    CAPTURE(text(transform));
    const test::Keys keys = keys_for(transform, random);
    IkeCipher cipher = make(keys);
    const TransformSizes& sizes = cipher.sizes();
    for (std::size_t size = 0; size <= 600; ++size) {
      CAPTURE(size);
      const Buffer header = test::random_buffer(32 + size % 5, random), plain = test::random_buffer(size, random);
      const auto sealed = cipher.seal(header, plain);
      REQUIRE(sealed);
      REQUIRE(sealed->size() == cipher.sealed_bytes(size));
      const std::size_t padding = sealed->size() - sizes.iv_bytes - sizes.icv_bytes - size - 1;
      REQUIRE(padding < sizes.block_bytes);
      if (is_aead(transform.cipher)) REQUIRE(padding == 0);

      const auto opened = cipher.open(header, *sealed);
      REQUIRE(opened);
      REQUIRE(*opened == plain);

      // Any padding bytes are allowed (RFC 7296 §3.14): the reference's differ from ours.
      const Buffer iv(sealed->begin(), sealed->begin() + sizes.iv_bytes);
      const Buffer theirs = sealed_by_reference(keys, header, plain, padding, static_cast<unsigned>(padding), iv);
      const auto opened_theirs = cipher.open(header, theirs);
      REQUIRE(opened_theirs);
      REQUIRE(*opened_theirs == plain);
      if (padding == 0) REQUIRE(theirs == *sealed);
    }
  }
}

TEST_CASE("IkeCipher: up to 255 bytes of padding are taken off, more than there is are refused") {
  std::mt19937_64 random(62);
  for (const Transform& transform : test::ike_transforms) {
    CAPTURE(text(transform));
    const test::Keys keys = keys_for(transform, random);
    const IkeCipher cipher = make(keys);
    const Buffer header = test::random_buffer(32, random), iv = test::random_buffer(cipher.sizes().iv_bytes, random);
    const Buffer plain = test::random_buffer(16, random);
    const auto longest = cipher.open(header, sealed_by_reference(keys, header, plain, 255, 255, iv));
    REQUIRE(longest);
    CHECK(*longest == plain);
    // 16 bytes and the length byte's own block: 31 bytes before the pad length.
    const auto all_padding = cipher.open(header, sealed_by_reference(keys, header, plain, 15, 31, iv));
    REQUIRE(all_padding);
    CHECK(all_padding->empty());
    for (const unsigned bad : {32U, 33U, 128U, 255U})
      CHECK_FALSE(cipher.open(header, sealed_by_reference(keys, header, plain, 15, bad, iv)));
  }
}

TEST_CASE("IkeCipher: a changed byte anywhere, a truncated and an extended message are refused") {
  std::mt19937_64 random(63);
  for (const Transform& transform : test::ike_transforms) {
    CAPTURE(text(transform));
    IkeCipher cipher = make(keys_for(transform, random));
    const Buffer header = test::random_buffer(32, random), plain = test::random_buffer(75, random);
    const auto sealed = cipher.seal(header, plain);
    REQUIRE(sealed);
    for (std::size_t i = 0; i < header.size(); ++i) {
      Buffer bad = header;
      bad[i] ^= static_cast<std::byte>(1U << i % 8);
      REQUIRE_FALSE(cipher.open(bad, *sealed));
    }
    for (std::size_t i = 0; i < sealed->size(); ++i) {
      Buffer bad = *sealed;
      bad[i] ^= static_cast<std::byte>(1U << i % 8);
      REQUIRE_FALSE(cipher.open(header, bad));
    }
    for (std::size_t size = 0; size < sealed->size(); ++size) {
      REQUIRE_FALSE(cipher.open(header, Bytes(*sealed).first(size)));
      REQUIRE_FALSE(cipher.open(header, Bytes(*sealed).last(size)));
    }
    Buffer longer = *sealed;
    longer.resize(longer.size() + cipher.sizes().block_bytes);
    CHECK_FALSE(cipher.open(header, longer));
    CHECK_FALSE(cipher.open(Bytes(header).first(31), *sealed));
    CHECK_FALSE(make(keys_for(transform, random)).open(header, *sealed));
    CHECK_FALSE(cipher.open(header, Buffer(70000)));
    CHECK(cipher.open(header, *sealed));
  }
}

TEST_CASE("IkeCipher: an IV never comes twice, not with a second object of the same key either") {
  std::mt19937_64 random(64);
  for (const Transform& transform : {Transform{Cipher::aes_cbc, 128, Integrity::hmac_sha256_128},
                                     {Cipher::aes_gcm_16, 256, Integrity::none},
                                     {Cipher::chacha20_poly1305, 256, Integrity::none}}) {
    const test::Keys keys = keys_for(transform, random);
    std::set<std::string> seen;
    for (int object = 0; object < 4; ++object) {
      IkeCipher cipher = make(keys);
      for (int i = 0; i < 100; ++i) {
        const auto sealed = cipher.seal(Buffer(32), Buffer(4));
        REQUIRE(sealed);
        CHECK(seen.insert(to_hex(Bytes(*sealed).first(cipher.sizes().iv_bytes))).second);
      }
    }
  }
}

TEST_CASE("IkeCipher: keys of other lengths and combinations that IKE does not have are refused") {
  for (const Transform& transform : test::ike_transforms) {
    const auto sizes = ike_sizes_of(transform);
    REQUIRE(sizes);
    for (std::size_t cipher = 0; cipher <= 40; ++cipher)
      for (std::size_t integrity = 0; integrity <= 65; ++integrity) {
        const auto made = IkeCipher::create(transform, Buffer(cipher), Buffer(integrity));
        REQUIRE(made.has_value() == (cipher == sizes->key_bytes && integrity == sizes->integrity_key_bytes));
      }
  }
  for (const Transform& bad : {Transform{Cipher::aes_cbc, 128, Integrity::none},
                               {Cipher::aes_gcm_16, 128, Integrity::hmac_sha256_128},
                               {Cipher::none, 0, Integrity::hmac_sha256_128},
                               {Cipher::chacha20_poly1305, 128, Integrity::none},
                               {Cipher::null, 0, Integrity::hmac_sha256_128},
                               {Cipher::des_cbc, 64, Integrity::none},
                               {Cipher::aes_ctr, 128, Integrity::none},
                               {Cipher::aes_ccm_16, 128, Integrity::aes_cmac_96},
                               {Cipher::aes_gmac, 128, Integrity::none}}) {
    CHECK_FALSE(ike_sizes_of(bad));
    CHECK_FALSE(IkeCipher::create(bad, Buffer(20), Buffer(32)));
  }
}

}  // namespace
}  // namespace postern::crypto
