// TUN and TAP devices of loader/devices.hpp.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>

#include "loader/devices.hpp"
#include "loader/patience.hpp"

namespace postern::loader {
namespace {

constexpr int vnet_header_bytes = 10;  // struct virtio_net_hdr without num_buffers
constexpr std::size_t name_limit = IFNAMSIZ - 1;
// Of Linux 6.2, not in the headers of 6.1.
constexpr unsigned offload_uso4 = 0x20, offload_uso6 = 0x40;

// Without IFF_VNET_HDR there are no super-packets: 4.5 Gb/s instead of 13 (docs/PERFORMANCE.md).
ifreq tun_request(const TunSpec& spec, int more_flags) {
  ifreq request{};
  spec.name.copy(request.ifr_name, name_limit);
  const int queue_flags = spec.queues > 1 ? IFF_MULTI_QUEUE : 0;
  request.ifr_flags =
      static_cast<short>((spec.tap ? IFF_TAP : IFF_TUN) | IFF_NO_PI | IFF_VNET_HDR | queue_flags | more_flags);
  return request;
}

Result<Fd> open_clone_device() {
  Fd fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return fail_errno("open /dev/net/tun");
  return fd;
}

Result<void> set_offloads(int fd, const std::string& name) {
  int header = vnet_header_bytes;
  if (::ioctl(fd, TUNSETVNETHDRSZ, &header) != 0) return fail_errno(name + ": TUNSETVNETHDRSZ");
  const unsigned basic = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  if (::ioctl(fd, TUNSETOFFLOAD, basic | offload_uso4 | offload_uso6) == 0) return {};
  if (::ioctl(fd, TUNSETOFFLOAD, basic) != 0) return fail_errno(name + ": TUNSETOFFLOAD");
  return {};
}

Result<Fd> open_queue(const TunSpec& spec) {
  POSTERN_TRY(fd, open_clone_device());
  POSTERN_CHECK(with_patience([&]() -> Result<void> {
    ifreq request = tun_request(spec, 0);
    if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) return fail_errno(spec.name + ": attach queue");
    return {};
  }));
  POSTERN_CHECK(set_offloads(fd.get(), spec.name));
  return fd;
}

// Per-device sysctl of the calling thread's namespace. A kernel without IPv6 has no such file.
void set_sysctl(const std::string& path, std::string_view value) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return;
  if (!fd || ::write(fd.get(), value.data(), value.size()) < 0)
    spdlog::warn("{}: cannot set {}: {}", path, value, std::strerror(errno));
}

void quiet_ipv6(const TunSpec& spec) {
  const std::string base = "/proc/sys/net/ipv6/conf/" + spec.name + "/";
  // Router solicitations and advertisements have no meaning in an IPsec tunnel: the peer is no router on a shared link.
  set_sysctl(base + "accept_ra", "0");
  set_sysctl(base + "router_solicitations", "0");
  set_sysctl(base + "disable_ipv6", spec.tap || !spec.ipv6 ? "1" : "0");
}

bool fits(const Link& link, const TunSpec& spec) {
  return link.tun && link.tun->tap == spec.tap && link.tun->persistent && link.tun->vnet_header &&
         link.tun->multi_queue == (spec.queues > 1);
}

}  // namespace

std::string Devices::steer_name(std::string_view node) {
  const std::string name = "pn-" + std::string(node);
  if (name.size() <= name_limit) return name;
  std::uint32_t hash = 2166136261U;
  for (const char c : node) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return fmt::format("{}-{:04x}", name.substr(0, name_limit - 5), hash & 0xffffU);
}

// None: no device of that name. EEXIST: somebody else's.
Result<std::optional<Link>> Devices::own_device(const TunSpec& spec) {
  auto found = netlink_.link(spec.name);
  if (!found) {
    if (found.error().code == ENODEV) return std::nullopt;
    return std::unexpected(found.error());
  }
  if (found->kind != "tun" || found->alias != mark())
    return fail(fmt::format("{}: a device of that name exists and is not this node's", spec.name), EEXIST);
  return std::move(*found);
}

// The mark is set before the device is made persistent: a crash in between leaves nothing behind.
Result<void> Devices::create_tun(const TunSpec& spec) {
  POSTERN_TRY(fd, open_clone_device());
  ifreq request = tun_request(spec, IFF_TUN_EXCL);
  if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) return fail_errno(spec.name + ": create");
  POSTERN_TRY(link, netlink_.link(spec.name));
  POSTERN_CHECK(netlink_.set_alias(link.ifindex, mark()));
  if (::ioctl(fd.get(), TUNSETPERSIST, 1) != 0) return fail_errno(spec.name + ": make persistent");
  return {};
}

Result<void> Devices::configure_tun(const TunSpec& spec, const Link& link, bool bring_up) {
  quiet_ipv6(spec);
  if (spec.tap) {
    // Nothing on the steer TAP speaks ARP or IPv6 of its own: every frame there is a stamped packet.
    POSTERN_CHECK(netlink_.set_no_arp(link.ifindex));
    const auto quiet = netlink_.set_no_link_local(link.ifindex);
    if (!quiet && quiet.error().code != EAFNOSUPPORT && quiet.error().code != EOPNOTSUPP) return quiet;
  }
  POSTERN_CHECK(netlink_.set_mtu(link.ifindex, spec.mtu));
  if (link.tx_queue_length < spec.tx_queue_length)
    POSTERN_CHECK(netlink_.set_tx_queue_length(link.ifindex, spec.tx_queue_length));
  return bring_up ? netlink_.set_up(link.ifindex, true) : Result<void>{};
}

Result<TunDevice> Devices::ensure_tun(const TunSpec& spec, UndoList& made) {
  if (spec.name.empty() || spec.name.size() > name_limit) return fail(spec.name + ": not a device name", EINVAL);
  POSTERN_TRY(existing, own_device(spec));
  if (existing && !fits(*existing, spec)) {
    POSTERN_CHECK(netlink_.remove_link(existing->ifindex));
    existing.reset();
  }
  if (!existing) POSTERN_CHECK(create_tun(spec));
  const Undo undo{.kind = "device", .name = spec.name};
  if (std::ranges::find(made, undo) == made.end()) made.push_back(undo);
  POSTERN_TRY(link, netlink_.link(spec.name));
  POSTERN_CHECK(configure_tun(spec, link, spec.bring_up || !existing));
  return TunDevice{.ifindex = link.ifindex, .created = !existing};
}

Result<std::vector<Fd>> Devices::open_queues(const TunSpec& spec) {
  POSTERN_TRY(existing, own_device(spec));
  if (!existing) return fail(spec.name + ": no such device of this node", ENODEV);
  if (!fits(*existing, spec)) return fail(spec.name + ": made for another number of queues", EINVAL);
  std::vector<Fd> queues;
  for (std::uint32_t queue = 0; queue < std::max(1U, spec.queues); ++queue) {
    POSTERN_TRY(fd, open_queue(spec));
    queues.push_back(std::move(fd));
  }
  return queues;
}

}  // namespace postern::loader
