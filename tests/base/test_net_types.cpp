#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include "base/net_types.hpp"

namespace postern {
namespace {

IpAddress address(std::string_view text) {
  const auto parsed = IpAddress::parse(text);
  REQUIRE_MESSAGE(parsed, text);
  return *parsed;
}
Prefix prefix(std::string_view text) {
  const auto parsed = Prefix::parse(text);
  REQUIRE_MESSAGE(parsed, text);
  return *parsed;
}

TEST_CASE("IpAddress: parses and prints") {
  struct Row {
    std::string_view text, prints;
    Family family;
  };
  const Row rows[] = {
      {"0.0.0.0", "0.0.0.0", Family::v4},
      {"192.0.2.255", "192.0.2.255", Family::v4},
      {"255.255.255.255", "255.255.255.255", Family::v4},
      {"::", "::", Family::v6},
      {"::1", "::1", Family::v6},
      {"2001:DB8:0:0:0:0:0:1", "2001:db8::1", Family::v6},
      {"fe80::1:2:3:4", "fe80::1:2:3:4", Family::v6},
      {"::192.0.2.1", "::192.0.2.1", Family::v6},
      {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Family::v6},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    CHECK(address(row.text).text() == row.prints);
    CHECK(address(row.text).family() == row.family);
  }
}

TEST_CASE("IpAddress: refuses what is not one, and says so") {
  for (const std::string_view bad : {"",
                                     " ",
                                     "1",
                                     "1.2.3",
                                     "1.2.3.4.5",
                                     "256.0.0.1",
                                     "1.2.3.4 ",
                                     " 1.2.3.4",
                                     "01.2.3.4",
                                     "1.2.3.-4",
                                     "a.b.c.d",
                                     ":",
                                     ":::",
                                     "1::2::3",
                                     "12345::",
                                     "::g",
                                     "fe80::1%eth0",
                                     "2001:db8::1/64",
                                     "[::1]",
                                     "localhost",
                                     "::ffff:192.0.2.1"}) {
    CAPTURE(bad);
    const auto parsed = IpAddress::parse(bad);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().what.find(bad) != std::string::npos);
  }
  using namespace std::string_view_literals;
  CHECK(IpAddress::parse("::ffff:192.0.2.1").error().what.find("v4-mapped") != std::string::npos);
}

TEST_CASE("IpAddress: IPv4 is held v4-mapped, in network order") {
  constexpr IpAddress a = IpAddress::v4(0xc0000201);
  static_assert(a.family() == Family::v4);
  static_assert(a.v4_host_order() == 0xc0000201);
  CHECK(a == address("192.0.2.1"));
  const std::array<std::uint8_t, 16> expected = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
  CHECK(a.mapped() == expected);
  CHECK(IpAddress::from_mapped(expected) == a);
  CHECK(address("1.2.3.4") < address("1.2.3.5"));
  CHECK(address("1.2.3.4") < address("2.0.0.0"));
  CHECK_FALSE(address("1.2.3.4") == address("::1.2.3.4"));
}

TEST_CASE("IpAddress: unspecified and multicast") {
  CHECK(IpAddress().is_unspecified());
  CHECK(address("0.0.0.0").is_unspecified());
  CHECK(address("::").is_unspecified());
  CHECK_FALSE(address("0.0.0.1").is_unspecified());
  CHECK_FALSE(address("::1").is_unspecified());
  CHECK(address("224.0.0.0").is_multicast());
  CHECK(address("239.255.255.255").is_multicast());
  CHECK_FALSE(address("223.255.255.255").is_multicast());
  CHECK_FALSE(address("240.0.0.0").is_multicast());
  CHECK(address("ff02::1").is_multicast());
  CHECK_FALSE(address("fe80::1").is_multicast());
}

TEST_CASE("Prefix: parses and prints") {
  struct Row {
    std::string_view text, prints, first, last;
    bool host_bits;
  };
  const Row rows[] = {
      {"10.0.0.0/8", "10.0.0.0/8", "10.0.0.0", "10.255.255.255", false},
      {"10.1.2.3/8", "10.1.2.3/8", "10.0.0.0", "10.255.255.255", true},
      {"0.0.0.0/0", "0.0.0.0/0", "0.0.0.0", "255.255.255.255", false},
      {"192.0.2.1", "192.0.2.1/32", "192.0.2.1", "192.0.2.1", false},
      {"192.0.2.130/25", "192.0.2.130/25", "192.0.2.128", "192.0.2.255", true},
      {"192.0.2.6/31", "192.0.2.6/31", "192.0.2.6", "192.0.2.7", false},
      {"::/0", "::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
      {"2001:db8::/33", "2001:db8::/33", "2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff", false},
      {"2001:db8::1", "2001:db8::1/128", "2001:db8::1", "2001:db8::1", false},
      {"2001:db8::1/127", "2001:db8::1/127", "2001:db8::", "2001:db8::1", true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const Prefix p = prefix(row.text);
    CHECK(p.text() == row.prints);
    CHECK(p.first() == address(row.first));
    CHECK(p.last() == address(row.last));
    CHECK(p.has_host_bits() == row.host_bits);
  }
}

TEST_CASE("Prefix: refuses what is not one") {
  for (const std::string_view bad : {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8",
                                     "10.0.0.0/8 ", "10.0.0.0/ 8", "10.0.0.0/8/8", "10.0.0.0/0x8", "10.0.0.0/255.0.0.0",
                                     "10.0.0/8", "2001:db8::/129", "::/4294967296", "::/99999999999999999999", "any"}) {
    CAPTURE(bad);
    CHECK_FALSE(Prefix::parse(bad));
  }
  CHECK(Prefix::parse("10.0.0.0/33").error().what.find("0..32") != std::string::npos);
  CHECK(Prefix::parse("::/129").error().what.find("0..128") != std::string::npos);
}

TEST_CASE("Prefix: contains to the bit, and never across families") {
  struct Row {
    std::string_view prefix, address;
    bool inside;
  };
  const Row rows[] = {
      {"10.0.0.0/8", "10.0.0.0", true},
      {"10.0.0.0/8", "10.255.255.255", true},
      {"10.0.0.0/8", "11.0.0.0", false},
      {"10.0.0.0/8", "9.255.255.255", false},
      {"10.1.2.3/8", "10.9.9.9", true},
      {"192.0.2.1/32", "192.0.2.1", true},
      {"192.0.2.1/32", "192.0.2.2", false},
      {"192.0.2.6/31", "192.0.2.7", true},
      {"192.0.2.6/31", "192.0.2.8", false},
      {"0.0.0.0/0", "203.0.113.9", true},
      {"0.0.0.0/0", "2001:db8::1", false},
      {"::/0", "2001:db8::1", true},
      {"::/0", "203.0.113.9", false},
      {"2001:db8::/33", "2001:db8:7fff::", true},
      {"2001:db8::/33", "2001:db8:8000::", false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.prefix);
    CAPTURE(row.address);
    CHECK(prefix(row.prefix).contains(address(row.address)) == row.inside);
  }
}

TEST_CASE("Prefix: host() and lengths in the mapped space") {
  CHECK(Prefix::host(address("192.0.2.1")).text() == "192.0.2.1/32");
  CHECK(Prefix::host(address("2001:db8::1")).text() == "2001:db8::1/128");
  CHECK(prefix("10.0.0.0/8").mapped_length() == 104);
  CHECK(prefix("0.0.0.0/0").mapped_length() == 96);
  CHECK(prefix("::/0").mapped_length() == 0);
  CHECK(prefix("2001:db8::/32").mapped_length() == 32);
}

}  // namespace
}  // namespace postern
