#include "tests/crypto/support.hpp"

#include <algorithm>
#include <memory>

#include <openssl/evp.h>
#include <openssl/provider.h>

#include "crypto/transforms.hpp"

namespace postern::crypto::test {
namespace {

const unsigned char* octets(const std::byte* p) { return reinterpret_cast<const unsigned char*>(p); }
unsigned char* octets(std::byte* p) { return reinterpret_cast<unsigned char*>(p); }

using Context = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

// DES-CBC is in the legacy provider alone; a library context of its own leaves the engines' one as it is.
OSSL_LIB_CTX* library() {
  static OSSL_LIB_CTX* const context = [] {
    OSSL_LIB_CTX* const made = OSSL_LIB_CTX_new();
    REQUIRE(OSSL_PROVIDER_load(made, "default") != nullptr);
    REQUIRE(OSSL_PROVIDER_load(made, "legacy") != nullptr);
    return made;
  }();
  return context;
}

const char* hmac_digest(Integrity integrity) {
  switch (integrity) {
    case Integrity::hmac_sha1_96: return "SHA1";
    case Integrity::hmac_sha256_128: return "SHA256";
    case Integrity::hmac_sha384_192: return "SHA384";
    case Integrity::hmac_sha512_256: return "SHA512";
    case Integrity::hmac_md5_96: return "MD5";
    default: return nullptr;
  }
}

std::string evp_name(const Transform& transform) {
  const std::string aes = "AES-" + std::to_string(transform.key_bits) + "-";
  switch (transform.cipher) {
    case Cipher::aes_cbc: return aes + "CBC";
    case Cipher::aes_ctr: return aes + "CTR";
    case Cipher::aes_gcm_16: return aes + "GCM";
    case Cipher::aes_ccm_8:
    case Cipher::aes_ccm_12:
    case Cipher::aes_ccm_16: return aes + "CCM";
    case Cipher::chacha20_poly1305: return "ChaCha20-Poly1305";
    case Cipher::triple_des_cbc: return "DES-EDE3-CBC";
    case Cipher::des_cbc: return "DES-CBC";
    default: return "";
  }
}

struct Encryption {
  Context context{EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free};
  std::unique_ptr<EVP_CIPHER, decltype(&EVP_CIPHER_free)> cipher;

