// loader/sockets: each socket does its one job, carries the mark where it sends, and is refused where it must be.
#include <array>
#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "loader/netlink.hpp"
#include "loader/sockets.hpp"
#include "maps/abi.h"
#include "tests/loader/net_lab.hpp"

using namespace postern;
using namespace postern::loader;
using namespace postern::net_test;

namespace {

// IPv4 (RFC 791), 192.0.2.1 to 192.0.2.2, `protocol`, 8 bytes of payload; header checksum left to the kernel.
std::array<std::uint8_t, 28> packet_v4(std::uint8_t protocol) {
  return {0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 3, 4, 0, 0, 0, 0, 5, 0};
}

struct Lab : OwnNamespace {
  Lab() {
    shell("ip link set lo up && ip link add out0 type veth peer name far0 netns " + far.path());
    shell("ip link set out0 up && ip addr add 192.0.2.1/24 dev out0 && ip addr add 2001:db8:ff::1/64 dev out0 nodad");
    far.run([] {
      shell("ip link set lo up && ip link set far0 up");
      shell("ip addr add 192.0.2.2/24 dev far0 && ip addr add 2001:db8:ff::2/64 dev far0 nodad");
      until_it_carries("far0");
    });
    until_it_carries("out0");
  }
  Namespace far;
};

int option(int socket, int level, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  REQUIRE(::getsockopt(socket, level, name, &value, &size) == 0);
  return value;
}

ssize_t send_v4(int socket, const std::array<std::uint8_t, 28>& packet) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(0xc0000202);
  return ::sendto(socket, packet.data(), packet.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
}

// From the far side to our port 4500: `count` datagrams from ports of their own, each beginning with `first` (the
// kernel's hash would spread them).
void send_4500(Lab& lab, Family family, std::uint32_t first, int count) {
  lab.far.run([&] {
    for (int i = 0; i < count; ++i) {
      const Fd socket(::socket(family == Family::v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      const std::array<std::uint32_t, 4> payload{htonl(first), 1, 2, 3};
      sockaddr_in in{};
      in.sin_family = AF_INET;
      in.sin_port = htons(4500);
      in.sin_addr.s_addr = htonl(0xc0000201);
      sockaddr_in6 in6{};
      in6.sin6_family = AF_INET6;
      in6.sin6_port = htons(4500);
      REQUIRE(::inet_pton(AF_INET6, "2001:db8:ff::1", &in6.sin6_addr) == 1);
      const auto* const to =
          family == Family::v4 ? reinterpret_cast<const sockaddr*>(&in) : reinterpret_cast<const sockaddr*>(&in6);
      const socklen_t size = family == Family::v4 ? sizeof in : sizeof in6;
      REQUIRE(::sendto(socket.get(), payload.data(), sizeof payload, 0, to, size) == sizeof payload);
    }
  });
}

// How many arrive there, waiting for as many as `wanted`; what does not begin with `first` counts as a thousand.
int received(const Fd& socket, std::uint32_t first, int wanted) {
  int count = 0;
  std::array<std::uint32_t, 16> got{};
  while (count < wanted && readable(socket.get(), std::chrono::seconds(3)))
    if (::recv(socket.get(), got.data(), sizeof got, MSG_DONTWAIT) > 0) count += got[0] == htonl(first) ? 1 : 1000;
  while (::recv(socket.get(), got.data(), sizeof got, MSG_DONTWAIT) > 0) count += 1000;
  return count;
}

}  // namespace

TEST_CASE("raw ICMP: a whole packet goes out as written; nothing is queued for it") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_GET(socket, open_raw_icmp(Family::v4));
  CHECK(option(socket.get(), SOL_SOCKET, SO_MARK) == 0);  // no mark: TC egress classifies what it sends
  const Fd far = lab.far.run([] { return Fd(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP)); });
  REQUIRE(send_v4(socket.get(), packet_v4(1)) == 28);
  REQUIRE(readable(far.get(), std::chrono::seconds(3)));
  std::array<std::uint8_t, 64> got{};
  REQUIRE(::recv(far.get(), got.data(), got.size(), 0) == 28);
  CHECK(got[8] == 64);  // our TTL
  CHECK(got[20] == 3);  // destination unreachable, fragmentation needed (RFC 1191)
  CHECK(got[21] == 4);
  (void)succeeds("ping -c 1 -W 1 192.0.2.2 >/dev/null");
  CHECK(!readable(socket.get(), std::chrono::milliseconds(0)));
}

TEST_CASE("raw ICMPv6: a whole packet with its own source address") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_GET(socket, open_raw_icmp(Family::v6));
  CHECK(option(socket.get(), SOL_SOCKET, SO_MARK) == 0);
  // RFC 8200 header, hop limit 61, next header 59 (none), and 8 bytes that no receiver checks.
  std::array<std::uint8_t, 48> packet{0x60, 0, 0, 0, 0, 8, 253, 61};
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  REQUIRE(::inet_pton(AF_INET6, "2001:db8:ff::1", packet.data() + 8) == 1);
  REQUIRE(::inet_pton(AF_INET6, "2001:db8:ff::2", packet.data() + 24) == 1);
  packet[40] = 0x77;
  std::memcpy(&to.sin6_addr, packet.data() + 24, 16);
  const Fd far = lab.far.run([] { return Fd(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, 253)); });
  REQUIRE(::sendto(socket.get(), packet.data(), packet.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) ==
          48);
  REQUIRE(readable(far.get(), std::chrono::seconds(3)));
  std::array<std::uint8_t, 64> got{};
  CHECK(::recv(far.get(), got.data(), got.size(), 0) == 8);
  CHECK(got[0] == 0x77);
}

