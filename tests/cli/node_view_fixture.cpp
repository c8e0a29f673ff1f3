#include "tests/cli/node_view_fixture.hpp"

#include <doctest/doctest.h>

#include "config/load.hpp"

namespace postern::cli {
namespace {

using loader::DeviceView;
using loader::FlowView;
using loader::NodeView;
using loader::SaView;

constexpr crypto::Transform cbc_sha256{crypto::Cipher::aes_cbc, 128, crypto::Integrity::hmac_sha256_128};

SaView sa(std::uint32_t slot, SaDirection direction, std::uint32_t spi, const char* local, const char* remote) {
  SaView out;
  out.slot = slot;
  out.parameters.direction = direction;
  out.parameters.spi = spi;
  out.parameters.local = *IpAddress::parse(local);
  out.parameters.remote = *IpAddress::parse(remote);
  out.parameters.transform = cbc_sha256;
  out.age_s = 600;
  return out;
}

void count(SaView& view, std::uint64_t packets, std::uint64_t errors) {
  view.packets = packets;
  view.bytes = packets * 1000;
  view.errors = errors;
  view.integrity_drops = errors;
  view.next_sequence = packets + 1;
  view.highest_sequence = packets;
  view.idle_s = 5;
}

FlowView flow(std::uint32_t id, const char* map, const char* interface, std::uint32_t sequence) {
  FlowView out;
  out.flow = id;
  out.map = map;
  out.interface = interface;
  out.sequence = sequence;
  out.plaintext_mtu = 1438;
  return out;
}

std::vector<FlowView> flows() {
  FlowView map4 = flow(1, "M1", "out0", 10);
  map4.inbound = sa(0, SaDirection::inbound, 4098, "192.0.2.1", "192.0.2.2");
  map4.outbound = sa(1, SaDirection::outbound, 4097, "192.0.2.1", "192.0.2.2");
  count(*map4.inbound, 90, 3);
  count(*map4.outbound, 100, 0);
  map4.send_errors = 2;
  FlowView map6 = flow(2, "M6", "out0", 10);
  map6.inbound = sa(2, SaDirection::inbound, 8194, "2001:db8:ff::1", "2001:db8:ff::2");
  map6.plaintext_mtu = 1422;
  FlowView tunnel4 = flow(3, "Tunnel0-head-0", "Tunnel0", 65537);
  tunnel4.tunnel = 0;
  tunnel4.inbound = sa(4, SaDirection::inbound, 12290, "192.0.2.1", "192.0.2.2");
  tunnel4.outbound = sa(5, SaDirection::outbound, 12289, "192.0.2.1", "192.0.2.2");
  tunnel4.outbound->parameters.udp_encapsulation = true;
  count(*tunnel4.inbound, 7, 0);
  count(*tunnel4.outbound, 8, 1);
  FlowView tunnel6 = flow(4, "Tunnel1-head-0", "Tunnel1", 65537);
  tunnel6.tunnel = 1;
  return {map4, map6, tunnel4, tunnel6};
}

DeviceView device(const char* name, std::uint32_t ifindex, const char* role, std::uint32_t mtu) {
  DeviceView out;
  out.name = name;
  out.ifindex = ifindex;
  out.role = role;
  out.mtu = mtu;
  out.admin_up = out.carrier = true;
  out.xdp_mode = "none";
  return out;
}

std::vector<DeviceView> devices() {
  DeviceView outside = device("out0", 3, "outside", 1500);
  outside.mac = "02:00:00:00:00:01";
  outside.xdp_mode = "native";
  outside.addresses = {*Prefix::parse("192.0.2.1/24"), *Prefix::parse("2001:db8:ff::1/64")};
  outside.queues = {
      {.queue = 0, .thread = 0, .rx_packets = 101, .rx_bytes = 110000, .tx_packets = 108, .tx_bytes = 120000}};
  outside.queues[0].kernel_rx_ring_full = 1;
  outside.xdp_verdicts = {20, 101, 0, 0, 4, 6};
  outside.tc_egress_verdicts = {11, 0, 100, 0, 3, 0};
  outside.link_rx_packets = 131;
  outside.link_tx_packets = 130;
  DeviceView inside = device("in0", 4, "inside", 1500);
  inside.plain_side = "tap";
  inside.plain_side_reason = "nftables has a forward chain";
  DeviceView steer = device("pn-N1", 5, "steer", 1500);
  steer.queues = {
      {.queue = 0, .thread = 0, .rx_packets = 100, .rx_bytes = 100000, .tx_packets = 90, .tx_bytes = 90000}};
  steer.tc_ingress_verdicts = {0, 0, 0, 90, 0, 0};
  DeviceView tunnel = device("Tunnel0", 6, "tunnel", 1422);
  tunnel.addresses = {*Prefix::parse("172.16.0.1/30"), *Prefix::parse("2001:db8:fe::1/64")};
  tunnel.queues = {{.queue = 0, .thread = 0, .rx_packets = 9, .rx_bytes = 9000, .tx_packets = 7, .tx_bytes = 7000}};
  tunnel.link_rx_packets = 7;
  tunnel.link_rx_bytes = 7000;
  tunnel.link_tx_packets = 9;
  tunnel.link_tx_bytes = 9000;
  tunnel.link_tx_dropped = 1;
  tunnel.in_bps = 13000;
  tunnel.in_pps = 34;
  tunnel.out_bps = 36000;
  tunnel.out_pps = 35;
  return {outside, inside, steer, tunnel};
}

}  // namespace

NodeView fixed_view() {
  NodeView view;
  auto loaded = config::load_file(POSTERN_EXAMPLES "/lab-n1.json");
  if (!loaded) FAIL(config::to_text(loaded.error()));
  view.document = std::move(loaded->document);
  view.node = "N1";
  view.state = "running";
  view.uptime_s = 3725;
  view.generation = 3;
  view.kernel = "6.1.0";
  view.worker.running = true;
  view.worker.pid = 4711;
  view.worker.threads = view.worker.starts = 1;
  view.worker.engine = "ipsec-mb 1.3 (VAES, AVX512)";
  view.worker.held = 1;
  view.worker.wakeups = 50;
  view.worker.system_calls = 70;
  view.worker.handed = view.worker.helped = 640;
  view.devices = devices();
  view.flows = flows();
  view.kernel_drops[POSTERN_DROP_clear_text] = 6;
  view.worker_drops[POSTERN_DROP_bad_icv] = 3;
  view.worker_drops[POSTERN_DROP_rx_overrun] = 1;
  return view;
}

}  // namespace postern::cli
