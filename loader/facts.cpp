#include "loader/facts.hpp"

#include <algorithm>
#include <fstream>

#include <sched.h>
#include <time.h>

#include "base/log.hpp"

namespace postern::loader {
namespace {

struct ProtectedFamilies {
  bool ipv4 = false, ipv6 = false;
};

ProtectedFamilies protected_families(const config::Document& document) {
  ProtectedFamilies out;
  for (const auto& interface : document.interfaces) {
    out.ipv4 |= interface.crypto_map.has_value();
    out.ipv6 |= interface.ipv6_crypto_map.has_value();
  }
  for (const auto& tunnel : document.tunnels) {
    out.ipv4 |= tunnel.carries_v4;
    out.ipv6 |= tunnel.carries_v6;
  }
  return out;
}

std::uint32_t usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<std::uint32_t>(std::max(1, CPU_COUNT(&set)));
}

// What AF_XDP cannot serve, whatever the document says.
std::string not_for_af_xdp(const LinkFacts& link) {
  if (link.kind == "bond" || link.kind == "team" || link.kind == "bridge" || link.kind == "vlan")
    return link.name + " is a " + link.kind + ": its packets have been through the kernel already";
  if (link.mtu > largest_path_mtu)
    return "packets of " + std::to_string(link.mtu) + " bytes do not fit the worker's frames";
  return {};
}

void judge_inside(const FactSources& sources, const config::Document& document, LinkFacts& link) {
  link.plain_side_reason = not_for_af_xdp(link);
  if (!link.plain_side_reason.empty()) return;
  if (document.dataplane.plain_side == config::PlainSide::tap) {
    link.plain_side_reason = "dataplane.plain_side says so";
    return;
  }
  const auto families = protected_families(document);
  const bool forced = document.dataplane.plain_side == config::PlainSide::af_xdp;
  const auto verdict =
      sources.plain_side.inside({link.ifindex, families.ipv4, families.ipv6, forced, sources.our_programs});
  link.plain_side_af_xdp = verdict && verdict->use_af_xdp;
  link.plain_side_reason = verdict ? verdict->reason : verdict.error().message();
}

void judge_outside(const FactSources& sources, LinkFacts& link) {
  const auto reason = sources.plain_side.cipher_side_needs_socket(link.ifindex, sources.our_programs);
  link.needs_packet_socket = !reason || reason->has_value();
  if (link.needs_packet_socket)
    spdlog::debug("{} sends by a packet socket: {}", link.name, reason ? **reason : reason.error().message());
}

bool is_outside(const config::Document& document, const Facts& facts, const config::Interface& interface) {
  if (interface.crypto_map || interface.ipv6_crypto_map) return true;
  return std::ranges::any_of(document.tunnels, [&](const config::Tunnel& tunnel) {
    if (tunnel.source == interface.name) return true;
    const auto address = IpAddress::parse(tunnel.source);
    const LinkFacts* const link = facts.find(interface.name);
    return address && link != nullptr &&
           std::ranges::any_of(link->addresses, [&](const Prefix& prefix) { return prefix.address == *address; });
  });
}

bool forwards(const char* path) {
  std::ifstream file(path);
  int value = 0;
  return (file >> value) && value != 0;
}

}  // namespace

Result<Facts> gather_facts(const FactSources& sources, const config::Document& document) {
  Facts facts;
  facts.steer = sources.steer;
  facts.cpus = usable_cpus();
  facts.time_ranges = time_ranges_that_hold(document);
  POSTERN_TRY(links, sources.netlink.links());
  POSTERN_TRY(addresses, sources.netlink.addresses());
  for (const Link& link : links) {
    LinkFacts fact;
    fact.name = link.name;
    fact.ifindex = link.ifindex;
    fact.mtu = std::min<std::uint32_t>(link.mtu, 65535);
    fact.mac = link.mac;
    fact.kind = link.kind;
    fact.master = link.master;
    fact.lower = link.lower;
    fact.up = link.up();
    if (link.kind == "vrf") facts.vrfs.push_back({link.name, link.ifindex, link.vrf_table});
    fact.queues = std::max(1U, sources.netlink.receive_queues(link).value_or(1));
    for (const LinkAddress& address : addresses)
      if (address.ifindex == link.ifindex) fact.addresses.push_back(address.prefix);
    facts.links.push_back(std::move(fact));
  }
  for (const config::Interface& interface : document.interfaces)
    for (LinkFacts& link : facts.links)
      if (link.name == interface.name) {
        if (interface.inside) judge_inside(sources, document, link);
        if (is_outside(document, facts, interface)) judge_outside(sources, link);
      }
  return facts;
}

std::set<std::string> time_ranges_that_hold(const config::Document& document) {
  const std::int64_t now = ::time(nullptr);
  std::set<std::string> out;
  for (const config::TimeRange& range : document.time_ranges)
    if (config::holds(range, now)) out.insert(range.name);
  return out;
}

std::vector<std::string> forwarding_off(const config::Document& document) {
  const auto families = protected_families(document);
  std::vector<std::string> off;
  if (families.ipv4 && !forwards("/proc/sys/net/ipv4/ip_forward")) off.emplace_back("IPv4");
  if (families.ipv6 && !forwards("/proc/sys/net/ipv6/conf/all/forwarding")) off.emplace_back("IPv6");
  return off;
}

}  // namespace postern::loader
