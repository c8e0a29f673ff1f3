// Known answers from documents that are not ours.
#include <utility>

#include "crypto/expanded_key.hpp"
#include "crypto/hmac.hpp"
#include "crypto/prf.hpp"
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

// RFC 7634 appendix A. Its IV is no sequence number of the packet's; seal() is told it as one.
TEST_CASE("ChaCha20-Poly1305: the ESP packet of RFC 7634 appendix A") {
  const std::string header = "0102030400000005", iv = "1011121314151617";
  const std::string clear =
      "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f101112131415161718191a1b"
      "1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363701020204";
  const std::string sealed = header + iv +
                             "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95df"
                             "ab4c02f72aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e0"
                             "76aaa8266b7fb0f7b11b369907e1ad43";
  const test::Keys keys{{Cipher::chacha20_poly1305, 256, Integrity::none},
                        from_hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3"),
                        {}};
  const EspKey key = test::make_key(keys);
  for (EspEngine& engine : test::engines()) {
    CAPTURE(engine.name());
    Buffer packet = from_hex(header + std::string(16, '0') + clear + std::string(32, '0'));
    REQUIRE(test::seal_one(engine, key, packet, 0x1011121314151617));
    CHECK(to_hex(packet) == sealed);
    REQUIRE(test::open_one(engine, key, packet));
    CHECK(to_hex(test::body_of(key.sizes(), packet)) == clear);

    packet = from_hex(sealed);
    packet[7] ^= std::byte{1};  // the sequence number is authenticated
    CHECK_FALSE(test::open_one(engine, key, packet));
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
  std::mt19937_64 random(31);
  for (EspEngine& engine : test::engines()) {
    CAPTURE(engine.name());
    for (const CbcVector& v : cbc_vectors) {
      for (const Integrity integrity : {Integrity::hmac_sha1_96, Integrity::hmac_sha256_128, Integrity::hmac_sha384_192,
                                        Integrity::hmac_sha512_256}) {
        test::Keys keys = test::random_keys({Cipher::aes_cbc, 128, integrity}, random);
        keys.cipher = from_hex(v.key);
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
  Hash hash;
  std::string key, data;    // hex
  std::string_view digest;  // or the first half of it, where the RFC gives no more
};

std::string repeat(std::string_view hex, int count) {
  std::string out;
  while (count-- > 0) out += hex;
  return out;
}

const std::string hi_there = "4869205468657265";
const std::string jefe = "4a656665";
const std::string nothing = "7768617420646f2079612077616e7420666f72206e6f7468696e673f";
const std::string counting = "0102030405060708090a0b0c0d0e0f10111213141516171819";
const std::string larger_key = to_hex(as_bytes("Test Using Larger Than Block-Size Key - Hash Key First"));
const std::string larger_both = to_hex(
    as_bytes("This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
             "hashed before being used by the HMAC algorithm."));

const HmacVector hmac_vectors[] = {
    // RFC 2202 §2, cases 1 to 7
    {Hash::md5, repeat("0b", 16), hi_there, "9294727a3638bb1c13f48ef8158bfc9d"},
    {Hash::md5, jefe, nothing, "750c783e6ab0b503eaa86e310a5db738"},
    {Hash::md5, repeat("aa", 16), repeat("dd", 50), "56be34521d144c88dbb8c733f0e8b3f6"},
    {Hash::md5, counting, repeat("cd", 50), "697eaf0aca3a3aea3a75164746ffaa79"},
    {Hash::md5, repeat("0c", 16), "546573742057697468205472756e636174696f6e", "56461ef2342edc00f9bab995690efd4c"},
    {Hash::md5, repeat("aa", 80), larger_key, "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"},
    {Hash::md5, repeat("aa", 80),
     to_hex(as_bytes("Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data")),
     "6f630fad67cda0ee1fb1f562db3aa53e"},
    // RFC 2202 §3, cases 1 to 7
    {Hash::sha1, repeat("0b", 20), hi_there, "b617318655057264e28bc0b6fb378c8ef146be00"},
    {Hash::sha1, jefe, nothing, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
    {Hash::sha1, repeat("aa", 20), repeat("dd", 50), "125d7342b9ac11cd91a39af48aa17b4f63f175d3"},
    {Hash::sha1, counting, repeat("cd", 50), "4c9007f4026250c6bc8414f9bf50c86c2d7235da"},
    {Hash::sha1, repeat("0c", 20), "546573742057697468205472756e636174696f6e",
     "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04"},
    {Hash::sha1, repeat("aa", 80), larger_key, "aa4ae5e15272d00e95705637ce8a3b55ed402112"},
    {Hash::sha1, repeat("aa", 80),
     to_hex(as_bytes("Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data")),
     "e8e99d0f45237d786d6bbaa7965c7808bbff1a91"},
    // RFC 4231 §4, cases 1 to 4, 6 and 7
    {Hash::sha256, repeat("0b", 20), hi_there, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
    {Hash::sha256, jefe, nothing, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    {Hash::sha256, repeat("aa", 20), repeat("dd", 50),
     "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
    {Hash::sha256, counting, repeat("cd", 50), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
    {Hash::sha256, repeat("aa", 131), larger_key, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    {Hash::sha256, repeat("aa", 131), larger_both, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
    {Hash::sha384, repeat("0b", 20), hi_there,
     "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6"},
    {Hash::sha384, jefe, nothing,
     "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"},
    {Hash::sha384, repeat("aa", 20), repeat("dd", 50),
     "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b2a5ab39dc13814b94e3ab6e101a34f27"},
    {Hash::sha384, counting, repeat("cd", 50),
     "3e8a69b7783c25851933ab6290af6ca77a9981480850009cc5577c6e1f573b4e6801dd23c4a7d679ccf8a386c674cffb"},
    {Hash::sha384, repeat("aa", 131), larger_key,
     "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952"},
    {Hash::sha384, repeat("aa", 131), larger_both,
     "6617178e941f020d351e2f254e8fd32c602420feb0b8fb9adccebb82461e99c5a678cc31e799176d3860e6110c46523e"},
    {Hash::sha512, repeat("0b", 20), hi_there,
     "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702"
     "e"
     "696c203a126854"},
    {Hash::sha512, jefe, nothing,
     "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b6"
     "3"
     "6e070a38bce737"},
    {Hash::sha512, repeat("aa", 20), repeat("dd", 50),
     "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39bf3e848279a722c806b485a47e67c807b946a337bee894267"
     "4"
     "278859e13292fb"},
    {Hash::sha512, counting, repeat("cd", 50),
     "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3dba91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de"
     "2"
     "adebeb10a298dd"},
    {Hash::sha512, repeat("aa", 131), larger_key,
     "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8"
     "b"
     "915a985d786598"},
    {Hash::sha512, repeat("aa", 131), larger_both,
     "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944b6022cac3c4982b10d5eeb55c3e4de15134676fb6de044606"
     "5"
     "c97440fa8c6a58"},
    // RFC 4868 §2.7.2, AUTH256, AUTH384, AUTH512: the key lengths and truncations that ESP and IKE use
    {Hash::sha256, repeat("0b", 32), hi_there, "198a607eb44bfbc69903a0f1cf2bbdc5"},
    {Hash::sha256, repeat(jefe, 8), nothing, "167f928588c5cc2eef8e3093caa0e87c"},
    {Hash::sha256, repeat("aa", 32), repeat("dd", 50), "cdcb1220d1ecccea91e53aba3092f962"},
    {Hash::sha384, repeat("0b", 48), hi_there, "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"},
    {Hash::sha384, repeat(jefe, 12), nothing, "2c7353974f1842fd66d53c452ca42122b28c0b594cfb184d"},
    {Hash::sha384, repeat("aa", 48), repeat("dd", 50), "809f439be00274321d4a538652164b53554a508184a0c316"},
    {Hash::sha512, repeat("0b", 64), hi_there, "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"},
    {Hash::sha512, repeat(jefe, 16), nothing, "cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b15454"},
    {Hash::sha512, repeat("aa", 64), repeat("dd", 50),
     "2ee7acd783624ca9398710f3ee05ae41b9f9b0510c87e49e586cc9bf961733d8"},
};

Prf prf_of(Hash hash) {
  constexpr Prf prfs[] = {Prf::hmac_sha1, Prf::hmac_sha256, Prf::hmac_sha384, Prf::hmac_sha512};
  return prfs[std::to_underlying(hash)];
}

// The packets' HMAC and IKE's PRF, in one piece and in three.
TEST_CASE("HMAC: RFC 2202, RFC 4231 and RFC 4868") {
  for (const HmacVector& v : hmac_vectors) {
    CAPTURE(v.digest);
    HmacKey key;
    expand_hmac(v.hash, from_hex(v.key), key);
    std::array<std::byte, max_digest_bytes> digest;
    const Buffer data = from_hex(v.data);
    const Bytes whole = data, parts[] = {whole.first(1), {}, whole.subspan(1)};
    for (const std::span<const Bytes> in : {std::span<const Bytes>(&whole, 1), std::span<const Bytes>(parts)}) {
      hmac(v.hash, key, in, digest.data());
      CHECK(to_hex(Bytes(digest).first(v.digest.size() / 2)) == v.digest);
    }
    if (v.hash == Hash::md5) continue;  // IKE has no PRF of it here
    const auto by_prf = prf(prf_of(v.hash), from_hex(v.key), {parts[0], parts[1], parts[2]});
    REQUIRE(by_prf);
    CHECK(by_prf->size() == digest_bytes(v.hash));
    CHECK(std::ranges::equal(by_prf->bytes(), Bytes(digest).first(by_prf->size())));
  }
}

TEST_CASE("HMAC: keys of every length around both block sizes, against EVP") {
  std::mt19937_64 random(32);
  const Buffer data = test::random_buffer(300, random);
  constexpr const char* names[] = {"SHA1", "SHA256", "SHA384", "SHA512", "MD5"};
  for (const Hash hash : {Hash::sha1, Hash::sha256, Hash::sha384, Hash::sha512, Hash::md5}) {
    for (std::size_t size = 0; size <= 200; ++size) {
      CAPTURE(size);
      const Buffer key_bytes = test::random_buffer(size, random);
      const LockedHmacKey key(hash, key_bytes);
      Buffer digest(digest_bytes(hash));
      const Bytes part = data;
      hmac(hash, key.get(), {&part, 1}, digest.data());
      REQUIRE(digest == test::reference_hmac(names[std::to_underlying(hash)], key_bytes, data));
    }
  }
  CHECK(hash_of(Integrity::hmac_sha384_192) == Hash::sha384);
  CHECK_FALSE(hash_of(Integrity::none).has_value());
  CHECK_FALSE(hash_of(Integrity::aes_cmac_96).has_value());
}

}  // namespace
}  // namespace postern::crypto