  explicit Encryption(const std::string& name)
      : cipher(EVP_CIPHER_fetch(library(), name.c_str(), nullptr), &EVP_CIPHER_free) {
    REQUIRE(cipher);
    REQUIRE(EVP_EncryptInit_ex(context.get(), cipher.get(), nullptr, nullptr, nullptr) == 1);
  }
  void start(Bytes key, Bytes iv) {
    REQUIRE(EVP_EncryptInit_ex(context.get(), nullptr, nullptr, octets(key.data()), octets(iv.data())) == 1);
    REQUIRE(EVP_CIPHER_CTX_set_padding(context.get(), 0) == 1);
  }
  void update(std::byte* out, Bytes in) {
    int written = 0;
    REQUIRE(EVP_EncryptUpdate(context.get(), octets(out), &written, octets(in.data()), static_cast<int>(in.size())) ==
            1);
    if (out != nullptr) REQUIRE(written == static_cast<int>(in.size()));
  }
};

Buffer xor_of(Bytes a, Bytes b) {
  Buffer out(a.begin(), a.end());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] ^= b[i];
  return out;
}

Buffer aes_block(Bytes key, Bytes block) {
  Encryption aes("AES-128-ECB");
  aes.start(key, {});
  Buffer out(16);
  aes.update(out.data(), block);
  return out;
}

Buffer reference_xcbc(Bytes key, Bytes data) {
  const Buffer k1 = aes_block(key, Buffer(16, std::byte{1})), k2 = aes_block(key, Buffer(16, std::byte{2})),
               k3 = aes_block(key, Buffer(16, std::byte{3}));
  Encryption aes("AES-128-ECB");
  aes.start(k1, {});
  Buffer chain(16);
  for (; data.size() > 16; data = data.subspan(16)) aes.update(chain.data(), xor_of(chain, data.first(16)));
  Buffer last(data.begin(), data.end());
  if (last.size() < 16) last.push_back(std::byte{0x80});
  last.resize(16);
  aes.update(chain.data(), xor_of(chain, xor_of(last, data.size() == 16 ? k2 : k3)));
  return chain;
}

Buffer reference_cmac(Bytes key, Bytes data) {
  Buffer out(16);
  std::size_t size = 0;
  const unsigned char nothing = 0;
  REQUIRE(EVP_Q_mac(nullptr, "CMAC", nullptr, "AES-128-CBC", nullptr, octets(key.data()), key.size(),
                    data.empty() ? &nothing : octets(data.data()), data.size(), octets(out.data()), out.size(),
                    &size) != nullptr);
  return out;
}

// A cipher, or NULL, and an authenticator.
Buffer reference_pair(const Keys& keys, Bytes clear, Bytes iv, std::size_t header) {
  Buffer out(clear.begin(), clear.end());
  const auto sizes = sizes_of(keys.transform);
  REQUIRE(sizes);
  const std::size_t front = header + sizes->iv_bytes, body = out.size() - front - sizes->icv_bytes;
  if (!iv.empty()) std::memcpy(out.data() + header, iv.data(), iv.size());
  if (keys.transform.cipher != Cipher::null) {
    Encryption encryption(evp_name(keys.transform));
    Buffer start(iv.begin(), iv.end());
    if (keys.transform.cipher == Cipher::aes_ctr) {  // RFC 3686 §4
      start.insert(start.begin(), keys.cipher.end() - 4, keys.cipher.end());
      for (const int b : {0, 0, 0, 1}) start.push_back(static_cast<std::byte>(b));
    }
    encryption.start(keys.cipher, start);
    encryption.update(out.data() + front, clear.subspan(front, body));
  }
  const Buffer mac = reference_mac(keys.transform.integrity, keys.integrity, Bytes(out).first(front + body));
  std::memcpy(out.data() + front + body, mac.data(), sizes->icv_bytes);
  return out;
}

Buffer nonce_of(const Keys& keys, std::size_t salt, Bytes iv) {
  Buffer nonce(keys.cipher.end() - static_cast<std::ptrdiff_t>(salt), keys.cipher.end());
  nonce.insert(nonce.end(), iv.begin(), iv.end());
  return nonce;
}

// RFC 4543 §3.
Buffer reference_gmac(const Keys& keys, Bytes clear, Bytes iv, std::size_t header) {
  Buffer out(clear.begin(), clear.end());
  std::memcpy(out.data() + header, iv.data(), 8);
  Buffer nonce = nonce_of(keys, 4, iv);
  std::string name = "AES-" + std::to_string(keys.transform.key_bits) + "-GCM";
  const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_octet_string("iv", nonce.data(), nonce.size()),
                                   OSSL_PARAM_construct_end()};
  std::size_t size = 0;
  REQUIRE(EVP_Q_mac(nullptr, "GMAC", nullptr, name.c_str(), parameters, octets(keys.cipher.data()),
                    keys.cipher.size() - 4, octets(out.data()), out.size() - 16, octets(out.data() + out.size() - 16),
                    16, &size) != nullptr);
  return out;
}

Buffer reference_aead(const Keys& keys, Bytes clear, Bytes iv, std::size_t header) {
  const auto sizes = sizes_of(keys.transform);
  REQUIRE(sizes);
  Buffer out(clear.begin(), clear.end());
  const std::size_t icv = sizes->icv_bytes, front = header + 8, body = out.size() - front - icv;
  std::memcpy(out.data() + header, iv.data(), 8);
  const bool ccm = evp_name(keys.transform).ends_with("CCM");
  Encryption encryption(evp_name(keys.transform));
  EVP_CIPHER_CTX* const context = encryption.context.get();
  int written = 0;
  if (ccm) {
    REQUIRE(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, 11, nullptr) == 1);
    REQUIRE(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, static_cast<int>(icv), nullptr) == 1);
  }
  encryption.start(keys.cipher, nonce_of(keys, ccm ? 3 : 4, iv));
  if (ccm) REQUIRE(EVP_EncryptUpdate(context, nullptr, &written, nullptr, static_cast<int>(body)) == 1);
  encryption.update(nullptr, clear.first(header));
  encryption.update(out.data() + front, clear.subspan(front, body));
  std::array<unsigned char, 16> rest;
  REQUIRE(EVP_EncryptFinal_ex(context, rest.data(), &written) == 1);
  REQUIRE(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, static_cast<int>(icv), out.data() + out.size() - icv) ==
          1);
  return out;
}

