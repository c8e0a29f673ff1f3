// loader/plain_side: each thing on the path that AF_XDP would skip is seen, named, and seen to go.
#include <array>
#include <cerrno>

#include <netinet/in.h>
#include <sys/socket.h>

#include "loader/plain_side.hpp"
#include "tests/loader/net_lab.hpp"

using namespace postern;
using namespace postern::loader;
using namespace postern::net_test;

namespace {

struct Lab : OwnNamespace {
  Lab() {
    shell("ip link add in0 type veth peer name far0 && ip link set in0 up && ip link set far0 up");
    shell("ip link add out0 type veth peer name far1 && ip link set out0 up && ip link set far1 up");
    for (const char* name : {"in0", "far0", "out0", "far1"}) until_it_carries(name);
    shell("sysctl -qw net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1");
    shell("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.in0.rp_filter=0");
    in = netlink.link("in0").value().ifindex;
    out = netlink.link("out0").value().ifindex;
  }
  PlainSideVerdict verdict() { return plain.inside({.ifindex = in, .ipv4 = true, .ipv6 = true}).value(); }
  std::string refusal() {
    const PlainSideVerdict now = verdict();
    return now.use_af_xdp ? "" : now.reason;
  }
  std::string socket_reason() { return plain.cipher_side_needs_socket(out, {}).value().value_or(""); }

  Netlink netlink = Netlink::open().value();
  PlainSide plain = PlainSide::open(netlink).value();
  std::uint32_t in = 0, out = 0;
};

struct Row {
  const char *set, *unset, *reason;
};

}  // namespace

TEST_CASE("inside: nothing on the path, then each thing that is, then nothing again") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  CHECK(lab.verdict().reason == "nothing on the path to bypass");
  const Row rows[] = {
      {"sysctl -qw net.ipv4.conf.in0.forwarding=0", "sysctl -qw net.ipv4.conf.in0.forwarding=1",
       "IPv4 forwarding is off on in0"},
      {"sysctl -qw net.ipv6.conf.in0.forwarding=0", "sysctl -qw net.ipv6.conf.in0.forwarding=1",
       "IPv6 forwarding is off on in0"},
      {"sysctl -qw net.ipv4.conf.all.rp_filter=1", "sysctl -qw net.ipv4.conf.all.rp_filter=0",
       "rp_filter is strict on in0"},
      {"tc qdisc add dev in0 root tbf rate 1mbit burst 10k limit 10k", "tc qdisc del dev in0 root", "qdisc tbf on in0"},
      {"tc qdisc add dev in0 clsact && tc filter add dev in0 ingress u32 match u32 0 0 classid 1:1",
       "tc qdisc del dev in0 clsact", "TC ingress filter (u32) on in0"},
      {"tc qdisc add dev in0 clsact && tc filter add dev in0 egress u32 match u32 0 0 classid 1:1",
       "tc qdisc del dev in0 clsact", "TC egress filter (u32) on in0"},
      {"nft 'table ip t { chain c { type filter hook forward priority 0; counter; }; }'", "nft delete table ip t",
       "nftables chain t c"},
      {"nft 'table inet t { chain c { type filter hook prerouting priority 0; counter; }; }'",
       "nft delete table inet t", "nftables chain t c"},
      {"nft 'table ip6 t { chain c { type filter hook postrouting priority 0; counter; }; }'", "nft delete table ip6 t",
       "nftables chain t c"},
      {"nft 'table ip t { chain c { type filter hook forward priority 0; policy drop; }; }'", "nft delete table ip t",
       "nftables chain t c"},
      {"nft 'table netdev t { chain c { type filter hook ingress device in0 priority 0; counter; }; }'",
       "nft delete table netdev t", "nftables chain t c"},
      {"nft 'table inet t { chain c { type filter hook input priority 0; ct state established accept; }; }'",
       "nft delete table inet t", "connection tracking by nftables chain t c"},
      {"ip link add br0 type bridge && ip link set in0 master br0", "ip link del br0", "in0 is a port of br0"},
      {"ip link add link in0 name mac0 type macvlan", "ip link del mac0", "macvlan mac0 stands on in0"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.set);
    shell(row.set);
    CHECK(lab.refusal() == row.reason);
    shell(row.unset);
    CHECK(lab.refusal() == "");
  }
}

TEST_CASE("inside, forced: what the operator configured does not count, a device above does") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  const auto forced = [&] { return lab.plain.inside({.ifindex = lab.in, .forced = true}).value(); };
  shell("sysctl -qw net.ipv4.conf.in0.forwarding=0");
  CHECK(forced().use_af_xdp);
  CHECK(forced().reason == "dataplane.plain_side says so");
  shell("ip link add link out0 name mac1 type macvlan");
  CHECK(forced().use_af_xdp);
  for (const std::string kind : {"macvlan", "macvtap", "vlan id 5", "ipvlan", "ipvtap"}) {
    if (!succeeds("ip link add link in0 name above0 type " + kind + " 2>/dev/null")) {
      MESSAGE("skipped: this kernel has no ", kind);
      continue;
    }
    CHECK(!forced().use_af_xdp);
    CHECK(forced().reason == kind.substr(0, kind.find(' ')) + " above0 stands on in0");
    shell("ip link del above0");
    CHECK(forced().use_af_xdp);
  }
}

