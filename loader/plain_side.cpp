#include "loader/plain_side.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include <bpf/bpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "loader/nft_chains.hpp"

namespace postern::loader {
namespace {

using Reason = std::optional<std::string>;

// bpf_attach_type of Linux 6.6, not in the headers of 6.1.
constexpr int tcx_ingress = 46, tcx_egress = 47;
constexpr std::uint32_t netdev_egress = 1;  // NF_NETDEV_EGRESS
constexpr std::uint32_t inet_ingress = 5;   // NF_INET_INGRESS

// A small file of procfs; empty when it is not there.
std::string read_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return {};
  std::array<char, 512> buffer{};
  const ssize_t size = ::read(fd.get(), buffer.data(), buffer.size());
  return size <= 0 ? std::string{} : std::string(buffer.data(), static_cast<std::size_t>(size));
}

int read_setting(const std::string& path) {
  const std::string text = read_file("/proc/sys/net/" + path);
  return text.empty() ? 0 : text[0] - '0';
}

Reason bad_device(Netlink& netlink, const Link& link) {
  if (!link.ethernet()) return link.name + " is not Ethernet";
  if (link.master == 0) return std::nullopt;
  const auto master = netlink.link(link.master);
  if (master && master->kind == "vrf") return std::nullopt;
  return fmt::format("{} is a port of {}", link.name, master ? master->name : "another device");
}

// By a device that has its packets from this one: XDP sees no tag that the driver took out of the frame.
Result<Reason> shared(Netlink& netlink, const Link& link) {
  constexpr std::array<std::string_view, 5> above = {"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"};
  POSTERN_TRY(links, netlink.links());
  const auto found = std::ranges::find_if(links, [&](const Link& other) {
    return other.lower == link.ifindex && std::ranges::find(above, other.kind) != above.end();
  });
  if (found == links.end()) return std::nullopt;
  return fmt::format("{} {} stands on {}", found->kind, found->name, link.name);
}

Reason not_forwarding(const Link& link, const PlainSideQuery& query) {
  if (query.ipv4 && read_setting("ipv4/conf/" + link.name + "/forwarding") == 0)
    return "IPv4 forwarding is off on " + link.name;
  if (query.ipv6 && read_setting("ipv6/conf/" + link.name + "/forwarding") == 0)
    return "IPv6 forwarding is off on " + link.name;
  return std::nullopt;
}

// The larger of both counts (Documentation/networking/ip-sysctl: rp_filter); 1 is RFC 3704 strict.
Reason strict_reverse_path(const Link& link) {
  const int all = read_setting("ipv4/conf/all/rp_filter");
  if (std::max(all, read_setting("ipv4/conf/" + link.name + "/rp_filter")) != 1) return std::nullopt;
  return "rp_filter is strict on " + link.name;
}

// Legacy iptables: the tables that exist in this namespace. thread-self, for the node may run beside others in a
// process.
Reason legacy_iptables() {
  for (const std::string_view file : {"ip_tables_names", "ip6_tables_names"}) {
    const std::string names = read_file("/proc/thread-self/net/" + std::string(file));
    if (names.empty()) continue;
    return fmt::format("iptables (legacy) table {}", names.substr(0, names.find('\n')));
  }
  return std::nullopt;
}

bool default_qdisc(const Qdisc& qdisc) {
  constexpr std::array<std::string_view, 5> harmless = {"noqueue", "mq", "pfifo_fast", "fq_codel", "noop"};
  constexpr std::array<std::string_view, 2> hooks_only = {"clsact", "ingress"};  // judged by their filters
  const auto is_one_of = [&](const auto& kinds) { return std::ranges::find(kinds, qdisc.kind) != kinds.end(); };
  return qdisc.handle == 0 || is_one_of(harmless) || is_one_of(hooks_only);
}

Result<Reason> shaped(Netlink& netlink, const Link& link) {
  POSTERN_TRY(qdiscs, netlink.qdiscs(link.ifindex));
  const auto found = std::ranges::find_if_not(qdiscs, default_qdisc);
  if (found == qdiscs.end()) return std::nullopt;
  return fmt::format("qdisc {} on {}", found->kind, link.name);
}

Result<Reason> filtered(Netlink& netlink, const Link& link, TcHook hook, const std::set<std::uint32_t>& our_programs) {
  const std::string_view side = hook == TcHook::ingress ? "ingress" : "egress";
  POSTERN_TRY(filters, netlink.filters(link.ifindex, hook));
  for (const TcFilter& filter : filters)
    if (filter.kind != "bpf" || !our_programs.contains(filter.program_id))
      return fmt::format("TC {} filter ({}{}{}) on {}", side, filter.kind, filter.name.empty() ? "" : " ", filter.name,
                         link.name);
  std::array<std::uint32_t, 64> ids{};
  auto count = static_cast<std::uint32_t>(ids.size());
  std::uint32_t flags = 0;
  const auto type = static_cast<bpf_attach_type>(hook == TcHook::ingress ? tcx_ingress : tcx_egress);
  // The target of a TCX query is an ifindex. Kernels before 6.6 refuse it: they have no TCX.
  if (::bpf_prog_query(static_cast<int>(link.ifindex), type, 0, &flags, ids.data(), &count) != 0) return std::nullopt;
  for (const std::uint32_t id : std::span(ids).first(std::min<std::size_t>(count, ids.size())))
    if (!our_programs.contains(id)) return fmt::format("TCX {} program {} on {}", side, id, link.name);
  return std::nullopt;
}

bool on_forwarding_path(const NftChain& chain, const Link& link, const PlainSideQuery& query) {
  if (!chain.has_effect()) return false;
  if (chain.family == NFPROTO_NETDEV) return chain.is_on(link.name);
  const bool family = chain.family == NFPROTO_INET || (chain.family == NFPROTO_IPV4 && query.ipv4) ||
                      (chain.family == NFPROTO_IPV6 && query.ipv6);
  if (!family) return false;
  if (chain.hook == inet_ingress) return chain.is_on(link.name);
  return chain.hook == NF_INET_PRE_ROUTING || chain.hook == NF_INET_FORWARD || chain.hook == NF_INET_POST_ROUTING;
}

Result<Reason> filtered_by_nftables(NetlinkSocket& socket, const Link& link, const PlainSideQuery& query) {
  POSTERN_TRY(chains, list_nft_chains(socket));
  for (const NftChain& chain : chains)
    if (on_forwarding_path(chain, link, query)) return chain.text();
  if (chains.empty()) return std::nullopt;
  POSTERN_TRY(tracking, find_nft_connection_tracking(socket));
  if (tracking) return "connection tracking by " + *tracking;
  return std::nullopt;
}

PlainSideVerdict refuse(std::string reason) { return {.use_af_xdp = false, .reason = std::move(reason)}; }

}  // namespace

