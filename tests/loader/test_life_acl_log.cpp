// The lines of access rules with log, without BPF: what a record says.
#include <algorithm>

#include <doctest/doctest.h>

#include "loader/acl_log.hpp"

using namespace postern;
using namespace postern::loader;

namespace {

AclLogNames names() {
  AclLogNames out;
  out.rule = [](std::uint32_t generation, std::uint32_t ace) -> std::optional<AclLogNames::Rule> {
    if (generation != 5) return std::nullopt;
    return AclLogNames::Rule{"101 rule " + std::to_string(ace), ace != 2};
  };
  out.interface = [](std::uint32_t ifindex) { return "if" + std::to_string(ifindex); };
  out.mac = [](std::uint32_t, const IpAddress& host) {
    return host == *IpAddress::parse("10.1.0.2") ? std::optional(MacAddress{2, 0, 0, 0, 0, 9}) : std::nullopt;
  };
  return out;
}

postern_log_key key(const char* source, const char* destination, std::uint8_t protocol, std::uint16_t source_port = 0,
                    std::uint16_t destination_port = 0) {
  postern_log_key out{};
  out.flow.generation = 5;
  std::ranges::copy(IpAddress::parse(source)->mapped(), out.flow.source.bytes);
  std::ranges::copy(IpAddress::parse(destination)->mapped(), out.flow.destination.bytes);
  out.flow.protocol = protocol;
  out.flow.source_port = __builtin_bswap16(source_port);
  out.flow.destination_port = __builtin_bswap16(destination_port);
  out.ace = 1;
  return out;
}

std::string line(const postern_log_key& flow, std::uint64_t packets = 1) {
  return acl_log_line(flow, packets, names());
}

}  // namespace

TEST_CASE("TS-12: a log record has the 5-tuple, the verdict, the count, and the source where the rule wants it") {
  CHECK(line(key("10.1.0.2", "10.2.0.2", 17, 5000, 53)) ==
        "access list 101 rule 1 permitted udp 10.1.0.2(5000) -> 10.2.0.2(53), 1 packet");
  CHECK(line(key("2001:db8::1", "2001:db8::2", 6, 1, 65535), 12) ==
        "access list 101 rule 1 permitted tcp 2001:db8::1(1) -> 2001:db8::2(65535), 12 packets");
  CHECK(line(key("10.1.0.2", "10.2.0.2", 1, 0x0800)) ==
        "access list 101 rule 1 permitted icmp 10.1.0.2 -> 10.2.0.2 (8/0), 1 packet");
  CHECK(line(key("10.1.0.2", "10.2.0.2", 89)) == "access list 101 rule 1 permitted 89 10.1.0.2 -> 10.2.0.2, 1 packet");

  postern_log_key piece = key("10.1.0.2", "10.2.0.2", 17);
  piece.flow.fragment = 1;
  piece.ace = 2;
  CHECK(line(piece) == "access list 101 rule 2 denied udp 10.1.0.2 -> 10.2.0.2 fragment, 1 packet");

  postern_log_key from = key("10.1.0.2", "10.2.0.2", 17, 1, 2);
  from.ifindex = 3;
  CHECK(line(from).ends_with("10.2.0.2(2) (if3 02:00:00:00:00:09), 1 packet"));  // by the neighbour table
  from.mac[0] = 0x52;
  CHECK(line(from).ends_with("(if3 52:00:00:00:00:00), 1 packet"));
  from = key("10.9.0.2", "10.2.0.2", 17, 1, 2);
  from.ifindex = 3;
  CHECK(line(from).ends_with("10.2.0.2(2) (if3), 1 packet"));

  postern_log_key inbound = key("10.1.0.2", "10.2.0.2", 17, 1, 2);
  inbound.mirrored = 1;
  CHECK(line(inbound) == "access list 101 rule 1 permitted udp 10.2.0.2(2) -> 10.1.0.2(1) inbound in clear, 1 packet");
  inbound.flow.generation = 4;
  CHECK(line(inbound).starts_with("access list of a former policy permitted"));
}
