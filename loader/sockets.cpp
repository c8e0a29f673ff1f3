#include "loader/sockets.hpp"

#include <string_view>
#include <vector>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "maps/abi.h"

namespace postern::loader {
namespace {

constexpr int ipv6_hdrincl = 36;  // linux/in6.h, which cannot stand beside netinet/in.h

int socket_family(Family family) { return family == Family::v4 ? AF_INET : AF_INET6; }

Result<void> set_option(int socket, int level, int option, int value, std::string_view what) {
  if (::setsockopt(socket, level, option, &value, sizeof value) == 0) return {};
  return fail_errno(std::string(what));
}

Result<Fd> open_socket(int family, int type, int protocol, std::string_view what) {
  Fd fd(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
  if (!fd) return fail_errno(fmt::format("{}: socket", what));
  return fd;
}

Result<void> bind_to_vrf(int socket, const SocketScope& scope, std::string_view what) {
  if (scope.vrf_device.empty()) return {};
  if (::setsockopt(socket, SOL_SOCKET, SO_BINDTODEVICE, scope.vrf_device.data(),
                   static_cast<socklen_t>(scope.vrf_device.size())) == 0)
    return {};
  return fail_errno(fmt::format("{}: bind to VRF {}", what, scope.vrf_device));
}

// In a VRF the device of a received packet is the VRF device.
Result<void> keep_out(int socket, const SocketScope& scope, std::string_view what) {
  if (scope.not_from.empty()) return {};
  std::vector<sock_filter> program = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_IFINDEX)}};
  for (const std::uint32_t vrf : scope.not_from) {
    program.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, 1, vrf});
    program.push_back({BPF_RET | BPF_K, 0, 0, 0});
  }
  program.push_back({BPF_RET | BPF_K, 0, 0, 0xffffffffU});
  if (program.size() > BPF_MAXINSNS) return fail(fmt::format("{}: more VRF devices than a filter holds", what), E2BIG);
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (::setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0) return {};
  return fail_errno(fmt::format("{}: keep packets of VRFs out", what));
}

Result<void> set_mark(int socket, std::string_view what) {
  return set_option(socket, SOL_SOCKET, SO_MARK, static_cast<int>(POSTERN_MARK), fmt::format("{}: SO_MARK", what));
}

Result<void> report_destination(int socket, Family family, std::string_view what) {
  const std::string option = fmt::format("{}: packet information", what);
  return family == Family::v4 ? set_option(socket, IPPROTO_IP, IP_PKTINFO, 1, option)
                              : set_option(socket, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1, option);
}

// The kernel numbers the sockets of a port in the order of their bind; when the elder of two goes, the other becomes 0.
// So of two, 0 is the elder and 1 the one bound last, whoever that is. A number that nobody has falls back to the hash,
// and with one socket alone that is the one.
Result<void> choose_by_marker(int socket, UdpTaker taker, std::string_view what) {
  const std::uint32_t ike = taker == UdpTaker::ike ? 1 : 0;
  sock_filter program[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),  // a keepalive is too short: 0
                           BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1), BPF_STMT(BPF_RET | BPF_K, ike),
                           BPF_STMT(BPF_RET | BPF_K, 1 - ike)};
  const sock_fprog filter{std::size(program), program};
  if (::setsockopt(socket, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &filter, sizeof filter) == 0) return {};
  return fail_errno(fmt::format("{}: SO_ATTACH_REUSEPORT_CBPF", what));
}

Result<Fd> open_raw(Family family, int protocol, std::string_view what, const SocketScope& scope) {
  POSTERN_TRY(fd, open_socket(socket_family(family), SOCK_RAW, protocol, what));
  POSTERN_CHECK(set_mark(fd.get(), what));
  POSTERN_CHECK(report_destination(fd.get(), family, what));
  POSTERN_CHECK(bind_to_vrf(fd.get(), scope, what));
  POSTERN_CHECK(keep_out(fd.get(), scope, what));
  return fd;
}

}  // namespace

Result<Fd> open_raw_icmp(Family family, const SocketScope& scope) {
  const std::string_view what = family == Family::v4 ? "raw ICMP" : "raw ICMPv6";
  // IPPROTO_RAW and not ICMP: such a socket receives nothing, while an ICMP one would queue every ICMP packet of the
  // host.
  POSTERN_TRY(fd, open_socket(socket_family(family), SOCK_RAW, IPPROTO_RAW, what));
  POSTERN_CHECK(family == Family::v4 ? set_option(fd.get(), IPPROTO_IP, IP_HDRINCL, 1, "IP_HDRINCL")
                                     : set_option(fd.get(), IPPROTO_IPV6, ipv6_hdrincl, 1, "IPV6_HDRINCL"));
  // No mark: an error towards a host behind a crypto map is protected like any packet to it (TC egress classifies it).
  POSTERN_CHECK(bind_to_vrf(fd.get(), scope, what));
  return fd;
}

Result<Fd> open_raw_esp(Family family, const SocketScope& scope) {
  return open_raw(family, IPPROTO_ESP, family == Family::v4 ? "raw ESP" : "raw ESP over IPv6", scope);
}

Result<Fd> open_raw_ah(Family family, const SocketScope& scope) {
  return open_raw(family, IPPROTO_AH, family == Family::v4 ? "raw AH" : "raw AH over IPv6", scope);
}

Result<Fd> open_udp(const UdpSpec& spec) {
  const std::string what = fmt::format("UDP port {}", spec.port);
  POSTERN_TRY(fd, open_socket(socket_family(spec.family), SOCK_DGRAM, 0, what));
  POSTERN_CHECK(set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1, what + ": SO_REUSEPORT"));
  POSTERN_CHECK(set_mark(fd.get(), what));
  POSTERN_CHECK(report_destination(fd.get(), spec.family, what));
  POSTERN_CHECK(bind_to_vrf(fd.get(), spec.scope, what));
  POSTERN_CHECK(keep_out(fd.get(), spec.scope, what));
  sockaddr_storage address{};
  socklen_t size = sizeof(sockaddr_in);
  if (spec.family == Family::v6) {
    POSTERN_CHECK(set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1, what + ": IPV6_V6ONLY"));
    auto& in6 = reinterpret_cast<sockaddr_in6&>(address);
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(spec.port);
    size = sizeof in6;
  } else {
    auto& in = reinterpret_cast<sockaddr_in&>(address);
    in.sin_family = AF_INET;
    in.sin_port = htons(spec.port);
  }
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) return fail_errno(what + ": bind");
  if (spec.taker != UdpTaker::all) POSTERN_CHECK(choose_by_marker(fd.get(), spec.taker, what));
  return fd;
}

Result<Fd> open_packet_out(std::uint32_t ifindex) {
  const std::string what = fmt::format("packet socket on link {}", ifindex);
  // Protocol 0: it sends and never receives.
  POSTERN_TRY(fd, open_socket(AF_PACKET, SOCK_RAW, 0, what));
  POSTERN_CHECK(set_mark(fd.get(), what));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = static_cast<int>(ifindex);
  if (ifindex == 0) return fail(what, ENODEV);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno(what + ": bind");
  return fd;
}

}  // namespace postern::loader
