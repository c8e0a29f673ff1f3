#include "worker/acquire.hpp"

#include "worker/parse.hpp"
#include "worker/selectors.hpp"

namespace postern {

std::optional<Acquire> describe_acquire(std::uint32_t flow, std::uint32_t vrf, Bytes ip_packet) {
  const auto info = parse_ip(ip_packet);
  if (!info) return std::nullopt;
  const SelectorView view = selector_view(ip_packet, *info);
  Acquire out;
  out.flow = flow;
  out.vrf = vrf;
  out.source = source_of(ip_packet.data(), info->family);
  out.destination = destination_of(ip_packet.data(), info->family);
  out.source_port = view.source_port;
  out.destination_port = view.destination_port;
  out.protocol = info->protocol;
  out.ports_known = view.ports_known && info->upper_bytes() >= 4 && has_selector_ports(info->protocol);
  return out;
}

}  // namespace postern
