// TC ingress on the steer TAP: what the worker decrypted arrives on the interface it came in by; nothing else enters
// here.
#include <cstring>

#include <linux/pkt_cls.h>

#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;

namespace {

Octets stamped(std::uint32_t generation, std::uint32_t ifindex) {
  const postern_stamp stamp{generation, 0, ifindex};
  Octets frame =
      ethernet(type_ipv4, ipv4({.source = "10.2.0.2", .destination = "10.1.0.2", .protocol = proto_tcp}, tcp(80, 9)));
  std::memcpy(frame.data(), &stamp, sizeof stamp);
  return frame;
}

}  // namespace

TEST_CASE("a decrypted packet gets the addresses of a frame received there") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const Octets frame = stamped(POSTERN_GENERATION_INBOUND, node.out0);
  const RunResult result = node.tc_ingress(frame, node.steer0);
  CHECK(result.action == TC_ACT_REDIRECT);
  CHECK(Octets(result.frame.begin(), result.frame.begin() + 6) == Octets{2, 0, 0, 0, 0, 1});
  CHECK(Octets(result.frame.begin() + 6, result.frame.begin() + 12) == Octets{6, 0x11, 0x22, 0x33, 0x44, 0x55});
  CHECK(Octets(result.frame.begin() + 12, result.frame.end()) == Octets(frame.begin() + 12, frame.end()));
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_TC_INGRESS, POSTERN_VERDICT_delivered) == 1);
}

TEST_CASE("nothing else enters by the steer TAP") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  CHECK(node.tc_ingress(stamped(1, node.out0), node.steer0).action == TC_ACT_SHOT);
  CHECK(node.tc_ingress(ethernet(type_arp, zeros(28)), node.steer0).action == TC_ACT_SHOT);
  CHECK(node.new_drops(Drop::stale_policy) == 2);
  CHECK(node.tc_ingress(stamped(POSTERN_GENERATION_INBOUND, node.plain0), node.steer0).action == TC_ACT_SHOT);
  CHECK(node.tc_ingress(stamped(POSTERN_GENERATION_INBOUND, 0), node.steer0).action == TC_ACT_SHOT);
  CHECK(node.new_drops(Drop::unknown_flow) == 2);
  CHECK(node.new_verdicts(node.steer0, POSTERN_HOOK_TC_INGRESS, POSTERN_VERDICT_drop) == 4);

  auto blocked = node.outside();
  blocked.flags |= POSTERN_IF_BLOCK;
  node.set_interface(node.out0, blocked);
  CHECK(node.tc_ingress(stamped(POSTERN_GENERATION_INBOUND, node.out0), node.steer0).action == TC_ACT_SHOT);
  CHECK(node.new_drops(Drop::blocked) == 1);
}
