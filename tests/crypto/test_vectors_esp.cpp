// Known answers of ciphers and authenticators, from documents that are not ours, in packets that the engines open and
// seal: what a document gives as a bare cipher stands in ESP beside an authenticator of the reference's.
#include <utility>

#include "crypto/transforms.hpp"
#include "tests/crypto/support.hpp"

namespace postern::crypto {
namespace {

using test::Buffer;
using test::from_hex;
using test::to_hex;

std::string counting(std::size_t bytes) {
  Buffer out(bytes);
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::byte>(i);
  return to_hex(out);
}
const std::string single_block = to_hex(as_bytes("Single block msg"));

struct CipherVector {
  Transform transform;
  std::string key;  // with the salt behind it
  std::string iv, clear, cipher;
};

const CipherVector vectors[] = {
    // RFC 3686 §6, test vectors 1, 2, 3, 4, 5, 7 and 8. The IV is the sequence number that seal() is told.
    {{Cipher::aes_ctr, 128, {}},
     "ae6852f8121067cc4bf7a5765577f39e00000030",
     "0000000000000000",
     single_block,
     "e4095d4fb7a7b3792d6175a3261311b8"},
    {{Cipher::aes_ctr, 128, {}},
     "7e24067817fae0d743d6ce1f32539163006cb6db",
     "c0543b59da48d90b",
     counting(32),
     "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28"},
    {{Cipher::aes_ctr, 128, {}},
     "7691be035e5020a8ac6e618529f9a0dc00e0017b",
     "27777f3f4a1786f0",
     counting(36),
     "c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f"},
    {{Cipher::aes_ctr, 192, {}},
     "16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb7851500000048",
     "36733c147d6d93cb",
     single_block,
     "4b55384fe259c9c84e7935a003cbe928"},
    {{Cipher::aes_ctr, 192, {}},
     "7c5cb2401b3dc33c19e7340819e0f69c678c3db8e6f6a91a0096b03b",
     "020c6eadc2cb500d",
     counting(32),
     "453243fc609b23327edfaafa7131cd9f8490701c5ad4a79cfc1fe0ff42f4fb00"},
    {{Cipher::aes_ctr, 256, {}},
     "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c10400000060",
     "db5672c97aa8f0b2",
     single_block,
     "145ad01dbf824ec7560863dc71e3e0c0"},
    {{Cipher::aes_ctr, 256, {}},
     "f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a2388400faac24",
     "c1585ef15a43d875",
     counting(32),
     "f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c"},
    // FIPS 81, table C1: "Now is the time for all ".
    {{Cipher::des_cbc, 64, {}},
     "0123456789abcdef",
     "1234567890abcdef",
     to_hex(as_bytes("Now is the time for all ")),
     "e5c7cdde872bf27c43e934008c389c0f683788499a7c05f6"},
    // The Linux kernel's crypto/testmgr.h, des3_ede_cbc, the first two blocks.
    {{Cipher::triple_des_cbc, 192, {}},
     "e9c0ff2e760b6424444d995a12d640c0eac284e81495dbe8",
     "7d3388930f93b242",
     "6f54206f614d796e5320636565727374",
     "0e2db6973c5633f4671721c76e8ad549"},
    // RFC 2410 §6: NULL is the identity; its vector has no key and no IV.
    {{Cipher::null, 0, {}}, "", "", "0123456789abcdef", "0123456789abcdef"},
};

bool is_counted(Cipher cipher) { return cipher == Cipher::aes_ctr; }

// Opening is asked of every engine; sealing of those whose IV the caller chooses.
TEST_CASE("ciphers: RFC 3686 §6, FIPS 81, the kernel's 3DES, RFC 2410, beside every authenticator") {
  std::mt19937_64 random(41);
  const std::string header = "0000432100000001";
  for (EspEngine& engine : test::engines()) {
    for (const CipherVector& v : vectors)
      for (const NamedTransform& row : named_transforms()) {
        if (row.cipher != Cipher::none) continue;
        Transform transform = v.transform;
        transform.integrity = row.integrity;
        CAPTURE(engine.name());
        CAPTURE(text(transform));
        test::Keys keys = test::random_keys(transform, random);
        keys.cipher = from_hex(v.key);
        const EspKey key = test::make_key(keys);
        const std::string icv(row.sizes.icv_bytes * 2U, '0');
        const Buffer clear = from_hex(header + v.iv + v.clear + icv);
        const Buffer sealed = test::reference_seal(keys, clear, from_hex(v.iv));
        CHECK(to_hex(Bytes(sealed).first(sealed.size() - row.sizes.icv_bytes)) == header + v.iv + v.cipher);

        Buffer packet = sealed;
        REQUIRE(test::open_one(engine, key, packet));
        CHECK(to_hex(test::body_of(key.sizes(), packet)) == v.clear);
        if (!is_counted(transform.cipher) && !v.iv.empty()) continue;
        packet = clear;
        REQUIRE(test::seal_one(engine, key, packet, v.iv.empty() ? 1 : std::stoull(v.iv, nullptr, 16)));
        CHECK(packet == sealed);
      }
  }
}

struct AeadVector {
  Transform transform;
  std::string_view key, header, iv, clear, cipher, icv;
};

const AeadVector aead_vectors[] = {
    // The Linux kernel's crypto/testmgr.h, rfc4543(gcm(aes)), from draft-mcgrew-gcm-test-01.
    {{Cipher::aes_gmac, 128, {}},
     "4c80cdefbb5d10da906ac73c3613a63422433c64",
     "0000432100000007",
     "0000000000000000",
     "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
     "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
     "f2a9a836e155106aa8dcd618e4099aaa"},
    // The same, rfc4309(ccm(aes)).
    {{Cipher::aes_ccm_16, 128, {}},
     "00000000000000000000000000000000000000",
     "0000000000000000",
     "0000000000000000",
     "00000000000000000000000000000000",
     "2e9aca6bda54fc6f1250e8de813c6308",
     "1a22ba75eed4d5b5275001ac033339fb"},
};

TEST_CASE("AES-GMAC and AES-CCM: packets of others") {
  for (EspEngine& engine : test::engines()) {
    CAPTURE(engine.name());
    for (const AeadVector& v : aead_vectors) {
      CAPTURE(text(v.transform));
      const EspKey key = test::make_key({v.transform, from_hex(v.key), {}});
      const std::string sealed = std::string(v.header) + std::string(v.iv) + std::string(v.cipher) + std::string(v.icv);
      Buffer packet = from_hex(std::string(v.header) + std::string(v.iv) + std::string(v.clear) + std::string(32, '0'));
      REQUIRE(test::seal_one(engine, key, packet, std::stoull(std::string(v.iv), nullptr, 16)));
      CHECK(to_hex(packet) == sealed);
      packet = from_hex(sealed);
      REQUIRE(test::open_one(engine, key, packet));
      CHECK(to_hex(test::body_of(key.sizes(), packet)) == v.clear);
      packet = from_hex(sealed);
      packet[4] ^= std::byte{1};
      CHECK_FALSE(test::open_one(engine, key, packet));
    }
  }
}

struct MacVector {
  Integrity integrity;
  std::string key, data;
  std::string_view mac;
};

const std::string rfc4493_key = "2b7e151628aed2a6abf7158809cf4f3c";
const std::string rfc4493_data =
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad"
    "2b417be66c3710";

const MacVector mac_vectors[] = {
    // RFC 3566 §4.6, cases 2 to 6 and 7 (the first has no bytes, which no packet has).
    {Integrity::aes_xcbc_96, counting(16), counting(3), "5b376580ae2f19afe7219ceef172756f"},
    {Integrity::aes_xcbc_96, counting(16), counting(16), "d2a246fa349b68a79998a4394ff7a263"},
    {Integrity::aes_xcbc_96, counting(16), counting(20), "47f51b4564966215b8985c63055ed308"},
    {Integrity::aes_xcbc_96, counting(16), counting(32), "f54f0ec8d2b9f3d36807734bd5283fd4"},
    {Integrity::aes_xcbc_96, counting(16), counting(34), "becbb3bccdb518a30677d5481fb6b4d8"},
    {Integrity::aes_xcbc_96, counting(16), std::string(2000, '0'), "f0dafee895db30253761103b5d84528f"},
    // RFC 4493 §4, RFC 4494 §4.1.
    {Integrity::aes_cmac_96, rfc4493_key, rfc4493_data.substr(0, 32), "070a16b46b4d4144f79bdd9dd04a287c"},
    {Integrity::aes_cmac_96, rfc4493_key, rfc4493_data.substr(0, 80), "dfa66747de9ae63030ca32611497c827"},
    {Integrity::aes_cmac_96, rfc4493_key, rfc4493_data, "51f0bebf7e3b9d92fc49741779363cfe"},
    // RFC 2202 §2, cases 1, 3 and 5: those whose key has the length that ESP wants.
    {Integrity::hmac_md5_96, std::string("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"), to_hex(as_bytes("Hi There")),
     "9294727a3638bb1c13f48ef8158bfc9d"},
    {Integrity::hmac_md5_96, std::string(32, 'a'), std::string(100, 'd'), "56be34521d144c88dbb8c733f0e8b3f6"},
    {Integrity::hmac_md5_96, std::string("0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c"), to_hex(as_bytes("Test With Truncation")),
     "56461ef2342edc00f9bab995690efd4c"},
    // RFC 2202 §3, cases 1 and 3; RFC 4868 §2.7.2.
    {Integrity::hmac_sha1_96, std::string("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"), to_hex(as_bytes("Hi There")),
     "b617318655057264e28bc0b6fb378c8ef146be00"},
    {Integrity::hmac_sha1_96, std::string(40, 'a'), std::string(100, 'd'), "125d7342b9ac11cd91a39af48aa17b4f63f175d3"},
    {Integrity::hmac_sha256_128, std::string(64, 'a'), std::string(100, 'd'), "cdcb1220d1ecccea91e53aba3092f962"},
    {Integrity::hmac_sha384_192, std::string(96, 'a'), std::string(100, 'd'),
     "809f439be00274321d4a538652164b53554a508184a0c316"},
    {Integrity::hmac_sha512_256, std::string(128, 'a'), std::string(100, 'd'),
     "2ee7acd783624ca9398710f3ee05ae41b9f9b0510c87e49e586cc9bf961733d8"},
};

TEST_CASE("authenticators: RFC 3566, RFC 4494, RFC 2202, RFC 4868, by both engines") {
  for (EspEngine& engine : test::engines()) {
    CAPTURE(engine.name());
    for (const MacVector& v : mac_vectors) {
      CAPTURE(v.mac);
      const auto key = EspKey::create_authenticator(v.integrity, from_hex(v.key));
      REQUIRE(key);
      const Buffer data = from_hex(v.data);
      CHECK(to_hex(test::reference_mac(v.integrity, from_hex(v.key), data)).starts_with(v.mac));
      std::array<std::byte, 32> icv{};
      MacJob job{&*key, data.data(), static_cast<std::uint32_t>(data.size()), icv.data(), false};
      engine.authenticate({&job, 1});
      REQUIRE(job.ok);
      const std::size_t bytes = key->sizes().icv_bytes;
      CHECK(to_hex(Bytes(icv).first(bytes)) == v.mac.substr(0, 2 * bytes));
    }
  }
}

}  // namespace
}  // namespace postern::crypto
