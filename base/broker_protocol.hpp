// What is said over a broker socket (loader/broker.hpp answers, a child asks): one datagram a request, answered at once
// by one BrokerReply, with the descriptor by SCM_RIGHTS when `code` is 0. Host order: same machine, same build.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

namespace postern {

inline constexpr std::uint32_t broker_version = 2;

// udp_socket: bound to the port, every address of the family. Ask once for each and close one before you ask for it
// again: two of one child would share what arrives. On port 4500 the worker has one too, which gets ESP (sockets.hpp).
// worker_channel: the client channel of worker/sa_channel.hpp, made anew at every request; the one before ends. EAGAIN
// while no worker runs. pki_channel, resolver_channel: the same for pki/channel.hpp and resolver/channel.hpp.
// tunnel_address: what a peer lent the tunnel `name`, instead of the one of that family before; zero: none. No
// descriptor comes back.
enum class BrokerKind : std::uint32_t {
  udp_socket = 1,
  raw_esp = 2,
  raw_icmp = 3,
  tun = 4,
  worker_channel = 5,
  pki_channel = 6,
  tunnel_address = 7,
  resolver_channel = 8
};

// Fields that a kind does not use must be zero.
struct BrokerRequest {
  std::uint32_t version = broker_version;
  BrokerKind kind{};
  std::uint64_t id = 0;
  std::uint32_t vrf = 0;    // routing table id, 0: main
  std::uint16_t port = 0;   // udp_socket
  std::uint8_t family = 0;  // 4 or 6; tun, worker_channel: 0
  std::uint8_t reserved = 0;
  std::array<char, 16> name{};             // tun, tunnel_address: NUL-terminated, "TunnelN"
  std::array<std::uint8_t, 16> address{};  // tunnel_address: network order, IPv4 mapped into IPv6
};
static_assert(std::is_trivially_copyable_v<BrokerRequest> && sizeof(BrokerRequest) == 56);

struct BrokerReply {
  std::uint64_t id = 0;
  std::int32_t code = 0;  // 0, or an errno value
  std::uint32_t reserved = 0;
};

}  // namespace postern
