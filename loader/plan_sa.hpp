// The SA half of the plan: parameters of the pairs that one map entry or one tunnel wants: ESP's, AH's, or both, ESP's
// first. Pure; for plan.cpp and its tests.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "loader/plan.hpp"

namespace postern::loader {

// The sequence number by which a tunnel's flow is known: behind every entry of a crypto map.
inline constexpr std::uint32_t tunnel_sequence = 65537;

// The routing table of a VRF; 0: the main one.
[[nodiscard]] std::uint32_t table_of(const config::Document& document, const std::optional<std::string>& vrf);

// 127.0.0.0/8 and ::1: what a loopback device has before all others, and nobody's end of an SA.
[[nodiscard]] inline bool is_loopback(const IpAddress& address) {
  const auto& bytes = address.mapped();
  if (address.family() == Family::v4) return bytes[12] == 127;
  return bytes[15] == 1 && std::ranges::all_of(bytes.begin(), bytes.begin() + 15, [](auto byte) { return byte == 0; });
}

// Our outer address on that link: the document's if it gives one, else the kernel's; never a link-local IPv6 one.
[[nodiscard]] std::optional<IpAddress> local_address(const config::Document& document, const LinkFacts& link,
                                                     Family family);

// What the link with that address has beside it, of its family: the node takes packets there just as well.
[[nodiscard]] std::vector<IpAddress> addresses_beside(const Facts& facts, const IpAddress& address);

// Where the SAs of a crypto map are that is on an interface: there, or, where it has a local address of its own, on all
// that have it (IF-03).
struct MapPlace {
  bool shared = false;
  std::string name;        // in the keys of its flows and SAs
  std::string interfaces;  // PlannedFlow.interface
  std::optional<IpAddress> local;
  std::uint32_t ifindex = 0;  // SaParameters.ifindex
  std::uint32_t path_mtu = 0;
};
[[nodiscard]] MapPlace place_of(const config::Document& document, const Facts& facts, const config::CryptoMap& map,
                                const LinkFacts& link);

// `source` of a tunnel is an interface or one of its addresses.
[[nodiscard]] const LinkFacts* tunnel_source_link(const config::Document& document, const Facts& facts,
                                                  const config::Tunnel& tunnel);
[[nodiscard]] std::optional<IpAddress> tunnel_local_address(const config::Document& document, const LinkFacts& outside,
                                                            const config::Tunnel& tunnel);

// The traffic selectors of permit ACEs, as the outbound sender sees them. Error: more than max_selectors.
[[nodiscard]] Result<std::vector<TrafficSelector>> selectors_of(const std::vector<const config::Ace*>& permits);
[[nodiscard]] TrafficSelector reversed(const TrafficSelector& selector);

// As an SA is told about it.
struct EncapsulationPolicy {
  DfPolicy df;
  EcnPolicy ecn;
  FragmentPolicy fragmentation;
  bool dscp_copy;
  std::uint8_t dscp;
  std::uint16_t tcp_mss;
};
[[nodiscard]] EncapsulationPolicy policy_of(const config::Encapsulation& encapsulation);

// TS-34: transport mode is for traffic whose ends are the SA's own.
[[nodiscard]] bool between_ends(const std::vector<TrafficSelector>& selectors, const IpAddress& local,
                                const IpAddress& remote);

struct MapSaInput {
  const config::Document& document;
  const config::MapEntry& entry;
  const config::TransformSet& set;
  const MapPlace& place;
  IpAddress local;
  std::uint32_t fvrf;
  const std::vector<const config::Ace*>& permits;
};
[[nodiscard]] Result<std::vector<PlannedSaPair>> map_sa_pairs(const MapSaInput& input, const std::string& key);

struct TunnelSaInput {
  const config::Document& document;
  const config::Tunnel& tunnel;
  const LinkFacts& outside;
  const LinkFacts& device;
  IpAddress local;
  std::uint32_t fvrf, inside_vrf;
};
[[nodiscard]] Result<std::vector<PlannedSaPair>> tunnel_sa_pairs(const TunnelSaInput& input);

}  // namespace postern::loader
