// Random policies and packets: BPF programs, compiled image and naive evaluator must say the same.
#include <cstring>
#include <random>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;

namespace {

constexpr std::array<std::uint8_t, 7> protocols = {proto_tcp, proto_udp, 132, proto_icmp, proto_esp, 47, 89};
constexpr std::array<std::uint8_t, 6> classes = {0, 0x20, 0x28, 0xb8, 0xb9, 0xfc};
constexpr std::array<std::uint16_t, 10> ports = {0, 1, 22, 79, 80, 81, 1023, 1024, 32768, 65535};

// Few addresses, ports and protocols, so that rules overlap in every way and packets hit their edges.
class Generator {
 public:
  explicit Generator(std::uint32_t seed) : random_(seed) {}

  PolicyInput policy(std::uint32_t generation) {
    PolicyInput out{generation, {}};
    const std::uint32_t count = below(10) == 0 ? 60 + below(400) : below(30);
    options_ = below(2) == 0;  // most policies in the field have none, and then the data plane does not look
    const bool many_entries = below(8) == 0;
    std::uint32_t entry = 10, entries = 1;
    bool v4 = true;
    for (std::uint32_t i = 0; i < count; ++i) {
      if (below(many_entries ? 2 : count / 20 + 4) == 0 && entries < POSTERN_MAX_ENTRIES) {
        ++entries;
        entry += 10;
        v4 = below(3) != 0;
      }
      out.rules.push_back(rule(entry, i + 1, v4));
    }
    return out;
  }

  PolicyPacket packet() {
    PolicyPacket out;
    const bool v4 = below(3) != 0;
    out.source = address(v4);
    out.destination = address(v4);
    out.protocol = protocols[below(protocols.size())];
    out.later_fragment = below(6) == 0;
    out.traffic_class = classes[below(classes.size())];
    if (out.protocol == proto_tcp && !out.later_fragment) out.tcp_flags = static_cast<std::uint8_t>(below(64));
    if (is_icmp(out.protocol) && !out.later_fragment) out.source_port = icmp();
    if (has_ports(out.protocol) && !out.later_fragment) {
      out.source_port = port();
      out.destination_port = port();
    }
    return out;
  }

