// Which devices may be served around the kernel. Plain side AF_XDP skips netfilter, qdiscs, TC, conntrack and
// rp_filter, so it is used only where the operator configured none of them on the path; AF_XDP transmit on the cipher
// side skips qdiscs and TC egress. Read from the kernel, not from files of a firewall: whatever set it up.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "loader/netlink.hpp"
#include "loader/netlink_socket.hpp"

namespace postern::loader {

struct PlainSideVerdict {
  bool use_af_xdp = false;
  std::string reason;  // for `show dataplane`: why not, or "nothing on the path to bypass"
};

struct PlainSideQuery {
  std::uint32_t ifindex = 0;
  bool ipv4 = true, ipv6 = false;             // families that policy protects: forwarding must be on for them
  bool forced = false;                        // the operator takes the bypass: only what cannot work refuses
  std::set<std::uint32_t> our_programs = {};  // BPF program ids of the node's own filters
};

class PlainSide {
 public:
  // Borrows `netlink`. Works where the kernel has no nf_tables: then there are no chains.
  [[nodiscard]] static Result<PlainSide> open(Netlink& netlink);

  // May forwarded traffic of this inside device use AF_XDP? An Error only when the kernel cannot be asked: treat it as
  // no.
  [[nodiscard]] Result<PlainSideVerdict> inside(const PlainSideQuery& query);
  // Must the cipher side of this outside device send by a packet socket (DeviceKind::packet_out)? The reason, or none.
  [[nodiscard]] Result<std::optional<std::string>> cipher_side_needs_socket(
      std::uint32_t ifindex, const std::set<std::uint32_t>& our_programs);

  // Readable when nftables changed; -1 without nf_tables. TC and link changes come through NetworkMonitor (`traffic`,
  // `links`); legacy iptables and sysctls announce nothing: ask again every 10 s.
  [[nodiscard]] int fd() const;
  // Empties fd(): true when nftables changed since the last call.
  [[nodiscard]] bool take_change();

 private:
  PlainSide(Netlink& netlink, std::optional<NetlinkSocket> requests, std::optional<NetlinkSocket> events)
      : netlink_(&netlink), requests_(std::move(requests)), events_(std::move(events)) {}
  Netlink* netlink_;
  std::optional<NetlinkSocket> requests_, events_;
};

}  // namespace postern::loader
