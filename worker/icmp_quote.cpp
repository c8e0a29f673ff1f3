#include "worker/icmp_quote.hpp"

#include <utility>

namespace postern {
namespace {

constexpr std::uint32_t port_bytes = 4;  // both ports, or ICMP's type, code and checksum

// Not for the packets of a flow that goes on: those were permitted by their own headers.
[[gnu::cold, gnu::noinline]] Drop refused_by_quote(const CompiledSelectors& selectors, Bytes packet,
                                                   const IpInfo& info) {
  const auto type = icmp_type(packet, info);
  if (!info.has_upper_header()) return Drop::fragment_selector;
  if (!type || !is_icmp_error_type(info.family, type->type)) return Drop::selector;
  const auto quoted = quoted_packet(packet, info);
  if (!quoted) return Drop::icmp_embedded;
  const auto view = reversed_view(*quoted);
  return view && selectors.match(*view) ? Drop::none : Drop::icmp_embedded;
}

}  // namespace

std::optional<IcmpType> icmp_type(Bytes packet, const IpInfo& info) {
  const auto icmp = static_cast<std::uint8_t>(info.family == Family::v4 ? IpProto::icmp : IpProto::icmpv6);
  if (info.protocol != icmp || !info.has_upper_header() || info.upper_bytes() < icmp_header) return std::nullopt;
  const std::byte* const header = packet.data() + info.network_bytes;
  return IcmpType{std::to_integer<std::uint8_t>(header[0]), std::to_integer<std::uint8_t>(header[1])};
}

bool is_icmp_error_type(Family family, std::uint8_t type) {
  if (family == Family::v6) return type < 128;
  return (type >= 3 && type <= 5) || type == 11 || type == 12;
}

std::optional<QuotedPacket> quoted_packet(Bytes packet, const IpInfo& info) {
  const auto type = icmp_type(packet, info);
  if (!type || !is_icmp_error_type(info.family, type->type)) return std::nullopt;
  const Bytes quote = packet.first(info.total_bytes).subspan(info.network_bytes + icmp_header);
  const auto quoted = parse_ip_beginning(quote);
  if (!quoted || quoted->family != info.family) return std::nullopt;
  return QuotedPacket{quote, *quoted};
}

std::optional<SelectorView> reversed_view(const QuotedPacket& quoted) {
  IpInfo info = quoted.info;
  if (info.has_upper_header() && has_selector_ports(info.protocol) &&
      quoted.bytes.size() < info.network_bytes + port_bytes)
    return std::nullopt;
  SelectorView view = selector_view(quoted.bytes, info);
  std::swap(view.source, view.destination);
  std::swap(view.source_port, view.destination_port);
  return view;
}

Drop refused_by(const CompiledSelectors& selectors, Bytes packet, const IpInfo& info) {
  if (info.fragment) [[unlikely]]
    if (const Drop bad = check_fragment(info); bad != Drop::none) return bad;
  if (selectors.permit(packet, info)) [[likely]]
    return Drop::none;
  return refused_by_quote(selectors, packet, info);
}

}  // namespace postern
