// RFC 4301 §4.1: an inbound SA is found by SPI, local address and protocol. Two manual SAs must not share all three,
// here for what arrives and at the peer for what is sent.
#include "config/check.hpp"

namespace postern::config {
namespace {

class Spis {
 public:
  explicit Spis(Report& report) : report_(report) {}

  // `end` is the address (or interface) the SPIs belong to. The same SPI of ESP and AH is none of two (TS-57).
  void take(const ManualSa& esp, const ManualSa& ah, const std::string& end, const std::string& path,
            std::string_view whose) {
    if (esp.spi != 0) take(esp_, esp.spi, end, path + "/esp/spi", whose);
    if (ah.spi != 0) take(ah_, ah.spi, end, path + "/ah/spi", whose);
  }

 private:
  using Taken = std::map<std::pair<std::uint32_t, std::string>, std::string>;

  void take(Taken& taken, std::uint32_t spi, const std::string& end, const std::string& path, std::string_view whose) {
    const auto [owner, fresh] = taken.emplace(std::pair(spi, end), path);
    if (!fresh && owner->second != path)
      report_.error(path, fmt::format("SPI {} is used twice {} {}, first at {}", spi, whose, end, owner->second),
                    "an SPI of its own");
  }

  Report& report_;
  Taken esp_, ah_;
};

// The address that packets for this interface's SAs arrive at; the interface's name where the document does not say.
std::string local_end(const Interface& interface, Family family) {
  for (const Prefix& prefix : interface.addresses)
    if (prefix.family() == family) return prefix.address.text();
  return interface.name;
}

std::string local_end(const Document& document, const Tunnel& tunnel) {
  const Interface* const interface = find_named(document.interfaces, tunnel.source);
  return interface == nullptr ? tunnel.source : local_end(*interface, tunnel.transport);
}

// Where each map is applied; a map applied nowhere still must not collide with itself.
std::vector<std::string> local_ends(const Document& document, const CryptoMap& map) {
  std::vector<std::string> out;
  for (const Interface& interface : document.interfaces)
    if (interface.crypto_map == map.name || interface.ipv6_crypto_map == map.name)
      out.push_back(local_end(local_end_of(document, map, interface), map.family));
  if (out.empty()) out.push_back("crypto map " + map.name);
  return out;
}

}  // namespace

void check_spis(Check& check) {
  Spis inbound(check.report), outbound(check.report);
  const Document& d = check.document;
  for (std::size_t i = 0; i < d.crypto_maps.size(); ++i)
    for (std::size_t j = 0; j < d.crypto_maps[i].entries.size(); ++j) {
      const MapEntry& entry = d.crypto_maps[i].entries[j];
      if (entry.negotiated) continue;
      const std::string keys = at("/crypto_maps/{}/entries/{}/session_key", i, j);
      for (const std::string& end : local_ends(d, d.crypto_maps[i]))
        inbound.take(entry.keys.inbound, entry.keys.ah_inbound, end, keys + "/inbound", "at");
      outbound.take(entry.keys.outbound, entry.keys.ah_outbound, entry.peer.text(), keys + "/outbound", "towards");
    }
  for (std::size_t i = 0; i < d.tunnels.size(); ++i) {
    const Tunnel& tunnel = d.tunnels[i];
    if (tunnel.negotiated) continue;
    const std::string keys = at("/tunnels/{}/protection/session_key", i);
    inbound.take(tunnel.keys.inbound, tunnel.keys.ah_inbound, local_end(d, tunnel), keys + "/inbound", "at");
    outbound.take(tunnel.keys.outbound, tunnel.keys.ah_outbound, tunnel.destination.text(), keys + "/outbound",
                  "towards");
  }
}

}  // namespace postern::config
