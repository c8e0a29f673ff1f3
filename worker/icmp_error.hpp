// ICMP errors that the node itself originates towards the plain side. Pure functions, any thread.
//
// Source address: a router answers from an address of its own (RFC 1812 §4.3.2.4, RFC 4443 §2.2). That is the SA's
// outer local address when it has the inner packet's family. A node whose outside is of the other family only has none
// to name here; then the inner destination stands in, which hosts accept because they match errors by the quoted
// packet.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "base/net_types.hpp"
#include "worker/parse.hpp"

namespace postern {

// RFC 1812 §4.3.2.8, RFC 4443 §2.4(f): ICMP errors are rate-limited by a token bucket.
class ErrorBudget {
 public:
  static constexpr std::uint32_t burst = 100, per_second = 200;
  [[nodiscard]] bool take(Time now);

 private:
  double tokens_ = burst;
  Time last_{};
};

// RFC 4443 §2.4(c): as much as fits into the minimum IPv6 MTU. IPv4: RFC 1812 §4.3.2.3, no more than 576.
inline constexpr std::size_t max_icmp_error_bytes = 1280;
using IcmpErrorBuffer = std::array<std::byte, max_icmp_error_bytes>;

// RFC 1122 §3.2.2, RFC 4443 §2.4(e): no error about an ICMP error, a non-initial fragment, a multicast or broadcast
// packet (but Packet Too Big) or from a source that is not one host.
[[nodiscard]] bool may_answer(Bytes packet, const IpInfo& info, bool packet_too_big);

// A whole IP packet, written to `out`: fragmentation needed (type 3 code 4) or Packet Too Big, with the next-hop MTU
// `mtu` (at least 1280 for IPv6). `outer_local` is the SA's own outer address.
[[nodiscard]] Bytes packet_too_big(Bytes packet, const IpInfo& info, std::uint32_t mtu, const IpAddress& outer_local,
                                   IcmpErrorBuffer& out);
// Time exceeded in transit.
[[nodiscard]] Bytes time_exceeded(Bytes packet, const IpInfo& info, const IpAddress& outer_local, IcmpErrorBuffer& out);

}  // namespace postern
