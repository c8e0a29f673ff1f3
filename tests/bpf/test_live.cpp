// The programs attached, with packets of the kernel's own: out by TC egress to the steer TAP, back in by TC ingress,
// past rp_filter, and in generic mode past XDP.
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;
using loader::TcSide;

namespace {

constexpr std::size_t vnet_header_bytes = 10;
constexpr std::uint16_t port = 7000;

void shell(const std::string& command) {
  if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
}

void write_file(const std::string& path, const char* text) {
  std::ofstream file(path);
  file << text;
  if (!file.flush()) throw std::runtime_error("write " + path);
}

// Waits up to two seconds for a datagram; empty when none came. `patience_ms` is short where none is expected.
Octets receive(int fd, int patience_ms = 2000) {
  pollfd wait{fd, POLLIN, 0};
  Octets buffer(2048);
  if (::poll(&wait, 1, patience_ms) != 1) return {};
  const ssize_t got = ::read(fd, buffer.data(), buffer.size());
  buffer.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return buffer;
}

// The next frame on the TAP that is IPv4; the kernel's own chatter is skipped.
Octets receive_ipv4(int tap, int patience_ms = 2000) {
  for (int i = 0; i < 16; ++i) {
    const Octets frame = receive(tap, patience_ms);
    if (frame.size() < vnet_header_bytes + 34) return {};
    if (frame[vnet_header_bytes + 12] == 8 && frame[vnet_header_bytes + 13] == 0) return frame;
  }
  return {};
}

sockaddr_in to(const char* address) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  inet_pton(AF_INET, address, &out.sin_addr);
  return out;
}

// out0 protects 10.1.0.0/16 > 10.2.0.0/16 through a real TAP.
struct LiveNode : BpfNode {
  Fd tap, udp_socket;
  std::uint32_t steer = 0, generation = 0;

  LiveNode() {
    open_tap();
    shell("ip link set out0 address 02:00:00:00:00:01 && ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev out0");
    write_file("/proc/sys/net/ipv4/conf/all/rp_filter", "1");
    write_file("/proc/sys/net/ipv4/conf/out0/rp_filter", "1");
    generation = set_policy({permit("10.1.0.0/16", "10.2.0.0/16", 5)});
    set_flags(0);
    if (!programs().attach_tc(out0, TcSide::egress) || !programs().attach_tc(steer, TcSide::ingress))
      throw std::runtime_error("attach TC");
    open_udp();
  }

  void set_flags(std::uint32_t more) {
    postern_interface entry = outside();
    entry.generation = generation;
    entry.steer = steer;
    entry.flags |= more;
    set_interface(out0, entry);
  }

  void send(std::uint32_t mark) {
    const sockaddr_in peer = to("10.2.0.2");
    if (::setsockopt(udp_socket.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0 ||
        ::sendto(udp_socket.get(), "hello", 5, 0, reinterpret_cast<const sockaddr*>(&peer), sizeof peer) != 5)
      throw std::runtime_error("send");
  }

  // As the worker gives back what it decrypted: from 10.2.0.2 to our socket.
  void inject(std::uint32_t stamp_generation) {
    const postern_stamp stamp{stamp_generation, 0, out0};
    Octets frame = ethernet(type_ipv4, ipv4({.source = "10.2.0.2", .destination = "10.1.0.1"},
                                            udp(port, port, Octets{'c', 'l', 'e', 'a', 'r'})));
    std::memcpy(frame.data(), &stamp, sizeof stamp);
    const Octets whole = zeros(vnet_header_bytes) + frame;
    if (::write(tap.get(), whole.data(), whole.size()) != static_cast<ssize_t>(whole.size()))
      throw std::runtime_error("write to the TAP");
  }

 private:
  void open_tap() {
    tap = Fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq request{};
    std::strcpy(request.ifr_name, "pn-live");
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (!tap || ::ioctl(tap.get(), TUNSETIFF, &request) != 0) throw std::runtime_error("TAP");
    shell("ip link set pn-live up");
    steer = if_nametoindex("pn-live");
  }
  void open_udp() {
    udp_socket = Fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const sockaddr_in us = to("10.1.0.1");
    // Bound to out0: only what arrives there is received.
    if (::bind(udp_socket.get(), reinterpret_cast<const sockaddr*>(&us), sizeof us) != 0 ||
        ::setsockopt(udp_socket.get(), SOL_SOCKET, SO_BINDTODEVICE, "out0", 5) != 0)
      throw std::runtime_error("UDP socket");
  }
};

}  // namespace

TEST_CASE("a packet that policy protects comes out of the TAP with its stamp; a marked one does not") {
  POSTERN_NEEDS_ROOT();
  LiveNode node;
  node.send(0);
  const Octets frame = receive_ipv4(node.tap.get());
  REQUIRE(frame.size() == vnet_header_bytes + 14 + 28 + 5);
  postern_stamp stamp;
  std::memcpy(&stamp, frame.data() + vnet_header_bytes, sizeof stamp);
  CHECK(stamp.generation == node.generation);
  CHECK(stamp.flow == 5);
  CHECK(stamp.ifindex == node.out0);
  CHECK(std::memcmp(frame.data() + frame.size() - 5, "hello", 5) == 0);

  node.send(POSTERN_MARK);
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_TC_EGRESS, POSTERN_VERDICT_exempt) >= 1);
  CHECK(receive_ipv4(node.tap.get(), 50).empty());
}

TEST_CASE("a decrypted packet arrives on the outside interface, past strict rp_filter") {
  POSTERN_NEEDS_ROOT();
  LiveNode node;
  node.inject(POSTERN_GENERATION_INBOUND);
  CHECK(receive(node.udp_socket.get()) == Octets{'c', 'l', 'e', 'a', 'r'});
  node.inject(7);
  CHECK(receive(node.udp_socket.get(), 50).empty());
  CHECK(node.new_drops(Drop::stale_policy) == 1);
}

TEST_CASE("generic XDP lets an injected packet pass by its source address, and nothing without it") {
  POSTERN_NEEDS_ROOT();
  LiveNode node;
  node.set_flags(POSTERN_IF_GENERIC);
  REQUIRE(node.programs().attach_xdp(node.out0, "out0", config::XdpMode::generic));
  node.inject(POSTERN_GENERATION_INBOUND);
  CHECK(receive(node.udp_socket.get()) == Octets{'c', 'l', 'e', 'a', 'r'});
  CHECK(node.new_drops(Drop::clear_text) == 0);
  node.set_flags(0);  // as if it were not generic: XDP sees a clear packet that should have been protected
  node.inject(POSTERN_GENERATION_INBOUND);
  CHECK(receive(node.udp_socket.get(), 50).empty());
  CHECK(node.new_drops(Drop::clear_text) == 1);
}
