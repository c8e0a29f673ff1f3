// interface, tunnels, VRFs, and the routes into tunnels (SV-01 to SV-12, IF-01, VR-01).
#include <array>

#include <fmt/core.h>

#include "base/net_types.hpp"
#include "ios/converter.hpp"

namespace postern::ios {
namespace {

using nlohmann::json;
using Pointer = json::json_pointer;

constexpr char crypto_map[] = "crypto_map", ipv6_crypto_map[] = "ipv6_crypto_map", ipsec_ipv4[] = "ipsec ipv4",
               ipsec_ipv6[] = "ipsec ipv6", dual_overlay[] = "ipsec dual-overlay",
               v6_overlay[] = "ipsec ipv4 v6-overlay", v4_overlay[] = "ipsec ipv6 v4-overlay", mtu[] = "mtu",
               tcp_mss[] = "tcp_mss";
constexpr std::string_view tunnel_kind = "Tunnel";

// The tunnel of that number, made when there is none yet.
Pointer tunnel_at(Converter& converter, std::uint64_t number_of_it) {
  json& tunnels = converter.at(Pointer("/tunnels"));
  std::size_t index = 0;
  while (index < tunnels.size() && tunnels[index]["number"] != number_of_it) ++index;
  if (index == tunnels.size()) tunnels.push_back({{"number", number_of_it}, {"mode", ipsec_ipv4}});
  return Pointer("/tunnels") / index;
}

void interface(Converter& converter, const Words& taken) {
  std::string name;
  for (const std::string& word : taken) name += word;  // "Ethernet 0/0"
  name = interface_name(name);
  if (!name.starts_with(tunnel_kind)) {
    const auto at = converter.named(Pointer("/interfaces"), converter.device(name));
    return converter.enter(Mode::interface, at);
  }
  const auto of_it = number(converter, "the tunnel's number", name.substr(tunnel_kind.size()));
  if (!of_it) return converter.skip_block();
  converter.enter(Mode::tunnel, tunnel_at(converter, *of_it));
}

void ipv4_address(Converter& converter, const Words& taken) {
  if (const auto address = prefix(converter, taken[0], taken[1])) converter.here()["addresses"].push_back(*address);
}
void ipv6_address(Converter& converter, const Words& taken) { converter.here()["addresses"].push_back(taken[0]); }

template <const char* Key>
void map_of(Converter& converter, const Words& taken) {
  converter.here()[Key] = taken[0];
}

// The table is Linux's; IOS has none to take over.
void vrf(Converter& converter, const Words& taken) {
  const auto at = converter.named(Pointer("/vrfs"), taken[0]);
  json& made = converter.at(at);
  if (!made.contains("table")) {
    made["table"] = 1000 + converter.at(Pointer("/vrfs")).size();
    converter.warning(fmt::format("VRF {} has routing table {} now: change it where that one is taken", taken[0],
                                  made["table"].get<std::uint64_t>()));
  }
  converter.skip_block();
}
void vrf_of(Converter& converter, const Words& taken) { converter.here()["vrf"] = taken[0]; }

void tunnel_source(Converter& converter, const Words& taken) {
  std::string name;
  for (const std::string& word : taken) name += word;
  converter.here()["source"] = IpAddress::parse(name) ? name : converter.device(name);
}
void tunnel_destination(Converter& converter, const Words& taken) { converter.here()["destination"] = taken[0]; }
template <const char* How>
void tunnel_mode(Converter& converter, const Words&) {
  converter.here()["mode"] = How;
}
void tunnel_protection(Converter& converter, const Words& taken) {
  converter.here()["protection"]["profile"] = taken[0];
}
void tunnel_protection_ikev2(Converter& converter, const Words& taken) {
  converter.here()["protection"] = {{"profile", taken[0]}, {"ikev2_profile", taken[1]}};
}
template <const char* Key>
void tunnel_number(Converter& converter, const Words& taken) {
  if (const auto value = number(converter, Key, taken[0])) converter.here()[Key] = *value;
}

void route_into(Converter& converter, const std::string& network, const std::string& interface) {
  const std::string name = interface_name(interface);
  const auto of_it = name.starts_with(tunnel_kind)
                         ? number(converter, "the tunnel's number", name.substr(tunnel_kind.size()))
                         : std::nullopt;
  if (of_it)
    converter.at(tunnel_at(converter, *of_it))["routes"].push_back(network);
  else
    converter.warning(fmt::format("the route to {} is not converted: do it with ip route", network));
}
void ipv4_route(Converter& converter, const Words& taken) {
  converter.leave_block();
  if (const auto network = prefix(converter, taken[0], taken[1])) route_into(converter, *network, taken[2]);
}
void ipv6_route(Converter& converter, const Words& taken) {
  converter.leave_block();
  route_into(converter, taken[0], taken[1]);
}

void host_name(Converter& converter, const Words& taken) {
  converter.leave_block();
  converter.at(Pointer("/system/hostname")) = taken[0];
}

constexpr std::array of_interface = {
    Command{"ip address <address> <mask>", ipv4_address},
    Command{"ip address <address> <mask> secondary", ipv4_address},
    Command{"ipv6 address <prefix>", ipv6_address},
    Command{"crypto map <name>", map_of<crypto_map>},
    Command{"ipv6 crypto map <name>", map_of<ipv6_crypto_map>},
    Command{"vrf forwarding <name>", vrf_of},
    Command{"ip vrf forwarding <name>", vrf_of},
};
constexpr std::array of_tunnel = {
    Command{"tunnel source <source...>", tunnel_source},
    Command{"tunnel destination <address>", tunnel_destination},
    Command{"tunnel mode ipsec ipv4", tunnel_mode<ipsec_ipv4>},
    Command{"tunnel mode ipsec ipv6", tunnel_mode<ipsec_ipv6>},
    Command{"tunnel mode ipsec dual-overlay", tunnel_mode<dual_overlay>},
    Command{"tunnel mode ipsec ipv4 v6-overlay", tunnel_mode<v6_overlay>},
    Command{"tunnel mode ipsec ipv6 v4-overlay", tunnel_mode<v4_overlay>},
    Command{"tunnel protection ipsec profile <name>", tunnel_protection},
    Command{"tunnel protection ipsec profile <name> ikev2-profile <name>", tunnel_protection_ikev2},
    Command{"ip mtu <bytes>", tunnel_number<mtu>},
    Command{"ip tcp adjust-mss <bytes>", tunnel_number<tcp_mss>},
};
constexpr std::array everywhere_interface = {
    Command{"interface <name...>", interface},
    Command{"vrf definition <name>", vrf},
    Command{"ip vrf <name>", vrf},
    Command{"ip route <network> <mask> <interface>", ipv4_route},
    Command{"ipv6 route <network> <interface>", ipv6_route},
    Command{"hostname <name>", host_name},
};

}  // namespace

std::span<const Command> interface_commands() { return of_interface; }
std::span<const Command> tunnel_commands() { return of_tunnel; }
std::span<const Command> global_interface_commands() { return everywhere_interface; }

}  // namespace postern::ios