std::vector<Transform> combinations() {
  std::vector<Transform> out;
  std::vector<Integrity> macs;
  for (const NamedTransform& row : named_transforms())
    if (row.cipher == Cipher::none) macs.push_back(row.integrity);
  std::size_t turn = 0;
  for (const NamedTransform& row : named_transforms()) {
    if (row.cipher == Cipher::none) continue;
    if (is_aead(row.cipher)) {
      out.push_back({row.cipher, row.key_bits, Integrity::none});
    } else if (row.cipher == Cipher::null || (row.cipher == Cipher::aes_cbc && row.key_bits == 128)) {
      for (const Integrity mac : macs) out.push_back({row.cipher, row.key_bits, mac});
    } else {
      for (int i = 0; i < 2; ++i) out.push_back({row.cipher, row.key_bits, macs[turn++ % macs.size()]});
    }
  }
  return out;
}

std::vector<Transform> combinations_of_ike() {
  std::vector<Transform> out;
  for (const NamedTransform& cipher : named_transforms()) {
    if (cipher.cipher == Cipher::none || cipher.ike_word.empty()) continue;
    if (is_aead(cipher.cipher)) out.push_back({cipher.cipher, cipher.key_bits, Integrity::none});
    for (const NamedTransform& mac : named_transforms())
      if (mac.cipher == Cipher::none && !mac.ike_word.empty() && !is_aead(cipher.cipher))
        out.push_back({cipher.cipher, cipher.key_bits, mac.integrity});
  }
  return out;
}

}  // namespace

const std::vector<Transform> all_transforms = combinations();
const std::vector<Transform> ike_transforms = combinations_of_ike();

Buffer from_hex(std::string_view hex) {
  Buffer out;
  REQUIRE(hex.size() % 2 == 0);
  for (std::size_t i = 0; i < hex.size(); i += 2)
    out.push_back(static_cast<std::byte>(std::stoul(std::string(hex.substr(i, 2)), nullptr, 16)));
  return out;
}

std::string to_hex(Bytes bytes) {
  std::string out;
  for (const std::byte b : bytes) {
    out += "0123456789abcdef"[std::to_integer<unsigned>(b) >> 4];
    out += "0123456789abcdef"[std::to_integer<unsigned>(b) & 15];
  }
  return out;
}

Buffer random_buffer(std::size_t size, std::mt19937_64& random) {
  Buffer out(size);
  for (std::byte& b : out) b = static_cast<std::byte>(random());
  return out;
}

std::vector<EspEngine> engines() {
  std::vector<EspEngine> out;
  auto openssl = EspEngine::create(EngineKind::openssl);
  REQUIRE(openssl);
  out.push_back(std::move(*openssl));
  if (auto ipsec_mb = EspEngine::create(EngineKind::ipsec_mb))
    out.push_back(std::move(*ipsec_mb));
  else
    MESSAGE("ipsec-mb is not tested: " << ipsec_mb.error().message());
  return out;
}

Keys random_keys(const Transform& transform, std::mt19937_64& random) {
  const auto sizes = sizes_of(transform);
  REQUIRE(sizes);
  return {transform, random_buffer(sizes->key_bytes, random), random_buffer(sizes->integrity_key_bytes, random)};
}

EspKey make_key(const Keys& keys, bool extended_sequence) {
  auto key = EspKey::create(keys.transform, keys.cipher, keys.integrity, extended_sequence);
  REQUIRE(key);
  return std::move(*key);
}

