// Path MTU discovery for what SAs send (RFC 4301 §8.2, RFC 1191, RFC 8201): an ICMP error of a router on the way quotes
// the ESP or AH packet that it could not forward. Whoever sends the error is not authenticated, so the quote must show
// an SA of ours: its SPI, its two outer addresses, its UDP ports, and a number that it has used. What remains to
// somebody who sees our packets is to make a path as small as any path may be, for ten minutes.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.hpp"
#include "base/net_types.hpp"
#include "maps/drops.hpp"
#include "worker/icmp_error.hpp"
#include "worker/sad.hpp"

namespace postern {

// What a "fragmentation needed" (type 3 code 4) or Packet Too Big says, as far as it is about ESP or AH. Host order.
struct PathMtuReport {
  Family family = Family::v4;
  std::uint32_t mtu = 0;           // as told; 0: a router older than RFC 1191
  IpAddress source;                // of the quoted packet: ours
  IpAddress destination;           // the peer's
  std::uint32_t quoted_bytes = 0;  // total length of the quoted packet
  IpProto protocol = IpProto::esp;
  std::uint32_t spi = 0;
  std::optional<std::uint32_t> sequence;  // where the quote reaches it
  bool udp = false;                       // RFC 3948, with these ports
  std::uint16_t source_port = 0, destination_port = 0;
};

// `packet` begins at its IP header. Empty: another message, a checksum that is wrong, or a quote that shows no SPI.
[[nodiscard]] std::optional<PathMtuReport> parse_path_mtu(Bytes packet);

// True for an ICMP or ICMPv6 packet: not ESP, whatever it says.
[[nodiscard]] bool is_icmp(Bytes packet);

class PathMtu {
 public:
  explicit PathMtu(const Sad& sad) : sad_(sad) {}

  // Obeys a report, or not; the reason under which the message is counted: path_mtu_learned, _refused, _forged, _flood.
  // One worker thread.
  [[nodiscard]] Drop take(Bytes packet, std::uint32_t fvrf, Time now);

 private:
  const Sad& sad_;
  ErrorBudget budget_;
};

}  // namespace postern
