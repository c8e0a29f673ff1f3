// What an authentic ESP packet may still be refused for: trailer, inner packet, selectors, ECN. The packets are sealed
// with the real engine around contents that no sender of ours would make.
#include "harness.hpp"
#include "worker/ecn.hpp"
#include "worker/inbound.hpp"

namespace postern::test {
namespace {

// `plain` is everything under the cipher, trailer included, of a whole number of blocks.
Octets seal_raw(const SaParameters& p, const Octets& plain, std::uint32_t sequence,
                std::uint8_t outer_traffic_class = 0) {
  const auto sizes = *crypto::sizes_of(p.transform);
  auto key = crypto::EspKey::create(p.transform, Bytes(p.cipher_key).first(p.cipher_key_bytes),
                                    Bytes(p.integrity_key).first(p.integrity_key_bytes));
  REQUIRE(key.has_value());
  auto engine = crypto::EspEngine::create();
  REQUIRE(engine.has_value());
  Octets packet = make_inner({.source = p.remote.text(), .destination = p.local.text(), .protocol = 50, .payload = 0});
  packet.resize(20 + 8 + sizes.iv_bytes);
  packet[1] = outer_traffic_class;
  reference::put32(packet, 20, p.spi);
  reference::put32(packet, 24, sequence);
  packet.insert(packet.end(), plain.begin(), plain.end());
  packet.resize(packet.size() + sizes.icv_bytes);
  crypto::EspJob job{&*key, reinterpret_cast<std::byte*>(packet.data() + 20),
                     static_cast<std::uint32_t>(packet.size() - 20), sequence, false};
  engine->seal(std::span(&job, 1));
  REQUIRE(job.ok);
  reference::finish(packet);
  return packet;
}

// Inner packet, `padding` and trailer, rounded up by `surplus` bytes of TFC padding.
Octets with_trailer(Octets inner, const Octets& padding, std::uint8_t pad_length, std::uint8_t next_header) {
  inner.insert(inner.end(), padding.begin(), padding.end());
  inner.push_back(pad_length);
  inner.push_back(next_header);
  return inner;
}

Octets counting(std::size_t count) {
  Octets out;
  for (std::size_t i = 1; i <= count; ++i) out.push_back(static_cast<std::uint8_t>(i));
  return out;
}

// Right padding to a multiple of 4.
Octets trailed(const Octets& inner, std::uint8_t next_header) {
  const std::size_t padding = (4 - (inner.size() + 2) % 4) % 4;
  return with_trailer(inner, counting(padding), static_cast<std::uint8_t>(padding), next_header);
}

struct Receiver {
  SaParameters p = sa_parameters(SaDirection::inbound, gcm_128);
  Node node;
  std::uint32_t slot;
  std::uint32_t sequence = 0;
  explicit Receiver(const SaParameters& wanted) : p(wanted), slot(node.add(p)) {}
  Receiver() : slot(node.add(p)) {}

