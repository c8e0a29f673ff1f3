#include "tests/worker_io/harness_devices.hpp"

#include <array>

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.hpp"

namespace postern::harness {
namespace {

Result<Fd> open_socket(int domain, int type, int protocol, const char* what) {
  Fd fd(::socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
  if (!fd) return fail_errno(what);
  return fd;
}

Result<void> set_option(const Fd& fd, int level, int option, int value) {
  if (::setsockopt(fd.get(), level, option, &value, sizeof value) != 0) return fail_errno("setsockopt");
  return {};
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

}  // namespace

Result<Fd> open_tun(const TunRequest& wanted) {
  const std::string& name = wanted.name;
  Fd fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return fail_errno("open /dev/net/tun");
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = static_cast<short>((wanted.tap ? IFF_TAP : IFF_TUN) | (wanted.multi_queue ? IFF_MULTI_QUEUE : 0) |
                                         IFF_NO_PI | IFF_VNET_HDR);
  // The kernel lets go of a killed owner's descriptor a moment after its end.
  const std::uint64_t deadline = monotonic_ns() + 2'000'000'000;
  while (::ioctl(fd.get(), TUNSETIFF, &request) != 0)
    if (errno != EBUSY || monotonic_ns() > deadline) return fail_errno(name);
  if (::ioctl(fd.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN) != 0)
    return fail_errno(name);
  return fd;
}

Result<std::vector<Fd>> open_raw_esp() {
  std::vector<Fd> out;
  for (const int domain : {AF_INET, AF_INET6}) {
    POSTERN_TRY(fd, open_socket(domain, SOCK_RAW, IPPROTO_ESP, "raw ESP socket"));
    out.push_back(std::move(fd));
  }
  return out;
}

Result<std::vector<Fd>> open_raw_icmp(std::uint32_t mark) {
  std::vector<Fd> out;
  POSTERN_TRY(v4, open_socket(AF_INET, SOCK_RAW, IPPROTO_RAW, "raw IPv4 socket"));
  POSTERN_TRY(v6, open_socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6, "raw IPv6 socket"));
  out.push_back(std::move(v4));
  out.push_back(std::move(v6));
  for (const Fd& fd : out) POSTERN_CHECK(set_option(fd, SOL_SOCKET, SO_MARK, static_cast<int>(mark)));
  return out;
}

Result<std::vector<Fd>> open_udp(std::uint16_t port) {
  std::vector<Fd> out;
  POSTERN_TRY(v4, open_socket(AF_INET, SOCK_DGRAM, 0, "UDP socket"));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (::bind(v4.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return fail_errno("bind UDP");
  out.push_back(std::move(v4));
  POSTERN_TRY(v6, open_socket(AF_INET6, SOCK_DGRAM, 0, "UDP socket"));
  POSTERN_CHECK(set_option(v6, IPPROTO_IPV6, IPV6_V6ONLY, 1));
  sockaddr_in6 address6{};
  address6.sin6_family = AF_INET6;
  address6.sin6_port = htons(port);
  if (::bind(v6.get(), reinterpret_cast<sockaddr*>(&address6), sizeof address6) != 0) return fail_errno("bind UDP");
  out.push_back(std::move(v6));
  return out;
}

Result<Fd> open_packet_out(std::uint32_t ifindex) {
  POSTERN_TRY(fd, open_socket(AF_PACKET, SOCK_RAW, 0, "packet socket"));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = static_cast<int>(ifindex);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return fail_errno("bind packet socket");
  return fd;
}

Result<WorkerProcess> start_worker(const std::string& program, const std::string& socket_path, bool forbid_io_uring) {
  POSTERN_TRY(listener, open_socket(AF_UNIX, SOCK_SEQPACKET, 0, "worker socket"));
  const sockaddr_un address = address_of(socket_path);
  ::unlink(socket_path.c_str());
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), 4) != 0)
    return fail_errno("worker socket");
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork");
  if (pid > 0) return WorkerProcess{pid, socket_path};
  if (forbid_io_uring) {
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(io_uring_setup), 0);
    if (seccomp_load(filter) != 0) ::_exit(126);
  }
  if (listener.get() == 3)
    ::fcntl(3, F_SETFD, 0);
  else
    ::dup2(listener.get(), 3);
  std::array<const char*, 6> arguments = {program.c_str(), "--node", "T1", "--listen-fd", "3", nullptr};
  ::execv(program.c_str(), const_cast<char* const*>(arguments.data()));
  ::_exit(127);
}

Result<Fd> connect_to(const std::string& socket_path) {
  Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(socket_path);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno("connect");
  return fd;
}

}  // namespace postern::harness
