// The `sas` map: which inbound SAs exist, by front-door VRF, SPI, destination and protocol. It tells XDP what to hand
// to the worker and holds no key. The only map that ike/sa_installer may touch.
#pragma once

#include <vector>

#include "base/net_types.hpp"
#include "maps/bpf_maps.hpp"

namespace postern {

struct InboundSaEntry {
  std::uint32_t vrf = 0;  // routing table id of the front-door VRF, 0 global
  Spi spi{};
  IpAddress destination;  // ours
  IpProto protocol = IpProto::esp;
  std::uint32_t slot = 0;  // in the SA state file
  std::uint32_t flow = 0;
  std::uint16_t encap_port = 0;  // host order; 0: plain ESP
  IpAddress peer;
  bool operator==(const InboundSaEntry&) const = default;
};

// InboundSaEntry.slot of an SA that is being negotiated.
inline constexpr std::uint32_t expected_sa = ~std::uint32_t{0};

class SaMap {
 public:
  using Map = PinnedMap<postern_sa_key, postern_sa>;
  // Borrows `map`, which must outlive this.
  explicit SaMap(const Map& map) : map_(&map) {}

  // EEXIST: this SPI is in use at this address; EINVAL: a reserved SPI (RFC 4303 §2.1).
  [[nodiscard]] Result<void> insert(const InboundSaEntry& entry) const;
  // The same, in the place of what has this name: no packet finds neither.
  [[nodiscard]] Result<void> replace(const InboundSaEntry& entry) const;
  // True when it was there.
  [[nodiscard]] Result<bool> erase(const InboundSaEntry& entry) const;
  // Only while it is of an SA that is expected.
  [[nodiscard]] Result<void> erase_expected(const InboundSaEntry& entry) const;
  [[nodiscard]] Result<std::vector<InboundSaEntry>> list() const;

 private:
  [[nodiscard]] Result<void> put(const InboundSaEntry& entry, std::uint64_t flags) const;

  const Map* map_;
};

}  // namespace postern
