#include "ike/cookie.hpp"

#include "crypto/prf.hpp"

namespace postern::ike {

Result<void> CookieJar::roll(Time now) {
  if (!keys_[0].secret.empty() && now < keys_[0].made + secret_life) return {};
  Secret fresh(32);
  POSTERN_CHECK(random_(fresh.mutable_bytes()));
  keys_[1] = std::move(keys_[0]);
  keys_[0] = Key{static_cast<std::uint8_t>(keys_[1].version + 1), now, std::move(fresh)};
  return {};
}

Result<Octets> CookieJar::hash(const Key& key, Bytes nonce, const Endpoint& initiator, std::uint64_t spi_i) {
  std::array<std::byte, 10> numbers;
  ByteWriter writer(numbers);
  writer.u64(spi_i);
  writer.u16(initiator.port);
  const auto& address = initiator.address.mapped();
  POSTERN_TRY(digest, crypto::prf(crypto::Prf::hmac_sha256, key.secret.bytes(),
                                  {nonce, std::as_bytes(std::span(address)), Bytes(numbers)}));
  Octets out{static_cast<std::byte>(key.version)};
  out.insert(out.end(), digest.bytes().begin(), digest.bytes().end());
  return out;
}

Result<Octets> CookieJar::make(Bytes nonce, const Endpoint& initiator, std::uint64_t spi_i, Time now) {
  POSTERN_CHECK(roll(now));
  return hash(keys_[0], nonce, initiator, spi_i);
}

bool CookieJar::valid(Bytes cookie, Bytes nonce, const Endpoint& initiator, std::uint64_t spi_i, Time now) {
  if (!roll(now)) return false;
  for (const Key& key : keys_) {
    if (key.secret.empty() || now >= key.made + 2 * secret_life) continue;
    if (cookie.empty() || cookie[0] != static_cast<std::byte>(key.version)) continue;
    const auto expected = hash(key, nonce, initiator, spi_i);
    if (expected && equal_in_constant_time(*expected, cookie)) return true;
  }
  return false;
}

}  // namespace postern::ike
