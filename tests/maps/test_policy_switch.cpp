// A policy is switched while packets run: each of them is judged by one policy, the old or the new one, and never by
// parts of both.
#include <atomic>
#include <cstring>
#include <thread>

#include <doctest/doctest.h>
#include <linux/pkt_cls.h>

#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;

namespace {

// Flow 5 in a policy of one entry without options; flow 6 in one of two entries, whose rules look at the class and at
// ports, behind a deny. Both protect what goes to 10.2.9.0/24 by flow 7.
std::vector<PolicyRule> plain_rules() {
  return {permit("10.1.0.0/16", "10.2.9.0/24", 7), permit("10.1.0.0/16", "10.2.0.0/16", 5)};
}

std::vector<PolicyRule> careful_rules() {
  PolicyRule no = deny("10.1.0.0/16", "10.2.0.0/24", 10), yes = permit("10.1.0.0/16", "10.2.0.0/16", 6, 20);
  yes.protocol = proto_udp;
  yes.traffic_class = {0xfc, 0};
  yes.destination_ports = {{2000, 2000}};
  return {no, permit("10.1.0.0/16", "10.2.9.0/24", 7, 20), yes};
}

struct Seen {
  std::atomic<std::uint64_t> plain{0}, careful{0}, wrong{0};
};

// Runs one packet after the other until told to stop.
void run_packets(BpfNode& node, const std::string& destination, std::uint32_t plain, std::uint32_t careful,
                 const std::atomic<bool>& stop, Seen& seen) {
  const Octets frame = ethernet(type_ipv4, ipv4({"10.1.0.2", destination}, udp(1000, 2000)));
  while (!stop) {
    const RunResult run = node.tc_egress(frame, node.out0);
    postern_stamp stamp{};
    if (run.action == TC_ACT_REDIRECT) std::memcpy(&stamp, run.frame.data(), sizeof stamp);
    // Generations alternate: odd ones are plain.
    const bool odd = stamp.generation % 2 == 1;
    const bool right = run.action == TC_ACT_REDIRECT && stamp.flow == (odd ? plain : careful);
    ++(!right ? seen.wrong : odd ? seen.plain : seen.careful);
  }
}

}  // namespace

TEST_CASE("no packet sees half a policy") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  REQUIRE(node.set_policy(plain_rules()) % 2 == 1);
  std::atomic<bool> stop{false};
  Seen changing, staying;
  std::thread first([&] { run_packets(node, "10.2.0.2", 5, 6, stop, changing); });
  std::thread second([&] { run_packets(node, "10.2.9.2", 7, 7, stop, staying); });
  for (int i = 0; i < 60; ++i) {
    node.set_policy(i % 2 == 0 ? careful_rules() : plain_rules());
    // Another interface's entry takes the memory that the switch gave back.
    node.set_interface(node.in0, node.inside());
  }
  stop = true;
  first.join();
  second.join();
  for (const Seen* const seen : {&changing, &staying}) {
    CHECK(seen->wrong == 0);
    CHECK(seen->plain > 20);
    CHECK(seen->careful > 20);
  }
}