Buffer clear_packet(const TransformSizes& sizes, std::size_t payload_bytes, std::uint32_t spi, std::uint32_t sequence,
                    std::mt19937_64& random) {
  const std::size_t block = sizes.block_bytes;
  const std::size_t body = (payload_bytes + 2 + block - 1) / block * block;
  Buffer out(8U + sizes.iv_bytes + body + sizes.icv_bytes, std::byte{0xee});
  store_be32(out.data(), spi);
  store_be32(out.data() + 4, sequence);
  std::byte* at = out.data() + 8 + sizes.iv_bytes;
  for (std::size_t i = 0; i < payload_bytes; ++i) *at++ = static_cast<std::byte>(random());
  const std::size_t padding = body - payload_bytes - 2;
  for (std::size_t i = 1; i <= padding; ++i) *at++ = static_cast<std::byte>(i);
  *at++ = static_cast<std::byte>(padding);
  *at++ = std::byte{4};
  return out;
}

Bytes body_of(const TransformSizes& sizes, Bytes packet) {
  return packet.subspan(8U + sizes.iv_bytes, packet.size() - 8U - sizes.iv_bytes - sizes.icv_bytes);
}

EspJob job_for(const EspKey& key, Buffer& packet, std::uint64_t sequence) {
  return {&key, packet.data(), static_cast<std::uint32_t>(packet.size()), sequence, false};
}

bool seal_one(EspEngine& engine, const EspKey& key, Buffer& packet, std::uint64_t sequence) {
  EspJob job = job_for(key, packet, sequence);
  engine.seal({&job, 1});
  return job.ok;
}

bool open_one(EspEngine& engine, const EspKey& key, Buffer& packet) {
  EspJob job = job_for(key, packet);
  engine.open({&job, 1});
  return job.ok;
}

Buffer reference_seal(const Keys& keys, Bytes clear, Bytes iv, std::size_t header_bytes) {
  if (keys.transform.cipher == Cipher::aes_gmac) return reference_gmac(keys, clear, iv, header_bytes);
  return is_aead(keys.transform.cipher) ? reference_aead(keys, clear, iv, header_bytes)
                                        : reference_pair(keys, clear, iv, header_bytes);
}

// RFC 4106 §5, RFC 7634 §2.1: an AEAD has SPI, high half and low half as its additional data. With an authenticator
// apart the high half stands behind what is sent (RFC 4303 §2.2.1).
Buffer reference_seal_extended(const Keys& keys, Bytes clear, Bytes iv, std::uint64_t sequence) {
  std::array<std::byte, 4> high;
  store_be32(high.data(), static_cast<std::uint32_t>(sequence >> 32));
  if (keys.transform.integrity == Integrity::none) {
    Buffer longer(clear.begin(), clear.end());
    longer.insert(longer.begin() + 4, high.begin(), high.end());
    Buffer out = reference_seal(keys, longer, iv, 12);
    out.erase(out.begin() + 4, out.begin() + 8);
    return out;
  }
  Buffer out = reference_seal(keys, clear, iv);
  const auto icv_bytes = find_integrity(keys.transform.integrity)->sizes.icv_bytes;
  Buffer covered(out.begin(), out.end() - icv_bytes);
  covered.insert(covered.end(), high.begin(), high.end());
  const Buffer mac = reference_mac(keys.transform.integrity, keys.integrity, covered);
  std::memcpy(out.data() + out.size() - icv_bytes, mac.data(), icv_bytes);
  return out;
}

Buffer reference_mac(Integrity integrity, Bytes key, Bytes data) {
  if (integrity == Integrity::aes_xcbc_96) return reference_xcbc(key, data);
  if (integrity == Integrity::aes_cmac_96) return reference_cmac(key, data);
  return reference_hmac(hmac_digest(integrity), key, data);
}

Buffer reference_hmac(const char* digest, Bytes key, Bytes data) {
  Buffer out(EVP_MAX_MD_SIZE);
  std::size_t size = 0;
  const unsigned char nothing = 0;  // a null key would mean "none given"
  REQUIRE(EVP_Q_mac(nullptr, "HMAC", nullptr, digest, nullptr, key.empty() ? &nothing : octets(key.data()), key.size(),
                    octets(data.data()), data.size(), octets(out.data()), out.size(), &size) != nullptr);
  out.resize(size);
  return out;
}

}  // namespace postern::crypto::test
