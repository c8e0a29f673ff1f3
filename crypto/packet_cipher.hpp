// ESP packet ciphers: expanded keys and a batch engine. ipsec-mb where the CPU has it, OpenSSL elsewhere; chosen at run
// time. Both do every transform; AES-CCM with 192-bit keys, which ipsec-mb does not know, that engine gives to OpenSSL.
// No other room includes either library.
//
// Layout that seal() and open() work on, in place (RFC 4303 §2):
//
//   | SPI (4) | sequence, low 32 bits (4) | IV | ciphertext: payload, padding, pad length, next header | ICV |
//   ^ esp                                                                                      size bytes ^
//
// NULL (RFC 2410) and AES-GMAC (RFC 4543) leave the "ciphertext" as it is; NULL has no IV.
// With extended sequence numbers (RFC 4303 §2.2.1) the high 32 bits are not in the packet, but the ICV covers them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"

namespace postern::crypto {

// Values stand in memory files: new ones go to the end. `null` is ESP's cipher that does nothing (RFC 2410); `none`:
// there is no cipher at all, as in AH.
enum class Cipher : std::uint8_t {
  none,
  aes_cbc,
  aes_gcm_16,
  chacha20_poly1305,
  null,
  aes_gmac,
  aes_ccm_8,
  aes_ccm_12,
  aes_ccm_16,
  aes_ctr,
  triple_des_cbc,
  des_cbc,
};
enum class Integrity : std::uint8_t {
  none,
  hmac_sha1_96,
  hmac_sha256_128,
  hmac_sha384_192,
  hmac_sha512_256,
  hmac_md5_96,
  aes_xcbc_96,
  aes_cmac_96,
};

// One transform combination. AEADs, among them GMAC, carry Integrity::none; AH carries Cipher::none.
struct Transform {
  Cipher cipher = Cipher::none;
  std::uint16_t key_bits = 0;
  Integrity integrity = Integrity::none;
  bool operator==(const Transform&) const = default;
};

// Sizes in bytes. `key_bytes` counts the salt of AEADs and AES-CTR too, which follows the key as in KEYMAT (RFC 4106
// §8.1, RFC 4543 §5.4, RFC 3686 §5.1 and RFC 7634 §2: 4 bytes; RFC 4309 §4: 3).
struct TransformSizes {
  std::uint16_t key_bytes = 0;
  std::uint16_t integrity_key_bytes = 0;
  std::uint16_t iv_bytes = 0;
  std::uint16_t icv_bytes = 0;
  std::uint8_t block_bytes = 0;  // ciphertext is a multiple of it; at least 4 (RFC 4303 §2.4)
  std::uint8_t salt_bytes = 0;
};

// Of an ESP combination. Error for one that is not offered: without a cipher, a cipher without an authenticator, an
// AEAD with one.
[[nodiscard]] Result<TransformSizes> sizes_of(const Transform& transform);
// Of an authenticator alone, as AH uses it (RFC 4302): key and ICV. Error: Integrity::none, or no such one.
[[nodiscard]] Result<TransformSizes> integrity_sizes_of(Integrity integrity);

// An SA's expanded keys: in locked, undumped memory, wiped on destruction; immutable, so any thread may use it. The
// memory is also wiped in the child of a fork, where every job with such a key fails.
class EspKey {
 public:
  // `cipher_key` and `integrity_key` have exactly sizes_of()'s lengths; anything else is an error. `extended_sequence`:
  // ICVs cover all 64 bits of EspJob::sequence.
  [[nodiscard]] static Result<EspKey> create(const Transform& transform, Bytes cipher_key, Bytes integrity_key,
                                             bool extended_sequence = false);
  // Without a cipher: for MacJob, and for jobs of AH (crypto/ah.hpp), no other one of seal() or open() takes it. `key`
  // has integrity_sizes_of()'s length.
  [[nodiscard]] static Result<EspKey> create_authenticator(Integrity integrity, Bytes key,
                                                           bool extended_sequence = false);
  EspKey(EspKey&&) noexcept;
  EspKey& operator=(EspKey&&) noexcept;
  ~EspKey();
  [[nodiscard]] const TransformSizes& sizes() const { return sizes_; }
  [[nodiscard]] const Transform& transform() const { return transform_; }

  struct Expanded;  // engine's own
  [[nodiscard]] const Expanded& expanded() const { return *expanded_; }

 private:
  EspKey(const Transform& transform, const TransformSizes& sizes, Expanded* expanded);
  Transform transform_;
  TransformSizes sizes_;
  Expanded* expanded_ = nullptr;
};

struct EspJob {
  const EspKey* key = nullptr;
  std::byte* esp = nullptr;    // see the picture above
  std::uint32_t size = 0;      // SPI through ICV: 8 + iv + at least one block + icv, at most 65535; else the job fails
  std::uint64_t sequence = 0;  // all 64 bits; IV of AEADs and AES-CTR when sealing (unique per key)
  bool ok = false;             // result: sealed, or opened and authentic
  // AH alone (crypto/ah.hpp); null: ESP. What the ICV covers in front of `esp`, at which the AH header begins then.
  const std::byte* covered = nullptr;
  std::uint32_t covered_bytes = 0;
};

// An authenticator alone, over bytes in one piece. AH (RFC 4302 §3.3.3) zeroes in place what the ICV does not cover,
// and puts it back afterwards.
struct MacJob {
  const EspKey* key = nullptr;  // of create_authenticator()
  const std::byte* data = nullptr;
  std::uint32_t size = 0;    // 1 to 65535; else the job fails
  std::byte* icv = nullptr;  // key->sizes().icv_bytes, written; may lie in what `data` covers
  bool ok = false;           // result: `icv` was written
};

enum class EngineKind : std::uint8_t { automatic, ipsec_mb, openssl };

// One per thread, not thread-safe: create() runs on the thread that will use it. No allocation after create(), no key
// left in the engine's memory after seal() or open().
class EspEngine {
 public:
  [[nodiscard]] static Result<EspEngine> create(EngineKind kind = EngineKind::automatic);
  EspEngine(EspEngine&&) noexcept;
  EspEngine& operator=(EspEngine&&) noexcept;
  ~EspEngine();

  // Fills in IV and ICV and encrypts in place; SPI and sequence number are the caller's. CBC IVs are unpredictable (RFC
  // 3602 §3, RFC 2405 §5); those of AEADs and AES-CTR are the sequence number. Jobs may mix keys and transforms.
  void seal(std::span<EspJob> jobs);
  // Verifies every ICV (constant time), where there is an authenticator before it decrypts, and decrypts in place; a
  // job that fails has ok == false and undefined contents.
  void open(std::span<EspJob> jobs);

  // Computes ICVs; the caller compares them, by equal_in_constant_time().
  void authenticate(std::span<MacJob> jobs);

  // "ipsec-mb 1.3.0 (AVX512, VAES, SHA-NI)" or "OpenSSL 3.0.19": for the log and `show dataplane`.
  [[nodiscard]] std::string_view name() const;

 private:
  struct Implementation;
  explicit EspEngine(std::unique_ptr<Implementation> implementation);
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace postern::crypto
