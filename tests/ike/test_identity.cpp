// Identities (RFC 7296 §3.5) and the rules that match them (IKE-36, IKE-37); the lookup of connections.
#include <doctest/doctest.h>

#include "ike/policy.hpp"

namespace postern::ike {
namespace {

IpAddress ip(const char* text) { return *IpAddress::parse(text); }
Identity fqdn(std::string_view text) { return Identity::of(IdType::fqdn, text); }

}  // namespace

TEST_CASE("identity: addresses as they are on the wire") {
  const Identity four = Identity::of(ip("192.0.2.1")), six = Identity::of(ip("2001:db8::1"));
  CHECK(four.type == IdType::ipv4);
  CHECK(four.data == Octets{std::byte{192}, std::byte{0}, std::byte{2}, std::byte{1}});
  CHECK(six.type == IdType::ipv6);
  CHECK(six.data.size() == 16);
  CHECK(four.address() == ip("192.0.2.1"));
  CHECK(six.address() == ip("2001:db8::1"));
  CHECK(!Identity{IdType::ipv4, Octets(5)}.address());
  CHECK(!Identity{IdType::ipv6, Octets(4)}.address());
  CHECK(!fqdn("192.0.2.1").address());
  // v4-mapped bytes under the type of IPv6
  Octets mapped(16);
  mapped[10] = mapped[11] = std::byte{0xff};
  CHECK(!Identity{IdType::ipv6, mapped}.address());
}

TEST_CASE("identity: text that a terminal can show") {
  CHECK(Identity::of(ip("192.0.2.1")).text() == "192.0.2.1");
  CHECK(fqdn("gw.example.org").text() == "gw.example.org");
  CHECK(fqdn("\x1b[2Jgw\\").text() == "\\x1b[2Jgw\\x5c");
  CHECK(Identity::of(IdType::key_id, "ab").text() == "key-id 6162");
  CHECK(Identity{IdType::ipv4, Octets(2)}.text() == "type 1 0000");
  CHECK(text(IdentityMatch{AnyIdentity{}}) == "any");
  CHECK(text(IdentityMatch{*Prefix::parse("192.0.2.0/24")}) == "192.0.2.0/24");
  CHECK(text(IdentityMatch{*Prefix::parse("192.0.2.1/32")}) == "192.0.2.1");
}

TEST_CASE("identity: what matches what") {
  const Identity address = Identity::of(ip("192.0.2.7"));
  struct Row {
    IdentityMatch rule;
    Identity identity;
    bool good;
  };
  const Row rows[] = {
      {AnyIdentity{}, fqdn("x"), true},
      {*Prefix::parse("192.0.2.0/24"), address, true},
      {*Prefix::parse("192.0.3.0/24"), address, false},
      {*Prefix::parse("192.0.2.0/24"), fqdn("192.0.2.7"), false},
      {*Prefix::parse("::/0"), address, false},
      {*Prefix::parse("0.0.0.0/0"), Identity::of(ip("2001:db8::1")), false},
      {fqdn("GW.example.org"), fqdn("gw.EXAMPLE.org"), true},
      {fqdn("gw.example.org"), fqdn("gw.example.orG."), false},
      {fqdn("gw.example.org"), Identity::of(IdType::email, "gw.example.org"), false},
      {Identity::of(IdType::email, "A@b.example"), Identity::of(IdType::email, "a@B.example"), true},
      {Identity::of(IdType::key_id, "Key"), Identity::of(IdType::key_id, "Key"), true},
      {Identity::of(IdType::key_id, "Key"), Identity::of(IdType::key_id, "key"), false},
  };
  for (const Row& row : rows) {
    CAPTURE(text(row.rule));
    CAPTURE(row.identity.text());
    CHECK(matches(row.rule, row.identity) == row.good);
    CHECK(matches_any({Identity::of(IdType::key_id, "nobody"), row.rule}, row.identity) == row.good);
  }
  CHECK(!matches_any({}, address));
}

TEST_CASE("policy: connections between two addresses, in order; children by name") {
  Policy policy;
  const auto add = [&](const char* name, std::uint32_t fvrf, const char* local, const char* remote) {
    Connection connection;
    connection.name = name;
    connection.fvrf = fvrf;
    connection.local = ip(local);
    connection.remote = ip(remote);
    connection.children.emplace_back().name = "first";
    connection.children.emplace_back().name = "second";
    policy.connections.push_back(std::make_shared<Connection>(std::move(connection)));
  };
  add("a", 0, "192.0.2.1", "192.0.2.2");
  add("b", 0, "192.0.2.1", "192.0.2.3");
  add("c", 5, "192.0.2.1", "192.0.2.2");
  add("d", 0, "192.0.2.1", "192.0.2.2");
  const auto found = connections_between(policy, 0, ip("192.0.2.1"), ip("192.0.2.2"));
  REQUIRE(found.size() == 2);
  CHECK(found[0]->name == "a");
  CHECK(found[1]->name == "d");
  CHECK(connections_between(policy, 0, ip("192.0.2.2"), ip("192.0.2.1")).empty());
  CHECK(connections_between(policy, 5, ip("192.0.2.1"), ip("192.0.2.2")).size() == 1);
  CHECK(found[0]->child("second") == &found[0]->children[1]);
  CHECK(found[0]->child("third") == nullptr);
}

}  // namespace postern::ike
