#include "crypto/prf.hpp"

#include <algorithm>
#include <vector>

#include "base/registers.hpp"
#include "crypto/hmac.hpp"

namespace postern::crypto {
namespace {

constexpr std::size_t max_blocks = 255;  // RFC 7296 §2.13: the counter is one byte

Result<Hash> hash_of(Prf algorithm) {
  switch (algorithm) {
    case Prf::hmac_sha1: return Hash::sha1;
    case Prf::hmac_sha256: return Hash::sha256;
    case Prf::hmac_sha384: return Hash::sha384;
    case Prf::hmac_sha512: return Hash::sha512;
  }
  return fail("PRF " + std::to_string(static_cast<unsigned>(algorithm)) + " is not offered");
}

}  // namespace

std::size_t prf_bytes(Prf algorithm) {
  const auto hash = hash_of(algorithm);
  return hash ? digest_bytes(*hash) : 0;
}

Result<Secret> prf(Prf algorithm, Bytes key, std::initializer_list<Bytes> parts) {
  POSTERN_TRY(hash, hash_of(algorithm));
  const LockedHmacKey expanded(hash, key);
  Secret out(digest_bytes(hash));
  hmac(hash, expanded.get(), {parts.begin(), parts.size()}, out.mutable_bytes().data());
  clear_vector_registers();
  return out;
}

Result<Secret> prf_plus(Prf algorithm, Bytes key, std::initializer_list<Bytes> seed, std::size_t bytes) {
  POSTERN_TRY(hash, hash_of(algorithm));
  const std::size_t block_bytes = digest_bytes(hash);
  if (bytes > max_blocks * block_bytes)
    return fail("prf+ gives at most " + std::to_string(max_blocks * block_bytes) + " bytes, not " +
                std::to_string(bytes));
  const LockedHmacKey expanded(hash, key);
  Secret out(bytes), block(block_bytes);
  std::byte counter{1};
  std::vector<Bytes> parts = {{}};  // the block before, which the first has none of; then seed | counter
  parts.insert(parts.end(), seed.begin(), seed.end());
  parts.emplace_back(&counter, 1);
  for (std::size_t done = 0; done < bytes; done += block_bytes) {
    hmac(hash, expanded.get(), parts, block.mutable_bytes().data());
    std::ranges::copy(block.bytes().first(std::min(block_bytes, bytes - done)),
                      out.mutable_bytes().subspan(done).begin());
    parts.front() = block.bytes();
    counter = static_cast<std::byte>(std::to_integer<unsigned>(counter) + 1);
  }
  clear_vector_registers();
  return out;
}

}  // namespace postern::crypto
