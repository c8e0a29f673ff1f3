// The compiler: rows that it makes, and what it refuses.
#include <algorithm>
#include <set>

#include <doctest/doctest.h>

#include "maps/policy.hpp"

using namespace postern;

namespace {

Prefix prefix(std::string_view text) { return Prefix::parse(text).value(); }
IpAddress address(std::string_view text) { return IpAddress::parse(text).value(); }

PolicyRule rule(std::string_view source, std::string_view destination, std::uint32_t entry = 10) {
  PolicyRule out;
  out.entry = entry;
  out.flow = 1;
  out.source = prefix(source);
  out.destination = prefix(destination);
  return out;
}
PolicyRule tcp_port(std::uint16_t first, std::uint16_t last) {
  PolicyRule out = rule("0.0.0.0/0", "0.0.0.0/0");
  out.protocol = 6;
  out.destination_ports = {{first, last}};
  return out;
}

Result<PolicyImage> compile_rules(std::vector<PolicyRule> rules) { return compile({1, std::move(rules)}); }

bool has_bit(const postern_ace_bits& bits, std::uint32_t ace) {
  const bool in_summary = (bits.summary >> (ace / 64) & 1) != 0;
  const bool in_word = (bits.words[ace / 64] >> (ace % 64) & 1) != 0;
  return in_word && in_summary;
}

// Length (without the generation's 32 bits) and port of each row that carries ACE 0.
std::set<std::pair<std::uint32_t, std::uint16_t>> port_prefixes(const PolicyImage& image) {
  std::set<std::pair<std::uint32_t, std::uint16_t>> out;
  for (const auto& [key, bits] : image.destination_ports)
    if (has_bit(bits, 0)) out.insert({key.prefix_length - 32, __builtin_bswap16(key.port)});
  return out;
}

}  // namespace

TEST_CASE("port ranges become the fewest prefixes") {
  using Set = std::set<std::pair<std::uint32_t, std::uint16_t>>;
  CHECK(port_prefixes(*compile_rules({tcp_port(80, 80)})) == Set{{16, 80}});
  CHECK(port_prefixes(*compile_rules({tcp_port(0, 65535)})) == Set{{0, 0}});
  CHECK(port_prefixes(*compile_rules({tcp_port(1024, 65535)})) ==
        Set{{6, 1024}, {5, 2048}, {4, 4096}, {3, 8192}, {2, 16384}, {1, 32768}});
  CHECK(port_prefixes(*compile_rules({tcp_port(1, 6)})) == Set{{16, 1}, {15, 2}, {15, 4}, {16, 6}});
  CHECK(port_prefixes(*compile_rules({tcp_port(65535, 65535)})) == Set{{16, 65535}});
  CHECK(port_prefixes(*compile_rules({tcp_port(1, 65534)})).size() == 30);  // the worst there is
  PolicyRule overlapping = tcp_port(80, 90);
  overlapping.destination_ports.push_back({80, 90});
  CHECK(port_prefixes(*compile_rules({overlapping})) == port_prefixes(*compile_rules({tcp_port(80, 90)})));
}

TEST_CASE("a prefix carries the rules of every shorter one that covers it") {
  const auto image =
      compile_rules({rule("10.0.0.0/8", "0.0.0.0/0"), rule("10.1.0.0/16", "0.0.0.0/0"),
                     rule("10.1.2.0/24", "0.0.0.0/0"), rule("10.2.0.0/16", "0.0.0.0/0"), rule("::/0", "::/0", 20)});
  REQUIRE(image);
  CHECK(image->source_prefixes.size() == 6);  // five, and the root of IPv4
  for (const auto& [key, bits] : image->source_prefixes) {
    CAPTURE(key.prefix_length);
    const auto length = key.prefix_length - 32;
    const bool second = length == 96 + 16 && key.address.bytes[13] == 2;
    CHECK(has_bit(bits, 0) == (length > 96));
    CHECK(has_bit(bits, 1) == (length > 104 && !second));
    CHECK(has_bit(bits, 2) == (length == 96 + 24));
    CHECK(has_bit(bits, 3) == second);
    CHECK(has_bit(bits, 4) == (length == 0));  // IPv6's "any" ends where IPv4 begins
  }
}

