#include "loader/temporaries.hpp"

#include <algorithm>

#include "loader/shared_memory.hpp"

namespace postern::loader {
namespace {

using Number = unsigned __int128;  // of the v4-mapped form

Number number_of(const IpAddress& address) {
  Number out = 0;
  for (const std::uint8_t byte : address.mapped()) out = out << 8 | byte;
  return out;
}

IpAddress address_of_number(Number value) {
  std::array<std::uint8_t, 16> bytes{};
  for (auto byte = bytes.rbegin(); byte != bytes.rend(); ++byte) {
    *byte = static_cast<std::uint8_t>(value);
    value >>= 8;
  }
  return IpAddress::from_mapped(bytes);
}

std::vector<PolicyPortRange> ports_of_selector(std::uint8_t protocol, std::uint16_t first, std::uint16_t last) {
  if (!has_ports(protocol) || (first == 0 && last == 65535)) return {};
  return {{first, last}};
}

// RFC 4301 §4.4.1.1: packets whose ports cannot be seen.
bool is_opaque_selector(const TrafficSelector& s) {
  return (s.source_port_first == 65535 && s.source_port_last == 0) ||
         (s.destination_port_first == 65535 && s.destination_port_last == 0);
}

// As packets leave.
TrafficSelector outward(const TrafficSelector& s) {
  return {s.destination_first,     s.destination_last,  s.source_first,     s.source_last, s.destination_port_first,
          s.destination_port_last, s.source_port_first, s.source_port_last, s.protocol,    s.later_fragments};
}

PolicyRule permit_for(const TrafficSelector& s, const Prefix& source, const Prefix& destination, std::uint32_t flow) {
  PolicyRule rule;
  rule.flow = flow;
  if (s.protocol != 0) rule.protocol = s.protocol;
  rule.source = source;
  rule.destination = destination;
  if (is_opaque_selector(s)) {
    rule.fragments = PolicyFragments::only;
    return rule;
  }
  rule.source_ports = ports_of_selector(s.protocol, s.source_port_first, s.source_port_last);
  rule.destination_ports = ports_of_selector(s.protocol, s.destination_port_first, s.destination_port_last);
  return rule;
}

}  // namespace

bool add_temporary(Temporaries& all, std::uint32_t slot, const SaSlot& sa) {
  const SaParameters& p = sa.parameters;
  const auto [at, fresh] = all.try_emplace(p.flow);
  TemporaryEntry& entry = at->second;
  entry.slots.insert(slot);
  if (!fresh) return false;
  entry.flow = p.flow;
  entry.base_flow = p.base_flow;
  entry.fvrf = p.fvrf;
  entry.since_ns = sa.installed_ns.load(std::memory_order_relaxed);
  entry.peer = ends_of(sa).remote;
  for (std::size_t i = 0; i < p.selector_count && i < p.selectors.size(); ++i)
    entry.selectors.push_back(outward(p.selectors[i]));
  return true;
}

bool drop_temporary(Temporaries& all, const SaRow& gone) {
  const auto known = all.find(gone.flow);
  if (known == all.end()) return false;
  known->second.slots.erase(gone.slot);
  if (!known->second.slots.empty()) return false;
  all.erase(known);
  return true;
}

Temporaries temporaries_of(const SharedMemory& memory) {
  Temporaries out;
  for (std::uint32_t index = 0; index < memory.capacity(); ++index) {
    const SaSlot* const slot = memory.live(index);
    if (slot == nullptr || slot->parameters.base_flow == 0 || slot->parameters.direction != SaDirection::inbound ||
        slot->installed_by.load(std::memory_order_relaxed) != SaInstaller::ike)
      continue;
    if (!add_temporary(out, index, *slot)) continue;
  }
  return out;
}

std::vector<const TemporaryEntry*> temporaries_of_base(const Temporaries& all, std::uint32_t base_flow) {
  std::vector<const TemporaryEntry*> out;
  for (const auto& [flow, entry] : all)
    if (entry.base_flow == base_flow) out.push_back(&entry);
  std::ranges::sort(out, {}, [](const TemporaryEntry* one) { return std::pair(one->since_ns, one->flow); });
  return out;
}

std::vector<Prefix> prefixes_of(const IpAddress& first, const IpAddress& last) {
  std::vector<Prefix> out;
  const unsigned width = first.family() == Family::v4 ? 32 : 128;
  Number at = number_of(first);
  const Number end = number_of(last);
  while (at <= end) {
    unsigned host_bits = 0;
    while (host_bits < width && (at >> host_bits & 1) == 0) {
      const Number wider = host_bits + 1 == 128 ? ~Number{0} : (Number{1} << (host_bits + 1)) - 1;
      if (end - at < wider) break;
      ++host_bits;
    }
    out.push_back({address_of_number(at), static_cast<std::uint8_t>(width - host_bits)});
    if (host_bits == 128) break;
    const Number next = at + (Number{1} << host_bits);
    if (next < at) break;  // the last address there is
    at = next;
  }
  return out;
}

Result<std::vector<PolicyRule>> rules_of(const TemporaryEntry& entry) {
  std::vector<PolicyRule> out;
  for (const TrafficSelector& s : entry.selectors) {
    const auto sources = prefixes_of(s.source_first, s.source_last);
    const auto destinations = prefixes_of(s.destination_first, s.destination_last);
    if (out.size() + sources.size() * destinations.size() > max_temporary_rules)
      return fail("the selectors of " + entry.peer.text() + " are ranges that need more than " +
                      std::to_string(max_temporary_rules) + " rules",
                  E2BIG);
    for (const Prefix& source : sources)
      for (const Prefix& destination : destinations) out.push_back(permit_for(s, source, destination, entry.flow));
  }
  return out;
}

}  // namespace postern::loader
