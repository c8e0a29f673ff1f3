#include <doctest/doctest.h>

#include "config/report.hpp"
#include "config/values.hpp"

namespace postern::config {

TEST_CASE("source and destination: every documented form, and its neighbours that are wrong") {
  struct Row {
    const char* text;
    const char* prefix;  // nullptr: refused
    const char* words = "";
  };
  const Row rows[] = {
      {"10.1.0.0/16", "10.1.0.0/16"},
      {"10.1.0.1/16", nullptr, "10.1.0.0/16"},
      {"10.1.0.0/33", nullptr, "not a prefix"},
      {"any", "0.0.0.0/0"},
      {"Any", nullptr, "not a source"},
      {"host 10.1.0.2", "10.1.0.2/32"},
      {"host 10.1.0.0/16", nullptr, "one address"},
      {"host", nullptr, "not a source"},
      {"10.1.0.2", "10.1.0.2/32"},
      {"10.1.0.0 0.0.255.255", "10.1.0.0/16"},
      {"10.1.0.0  0.0.255.255", "10.1.0.0/16"},
      {"10.1.0.9 0.0.255.255", nullptr, "10.1.0.0 0.0.255.255"},
      {"10.1.0.0 255.255.0.0", nullptr, "10.1.0.0 0.0.255.255"},
      {"0.0.0.0 255.255.255.255", "0.0.0.0/0"},
      {"10.1.0.2 0.0.0.0", "10.1.0.2/32"},
      {"10.1.0.0 16", nullptr, "dotted form"},
      {"10.1.0.0 0.0.0.255 x", nullptr, "not a source"},
      {"2001:db8::/32", nullptr, "IPv6 address in an IPv4"},
      {"", nullptr, "not a source"},
      {" ", nullptr, "not a source"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto got = parse_endpoint(row.text, Family::v4, std::nullopt);
    CHECK(got.has_value() == (row.prefix != nullptr));
    if (got && row.prefix != nullptr) CHECK(got->prefix.text() == row.prefix);
    if (!got) CHECK((got.error().message + got.error().allowed).find(row.words) != std::string::npos);
  }
  CHECK(parse_endpoint("any", Family::v6, std::nullopt)->prefix.text() == "::/0");
  CHECK(parse_endpoint("2001:db8::/32", Family::v6, std::nullopt)->prefix.text() == "2001:db8::/32");
  CHECK(!parse_endpoint("2001:db8:: ::ff", Family::v6, std::nullopt));
}

TEST_CASE("a wildcard mask in its own key") {
  CHECK(parse_endpoint("10.1.0.0", Family::v4, "0.0.255.255")->prefix.text() == "10.1.0.0/16");
  CHECK(!parse_endpoint("10.1.0.0/16", Family::v4, "0.0.255.255"));
  CHECK(!parse_endpoint("any", Family::v4, "0.0.255.255"));
  CHECK(!parse_endpoint("10.1.0.0 0.0.255.255", Family::v4, "0.0.255.255"));
  const auto odd = parse_endpoint("10.0.0.1", Family::v4, "0.255.0.255");
  REQUIRE(odd);
  CHECK(odd->wildcard == 0x00ff00ffU);
  CHECK(!parse_endpoint("10.1.0.0", Family::v4, std::nullopt)->wildcard);
}

TEST_CASE("ports") {
  using Ranges = std::vector<PortRange>;
  CHECK(*parse_ports("eq 80") == Ranges{{80, 80}});
  CHECK(*parse_ports("eq 443 80 443") == Ranges{{80, 80}, {443, 443}});
  CHECK(*parse_ports("range 1024 65535") == Ranges{{1024, 65535}});
  CHECK(*parse_ports("range 5 5") == Ranges{{5, 5}});
  CHECK(*parse_ports("lt 1024") == Ranges{{0, 1023}});
  CHECK(*parse_ports("gt 1023") == Ranges{{1024, 65535}});
  CHECK(*parse_ports("neq 22") == Ranges{{0, 21}, {23, 65535}});
  CHECK(*parse_ports("neq 0") == Ranges{{1, 65535}});
  CHECK(*parse_ports("neq 65535") == Ranges{{0, 65534}});
  for (const char* const bad : {"", "eq", "80", "eq 65536", "eq -1", "eq http", "range 2 1", "range 1", "range 1 2 3",
                                "lt 0", "gt 65535", "lt 1 2", "eq 1 2 3 4 5 6 7 8 9 10 11", "equal 80"}) {
    CAPTURE(bad);
    CHECK(!parse_ports(bad));
  }
}

TEST_CASE("protocols") {
  CHECK(parse_protocol("ip")->number == 0);
  CHECK(parse_protocol("sctp")->number == 132);
  CHECK(parse_protocol(47)->number == 47);
  CHECK(parse_protocol("icmpv6")->family == Family::v6);
  for (const nlohmann::json& bad :
       {nlohmann::json("6"), nlohmann::json("igrp"), nlohmann::json(0), nlohmann::json(256), nlohmann::json(-1)}) {
    CAPTURE(bad.dump());
    CHECK(!parse_protocol(bad));
  }
}

TEST_CASE("messages quote names, and never what may be a key") {
  CHECK(quoted("/acls/0", "nobody") == "\"nobody\"");
  CHECK(quoted("/acls/0", "a\x1b[2J") == "\"a?[2J\"");
  CHECK(quoted("/acls/0", "00112233445566778899aabbccddeeff") == "the value given");
  CHECK(quoted("/tunnels/0/protection/session_key/inbound", "short") == "the value given");
  CHECK(quoted("/acls/0", std::string(65, 'x')) == "the value given");
}

}  // namespace postern::config