TEST_CASE("inside: what does not touch forwarded packets does not matter") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  const Row rows[] = {
      {"nft 'table inet t { chain i { type filter hook input priority 0; tcp dport 22 accept; };"
       " chain o { type filter hook output priority 0; counter; }; }'",
       "nft delete table inet t", ""},
      // What a distribution ships: chains that are there and do nothing.
      {"nft 'table inet t { chain f { type filter hook forward priority 0; }; }'", "nft delete table inet t", ""},
      {"nft 'table inet t { chain not_hooked { counter; }; }'", "nft delete table inet t", ""},
      {"nft 'table netdev t { chain c { type filter hook ingress device out0 priority 0; counter; }; }'",
       "nft delete table netdev t", ""},
      {"tc qdisc add dev out0 root tbf rate 1mbit burst 10k limit 10k", "tc qdisc del dev out0 root", ""},
      {"tc qdisc add dev in0 clsact", "tc qdisc del dev in0 clsact", ""},
      {"sysctl -qw net.ipv4.conf.in0.rp_filter=2", "sysctl -qw net.ipv4.conf.in0.rp_filter=0", ""},
  };
  for (const Row& row : rows) {
    CAPTURE(row.set);
    shell(row.set);
    CHECK(lab.refusal() == row.reason);
    shell(row.unset);
  }
  shell("nft 'table ip6 t { chain c { type filter hook forward priority 0; counter; }; }'");
  CHECK(lab.plain.inside({.ifindex = lab.in, .ipv4 = true, .ipv6 = false}).value().use_af_xdp);
  CHECK(!lab.plain.inside({.ifindex = lab.in, .ipv4 = false, .ipv6 = true}).value().use_af_xdp);
}

TEST_CASE("inside: a table of legacy iptables, even an empty one, is somebody's firewall") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  CHECK(lab.refusal() == "");
  // Asking for it is what makes it in this namespace: iptables-legacy does nothing else.
  const Fd socket(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  std::array<char, 84> info{"filter"};  // struct ipt_getinfo
  socklen_t size = info.size();
  constexpr int ipt_so_get_info = 64;
  if (::getsockopt(socket.get(), IPPROTO_IP, ipt_so_get_info, info.data(), &size) != 0) {
    MESSAGE("skipped: this kernel has no legacy iptables");
    return;
  }
  CHECK(lab.refusal() == "iptables (legacy) table filter");
}

TEST_CASE("inside: a device that is gone or not Ethernet") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  CHECK(lab.plain.inside({.ifindex = 4242}).error().code == ENODEV);
  POSTERN_GET(loopback, lab.netlink.link("lo"));
  CHECK(lab.plain.inside({.ifindex = loopback.ifindex}).value().reason == "lo is not Ethernet");
}

TEST_CASE("cipher side: a qdisc, a filter or an nftables egress hook needs the packet socket") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  CHECK(lab.socket_reason() == "");
  const Row rows[] = {
      {"tc qdisc add dev out0 root handle 1: htb", "tc qdisc del dev out0 root", "qdisc htb on out0"},
      {"tc qdisc add dev out0 clsact && tc filter add dev out0 egress u32 match u32 0 0 classid 1:1",
       "tc qdisc del dev out0 clsact", "TC egress filter (u32) on out0"},
      {"nft 'table netdev t { chain c { type filter hook egress device out0 priority 0; counter; }; }'",
       "nft delete table netdev t", "nftables chain t c"},
      // These do not stand between the worker and the wire.
      {"tc qdisc add dev out0 clsact && tc filter add dev out0 ingress u32 match u32 0 0 classid 1:1",
       "tc qdisc del dev out0 clsact", ""},
      {"nft 'table ip t { chain c { type filter hook postrouting priority 0; counter; }; }'", "nft delete table ip t",
       ""},
  };
  for (const Row& row : rows) {
    CAPTURE(row.set);
    shell(row.set);
    CHECK(lab.socket_reason() == row.reason);
    shell(row.unset);
    CHECK(lab.socket_reason() == "");
  }
  CHECK(lab.plain.cipher_side_needs_socket(4242, {}).error().code == ENODEV);
}

TEST_CASE("a change of nftables wakes the owner") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  REQUIRE(lab.plain.fd() >= 0);
  CHECK(!lab.plain.take_change());
  shell("nft add table ip t");
  CHECK(readable(lab.plain.fd(), std::chrono::seconds(2)));
  CHECK(lab.plain.take_change());
  CHECK(!lab.plain.take_change());
}