Result<PlainSide> PlainSide::open(Netlink& netlink) {
  auto requests = NetlinkSocket::open(NETLINK_NETFILTER);
  if (!requests) {
    if (requests.error().code == EPROTONOSUPPORT) return PlainSide(netlink, std::nullopt, std::nullopt);
    return std::unexpected(requests.error());
  }
  POSTERN_TRY(events, NetlinkSocket::open(NETLINK_NETFILTER));
  const int group = NFNLGRP_NFTABLES;
  if (::setsockopt(events.fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0)
    return fail_errno("join the nftables event group");
  return PlainSide(netlink, std::move(*requests), std::move(events));
}

Result<PlainSideVerdict> PlainSide::inside(const PlainSideQuery& query) {
  POSTERN_TRY(link, netlink_->link(query.ifindex));
  POSTERN_TRY(above, shared(*netlink_, link));
  if (above) return refuse(*above);
  if (query.forced) return PlainSideVerdict{.use_af_xdp = true, .reason = "dataplane.plain_side says so"};
  if (auto reason = bad_device(*netlink_, link)) return refuse(*reason);
  if (auto reason = not_forwarding(link, query)) return refuse(*reason);
  if (auto reason = query.ipv4 ? strict_reverse_path(link) : std::nullopt) return refuse(*reason);
  if (auto reason = legacy_iptables()) return refuse(*reason);
  POSTERN_TRY(queueing, shaped(*netlink_, link));
  if (queueing) return refuse(*queueing);
  for (const TcHook hook : {TcHook::ingress, TcHook::egress}) {
    POSTERN_TRY(filter, filtered(*netlink_, link, hook, query.our_programs));
    if (filter) return refuse(*filter);
  }
  if (requests_) {
    POSTERN_TRY(chain, filtered_by_nftables(*requests_, link, query));
    if (chain) return refuse(*chain);
  }
  return PlainSideVerdict{.use_af_xdp = true, .reason = "nothing on the path to bypass"};
}

Result<std::optional<std::string>> PlainSide::cipher_side_needs_socket(std::uint32_t ifindex,
                                                                       const std::set<std::uint32_t>& our_programs) {
  POSTERN_TRY(link, netlink_->link(ifindex));
  POSTERN_TRY(queueing, shaped(*netlink_, link));
  if (queueing) return queueing;
  POSTERN_TRY(filter, filtered(*netlink_, link, TcHook::egress, our_programs));
  if (filter || !requests_) return filter;
  POSTERN_TRY(chains, list_nft_chains(*requests_));
  for (const NftChain& chain : chains)
    if (chain.family == NFPROTO_NETDEV && chain.hook == netdev_egress && chain.has_effect() && chain.is_on(link.name))
      return chain.text();
  return std::nullopt;
}

int PlainSide::fd() const { return events_ ? events_->fd() : -1; }

bool PlainSide::take_change() {
  if (!events_) return false;
  bool changed = false;
  std::array<std::byte, 8192> buffer{};
  while (true) {
    const ssize_t size = ::recv(events_->fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    // ENOBUFS: events were lost, so there were some.
    if (size < 0 && errno != ENOBUFS && errno != EINTR) return changed;
    changed = true;
  }
}

}  // namespace postern::loader