TEST_CASE("host bits are ignored, equal prefixes share a row") {
  const auto image = compile_rules({rule("10.1.2.3/8", "0.0.0.0/0"), rule("10.9.9.9/8", "0.0.0.0/0")});
  REQUIRE(image);
  CHECK(image->source_prefixes.size() == 2);
  CHECK(classify(*image, {address("10.200.0.1"), address("1.1.1.1")}).ace == 0);
}

TEST_CASE("ACEs know the extent of their entry; the other family's map may repeat a number") {
  const auto image =
      compile_rules({rule("10.0.0.0/8", "0.0.0.0/0", 10), rule("11.0.0.0/8", "0.0.0.0/0", 10),
                     rule("12.0.0.0/8", "0.0.0.0/0", 20), rule("::/0", "::/0", 20), rule("::/1", "::/0", 20)});
  REQUIRE(image);
  const auto extent = [&](std::size_t i) {
    return std::pair(int{image->aces[i].second.first_ace}, int{image->aces[i].second.last_ace});
  };
  CHECK(extent(0) == std::pair(0, 1));
  CHECK(extent(1) == std::pair(0, 1));
  CHECK(extent(2) == std::pair(2, 2));
  CHECK(extent(3) == std::pair(3, 4));
  CHECK(extent(4) == std::pair(3, 4));
}

TEST_CASE("evaluate: first match, deny leaves the entry, families do not mix") {
  PolicyRule first = rule("10.1.0.0/16", "10.2.0.0/16", 10), second = first, third = first;
  first.permit = false;
  first.source = prefix("10.1.0.9");
  second.flow = 7;
  third.flow = 8;
  third.entry = 20;
  PolicyRule six = rule("::/0", "::/0", 30);
  six.flow = 9;
  const PolicyInput policy{1, {first, second, third, six}};
  CHECK(evaluate(policy, {address("10.1.0.1"), address("10.2.0.1")}) == PolicyVerdict{7, 1});
  CHECK(evaluate(policy, {address("10.1.0.9"), address("10.2.0.1")}) == PolicyVerdict{8, 2});
  CHECK(evaluate(policy, {address("10.3.0.1"), address("10.2.0.1")}) == PolicyVerdict{});
  CHECK(evaluate(policy, {address("2001:db8::1"), address("2001:db8::2")}) == PolicyVerdict{9, 3});
}

TEST_CASE("evaluate: a fragment matches a permit without ports, and no deny that names them") {
  PolicyRule deny_ssh = tcp_port(22, 22), rest = rule("0.0.0.0/0", "0.0.0.0/0");
  deny_ssh.permit = false;
  deny_ssh.flow = 0;
  const PolicyInput policy{1, {deny_ssh, rest}};
  PolicyPacket packet{address("10.1.0.1"), address("10.2.0.1"), 6, 1000, 22, false};
  CHECK(evaluate(policy, packet).flow == 0);
  packet.later_fragment = true;
  CHECK(evaluate(policy, packet).flow == 1);
  CHECK(evaluate({1, {tcp_port(80, 80)}}, packet).flow == 1);
  packet.protocol = 17;
  CHECK(evaluate({1, {tcp_port(80, 80)}}, packet).flow == 0);
}

