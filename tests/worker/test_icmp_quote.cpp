// ICMP errors and traffic selectors (RFC 4301 §5.2, §6.2): by their own addresses, or by the packet that they quote.
#include "harness.hpp"
#include "worker/icmp_quote.hpp"

namespace postern::test {
namespace {

TrafficSelector between(const char* source_first, const char* source_last, const char* first, const char* last) {
  return {address(source_first), address(source_last), address(first), address(last)};
}

// hA (10.1/16, 2001:db8:1::/64) to hB (10.2/16, 2001:db8:2::/64); of 10.7/16 TCP port 80 alone.
SaParameters parameters(SaDirection direction) {
  SaParameters p = sa_parameters(direction, cbc_sha1);
  p.selectors[0] = between("10.1.0.0", "10.1.255.255", "10.2.0.0", "10.2.255.255");
  p.selectors[1] = between("2001:db8:1::", "2001:db8:1::ffff", "2001:db8:2::", "2001:db8:2::ffff");
  p.selectors[2] = between("10.1.0.0", "10.1.255.255", "10.7.0.0", "10.7.255.255");
  p.selectors[2].protocol = 6;
  p.selectors[2].destination_port_first = p.selectors[2].destination_port_last = 80;
  p.selector_count = 3;
  return p;
}

Octets cut(Octets packet, std::size_t size) {
  packet.resize(std::min(size, packet.size()));
  return packet;
}

Octets error(const char* source, const char* destination, const Octets& quote, std::uint8_t type) {
  const bool v4 = address(source).family() == Family::v4;
  Octets out = make_inner(
      {.source = source, .destination = destination, .protocol = static_cast<std::uint8_t>(v4 ? 1 : 58), .payload = 0});
  out[v4 ? 20 : 40] = type;
  out.insert(out.end(), quote.begin(), quote.end());
  reference::finish(out);
  return out;
}

// Sealed by hA's side, and opened by hB's. What went wrong, or nothing.
Drop pass(const Octets& packet) {
  Node sender, receiver;
  const std::uint32_t out = sender.add(parameters(SaDirection::outbound));
  const std::uint32_t in = receiver.add(parameters(SaDirection::inbound));
  sender.outbound(packet);
  sender.flush();
  CHECK(sender.balanced());
  for (std::size_t i = 0; i < drop_count; ++i)
    if (sender.counters[0].drops[i] != 0) {
      CHECK(sender.slots[out].selector_drops == 1);
      CHECK(sender.slots[out].packets == 0);
      return static_cast<Drop>(i);
    }
  REQUIRE(sender.egress.wire.size() == 1);
  receiver.inbound(outer_of(sender.egress.wire[0]));
  receiver.flush();
  CHECK(receiver.balanced());
  REQUIRE(receiver.egress.delivered.size() == 1);
  CHECK(receiver.egress.delivered[0] == packet);
  CHECK(sender.slots[out].packets == 1);  // R43-17: once at either end
  CHECK(receiver.slots[in].packets == 1);
  return Drop::none;
}

// As the peer may send it, whose selectors are not ours: sealed under the same key by an SA that takes everything.
Drop receive(const Octets& packet) {
  Node sender, receiver;
  sender.add(sa_parameters(SaDirection::outbound, cbc_sha1));
  const std::uint32_t in = receiver.add(parameters(SaDirection::inbound));
  sender.outbound(packet);
  sender.flush();
  REQUIRE(sender.egress.wire.size() == 1);
  receiver.inbound(outer_of(sender.egress.wire[0]));
  receiver.flush();
  CHECK(receiver.balanced());
  for (std::size_t i = 0; i < drop_count; ++i)
    if (receiver.counters[0].drops[i] != 0) {
      CHECK(receiver.slots[in].selector_drops == 1);
      CHECK(receiver.slots[in].packets == 0);
      return static_cast<Drop>(i);
    }
  return Drop::none;
}

}  // namespace

TEST_CASE("R43-15, R43-16: an ICMP error of a router is of the SA of the packet that it quotes") {
  const Octets arrived = make_inner({.source = "10.2.0.2", .destination = "10.1.0.2"});
  for (const std::uint8_t type : std::initializer_list<std::uint8_t>{3, 4, 5, 11, 12})
    CHECK(pass(error("172.16.9.9", "10.2.0.2", arrived, type)) == Drop::none);
  const Octets arrived6 = make_inner({.source = "2001:db8:2::2", .destination = "2001:db8:1::2"});
  for (const std::uint8_t type : std::initializer_list<std::uint8_t>{1, 2, 3, 4})
    CHECK(pass(error("2001:db8:99::9", "2001:db8:2::2", arrived6, type)) == Drop::none);
  CHECK(pass(error("10.1.0.1", "10.2.0.2", make_inner({.source = "1.2.3.4", .destination = "5.6.7.8"}), 3)) ==
        Drop::none);  // by its own addresses
}

TEST_CASE("R43-16: an error about a packet of another flow is forged, and has its own reason") {
  const std::vector<Octets> foreign = {
      error("172.16.9.9", "10.2.0.2", make_inner({.source = "10.1.0.2", .destination = "10.2.0.2"}),
            3),  // not reversed
      error("172.16.9.9", "10.2.0.2", make_inner({.source = "10.2.0.2", .destination = "10.9.0.2"}), 3),
      error("172.16.9.9", "10.2.0.2", make_inner({.source = "10.7.0.2", .destination = "10.1.0.2", .protocol = 6}), 11),
      error("2001:db8:99::9", "2001:db8:2::2", make_inner({.source = "2001:db8:7::2", .destination = "2001:db8:1::2"}),
            2),
      // The other family's packet, and none at all.
      error("172.16.9.9", "10.2.0.2", make_inner({.source = "2001:db8:2::2", .destination = "2001:db8:1::2"}), 3),
      error("172.16.9.9", "10.2.0.2", {}, 3)};
  for (const Octets& packet : foreign) {
    CHECK(pass(packet) == Drop::icmp_embedded);
    CHECK(receive(packet) == Drop::icmp_embedded);
  }
  // No error: an echo request, and another protocol that happens to hold a quote.
  const Octets arrived = make_inner({.source = "10.2.0.2", .destination = "10.1.0.2"});
  CHECK(pass(error("172.16.9.9", "10.2.0.2", arrived, 8)) == Drop::selector);
  CHECK(receive(error("172.16.9.9", "10.2.0.2", arrived, 8)) == Drop::selector);
  CHECK(receive(make_inner({.source = "172.16.9.9", .destination = "10.2.0.2"})) == Drop::selector);
}

TEST_CASE("R43-16: what the quote shows of the flow decides") {
  const Octets web = make_inner(
      {.source = "10.7.0.2", .destination = "10.1.0.2", .protocol = 6, .source_port = 80, .destination_port = 40000});
  for (const std::size_t size : {std::size_t{24}, std::size_t{28}, std::size_t{60}, web.size()})
    CHECK(pass(error("172.16.9.9", "10.7.0.2", cut(web, size), 3)) == Drop::none);
  for (std::size_t size = 0; size < 24; ++size)
    CHECK(pass(error("172.16.9.9", "10.7.0.2", cut(web, size), 3)) == Drop::icmp_embedded);
  Octets later = web;
  reference::put16(later, 6, 0x2004);
  CHECK(pass(error("172.16.9.9", "10.7.0.2", later, 3)) == Drop::icmp_embedded);  // RFC 4301 §7: no port shows
  later = make_inner({.source = "10.2.0.2", .destination = "10.1.0.2", .protocol = 6});
  reference::put16(later, 6, 0x2004);
  CHECK(pass(error("172.16.9.9", "10.2.0.2", later, 3)) == Drop::none);

  const Octets arrived6 = make_inner({.source = "2001:db8:2::2", .destination = "2001:db8:1::2"});
  Octets behind_options = cut(arrived6, 40);
  behind_options[6] = 60;
  behind_options.insert(behind_options.end(), {17, 0, 1, 4, 0, 0, 0, 0});
  behind_options.insert(behind_options.end(), arrived6.begin() + 40, arrived6.end());
  reference::put16(behind_options, 4, static_cast<unsigned>(behind_options.size() - 40));
  CHECK(pass(error("2001:db8:99::9", "2001:db8:2::2", behind_options, 2)) == Drop::none);
  CHECK(pass(error("2001:db8:99::9", "2001:db8:2::2", cut(behind_options, 47), 2)) == Drop::icmp_embedded);
}

}  // namespace postern::test
