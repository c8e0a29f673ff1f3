// Key exchange of IKE (RFC 7296 §2.14, groups by their IANA numbers) over OpenSSL. Values; one thread each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"

namespace postern::crypto {

// IANA, "Transform Type 4". RFC 7296 appendix B (1, 2), RFC 3526 (5, 14 to 18), RFC 5903 (19, 20, 21), RFC 5114 (22 to
// 26), RFC 6954 (27 to 30), RFC 8031 (31).
enum class DhGroup : std::uint16_t {
  none = 0,
  modp768 = 1,
  modp1024 = 2,
  modp1536 = 5,
  modp2048 = 14,
  modp3072 = 15,
  modp4096 = 16,
  modp6144 = 17,
  modp8192 = 18,
  ecp256 = 19,
  ecp384 = 20,
  ecp521 = 21,
  modp1024s160 = 22,
  modp2048s224 = 23,
  modp2048s256 = 24,
  ecp192 = 25,
  ecp224 = 26,
  brainpool224 = 27,
  brainpool256 = 28,
  brainpool384 = 29,
  brainpool512 = 30,
  curve25519 = 31,
};

// Length of the Key Exchange Data; 0 for a group that is not offered.
[[nodiscard]] std::size_t public_value_bytes(DhGroup group);

// One private value. Kept in OpenSSL's own memory and wiped by it.
class DhExchange {
 public:
  [[nodiscard]] static Result<DhExchange> create(DhGroup group);
  DhExchange(DhExchange&&) noexcept;
  DhExchange& operator=(DhExchange&&) noexcept;
  ~DhExchange();
  [[nodiscard]] DhGroup group() const { return group_; }
  // As the KE payload carries it: MODP big-endian padded to the prime's length; ECP x | y (RFC 5903 §7).
  [[nodiscard]] Bytes public_value() const { return public_; }
  // g^ir as RFC 7296 §2.14 wants it: padded to the prime's length; ECP the x coordinate. Error: a value of the wrong
  // length, 0, 1 or p-1 and above (RFC 6989 §2.1), outside the subgroup of groups 22 to 24 (§2.2), a point off the
  // curve (§2.3), an all-zero secret (RFC 7748 §6.1).
  [[nodiscard]] Result<Secret> shared(Bytes peer) const;

 private:
  struct Implementation;
  DhExchange(DhGroup group, std::vector<std::byte> public_value, std::unique_ptr<Implementation> implementation);
  DhGroup group_ = DhGroup::none;
  std::vector<std::byte> public_;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace postern::crypto
