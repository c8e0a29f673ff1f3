// Hostile headers and fragments: what parse_ip() accepts is what it says, no fragment that could deceive reassembly is
// called good, selectors answer as a second reading of RFC 4301 §4.4.1.1 does, and what the node cuts comes together
// again. The first bytes make selectors and an MTU, the rest is a packet.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <source_location>
#include <vector>

#include "base/bytes.hpp"
#include "worker/fragment.hpp"
#include "worker/parse.hpp"
#include "worker/selectors.hpp"

namespace postern {
namespace {

[[noreturn]] void broken() { std::abort(); }
void must(bool condition, const std::source_location& at = std::source_location::current()) {
  if (condition) return;
  std::fprintf(stderr, "line %u does not hold\n", at.line());
  broken();
}

// One of a few values that meet the corners, or any.
std::uint16_t port_of(ByteReader& in) {
  static constexpr std::uint16_t corners[] = {0, 1, 5000, 65534, 65535};
  const std::uint8_t choice = in.u8();
  return choice < std::size(corners) ? corners[choice] : in.u16();
}

IpAddress address_of(ByteReader& in, bool v4) {
  if (v4) return IpAddress::v4(in.u32());
  std::array<std::uint8_t, 16> bytes{0x20, 0x01};
  bytes[15] = in.u8();
  return IpAddress::from_mapped(bytes);
}

TrafficSelector selector_of(ByteReader& in) {
  const std::uint8_t shape = in.u8();
  const bool v4 = (shape & 1) != 0;
  TrafficSelector s;
  s.source_first = address_of(in, v4);
  s.source_last = std::max(s.source_first, address_of(in, v4));
  s.destination_first = address_of(in, v4);
  s.destination_last = std::max(s.destination_first, address_of(in, v4));
  const auto ports = [&](std::uint16_t& first, std::uint16_t& last, bool opaque) {
    first = port_of(in);
    last = std::max(first, port_of(in));
    if (opaque) first = 65535, last = 0;
  };
  ports(s.source_port_first, s.source_port_last, (shape & 2) != 0);
  ports(s.destination_port_first, s.destination_port_last, (shape & 4) != 0);
  s.later_fragments = (shape & 8) != 0;
  s.protocol = (shape & 16) != 0 ? 17 : (shape & 32) != 0 ? 6 : 0;
  return s;
}

// --- the second reading

bool takes_port(std::uint16_t first, std::uint16_t last, int port) {
  if (first == 0 && last == 65535) return true;      // ANY
  if (first == 65535 && last == 0) return port < 0;  // OPAQUE
  return port >= first && port <= last;
}

bool expected(const TrafficSelector& s, Bytes packet, const IpInfo& info) {
  const IpAddress source = source_of(packet.data(), info.family),
                  destination = destination_of(packet.data(), info.family);
  if (s.source_first.family() != info.family || source < s.source_first || s.source_last < source ||
      destination < s.destination_first || s.destination_last < destination)
    return false;
  if (s.protocol != 0 && s.protocol != info.protocol) return false;
  const bool later = info.fragment && !info.first_fragment;
  if (later && s.later_fragments) return true;
  int source_port = later ? -1 : 0, destination_port = source_port;
  if (!later && has_selector_ports(info.protocol)) {
    if (info.upper_bytes() < 4)  // nothing to compare but ANY
      return s.source_port_first == 0 && s.source_port_last == 65535 && s.destination_port_first == 0 &&
             s.destination_port_last == 65535;
    source_port = load_be16(packet.data() + info.network_bytes);
    const bool icmp = info.protocol == 1 || info.protocol == 58;
    destination_port = icmp ? source_port : load_be16(packet.data() + info.network_bytes + 2);
  }
  return takes_port(s.source_port_first, s.source_port_last, source_port) &&
         takes_port(s.destination_port_first, s.destination_port_last, destination_port);
}

void check_info(Bytes packet, const IpInfo& info) {
  must(info.network_bytes <= info.total_bytes && info.total_bytes <= packet.size());
  must(info.fragment_offset % 8 == 0);
  must(!info.first_fragment || (info.fragment && info.fragment_offset == 0));
  must(info.fragment || info.fragment_offset == 0);
  const Drop verdict = check_fragment(info);
  if (!info.fragment) must(verdict == Drop::none);
  if (verdict != Drop::none) must(verdict == (info.first_fragment ? Drop::fragment_tiny : Drop::fragment_overlap));
  if (verdict != Drop::none || info.protocol != 6 || !info.fragment) return;
  must(info.first_fragment ? info.upper_bytes() >= tcp_min_header : info.fragment_offset >= tcp_min_header);
}

// --- what we cut

void check_pieces(Bytes packet, const IpInfo& info, const CompiledSelectors& selectors, std::uint32_t mtu) {
  if (info.family != Family::v4) return;
  const auto plan = plan_ipv4_fragments(packet.first(info.total_bytes), info, mtu);
  if (!plan) return;
  std::vector<std::byte> together;
  for (std::uint32_t i = 0; i < plan->count; ++i) {
    std::vector<std::byte> piece(fragment_size(*plan, i));
    must(piece.size() <= mtu || plan->count == 1);
    write_fragment(*plan, i, piece.data());
    const auto read = parse_ip(piece);
    must(read && read->total_bytes == piece.size());
    must(std::uint32_t{read->fragment_offset} == (info.fragment_offset + together.size()) % 65536);
    if (i > 0) must(selectors.permit(piece, *read) == selectors.permit_pieces(packet, info));
    together.insert(together.end(), piece.begin() + read->network_bytes, piece.end());
  }
  must(std::ranges::equal(together, packet.subspan(info.network_bytes, info.upper_bytes())));
}

void run(Bytes input) {
  ByteReader in(input);
  const std::uint8_t count = in.u8() % 4;
  const std::uint32_t mtu = 68 + in.u16() % 2000;
  std::vector<TrafficSelector> selectors;
  for (std::uint8_t i = 0; i < count; ++i) selectors.push_back(selector_of(in));
  if (!in.ok()) return;
  // A copy of its own size: the sanitizer sees a read past the end.
  const Bytes rest = in.take(in.remaining());
  const std::vector<std::byte> packet(rest.begin(), rest.end());
  const auto info = parse_ip(packet);
  if (!info) return;
  check_info(packet, *info);
  const CompiledSelectors compiled{std::span<const TrafficSelector>(selectors)};
  const bool wanted =
      selectors.empty() || std::ranges::any_of(selectors, [&](const auto& s) { return expected(s, packet, *info); });
  must(compiled.permit(packet, *info) == wanted);
  check_pieces(packet, *info, compiled, mtu);
}

}  // namespace
}  // namespace postern

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  postern::run(std::as_bytes(std::span(data, size)));
  return 0;
}
