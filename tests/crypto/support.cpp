#include "tests/crypto/support.hpp"

#include <algorithm>
#include <memory>

#include <openssl/evp.h>

namespace postern::crypto::test {
namespace {

const unsigned char* octets(const std::byte* p) { return reinterpret_cast<const unsigned char*>(p); }
unsigned char* octets(std::byte* p) { return reinterpret_cast<unsigned char*>(p); }

using Context = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

struct MacRow {
  Integrity integrity;
  const char* digest;
  std::size_t icv_bytes;
};
constexpr MacRow macs[] = {{Integrity::hmac_sha1_96, "SHA1", 12},
                           {Integrity::hmac_sha256_128, "SHA256", 16},
                           {Integrity::hmac_sha384_192, "SHA384", 24},
                           {Integrity::hmac_sha512_256, "SHA512", 32}};

Buffer reference_cbc(const Keys& keys, Bytes clear, Bytes iv, std::size_t header) {
  Buffer out(clear.begin(), clear.end());
  const MacRow& mac = *std::ranges::find(macs, keys.transform.integrity, &MacRow::integrity);
  const std::size_t front = header + 16, body = out.size() - front - mac.icv_bytes;
  std::memcpy(out.data() + header, iv.data(), 16);

  const Context context(EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free);
  const EVP_CIPHER* const cipher = keys.transform.key_bits == 128   ? EVP_aes_128_cbc()
                                   : keys.transform.key_bits == 192 ? EVP_aes_192_cbc()
                                                                    : EVP_aes_256_cbc();
  REQUIRE(EVP_EncryptInit_ex(context.get(), cipher, nullptr, octets(keys.cipher.data()), octets(iv.data())) == 1);
  REQUIRE(EVP_CIPHER_CTX_set_padding(context.get(), 0) == 1);
  int written = 0;
  REQUIRE(EVP_EncryptUpdate(context.get(), octets(out.data() + front), &written, octets(clear.data() + front),
                            static_cast<int>(body)) == 1);
  REQUIRE(written == static_cast<int>(body));

  const Buffer digest = reference_hmac(mac.digest, keys.integrity, Bytes(out).first(out.size() - mac.icv_bytes));
  REQUIRE(digest.size() == keys.integrity.size());
  std::memcpy(out.data() + out.size() - mac.icv_bytes, digest.data(), mac.icv_bytes);
  return out;
}

Buffer reference_aead(const Keys& keys, Bytes clear, Bytes iv, std::size_t header) {
  Buffer out(clear.begin(), clear.end());
  const std::size_t front = header + 8, body = out.size() - front - 16;
  std::memcpy(out.data() + header, iv.data(), 8);
  Buffer nonce(keys.cipher.end() - 4, keys.cipher.end());
  nonce.insert(nonce.end(), iv.begin(), iv.end());

  const Context context(EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free);
  const EVP_CIPHER* const cipher = keys.transform.cipher == Cipher::chacha20_poly1305 ? EVP_chacha20_poly1305()
                                   : keys.transform.key_bits == 128                   ? EVP_aes_128_gcm()
                                   : keys.transform.key_bits == 192                   ? EVP_aes_192_gcm()
                                                                                      : EVP_aes_256_gcm();
  REQUIRE(EVP_EncryptInit_ex(context.get(), cipher, nullptr, octets(keys.cipher.data()), octets(nonce.data())) == 1);
  int written = 0;
  REQUIRE(EVP_EncryptUpdate(context.get(), nullptr, &written, octets(clear.data()), static_cast<int>(header)) == 1);
  REQUIRE(EVP_EncryptUpdate(context.get(), octets(out.data() + front), &written, octets(clear.data() + front),
                            static_cast<int>(body)) == 1);
  std::array<unsigned char, 16> rest;
  REQUIRE(EVP_EncryptFinal_ex(context.get(), rest.data(), &written) == 1);
  REQUIRE(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, 16, out.data() + out.size() - 16) == 1);
  return out;
}

}  // namespace

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
  return keys.transform.cipher == Cipher::aes_cbc ? reference_cbc(keys, clear, iv, header_bytes)
                                                  : reference_aead(keys, clear, iv, header_bytes);
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
  const MacRow& mac = *std::ranges::find(macs, keys.transform.integrity, &MacRow::integrity);
  Buffer covered(out.begin(), out.end() - static_cast<std::ptrdiff_t>(mac.icv_bytes));
  covered.insert(covered.end(), high.begin(), high.end());
  const Buffer digest = reference_hmac(mac.digest, keys.integrity, covered);
  std::memcpy(out.data() + out.size() - mac.icv_bytes, digest.data(), mac.icv_bytes);
  return out;
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
