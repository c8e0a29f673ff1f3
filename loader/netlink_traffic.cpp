// Qdiscs and TC filters of loader/netlink.hpp.
#include <cerrno>

#include <linux/gen_stats.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include "loader/netlink.hpp"

namespace postern::loader {
namespace {

Qdisc read_qdisc(const nlmsghdr* message) {
  const auto* const header = static_cast<const tcmsg*>(nlmsg_data(message));
  const Attributes attributes(message, sizeof *header);
  Qdisc qdisc;
  qdisc.ifindex = static_cast<std::uint32_t>(header->tcm_ifindex);
  qdisc.kind = attributes.text(TCA_KIND);
  qdisc.handle = header->tcm_handle;
  qdisc.parent = header->tcm_parent;
  const Attributes stats = attributes.nested(TCA_STATS2);
  const auto basic = stats.value<gnet_stats_basic>(TCA_STATS_BASIC);
  const auto queue = stats.value<gnet_stats_queue>(TCA_STATS_QUEUE);
  qdisc.bytes = basic.bytes;
  qdisc.packets = stats.value<std::uint64_t>(TCA_STATS_PKT64, basic.packets);
  qdisc.drops = queue.drops;
  qdisc.overlimits = queue.overlimits;
  return qdisc;
}

}  // namespace

Result<std::vector<Qdisc>> Netlink::qdiscs() {
  std::vector<Qdisc> found;
  NetlinkMessage request(RTM_GETQDISC, 0, tcmsg{});
  // Without it the qdiscs of each mq queue and `noqueue` are left out.
  request.put(TCA_DUMP_INVISIBLE, {});
  POSTERN_CHECK(socket_.dump(
      request, "list qdiscs",
      [&](const nlmsghdr* message) {
        if (message->nlmsg_type == RTM_NEWQDISC) found.push_back(read_qdisc(message));
      },
      [&] { found.clear(); }));
  return found;
}

Result<std::vector<Qdisc>> Netlink::qdiscs(std::uint32_t ifindex) {
  POSTERN_TRY(all, qdiscs());
  std::erase_if(all, [&](const Qdisc& one) { return one.ifindex != ifindex; });
  return all;
}

Result<std::vector<TcFilter>> Netlink::filters(std::uint32_t ifindex, TcHook hook) {
  std::vector<TcFilter> found;
  tcmsg header{};
  header.tcm_ifindex = static_cast<int>(ifindex);
  header.tcm_parent =
      hook == TcHook::ingress ? TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) : TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS);
  NetlinkMessage request(RTM_GETTFILTER, 0, header);
  const auto listed = socket_.dump(
      request, "list filters of link " + std::to_string(ifindex),
      [&](const nlmsghdr* message) {
        if (message->nlmsg_type != RTM_NEWTFILTER) return;
        const auto* const filter = static_cast<const tcmsg*>(nlmsg_data(message));
        const Attributes attributes(message, sizeof *filter);
        // Each chain is announced by a header of its own without a handle.
        if (filter->tcm_handle == 0) return;
        const Attributes options = attributes.nested(TCA_OPTIONS);
        const bool bpf = attributes.text(TCA_KIND) == "bpf";
        found.push_back({ifindex, filter->tcm_parent, attributes.text(TCA_KIND),
                         bpf ? options.text(TCA_BPF_NAME) : std::string{},
                         bpf ? options.value<std::uint32_t>(TCA_BPF_ID) : 0U});
      },
      [&] { found.clear(); });
  // No clsact qdisc: nothing can hang there.
  if (!listed && listed.error().code != EINVAL && listed.error().code != ENOENT) return std::unexpected(listed.error());
  return found;
}

}  // namespace postern::loader