 private:
  std::uint32_t below(std::size_t limit) {
    return std::uniform_int_distribution<std::uint32_t>(0, static_cast<std::uint32_t>(limit - 1))(random_);
  }
  // Echo, its answer, and "unreachable" with two codes: in IPv6 all of them are errors or unknown.
  std::uint16_t icmp() { return static_cast<std::uint16_t>(std::array{0x0800, 0x0000, 0x0d00, 0x0e01}[below(4)]); }
  std::uint16_t port() { return below(2) ? ports[below(ports.size())] : static_cast<std::uint16_t>(below(65536)); }
  // Three varying bits at each of four places: nested and disjoint prefixes of many lengths.
  IpAddress address(bool v4) {
    if (v4) return IpAddress::v4(0x14000000U | below(4) << 22 | below(4) << 15 | below(4) << 7 | below(4));
    std::array<std::uint8_t, 16> bytes = {0x20, 0x01, 0x0d, 0xb8};
    bytes[5] = static_cast<std::uint8_t>(below(4) << 3);
    bytes[7] = static_cast<std::uint8_t>(below(4));
    bytes[15] = static_cast<std::uint8_t>(below(4));
    return IpAddress::from_mapped(bytes);
  }
  Prefix prefix(bool v4) {
    static constexpr std::array<std::uint8_t, 8> lengths4 = {0, 8, 10, 16, 18, 24, 31, 32};
    static constexpr std::array<std::uint8_t, 8> lengths6 = {0, 1, 32, 45, 62, 64, 127, 128};
    return {address(v4), v4 ? lengths4[below(8)] : lengths6[below(8)]};
  }
  std::vector<PolicyPortRange> ranges() {
    std::vector<PolicyPortRange> out;
    for (std::uint32_t i = below(3); i > 0; --i) {
      const std::uint16_t a = port(), b = below(3) == 0 ? a : port();
      out.push_back({std::min(a, b), std::max(a, b)});
    }
    return out;
  }
  PolicyRule rule(std::uint32_t entry, std::uint32_t flow, bool v4) {
    PolicyRule out;
    out.entry = entry;
    out.permit = below(3) != 0;
    out.flow = out.permit ? flow : 0;
    out.source = prefix(v4);
    out.destination = prefix(v4);
    if (below(3) != 0) out.protocol = protocols[below(protocols.size())];
    if (out.protocol && has_ports(*out.protocol) && below(2)) {
      out.source_ports = ranges();
      out.destination_ports = ranges();
    }
    if (options_) add_options(out);
    if (below(5) == 0 && !out.looks_inside()) out.fragments = PolicyFragments::only;
    if (out.permit && out.looks_inside() && below(2) == 0) out.fragment_flow = 10000 + flow;
    return out;
  }
  void add_options(PolicyRule& out) {
    if (out.protocol == proto_icmp && below(2) == 0) {
      const std::uint16_t type = icmp();
      out.source_ports = {{type, static_cast<std::uint16_t>(below(2) ? type : type | 0xff)}};
    }
    if (below(3) == 0) {
      out.traffic_class.mask = std::array<std::uint8_t, 4>{0xfc, 0xe0, 0x1e, 0xfe}[below(4)];
      out.traffic_class.value = classes[below(classes.size())] & out.traffic_class.mask;
    }
    if (out.protocol == proto_tcp && below(3) == 0) {
      out.tcp_flags = {static_cast<std::uint8_t>(below(64)), static_cast<std::uint8_t>(below(64)), below(2) == 0};
      if (out.tcp_flags.all) out.tcp_flags.clear &= static_cast<std::uint8_t>(~out.tcp_flags.set);
    }
  }
  std::mt19937 random_;
  bool options_ = false;
};

Octets frame_of(const PolicyPacket& packet) {
  Octets transport = be16(packet.source_port) + be16(packet.destination_port) + zeros(16);
  transport[13] = packet.tcp_flags;
  const std::string source = packet.source.text(), destination = packet.destination.text();
  Octets frame;
  if (packet.source.family() == Family::v4)
    frame = ethernet(type_ipv4, ipv4({source, destination, packet.protocol, 64,
                                      static_cast<std::uint16_t>(packet.later_fragment ? 3 : 0), 0, 0},
                                     transport));
  else if (!packet.later_fragment)
    frame = ethernet(type_ipv6, ipv6({source, destination, packet.protocol}, transport));
  else
    frame = ethernet(
        type_ipv6, ipv6({source, destination, proto_fragment}, fragment_header(packet.protocol, 3, false) + transport));
  // TOS, or the traffic class across two bytes.
  if (packet.source.family() == Family::v4) {
    frame[15] = packet.traffic_class;
  } else {
    frame[14] = static_cast<std::uint8_t>(0x60 | packet.traffic_class >> 4);
    frame[15] = static_cast<std::uint8_t>(packet.traffic_class << 4);
  }
  return frame;
}

PolicyPacket mirrored(PolicyPacket packet) {
  std::swap(packet.source, packet.destination);
  if (has_ports(packet.protocol)) std::swap(packet.source_port, packet.destination_port);
  return packet;
}

std::uint32_t flow_by_tc(BpfNode& node, const PolicyPacket& packet) {
  const RunResult result = node.tc_egress(frame_of(packet), node.out0);
  if (result.action != TC_ACT_REDIRECT) return 0;
  postern_stamp stamp;
  std::memcpy(&stamp, result.frame.data(), sizeof stamp);
  return stamp.flow;
}

std::string describe(const PolicyPacket& packet) {
  return fmt::format("{} > {} protocol {} ports {} > {} class {} flags {}{}", packet.source.text(),
                     packet.destination.text(), packet.protocol, packet.source_port, packet.destination_port,
                     packet.traffic_class, packet.tcp_flags, packet.later_fragment ? " later fragment" : "");
}

}  // namespace

TEST_CASE("property: the compiled image says what the naive evaluator says") {
  std::size_t protected_packets = 0;
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    Generator generator(seed);
    const PolicyInput policy = generator.policy(seed + 1);
    const auto image = compile(policy);
    REQUIRE(image);
    for (int i = 0; i < 60; ++i) {
      const PolicyPacket packet = generator.packet();
      const PolicyVerdict expected = evaluate(policy, packet);
      const std::string text = describe(packet);
      CAPTURE(text);
      REQUIRE(classify(*image, packet) == expected);
      if (expected.flow != 0) ++protected_packets;
    }
  }
  // The generator is no good if one answer is all there is.
  CHECK(protected_packets > 3000);
  CHECK(protected_packets < 15000);
}

TEST_CASE("property: the BPF programs say what the naive evaluator says, out and, mirrored, in") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  for (std::uint32_t seed = 1000; seed < 1220; ++seed) {
    CAPTURE(seed);
    Generator generator(seed);
    PolicyInput policy = generator.policy(1);
    policy.generation = node.set_policy(policy.rules);
    for (int i = 0; i < 40; ++i) {
      const PolicyPacket packet = generator.packet();
      const PolicyVerdict expected = evaluate(policy, packet);
      const std::string text = describe(packet);
      CAPTURE(text);
      REQUIRE(flow_by_tc(node, packet) == expected.flow);
      REQUIRE(flow_by_tc(node, packet) == expected.flow);  // this time from the flow cache
      const auto action = node.xdp(frame_of(mirrored(packet)), node.out0).action;
      REQUIRE(action == (expected.flow != 0 ? XDP_DROP : XDP_PASS));
      if (expected.flow != 0) REQUIRE(node.hits(policy.generation, expected.ace) >= 3);
    }
  }
}
