#include "crypto/overhead.hpp"

#include <algorithm>
#include <string>

namespace postern::crypto {
namespace {

constexpr std::uint32_t ip_bytes(Family family) { return family == Family::v4 ? 20 : 40; }

Overhead outside_of(const Around& around) {
  Overhead out;
  out.outer_bytes = static_cast<std::uint16_t>((around.transport ? 0U : ip_bytes(around.outer)) +
                                               (around.udp_encapsulation ? 8U : 0U));
  return out;
}

}  // namespace

Overhead esp_overhead(const TransformSizes& sizes, const Around& around) {
  Overhead out = outside_of(around);
  out.iv_bytes = static_cast<std::uint8_t>(sizes.iv_bytes);
  out.icv_bytes = static_cast<std::uint8_t>(sizes.icv_bytes);
  out.block_bytes = std::max<std::uint8_t>(sizes.block_bytes, 4);
  return out;
}

Overhead ah_overhead(const TransformSizes& sizes, const Around& around) {
  Overhead out = outside_of(around);
  out.header = static_cast<std::uint8_t>(ah_header_bytes(sizes.icv_bytes, around.outer));
  out.trailer = 0;
  out.block_bytes = 1;
  return out;
}

// AH around ESP is of transport mode: between the outer header and ESP's.
Result<std::uint32_t> largest_inside(const Protection& protection, Family outer, bool udp_encapsulation,
                                     std::uint32_t path_mtu) {
  const std::string no_room = "path MTU " + std::to_string(path_mtu) + " leaves no room for ";
  const bool esp = protection.esp != Transform{};
  const auto fits = [&](const Overhead& overhead, std::uint32_t mtu) {
    return protection.transport ? overhead.transport_mtu(mtu, ip_bytes(outer)) : overhead.plaintext_mtu(mtu);
  };
  if (protection.ah != Integrity::none) {
    POSTERN_TRY(sizes, ah_sizes_of(protection.ah));
    const Overhead overhead = ah_overhead(sizes, {outer, protection.transport || esp, udp_encapsulation});
    const std::uint32_t inside = esp ? overhead.transport_mtu(path_mtu, ip_bytes(outer)) : fits(overhead, path_mtu);
    if (inside == 0) return fail(no_room + "AH");
    if (!esp) return inside;
    path_mtu = inside;
    udp_encapsulation = false;
  }
  POSTERN_TRY(sizes, sizes_of(protection.esp));
  const std::uint32_t inside = fits(esp_overhead(sizes, {outer, protection.transport, udp_encapsulation}), path_mtu);
  if (inside == 0) return fail(no_room + "ESP");
  return inside;
}

}  // namespace postern::crypto
