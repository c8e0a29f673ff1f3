#include "loader/plan_stack.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace postern::loader {
namespace {

bool is_outside(const std::vector<PlannedInterface>& interfaces, std::string_view name) {
  return std::ranges::any_of(interfaces, [&](const PlannedInterface& one) {
    return one.name == name && (one.flags & POSTERN_IF_OUTSIDE) != 0;
  });
}

Result<void> check_stack(const Facts& facts, const std::vector<PlannedInterface>& interfaces, config::XdpMode mode,
                         const LinkFacts& link, const std::string& path) {
  const LinkFacts* const master = facts.find(link.master);
  if (master != nullptr && master->kind != "vrf")
    return fail(fmt::format("{}: {} is a port of {} {}: name that one instead", path, link.name,
                            master->kind.empty() ? "device" : master->kind, master->name));
  if (link.kind != "vlan") return {};
  const LinkFacts* const lower = facts.find(link.lower);
  if (lower != nullptr && is_outside(interfaces, lower->name))
    return fail(
        fmt::format("{}: {} stands on {}, which is an outside interface too: XDP there sees the packets of both", path,
                    link.name, lower->name));
  if (mode == config::XdpMode::native)
    return fail(fmt::format("/dataplane/xdp_mode: {} is a VLAN: XDP in native mode cannot run on it", link.name));
  return {};
}

}  // namespace

Result<void> check_vrfs(const config::Document& document, const Facts& facts, std::vector<std::string>& missing) {
  for (std::size_t i = 0; i < document.vrfs.size(); ++i) {
    const config::Vrf& vrf = document.vrfs[i];
    const VrfFacts* const found = config::find_named(facts.vrfs, vrf.name);
    if (found == nullptr) missing.push_back("VRF " + vrf.name + " does not exist");
    if (found != nullptr && found->table != vrf.table)
      return fail(fmt::format("/vrfs/{}/table: VRF {} has table {}", i, vrf.name, found->table));
  }
  return {};
}

Result<void> check_stacks(const config::Document& document, const Facts& facts,
                          const std::vector<PlannedInterface>& interfaces) {
  for (std::size_t i = 0; i < document.interfaces.size(); ++i) {
    const LinkFacts* const link = facts.find(document.interfaces[i].name);
    if (link == nullptr || !is_outside(interfaces, link->name)) continue;
    POSTERN_CHECK(
        check_stack(facts, interfaces, document.dataplane.xdp_mode, *link, fmt::format("/interfaces/{}/name", i)));
  }
  return {};
}

void add_ports(const Facts& facts, std::vector<PlannedInterface>& interfaces) {
  std::vector<PlannedInterface> ports;
  for (PlannedInterface& bond : interfaces) {
    const LinkFacts* const link = facts.find(bond.ifindex);
    if ((bond.flags & POSTERN_IF_OUTSIDE) == 0 || link == nullptr || link->kind != "bond") continue;
    bond.has_ports = true;
    for (const LinkFacts& port : facts.links) {
      if (port.master != bond.ifindex) continue;
      PlannedInterface part;
      part.name = port.name;
      part.ifindex = port.ifindex;
      part.vrf = bond.vrf;
      part.flags = POSTERN_IF_OUTSIDE | (bond.flags & POSTERN_IF_POLICY);
      part.mac = port.mac;
      part.part_of = bond.name;
      ports.push_back(std::move(part));
    }
  }
  std::ranges::move(ports, std::back_inserter(interfaces));
}

std::uint32_t receive_queues_of(const LinkFacts& link, const Facts& facts) {
  if (link.kind != "bond") return link.queues;
  std::uint32_t queues = 1;
  for (const LinkFacts& port : facts.links)
    if (port.master == link.ifindex) queues = std::max(queues, port.queues);
  return queues;
}

}  // namespace postern::loader