TEST_CASE("options: class, flags and ICMP types each decide alone") {
  const auto verdict = [](const PolicyRule& rule, const PolicyPacket& packet) {
    const PolicyInput policy{1, {rule}};
    const PolicyVerdict naive = evaluate(policy, packet);
    CHECK(classify(*compile(policy), packet) == naive);
    return naive.flow != 0;
  };
  PolicyPacket packet{address("10.1.0.1"), address("10.2.0.1"), 6, 1000, 80};
  PolicyRule ef = rule("0.0.0.0/0", "0.0.0.0/0");
  ef.traffic_class = {0xfc, 46 << 2};
  packet.traffic_class = 46 << 2 | 2;  // whatever ECN says
  CHECK(verdict(ef, packet));
  packet.traffic_class = 45 << 2;
  CHECK_FALSE(verdict(ef, packet));
  packet.later_fragment = true;  // has a class like any other
  CHECK_FALSE(verdict(ef, packet));
  packet.later_fragment = false;

  PolicyRule established = rule("0.0.0.0/0", "0.0.0.0/0");
  established.protocol = 6;
  established.tcp_flags = {4 | 16, 0, false};
  for (const auto& [flags, matches] : {std::pair(2, false), {16, true}, {18, true}, {4, true}, {1, false}}) {
    CAPTURE(flags);
    packet.tcp_flags = static_cast<std::uint8_t>(flags);
    CHECK(verdict(established, packet) == matches);
  }
  PolicyRule first = established;
  first.tcp_flags = {2, 16, true};  // match-all +syn -ack
  packet.tcp_flags = 2;
  CHECK(verdict(first, packet));
  packet.tcp_flags = 18;
  CHECK_FALSE(verdict(first, packet));
  packet.later_fragment = true;  // its flags cannot be seen: protected all the same
  CHECK(verdict(first, packet));
  first.permit = false;
  first.flow = 0;
  const PolicyInput denied{1, {first, rule("0.0.0.0/0", "0.0.0.0/0")}};
  CHECK(evaluate(denied, packet).flow == 1);

  PolicyRule echo = rule("0.0.0.0/0", "0.0.0.0/0");
  echo.protocol = 1;
  echo.source_ports = {{0x0800, 0x08ff}};
  CHECK(verdict(echo, {address("10.1.0.1"), address("10.2.0.1"), 1, 0x0800, 0}));
  CHECK_FALSE(verdict(echo, {address("10.1.0.1"), address("10.2.0.1"), 1, 0x0000, 0}));
  CHECK_FALSE(verdict(echo, {address("10.1.0.1"), address("10.2.0.1"), 17, 0x0800, 0}));
}

TEST_CASE("a rule's later fragments have a flow of their own where it says so") {
  PolicyRule web = tcp_port(80, 80);
  web.fragment_flow = 2;
  const PolicyInput policy{1, {web}};
  PolicyPacket packet{address("10.1.0.1"), address("10.2.0.1"), 6, 1000, 80};
  CHECK(evaluate(policy, packet) == PolicyVerdict{1, 0});
  packet.later_fragment = true;
  CHECK(evaluate(policy, packet) == PolicyVerdict{2, 0});
  CHECK(classify(*compile(policy), packet) == PolicyVerdict{2, 0});
}

TEST_CASE("refused: what the data path could not hold or would misread") {
  const PolicyRule good = rule("10.1.0.0/16", "10.2.0.0/16");
  CHECK(compile_rules({good}));
  CHECK(compile_rules({}));
  CHECK(!compile({0, {good}}));
  CHECK(!compile({POSTERN_GENERATION_INBOUND, {good}}));

  PolicyRule bad = good;
  bad.flow = 0;
  CHECK(!compile_rules({bad}));
  bad.permit = false;
  CHECK(compile_rules({bad}));
  bad = good;
  bad.destination = prefix("2001:db8::/32");
  CHECK(!compile_rules({bad}));
  bad = tcp_port(81, 80);
  CHECK(!compile_rules({bad}));
  bad = tcp_port(80, 80);
  bad.protocol = 1;
  CHECK(!compile_rules({bad}));
  bad.destination_ports.clear();
  bad.source_ports = {{0x0800, 0x08ff}};
  CHECK(compile_rules({bad}));
  bad.tcp_flags.set = 2;
  CHECK(!compile_rules({bad}));
  bad.tcp_flags = {};
  bad.protocol.reset();
  CHECK(!compile_rules({bad}));
}

TEST_CASE("limits: 4096 rules and 64 entries, and not one more") {
  std::vector<PolicyRule> rules;
  for (std::uint32_t i = 0; i < POSTERN_MAX_ACES; ++i) {
    PolicyRule one = rule("10.0.0.0/8", "0.0.0.0/0", i / (POSTERN_MAX_ACES / POSTERN_MAX_ENTRIES));
    one.source = Prefix::host(IpAddress::v4(0x0a000000 + i));
    one.flow = i + 1;
    rules.push_back(one);
  }
  const auto image = compile_rules(rules);
  REQUIRE(image);
  const PolicyPacket last{IpAddress::v4(0x0a000000 + POSTERN_MAX_ACES - 1), address("1.1.1.1")};
  CHECK(classify(*image, last) == PolicyVerdict{POSTERN_MAX_ACES, POSTERN_MAX_ACES - 1});
  rules.back().entry = 1000;
  CHECK(!compile_rules(rules));
  rules.back().entry = rules[rules.size() - 2].entry;
  rules.push_back(rules.back());
  CHECK(!compile_rules(rules));
}
