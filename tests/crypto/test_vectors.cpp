// Known answers from documents that are not ours.
#include "crypto/expanded_key.hpp"
#include "crypto/hmac.hpp"
#include "tests/crypto/support.hpp"

namespace postern::crypto {
namespace {

using test::Buffer;
using test::from_hex;
using test::to_hex;

struct GcmVector {
  std::string_view key, salt, header, iv, clear, cipher, icv;
};

// draft-mcgrew-gcm-test-01 §4: ESP packets of RFC 4106, those whose additional data is SPI and 32-bit sequence number.
// The first is also the shape of NIST's GCM test with a 12-byte nonce.
constexpr GcmVector gcm_vectors[] = {
    {"feffe9928665731c6d6a8f9467308308", "cafebabe", "0000a5f80000000a", "facedbaddecaf888",
     "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d0010000010000000000000373697009637962657263697479"
     "02646b00000100010001",
     "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48"
     "a4ec3b9ba95d918bd1",
     "83b70d3aa8bc6ee4c309e9d85a41ad4a"},
    {"feffe9928665731c6d6a8f9467308308feffe9928665731c", "cafebabe", "0000a5f80000000a", "facedbaddecaf888",
     "45000028a4ad4000400678800a01038f0a010612802306b8cb712602dd6bb03e501016d075680001",
     "a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0315b27452144cc77",
     "95457b9652037f5318027b5b4cd7a636"},
    {"abbccddef00112233445566778899aababbccddef00112233445566778899aab", "11223344", "4a2cbfe300000002",
     "0102030405060708",
     "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201",
     "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def842d8e",
     "b335f4eecfdbf831824b4c4915956c96"},
    {"00000000000000000000000000000000", "00000000", "0000000000000001", "0000000000000000",
     "4500003c99c500008001cb7a40679318010101010800075c0200440061626364"
     "65666768696a6b6c6d6e6f707172737475767761626364656667686901020201",
     "4688daf2f973a392732909c331d56d60f694abaa414b5e7ff5fdcdfff5e9a284"
     "456476492719ffb64de7d9dca1e1d894bc3bd57873ed4d181d19d4d5c8c18af3",
     "f821d496eeb096e98ad2b69e4799c71d"},
    {"7d773d00c144c525ac619d18c84a3f47", "d9664267", "335467aeffffffff", "43457e9182443bc6", "01020201", "437f866b",
     "cb3f699fe9b0822bac961c4504bef270"},
};

TEST_CASE("AES-GCM: the ESP packets of draft-mcgrew-gcm-test-01") {
  for (EspEngine& engine : test::engines()) {
    CAPTURE(engine.name());
    for (const GcmVector& v : gcm_vectors) {
      const Buffer key_bytes = from_hex(std::string(v.key) + std::string(v.salt));
      const Transform transform{Cipher::aes_gcm_16, static_cast<std::uint16_t>(v.key.size() * 4), Integrity::none};
      const EspKey key = test::make_key({transform, key_bytes, {}});
      const std::string sealed = std::string(v.header) + std::string(v.iv) + std::string(v.cipher) + std::string(v.icv);

      Buffer packet =
          from_hex(std::string(v.header) + std::string(16, '0') + std::string(v.clear) + std::string(32, '0'));
      REQUIRE(test::seal_one(engine, key, packet, std::stoull(std::string(v.iv), nullptr, 16)));
      CHECK(to_hex(packet) == sealed);

      packet = from_hex(sealed);
      REQUIRE(test::open_one(engine, key, packet));
      CHECK(to_hex(test::body_of(key.sizes(), packet)) == v.clear);
    }
  }
}

struct CbcVector {
  std::string_view key, esp, clear;
};

// RFC 3602 §4, cases 5 to 8: whole ESP packets (transport and tunnel mode) without authenticator: header, IV,
// ciphertext.
constexpr CbcVector cbc_vectors[] = {
    {"90d382b410eeba7ad938c46cec1a82bf",
     "0000432100000001e96e8c08ab465763fd098d45dd3ff893f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856"
     "a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6",
     "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223242526272829"
     "2a2b2c2d2e2f30313233343536370102030405060708090a0b0c0d0e0e01"},
    {"90d382b410eeba7ad938c46cec1a82bf",
     "000043210000000869d08df7d203329db093fc4924e5bd80f51995881ec4e0c4488987ce742e8109689bb379d2d750c0d915dca346a89f75",
     "0800b5e8a80a0500a69c083d0b660e0077777777777777777777777701020201"},
    {"0123456789abcdef0123456789abcdef",
     "0000876500000002f4e765244f6407adf13dc1380f673f37773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8"
     "e4ecaec78ac53aad7a0f022b859243c647752e94a859352b8a4d4d2decd136e5c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5"
     "a100b842f1c22f0d",
     "45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d02a2040008090a0b0c0d0e0f10111213141516171819"
     "1a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233343536370102030405060708090a0a04"},
    {"0123456789abcdef0123456789abcdef",
     "000087650000000585d47224b5f3dd5d2101d4ea8dffab2215b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc61203bb5"
     "0f980a08c9843fd3a1b06d5c07ff9639b7eb7dfb3512e5de435e7207ed971ef3d2726d9b5ef6affc6d17a0decbb13892",
     "45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083da3de0300ffffffffffffffffffffffffffffffffffffff"
     "ffffffffffffffffffffffffff0102030405060708090a0a04"},
};

// The RFC's ciphertext, with the ICV that the reference computes over it, opens to the RFC's clear text; and its clear
// text, under the RFC's IV, gives the RFC's ciphertext by the reference: so the reference that the other tests use is
// right as well.
TEST_CASE("AES-CBC: the ESP packets of RFC 3602 §4, with an authenticator") {
  const Buffer sha1_key = from_hex("0102030405060708090a0b0c0d0e0f1011121314");
  const Buffer sha256_key = from_hex("0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20");
  for (EspEngine& engine : test::engines()) {
    CAPTURE(engine.name());
    for (const CbcVector& v : cbc_vectors) {
      for (const Integrity integrity : {Integrity::hmac_sha1_96, Integrity::hmac_sha256_128}) {
        const test::Keys keys{{Cipher::aes_cbc, 128, integrity},
                              from_hex(v.key),
                              integrity == Integrity::hmac_sha1_96 ? sha1_key : sha256_key};
        const EspKey key = test::make_key(keys);
        const std::string icv(key.sizes().icv_bytes * 2U, '0');
        const Buffer clear = from_hex(std::string(v.esp.substr(0, 48)) + std::string(v.clear) + icv);
        const Buffer iv = from_hex(v.esp.substr(16, 32));
        Buffer packet = test::reference_seal(keys, clear, iv);
        CHECK(to_hex(Bytes(packet).first(v.esp.size() / 2)) == v.esp);

        REQUIRE(test::open_one(engine, key, packet));
        CHECK(to_hex(test::body_of(key.sizes(), packet)) == v.clear);
      }
    }
  }
}

struct HmacVector {
  Integrity integrity;
  std::string key, data;  // hex
  std::string_view digest;
};

std::string repeat(std::string_view hex, int count) {
  std::string out;
  while (count-- > 0) out += hex;
  return out;
}

TEST_CASE("HMAC: RFC 2202, RFC 4231 and RFC 4868") {
  const std::string hi_there = "4869205468657265";
  const std::string jefe = "4a656665";
  const std::string nothing = "7768617420646f2079612077616e7420666f72206e6f7468696e673f";
  const std::string counting = "0102030405060708090a0b0c0d0e0f10111213141516171819";
  const auto sha1 = Integrity::hmac_sha1_96;
  const auto sha256 = Integrity::hmac_sha256_128;
  const HmacVector vectors[] = {
      // RFC 2202 §3, cases 1 to 5
      {sha1, repeat("0b", 20), hi_there, "b617318655057264e28bc0b6fb378c8ef146be00"},
      {sha1, jefe, nothing, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
      {sha1, repeat("aa", 20), repeat("dd", 50), "125d7342b9ac11cd91a39af48aa17b4f63f175d3"},
      {sha1, counting, repeat("cd", 50), "4c9007f4026250c6bc8414f9bf50c86c2d7235da"},
      {sha1, repeat("0c", 20), "546573742057697468205472756e636174696f6e", "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04"},
      // RFC 4231 §4, cases 1 to 4
      {sha256, repeat("0b", 20), hi_there, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
      {sha256, jefe, nothing, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
      {sha256, repeat("aa", 20), repeat("dd", 50), "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
      {sha256, counting, repeat("cd", 50), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
      // RFC 4868 §2.7.2.1, AUTH256: the key length that ESP uses
      {sha256, repeat("0b", 32), hi_there, "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7"},
  };
  for (const HmacVector& v : vectors) {
    CAPTURE(v.digest);
    HmacKey key;
    REQUIRE(expand_hmac(v.integrity, from_hex(v.key), key));
    std::array<std::byte, max_digest_bytes> digest;
    hmac(v.integrity, key, from_hex(v.data), digest);
    CHECK(to_hex(Bytes(digest).first(v.digest.size() / 2)) == v.digest);
  }
  HmacKey key;
  CHECK_FALSE(expand_hmac(sha1, Buffer(65), key));
  CHECK_FALSE(expand_hmac(Integrity::none, Buffer(20), key));
}

}  // namespace
}  // namespace postern::crypto