  // The reason it was dropped, or none.
  Drop give(const Octets& plain, std::uint8_t outer_traffic_class = 0) {
    std::vector<std::uint64_t> before;
    for (const Counter& c : node.counters[0].drops) before.push_back(c.load());
    node.egress.delivered.clear();
    node.given = node.egress.out = 0;
    for (Counter& c : node.counters[0].drops) c = 0;
    node.inbound(seal_raw(p, plain, ++sequence, outer_traffic_class));
    node.flush();
    CHECK(node.balanced());
    for (std::size_t i = 0; i < drop_count; ++i)
      if (node.counters[0].drops[i] != 0) return static_cast<Drop>(i);
    CHECK(node.egress.delivered.size() == 1);
    return Drop::none;
  }
};

TEST_CASE("ESP trailer: padding and next header") {
  Receiver receiver;
  const Octets inner = make_inner({.payload = 22});  // 50 bytes: 2 of trailer make 52
  CHECK(receiver.give(with_trailer(inner, {}, 0, 4)) == Drop::none);
  CHECK(receiver.give(with_trailer(inner, counting(4), 4, 4)) == Drop::none);
  CHECK(receiver.give(with_trailer(inner, counting(252), 252, 4)) == Drop::none);
  CHECK(receiver.give(with_trailer(inner, {0, 0, 0, 0}, 4, 4)) == Drop::bad_padding);
  CHECK(receiver.give(with_trailer(inner, {1, 2, 3, 5}, 4, 4)) == Drop::bad_padding);
  CHECK(receiver.give(with_trailer(inner, {2, 2, 3, 4}, 4, 4)) == Drop::bad_padding);
  CHECK(receiver.give(with_trailer(inner, {}, 51, 4)) == Drop::bad_padding);  // longer than the payload
  CHECK(receiver.give(with_trailer(inner, {}, 255, 4)) == Drop::bad_padding);
  CHECK(receiver.give(with_trailer(inner, {}, 0, 41)) == Drop::bad_inner);
  CHECK(receiver.give(with_trailer(inner, {}, 0, 17)) == Drop::bad_next_header);
  CHECK(receiver.give(with_trailer(inner, {}, 0, 59)) == Drop::dummy);
  CHECK(receiver.node.slots[receiver.slot].dummy_packets == 1);
  CHECK(receiver.node.slots[receiver.slot].errors == 7);
  CHECK(receiver.give(with_trailer({}, counting(2), 2, 4)) == Drop::bad_inner);  // nothing inside
}

TEST_CASE("ESP trailer: the parser alone, at each edge") {
  const auto parse = [](const Octets& p) { return parse_esp_trailer(reference::view(p)); };
  CHECK(parse({}).error() == Drop::bad_padding);
  CHECK(parse({4}).error() == Drop::bad_padding);
  REQUIRE(parse({0, 4}).has_value());
  CHECK(parse({0, 4})->bytes == 0);
  CHECK(parse({1, 4}).error() == Drop::bad_padding);
  REQUIRE(parse({9, 1, 2, 2, 41}).has_value());
  CHECK(parse({9, 1, 2, 2, 41})->bytes == 1);
  CHECK(parse({9, 1, 2, 2, 41})->next_header == 41);
}

TEST_CASE("ESP inner: the packet must be whole; TFC padding behind it is cut off (RFC 4303 §2.7)") {
  Receiver receiver;
  for (const char* host : {"10.0.0.1", "2001:db8::1"}) {
    const Octets inner = make_inner({.source = host, .destination = host, .payload = 30});
    const std::uint8_t next = inner[0] >> 4 == 4 ? 4 : 41;
    Octets surplus = inner;
    surplus.resize(inner.size() + 100, 0xee);
    CHECK(receiver.give(trailed(surplus, next)) == Drop::none);
    CHECK(receiver.node.egress.delivered[0] == inner);
    for (std::size_t size = 0; size < inner.size(); ++size) {
      const Octets cut(inner.begin(), inner.begin() + static_cast<std::ptrdiff_t>(size));
      CHECK(receiver.give(trailed(cut, next)) == Drop::bad_inner);
    }
    Octets wrong = inner;
    wrong[0] = static_cast<std::uint8_t>(wrong[0] ^ 0x20);  // 4 <-> 6
    CHECK(receiver.give(trailed(wrong, next)) == Drop::bad_inner);
  }
}

TrafficSelector selector(const char* s1, const char* s2, const char* d1, const char* d2, std::uint8_t protocol = 0) {
  TrafficSelector out{address(s1), address(s2), address(d1), address(d2)};
  out.protocol = protocol;
  return out;
}

TEST_CASE("ESP inner: traffic selectors") {
  SaParameters p = sa_parameters(SaDirection::inbound, gcm_128);
  p.selectors[0] = selector("10.1.0.0", "10.1.255.255", "10.2.0.0", "10.2.255.255");
  p.selectors[1] = selector("10.3.0.5", "10.3.0.5", "10.4.0.0", "10.4.0.255");
  p.selectors[1].protocol = 6;
  p.selectors[1].destination_port_first = 80;
  p.selectors[1].destination_port_last = 90;
  p.selectors[2] = selector("10.5.0.0", "10.5.0.255", "0.0.0.0", "255.255.255.255");
  p.selectors[2].protocol = 1;
  p.selectors[2].source_port_first = p.selectors[2].source_port_last = 0x0800;  // echo request
  p.selectors[3] = selector("2001:db8:1::", "2001:db8:1::ffff", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
  p.selector_count = 4;
  Receiver receiver(p);
  const auto give = [&](const InnerSpec& spec) {
    const Octets inner = make_inner(spec);
    return receiver.give(trailed(inner, inner[0] >> 4 == 4 ? 4 : 41));
  };
  CHECK(give({}) == Drop::none);
  CHECK(give({.source = "10.1.255.255", .destination = "10.2.255.255"}) == Drop::none);
  CHECK(give({.source = "10.0.255.255"}) == Drop::selector);
  CHECK(give({.source = "10.2.0.0"}) == Drop::selector);
  CHECK(give({.destination = "10.3.0.0"}) == Drop::selector);
  CHECK(give({.source = "10.2.0.2", .destination = "10.1.0.2"}) == Drop::selector);  // the other direction
  const InnerSpec tcp{.source = "10.3.0.5", .destination = "10.4.0.9", .protocol = 6, .destination_port = 80};
  const auto port = [&](std::uint16_t value) {
    InnerSpec spec = tcp;
    spec.destination_port = value;
    return give(spec);
  };
  CHECK(port(79) == Drop::selector);
  CHECK(port(80) == Drop::none);
  CHECK(port(90) == Drop::none);
  CHECK(port(91) == Drop::selector);
  CHECK(give({.source = "10.3.0.5", .destination = "10.4.0.9", .destination_port = 80}) == Drop::selector);  // UDP
  CHECK(give({.source = "10.5.0.1", .destination = "1.2.3.4", .protocol = 1}) == Drop::none);
  Octets reply = make_inner({.source = "10.5.0.1", .destination = "1.2.3.4", .protocol = 1});
  reply[20] = 0;
  CHECK(receiver.give(trailed(reply, 4)) == Drop::selector);
  // A later fragment has no ports to compare: on an SA for ports it has no business (RFC 4301 §7.2).
  Octets fragment = make_inner(tcp);
  reference::put16(fragment, 6, 0x00b9);
  CHECK(receiver.give(trailed(fragment, 4)) == Drop::fragment_selector);
  fragment[15] = 6;
  CHECK(receiver.give(trailed(fragment, 4)) == Drop::fragment_selector);
  // Where ports are ANY it passes (§7.1).
  Octets any_port = make_inner({});
  reference::put16(any_port, 6, 0x00b9);
  CHECK(receiver.give(trailed(any_port, 4)) == Drop::none);
  CHECK(give({.source = "2001:db8:1::7", .destination = "2001:db8:2::2"}) == Drop::none);
  CHECK(give({.source = "2001:db8:3::7", .destination = "2001:db8:2::2"}) == Drop::selector);
  CHECK(receiver.node.slots[receiver.slot].selector_drops > 0);
}

TEST_CASE("ESP inner: OPAQUE ports take later fragments and nothing else (RFC 4301 §7.2)") {
  for (const char* host : {"10.1.0.2", "2001:db8:1::2"}) {
    CAPTURE(host);
    SaParameters p = sa_parameters(SaDirection::inbound, gcm_128);
    p.selectors[0] = selector(host, host, host, host, 17);
    p.selectors[0].source_port_first = p.selectors[0].destination_port_first = 65535;
    p.selectors[0].source_port_last = p.selectors[0].destination_port_last = 0;
    p.selector_count = 1;
    Receiver receiver(p);
    const auto piece = [&](std::uint8_t protocol, std::uint16_t offset_units, bool more) {
      InnerSpec spec{.source = host, .destination = host, .protocol = protocol};
      Octets packet = make_inner(spec);
      if (packet[0] >> 4 == 4) {
        reference::put16(packet, 6, static_cast<std::uint16_t>((more ? 0x2000U : 0U) | offset_units));
        return trailed(packet, 4);
      }
      const Octets header = {protocol,
                             0,
                             static_cast<std::uint8_t>(offset_units >> 5),
                             static_cast<std::uint8_t>(offset_units << 3 | (more ? 1 : 0)),
                             0,
                             0,
                             0,
                             7};
      packet.insert(packet.begin() + 40, header.begin(), header.end());
      packet[6] = 44;
      reference::put16(packet, 4, static_cast<std::uint16_t>(packet.size() - 40));
      return trailed(packet, 41);
    };
    CHECK(receiver.give(piece(17, 185, true)) == Drop::none);
    CHECK(receiver.give(piece(17, 185, false)) == Drop::none);
    CHECK(receiver.give(piece(17, 0, true)) == Drop::selector);   // a first one has ports
    CHECK(receiver.give(piece(17, 0, false)) == Drop::selector);  // and so has a whole packet
    CHECK(receiver.give(piece(6, 185, true)) == Drop::fragment_selector);
    CHECK(receiver.give(piece(6, 2, true)) == Drop::fragment_overlap);
    CHECK(receiver.node.slots[receiver.slot].selector_drops == 3);
  }
}

TEST_CASE("ESP inner: tiny and overlapping fragments, whatever the selectors (RFC 1858, RFC 3128)") {
  Receiver receiver(sa_parameters(SaDirection::inbound, gcm_128));
  const auto piece = [&](std::uint8_t protocol, std::uint16_t fragment, std::size_t bytes) {
    Octets packet = make_inner({.protocol = protocol, .payload = 64});
    packet.resize(20 + bytes);
    reference::put16(packet, 2, static_cast<std::uint16_t>(packet.size()));
    reference::put16(packet, 6, fragment);
    return receiver.give(trailed(packet, 4));
  };
  for (const auto& [protocol, header] : {std::pair<std::uint8_t, std::size_t>{6, 20}, {17, 8}, {132, 12}}) {
    CAPTURE(protocol);
    for (std::size_t bytes = 0; bytes < header; ++bytes) CHECK(piece(protocol, 0x2000, bytes) == Drop::fragment_tiny);
    CHECK(piece(protocol, 0x2000, header) == Drop::none);
    const auto enough = static_cast<std::uint16_t>((header + 7) / 8);
    for (std::uint16_t units = 1; units < enough; ++units) CHECK(piece(protocol, units, 40) == Drop::fragment_overlap);
    CHECK(piece(protocol, enough, 40) == Drop::none);
  }
}

TEST_CASE("ESP inner: a packet too short for its ports matches ANY ports alone") {
  SaParameters p = sa_parameters(SaDirection::inbound, gcm_128);
  p.selectors[0] = selector("10.1.0.0", "10.1.255.255", "10.2.0.0", "10.2.255.255", 17);
  p.selectors[0].destination_port_last = 90;  // 0 is in it
  p.selector_count = 1;
  Receiver receiver(p);
  Octets runt = make_inner({});
  runt.resize(23);
  reference::put16(runt, 2, 23);
  CHECK(receiver.give(trailed(runt, 4)) == Drop::selector);
}

TEST_CASE("ESP inner: any IPv6 does not take IPv4, though the mapped range would hold it") {
  SaParameters p = sa_parameters(SaDirection::inbound, gcm_128);
  p.selectors[0] =
      selector("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
  p.selector_count = 1;
  Receiver receiver(p);
  CHECK(receiver.give(trailed(make_inner({}), 4)) == Drop::selector);
  CHECK(receiver.give(trailed(make_inner({.source = "2001:db8::1", .destination = "2001:db8::2"}), 41)) == Drop::none);
}

constexpr std::uint8_t not_ect = 0, ect1 = 1, ect0 = 2, ce = 3, dropped = 9;
struct EcnRow {
  std::uint8_t inner, outer, result;
};
// RFC 6040 figure 4, in its order.
constexpr EcnRow figure_4[] = {
    {not_ect, not_ect, not_ect}, {not_ect, ect0, not_ect}, {not_ect, ect1, not_ect}, {not_ect, ce, dropped},
    {ect0, not_ect, ect0},       {ect0, ect0, ect0},       {ect0, ect1, ect1},       {ect0, ce, ce},
    {ect1, not_ect, ect1},       {ect1, ect0, ect1},       {ect1, ect1, ect1},       {ect1, ce, ce},
    {ce, not_ect, ce},           {ce, ect0, ce},           {ce, ect1, ce},           {ce, ce, ce},
};

TEST_CASE("ECN at egress: RFC 6040 figure 4, all sixteen, both families") {
  for (const EcnPolicy policy : {EcnPolicy::propagate, EcnPolicy::discard}) {
    SaParameters p = sa_parameters(SaDirection::inbound, gcm_128);
    p.ecn = policy;
    Receiver receiver(p);
    for (const char* host : {"10.0.0.1", "2001:db8::1"})
      for (const EcnRow& row : figure_4) {
        InnerSpec spec{.source = host, .destination = host};
        spec.traffic_class = static_cast<std::uint8_t>(0xb8 | row.inner);
        const Octets inner = make_inner(spec);
        const bool v4 = inner[0] >> 4 == 4;
        const Drop verdict = receiver.give(trailed(inner, v4 ? 4 : 41), static_cast<std::uint8_t>(0x40 | row.outer));
        if (policy == EcnPolicy::propagate && row.result == dropped) {
          CHECK(verdict == Drop::ecn_invalid);
          continue;
        }
        REQUIRE(verdict == Drop::none);
        spec.traffic_class =
            static_cast<std::uint8_t>(0xb8 | (policy == EcnPolicy::propagate ? row.result : row.inner));
        CHECK(receiver.node.egress.delivered[0] == make_inner(spec));  // DSCP untouched, checksum right
      }
  }
}

TEST_CASE("ECN at ingress: normal mode copies, discard sends Not-ECT") {
  for (std::uint8_t inner = 0; inner < 4; ++inner) {
    CHECK(ecn_at_ingress(inner, EcnPolicy::propagate) == inner);
    CHECK(ecn_at_ingress(inner, EcnPolicy::discard) == 0);
  }
}

}  // namespace
}  // namespace postern::test
