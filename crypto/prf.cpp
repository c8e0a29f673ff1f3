#include "crypto/prf.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "base/registers.hpp"
#include "crypto/block_mac.hpp"
#include "crypto/hmac.hpp"

namespace postern::crypto {
namespace {

constexpr std::size_t max_blocks = 255;  // RFC 7296 §2.13: the counter is one byte

std::optional<Hash> hash_of(Prf algorithm) {
  switch (algorithm) {
    case Prf::hmac_md5: return Hash::md5;
    case Prf::hmac_sha1: return Hash::sha1;
    case Prf::hmac_sha256: return Hash::sha256;
    case Prf::hmac_sha384: return Hash::sha384;
    case Prf::hmac_sha512: return Hash::sha512;
    case Prf::aes_xcbc:
    case Prf::aes_cmac: break;
  }
  return std::nullopt;
}

// RFC 4434 §2: a short key is padded with zeros, a long one is the PRF of itself under a key of zeros. RFC 4615 §3: so
// is every key that has not 16 bytes.
Result<Secret> fitted_key(Integrity integrity, Bytes key) {
  Secret fitted(block_mac_bytes);
  std::ranges::fill(fitted.mutable_bytes(), std::byte{0});
  if (key.size() == block_mac_bytes || (integrity == Integrity::aes_xcbc_96 && key.size() < block_mac_bytes)) {
    std::ranges::copy(key, fitted.mutable_bytes().begin());
    return fitted;
  }
  POSTERN_TRY(mac, LockedBlockMac::create(integrity, fitted.bytes()));
  if (!mac.mac(std::array{key}, fitted.mutable_bytes().data())) return fail("OpenSSL refused an AES key");
  return fitted;
}

// A PRF that has absorbed its key.
class KeyedPrf {
 public:
  static Result<KeyedPrf> create(Prf algorithm, Bytes key) {
    KeyedPrf out;
    if (const auto hash = hash_of(algorithm)) {
      out.hash_ = *hash;
      out.hmac_.emplace(*hash, key);
      return out;
    }
    if (algorithm != Prf::aes_xcbc && algorithm != Prf::aes_cmac)
      return fail("PRF " + std::to_string(static_cast<unsigned>(algorithm)) + " is not offered");
    const Integrity integrity = algorithm == Prf::aes_xcbc ? Integrity::aes_xcbc_96 : Integrity::aes_cmac_96;
    POSTERN_TRY(fitted, fitted_key(integrity, key));
    POSTERN_TRY(mac, LockedBlockMac::create(integrity, fitted.bytes()));
    out.block_mac_.emplace(std::move(mac));
    return out;
  }

  [[nodiscard]] Result<void> operator()(std::span<const Bytes> parts, std::byte* out) {
    if (hmac_)
      hmac(hash_, hmac_->get(), parts, out);
    else if (!block_mac_->mac(parts, out))
      return fail("OpenSSL refused an AES key");
    return {};
  }

 private:
  Hash hash_{};
  std::optional<LockedHmacKey> hmac_;
  std::optional<LockedBlockMac> block_mac_;
};

}  // namespace

std::size_t prf_bytes(Prf algorithm) {
  if (takes_short_nonces(algorithm)) return block_mac_bytes;
  const auto hash = hash_of(algorithm);
  return hash ? digest_bytes(*hash) : 0;
}

Result<Secret> prf(Prf algorithm, Bytes key, std::initializer_list<Bytes> parts) {
  POSTERN_TRY(keyed, KeyedPrf::create(algorithm, key));
  Secret out(prf_bytes(algorithm));
  POSTERN_CHECK(keyed({parts.begin(), parts.size()}, out.mutable_bytes().data()));
  clear_vector_registers();
  return out;
}

Result<Secret> prf_plus(Prf algorithm, Bytes key, std::initializer_list<Bytes> seed, std::size_t bytes) {
  POSTERN_TRY(keyed, KeyedPrf::create(algorithm, key));
  const std::size_t block_bytes = prf_bytes(algorithm);
  if (bytes > max_blocks * block_bytes)
    return fail("prf+ gives at most " + std::to_string(max_blocks * block_bytes) + " bytes, not " +
                std::to_string(bytes));
  Secret out(bytes), block(block_bytes);
  std::byte counter{1};
  std::vector<Bytes> parts = {{}};  // the block before, which the first has none of; then seed | counter
  parts.insert(parts.end(), seed.begin(), seed.end());
  parts.emplace_back(&counter, 1);
  for (std::size_t done = 0; done < bytes; done += block_bytes) {
    POSTERN_CHECK(keyed(parts, block.mutable_bytes().data()));
    std::ranges::copy(block.bytes().first(std::min(block_bytes, bytes - done)),
                      out.mutable_bytes().subspan(done).begin());
    parts.front() = block.bytes();
    counter = static_cast<std::byte>(std::to_integer<unsigned>(counter) + 1);
  }
  clear_vector_registers();
  return out;
}

}  // namespace postern::crypto
