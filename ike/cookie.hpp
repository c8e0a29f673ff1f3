// COOKIE (RFC 7296 §2.6): an initiator proves that it receives at its address before we keep anything for it.
// Stateless: a hash of what the request says under a secret that only we know and that changes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "base/clock.hpp"
#include "base/secret.hpp"
#include "ike/actions.hpp"

namespace postern::ike {

class CookieJar {
 public:
  using Random = std::function<Result<void>(MutableBytes)>;
  // A secret is used for new cookies for so long, and accepted for as long again.
  static constexpr Duration secret_life = std::chrono::seconds(60);

  explicit CookieJar(Random random) : random_(std::move(random)) {}

  // VersionIDofSecret | prf(secret, Ni | IPi | port | SPIi).
  [[nodiscard]] Result<Octets> make(Bytes nonce, const Endpoint& initiator, std::uint64_t spi_i, Time now);
  [[nodiscard]] bool valid(Bytes cookie, Bytes nonce, const Endpoint& initiator, std::uint64_t spi_i, Time now);

 private:
  struct Key {
    std::uint8_t version = 0;
    Time made;
    Secret secret;
  };
  [[nodiscard]] Result<void> roll(Time now);
  [[nodiscard]] static Result<Octets> hash(const Key& key, Bytes nonce, const Endpoint& initiator, std::uint64_t spi_i);

  Random random_;
  std::array<Key, 2> keys_;  // the one in use, and the one before
};

}  // namespace postern::ike
