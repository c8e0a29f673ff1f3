#include "worker/selectors.hpp"

#include <algorithm>

namespace postern {
namespace {

Address128 number(const IpAddress& address) {
  Address128 out = 0;
  for (const std::uint8_t byte : address.mapped()) out = out << 8 | byte;
  return out;
}

bool protocol_has_ports(std::uint8_t protocol) {
  constexpr std::uint8_t dccp = 33, sctp = 132, udp_lite = 136;
  return protocol == static_cast<std::uint8_t>(IpProto::tcp) || protocol == static_cast<std::uint8_t>(IpProto::udp) ||
         protocol == sctp || protocol == dccp || protocol == udp_lite;
}

bool protocol_is_icmp(std::uint8_t protocol) {
  return protocol == static_cast<std::uint8_t>(IpProto::icmp) || protocol == static_cast<std::uint8_t>(IpProto::icmpv6);
}

bool takes_all_of(const TrafficSelector& s, Family family) {
  const IpAddress first = family == Family::v4 ? IpAddress::v4(0) : IpAddress{};
  std::array<std::uint8_t, 16> ones;
  ones.fill(0xff);
  const IpAddress last = family == Family::v4 ? IpAddress::v4(0xffffffffU) : IpAddress::from_mapped(ones);
  return s.source_first == first && s.source_last == last && s.destination_first == first &&
         s.destination_last == last && s.source_port_first == 0 && s.source_port_last == 65535 &&
         s.destination_port_first == 0 && s.destination_port_last == 65535 && s.protocol == 0;
}

bool is_any(std::uint16_t first, std::uint16_t last) { return first == 0 && last == 65535; }

// One side's ports of a packet that shows none.
bool takes_unseen(std::uint16_t first, std::uint16_t last) { return is_any(first, last) || is_opaque(first, last); }

}  // namespace

bool has_selector_ports(std::uint8_t protocol) { return protocol_has_ports(protocol) || protocol_is_icmp(protocol); }

SelectorView selector_view(Bytes packet, const IpInfo& info) {
  SelectorView view;
  view.source = number(source_of(packet.data(), info.family));
  view.destination = number(destination_of(packet.data(), info.family));
  view.protocol = info.protocol;
  view.family = info.family;
  view.ports_known = info.has_upper_header();
  view.ports_missing = view.ports_known && has_selector_ports(info.protocol) && info.upper_bytes() < 4;
  if (!view.ports_known || info.upper_bytes() < 4) return view;
  const std::byte* const upper = packet.data() + info.network_bytes;
  if (protocol_has_ports(info.protocol)) {
    view.source_port = load_be16(upper);
    view.destination_port = load_be16(upper + 2);
  } else if (protocol_is_icmp(info.protocol)) {
    view.source_port = view.destination_port = load_be16(upper);
  }
  return view;
}

CompiledSelectors::CompiledSelectors(std::span<const TrafficSelector> selectors) {
  rows_.reserve(selectors.size());
  for (const TrafficSelector& s : selectors)
    rows_.push_back({number(s.source_first), number(s.source_last), number(s.destination_first),
                     number(s.destination_last), s.source_port_first, s.source_port_last, s.destination_port_first,
                     s.destination_port_last, s.protocol, s.later_fragments, s.source_first.family()});
  const auto any_of = [&](Family family) {
    return selectors.empty() || std::ranges::any_of(selectors, [&](const auto& s) { return takes_all_of(s, family); });
  };
  wholly_[0] = any_of(Family::v4);
  wholly_[1] = any_of(Family::v6);
}

bool CompiledSelectors::permit_pieces(Bytes packet, const IpInfo& info) const {
  if (wholly_[info.family == Family::v6]) return true;
  SelectorView later = selector_view(packet, info);
  later.ports_known = later.ports_missing = false;
  return match(later);
}

bool CompiledSelectors::match(const SelectorView& v) const {
  return std::ranges::any_of(rows_, [&](const Row& r) {
    const bool addresses = v.source >= r.source_first && v.source <= r.source_last &&
                           v.destination >= r.destination_first && v.destination <= r.destination_last;
    if (!addresses || r.family != v.family || (r.protocol != 0 && r.protocol != v.protocol)) return false;
    if (v.ports_missing)
      return is_any(r.source_port_first, r.source_port_last) &&
             is_any(r.destination_port_first, r.destination_port_last);
    if (!v.ports_known)
      return r.later_fragments || (takes_unseen(r.source_port_first, r.source_port_last) &&
                                   takes_unseen(r.destination_port_first, r.destination_port_last));
    return v.source_port >= r.source_port_first && v.source_port <= r.source_port_last &&
           v.destination_port >= r.destination_port_first && v.destination_port <= r.destination_port_last;
  });
}

}  // namespace postern
