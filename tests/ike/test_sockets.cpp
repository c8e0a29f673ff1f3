// UDP sockets in a network namespace of their own: markers, addresses, bounds.
#include <algorithm>
#include <functional>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ike/sockets.hpp"

using namespace postern;
using namespace postern::ike;

namespace {

Octets bytes(std::initializer_list<int> values) {
  Octets out;
  for (const int v : values) out.push_back(static_cast<std::byte>(v));
  return out;
}

// In a child process with a namespace of its own whose loopback is up; its exit code is the answer.
int in_namespace(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::unshare(CLONE_NEWNET) != 0) ::_exit(99);
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    const Fd control(::socket(AF_INET, SOCK_DGRAM, 0));
    if (::ioctl(control.get(), SIOCSIFFLAGS, &request) != 0) ::_exit(98);
    ::_exit(body());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Result<Fd> open_v4(std::uint16_t port) {
  Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  ::setsockopt(fd.get(), IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_port = htons(port);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&any), sizeof any) != 0) return fail_errno("bind");
  return fd;
}

bool wait_readable(int fd) {
  pollfd ready{fd, POLLIN, 0};
  return ::poll(&ready, 1, 2000) == 1;
}

// A peer at 127.0.0.9 that says `what` to `port` of 127.0.0.7.
void say(const Octets& what, std::uint16_t port) {
  const Fd peer(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in from{}, to{};
  from.sin_family = to.sin_family = AF_INET;
  ::inet_pton(AF_INET, "127.0.0.9", &from.sin_addr);
  ::inet_pton(AF_INET, "127.0.0.7", &to.sin_addr);
  from.sin_port = htons(7777);
  to.sin_port = htons(port);
  ::bind(peer.get(), reinterpret_cast<sockaddr*>(&from), sizeof from);
  ::sendto(peer.get(), what.data(), what.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to);
}

int receive_and_answer() {
  UdpSockets sockets;
  if (sockets.keep_only({0, 9}).size() != 8) return 1;
  int at_500 = -1, at_4500 = -1;
  for (const std::uint16_t port : {ike_port, nat_port}) {
    auto fd = open_v4(port);
    if (!fd) return 2;
    (port == ike_port ? at_500 : at_4500) = fd->get();
    sockets.add({0, Family::v4, port}, std::move(*fd));
  }
  if (sockets.keep_only({0, 9}).size() != 6 || sockets.rows().size() != 2) return 2;
  std::vector<std::pair<Datagram, Octets>> got;
  const auto take = [&](const Datagram& d) { got.emplace_back(d, Octets(d.bytes.begin(), d.bytes.end())); };
  say(bytes({1, 2, 3}), 500);
  say(bytes({0xff}), 4500);
  say(bytes({0, 0, 1, 0, 9, 9}), 4500);
  say(bytes({0, 0, 0, 0, 7, 8}), 4500);
  if (!wait_readable(at_500) || !wait_readable(at_4500)) return 3;
  sockets.receive(at_500, take);
  sockets.receive(at_4500, take);
  if (got.size() != 2) return 4;
  if (got[0].second != bytes({1, 2, 3}) || got[1].second != bytes({7, 8})) return 5;
  const Datagram& first = got[0].first;
  if (first.local.address.text() != "127.0.0.7" || first.local.port != 500 || got[1].first.local.port != 4500) return 6;
  if (first.remote.address.text() != "127.0.0.9" || first.remote.port != 7777) return 7;
  if (sockets.counters().keepalives != 1 || sockets.counters().esp != 1) return 8;

  // Answers leave from the address that was asked, with the marker on 4500 alone.
  const Fd peer(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(7777);
  ::inet_pton(AF_INET, "127.0.0.9", &at.sin_addr);
  ::bind(peer.get(), reinterpret_cast<sockaddr*>(&at), sizeof at);
  sockets.send(SendDatagram{first.local, first.remote, 0, bytes({5})});
  sockets.send(SendDatagram{got[1].first.local, first.remote, 0, bytes({6})});
  sockets.send(SendKeepalive{got[1].first.local, first.remote, 0});
  const Octets expected[] = {bytes({5}), bytes({0, 0, 0, 0, 6}), bytes({0xff})};
  const std::uint16_t ports[] = {500, 4500, 4500};
  for (int i = 0; i < 3; ++i) {
    std::array<std::byte, 64> buffer;
    sockaddr_in from{};
    socklen_t size = sizeof from;
    if (!wait_readable(peer.get())) return 9;
    const auto count =
        ::recvfrom(peer.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
    if (count < 0 || !std::ranges::equal(Bytes(buffer).first(static_cast<std::size_t>(count)), expected[i]))
      return 10 + i;
    if (ntohl(from.sin_addr.s_addr) != 0x7f000007 || ntohs(from.sin_port) != ports[i]) return 20 + i;
  }
  sockets.send(SendDatagram{first.local, first.remote, 42, bytes({5})});  // no socket in that VRF
  if (sockets.counters().send_errors != 1) return 30;

  // One wake is bounded; the rest stays for the next.
  for (int i = 0; i < UdpSockets::max_datagrams + 5; ++i) say(bytes({1}), 500);
  got.clear();
  sockets.receive(at_500, take);
  if (got.size() != UdpSockets::max_datagrams) return 31;
  sockets.receive(at_500, take);
  if (got.size() != UdpSockets::max_datagrams + 5) return 32;
  if (!sockets.keep_only({}).empty() || !sockets.empty()) return 33;
  return 0;
}

}  // namespace

TEST_CASE("port 4500: the non-ESP marker, keepalives and ESP (RFC 3948 §2)") {
  CHECK(classify(bytes({0, 0, 0, 0, 1})) == NatTraffic::ike);
  CHECK(classify(bytes({0, 0, 0, 0})) == NatTraffic::ike);
  CHECK(classify(bytes({0xff})) == NatTraffic::keepalive);
  CHECK(classify(bytes({0xfe})) == NatTraffic::esp);
  CHECK(classify(bytes({0, 0, 0, 1, 1})) == NatTraffic::esp);
  CHECK(classify(bytes({0, 0, 0})) == NatTraffic::esp);
  CHECK(classify({}) == NatTraffic::esp);
  CHECK(with_marker(bytes({9})) == bytes({0, 0, 0, 0, 9}));
}

TEST_CASE("datagrams in and out: addresses both ways, markers, counters, bounds" * doctest::skip(::geteuid() != 0)) {
  CHECK(in_namespace(receive_and_answer) == 0);
}
