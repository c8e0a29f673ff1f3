// Sockets that need privilege, for the broker to hand to the worker and to postern-ike. All are non-blocking and
// close-on-exec and, where they send, carry POSTERN_MARK: TC egress leaves them alone. Namespace: the calling thread's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"

namespace postern::loader {

struct SocketScope {
  std::string vrf_device;  // SO_BINDTODEVICE; empty: the global table
  // Global table: VRF devices whose packets this socket must not have. A raw socket without a device gets those of
  // every VRF as long as net.ipv4.raw_l3mdev_accept is 1, its default.
  std::vector<std::uint32_t> not_from = {};
};

// For ICMP errors that the node makes: whole IP packets are written (IP_HDRINCL, IPV6_HDRINCL) with sendto() to their
// own destination; nothing is received. The kernel fills in the IPv4 header checksum, and nothing else.
[[nodiscard]] Result<Fd> open_raw_icmp(Family family, const SocketScope& scope = {});
// Protocol 50 as the kernel reassembled it. IPv4 delivers with the IP header, IPv6 without (recvmsg ancillary data has
// the destination: IPV6_RECVPKTINFO).
[[nodiscard]] Result<Fd> open_raw_esp(Family family, const SocketScope& scope = {});
[[nodiscard]] Result<Fd> open_raw_ah(Family family, const SocketScope& scope = {});

// Which part of port 4500's traffic a socket is for (RFC 3948 §2.2): IKE has four zero bytes in front, ESP its SPI.
enum class UdpTaker : std::uint8_t { all, worker, ike };
struct UdpSpec {
  Family family = Family::v4;
  std::uint16_t port = 4500;  // host order
  SocketScope scope;
  UdpTaker taker = UdpTaker::all;
};
// UDP with SO_REUSEPORT and packet information; UDP_ENCAP stays off: ESP is the worker's business, not the kernel's.
// IPv6 sockets are IPv6 only. The worker's and postern-ike's sockets of one port, family and VRF may be opened in
// either order: the later one brings the program that chooses between them. There must not be a third. One that is
// alone gets all, so both look at what they get.
[[nodiscard]] Result<Fd> open_udp(const UdpSpec& spec);

// SOCK_RAW packet socket that only sends, whole Ethernet frames, on one device: through its qdisc and TC egress.
[[nodiscard]] Result<Fd> open_packet_out(std::uint32_t ifindex);

}  // namespace postern::loader