TEST_CASE("raw ESP: gets protocol 50 with its IPv4 header, and nothing else") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_GET(receiver, lab.far.run([] { return open_raw_esp(Family::v4); }));
  POSTERN_GET(sender, open_raw_icmp(Family::v4));
  REQUIRE(send_v4(sender.get(), packet_v4(51)) == 28);
  REQUIRE(send_v4(sender.get(), packet_v4(50)) == 28);
  REQUIRE(readable(receiver.get(), std::chrono::seconds(3)));
  std::array<std::uint8_t, 64> got{};
  REQUIRE(::recv(receiver.get(), got.data(), got.size(), 0) == 28);
  CHECK(got[9] == 50);
  errno = 0;
  CHECK(::recv(receiver.get(), got.data(), got.size(), 0) == -1);
  CHECK(errno == EAGAIN);
  POSTERN_GET(six, open_raw_esp(Family::v6));
  CHECK(option(six.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO) == 1);
}

TEST_CASE("UDP: shared by reuse of the port, in both families side by side, with the mark") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_GET(first, open_udp({.family = Family::v4, .port = 4500, .scope = {}}));
  POSTERN_GET(second, open_udp({.family = Family::v4, .port = 4500, .scope = {}}));
  POSTERN_GET(six, open_udp({.family = Family::v6, .port = 4500, .scope = {}}));
  CHECK(option(first.get(), SOL_SOCKET, SO_MARK) == static_cast<int>(POSTERN_MARK));
  CHECK(option(six.get(), IPPROTO_IPV6, IPV6_V6ONLY) == 1);
  constexpr int udp_encap = 100;  // linux/udp.h: UDP_ENCAP
  CHECK(option(first.get(), IPPROTO_UDP, udp_encap) == 0);

  const Fd foreign(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_port = htons(4501);
  REQUIRE(::bind(foreign.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0);
  CHECK(open_udp({.family = Family::v4, .port = 4501, .scope = {}}).error().code == EADDRINUSE);
}

TEST_CASE("UDP 4500: ESP to the worker's socket and IKE to the other, in either order, and all to whoever is left") {
  POSTERN_NEEDS_ROOT();
  constexpr std::uint32_t spi = 0x1001, marker = 0;
  constexpr int count = 16;
  for (const Family family : {Family::v4, Family::v6})
    for (const bool worker_first : {true, false}) {
      CAPTURE(worker_first);
      Lab lab;
      const auto open = [&](UdpTaker taker) {
        auto socket = open_udp({.family = family, .port = 4500, .scope = {}, .taker = taker});
        REQUIRE_MESSAGE(socket.has_value(), (socket ? "" : socket.error().message()));
        return std::move(*socket);
      };
      Fd first = open(worker_first ? UdpTaker::worker : UdpTaker::ike);
      Fd second = open(worker_first ? UdpTaker::ike : UdpTaker::worker);
      Fd &worker = worker_first ? first : second, &ike = worker_first ? second : first;
      const auto check_split = [&] {
        send_4500(lab, family, spi, count);
        send_4500(lab, family, marker, count);
        CHECK(received(worker, spi, count) == count);
        CHECK(received(ike, marker, count) == count);
      };
      check_split();
      // The elder goes and comes back: a restart of its owner.
      first.reset();
      send_4500(lab, family, spi, count);
      CHECK(received(second, spi, count) == count);
      first = open(worker_first ? UdpTaker::worker : UdpTaker::ike);
      check_split();
      second.reset();
      send_4500(lab, family, marker, count);
      CHECK(received(first, marker, count) == count);
      second = open(worker_first ? UdpTaker::ike : UdpTaker::worker);
      check_split();
    }
}

TEST_CASE("VRF: bound to its device, and an error that names it when there is none") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  const SocketScope nowhere{.vrf_device = "red0"}, out0{.vrf_device = "out0"};
  for (const Family family : {Family::v4, Family::v6}) {
    CHECK(open_udp({.family = family, .port = 4500, .scope = nowhere}).error().code == ENODEV);
    CHECK(open_raw_esp(family, nowhere).error().what.find("red0") != std::string::npos);
    CHECK(open_raw_icmp(family, nowhere).error().code == ENODEV);
    POSTERN_GET(bound, open_raw_esp(family, out0));
    std::array<char, 16> name{};
    socklen_t size = name.size();
    REQUIRE(::getsockopt(bound.get(), SOL_SOCKET, SO_BINDTODEVICE, name.data(), &size) == 0);
    CHECK(std::string(name.data()) == "out0");
  }
}

TEST_CASE("packet socket: frames leave through the qdisc of its device alone") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_GET(netlink, Netlink::open());
  POSTERN_GET(link, netlink.link("out0"));
  POSTERN_GET(socket, open_packet_out(link.ifindex));
  CHECK(option(socket.get(), SOL_SOCKET, SO_MARK) == static_cast<int>(POSTERN_MARK));
  shell("tc qdisc add dev out0 root handle 5: tbf rate 100mbit burst 100k limit 100k");
  std::array<std::uint8_t, 60> frame{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5};
  REQUIRE(::send(socket.get(), frame.data(), frame.size(), 0) == 60);
  POSTERN_GET(qdiscs, netlink.qdiscs(link.ifindex));
  std::uint64_t through = 0;
  for (const Qdisc& qdisc : qdiscs)
    if (qdisc.handle == 0x50000) through += qdisc.bytes;
  CHECK(through >= 60);
  CHECK(!readable(socket.get(), std::chrono::milliseconds(0)));
  CHECK(open_packet_out(0).error().code == ENODEV);
  CHECK(open_packet_out(4242).error().code == ENODEV);
}
