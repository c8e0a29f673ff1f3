// Segmentation against a reference that shares no code with it.
#include "offloads.hpp"

namespace postern::test {
namespace {

TEST_CASE("segment: TCP equals the reference, every flag, both families") {
  for (const bool v4 : {true, false})
    for (unsigned flags = 0; flags < 256; ++flags)
      for (const std::size_t payload : {1U, 1000U, 1400U, 1401U, 2800U, 2801U, 20000U}) {
        InnerSpec spec = tcp_spec(v4, payload);
        spec.tcp_flags = static_cast<std::uint8_t>(flags);
        if (payload == 20000 && flags % 16 != 0) continue;
        Octets super = make_inner(spec);
        const std::vector<Octets> expected = reference::tso(super, 1400);
        make_partial(super);
        const std::vector<Octets> got = segment(offload_of(super, 1400), super);
        REQUIRE(got.size() == (payload + 1399) / 1400);
        REQUIRE(got == expected);
        for (const Octets& one : got) REQUIRE(reference::checksums_ok(one));
      }
}

TEST_CASE("segment: 64 KB, and no payload at all") {
  for (const bool v4 : {true, false}) {
    Octets super = make_inner(tcp_spec(v4, 65535 - 72));
    const auto expected = reference::tso(super, 1448);
    make_partial(super);
    CHECK(segment(offload_of(super, 1448), super) == expected);
    Octets ack = make_inner(tcp_spec(v4, 0));
    const auto alone = reference::tso(ack, 1448);
    make_partial(ack);
    CHECK(segment(offload_of(ack, 1448), ack) == alone);
  }
}

TEST_CASE("segment: clamped to the tunnel's MTU") {
  Octets super = make_inner(tcp_spec(true, 10000));
  const auto expected = reference::tso(super, 1438 - 52);
  make_partial(super);
  CHECK(segment(offload_of(super, 1448), super, 1438) == expected);
  // No larger than asked when the tunnel would take more.
  CHECK(segment(offload_of(super, 1000), super, 1438).at(0).size() == 1052);
  const auto info = parse_ip(reference::view(super));
  auto plan = plan_segments(offload_of(super, 1448), reference::view(super), *info);
  REQUIRE(plan);
  CHECK_FALSE(clamp_to_mtu(*plan, 52));
}

TEST_CASE("segment: UDP datagrams keep their boundaries") {
  for (const bool v4 : {true, false}) {
    InnerSpec spec{.payload = 2500};
    if (!v4) spec.source = "2001:db8:1::2", spec.destination = "2001:db8:2::2";
    Octets super = make_inner(spec);
    make_partial(super);
    const auto got = segment(offload_of(super, 1000), super, 900);
    REQUIRE(got.size() == 3);
    Octets payload;
    const std::size_t header = v4 ? 28 : 48;
    for (const Octets& one : got) {
      CHECK(reference::checksums_ok(one));
      CHECK(reference::be16(one, header - 4) == one.size() - header + 8);
      payload.insert(payload.end(), one.begin() + static_cast<std::ptrdiff_t>(header), one.end());
    }
    CHECK(got[0].size() == header + 1000);
    CHECK(got[2].size() == header + 500);
    CHECK(std::equal(payload.begin(), payload.end(), super.begin() + static_cast<std::ptrdiff_t>(header)));
  }
}

TEST_CASE("segment: headers that do not fit their packet are refused") {
  Octets super = make_inner(tcp_spec(true, 5000));
  const auto refused = [&](auto spoil) {
    Octets p = super;
    VnetHeader h = offload_of(p, 1400);
    spoil(h, p);
    const auto info = parse_ip(reference::view(p));
    return !info || !plan_segments(h, reference::view(p), *info);
  };
  CHECK_FALSE(refused([](VnetHeader&, Octets&) {}));
  CHECK_FALSE(refused([](VnetHeader& h, Octets&) { h.gso_type |= vnet_gso_ecn; }));
  CHECK_FALSE(refused([](VnetHeader& h, Octets&) { h.header_bytes = 9999; }));  // a hint that nobody believes
  CHECK(refused([](VnetHeader& h, Octets&) { h.gso_size = 0; }));
  CHECK(refused([](VnetHeader& h, Octets&) { h.gso_size = 1; }));  // 5000 segments
  CHECK(refused([](VnetHeader& h, Octets&) { h.gso_type = vnet_gso_tcpv6; }));
  CHECK(refused([](VnetHeader& h, Octets&) { h.gso_type = vnet_gso_udp_l4; }));
  CHECK(refused([](VnetHeader& h, Octets&) { h.gso_type = vnet_gso_udp; }));
  CHECK(refused([](VnetHeader& h, Octets&) { h.gso_type = 77; }));
  CHECK(refused([](VnetHeader& h, Octets&) { h.csum_start = 24; }));
  CHECK(refused([](VnetHeader& h, Octets&) { h.csum_offset = 18; }));
  CHECK(refused([](VnetHeader&, Octets& p) { p[32] = 0x40; }));  // TCP header of 16
  CHECK(refused([](VnetHeader&, Octets& p) { p.resize(30), reference::put16(p, 2, 30); }));
  CHECK(refused([](VnetHeader&, Octets& p) { p[32] = 0xf0, p.resize(60), reference::put16(p, 2, 60); }));
  CHECK(refused([](VnetHeader&, Octets& p) { p[6] = 0x20; }));  // a fragment
}

TEST_CASE("checksum offload: an unfinished packet is finished") {
  for (const char* source : {"10.0.0.1", "2001:db8::1"})
    for (const std::uint8_t protocol : std::initializer_list<std::uint8_t>{6, 17})
      for (std::size_t payload = 0; payload < 50; ++payload) {
        const Octets good =
            make_inner({.source = source, .destination = source, .protocol = protocol, .payload = payload});
        Octets partial = good;
        make_partial(partial);
        VnetHeader h = offload_of(partial, 0);
        h.gso_type = vnet_gso_none;
        const auto info = parse_ip(reference::view(partial));
        const MutableBytes bytes(reinterpret_cast<std::byte*>(partial.data()), partial.size());
        REQUIRE(complete_checksum(h, bytes, *info));
        CHECK(partial == good);
        make_partial(partial);
        complete_if_partial(bytes, *info);  // the same without a header that says so
        CHECK(partial == good);
        complete_if_partial(bytes, *info);  // a finished packet is left alone
        CHECK(partial == good);
        h.csum_start = static_cast<std::uint16_t>(good.size());
        CHECK_FALSE(complete_checksum(h, bytes, *info));
        h.csum_start = 0;
        CHECK_FALSE(complete_checksum(h, bytes, *info));
        h.csum_start = 65535;
        h.csum_offset = 65535;
        CHECK_FALSE(complete_checksum(h, bytes, *info));
      }
}

TEST_CASE("pipeline: a super-packet leaves as segments that fit, and is one again behind the tunnel") {
  for (const bool v4 : {true, false}) {
    Node sender, receiver;
    sender.add(sa_parameters(SaDirection::outbound, cbc_sha1));
    receiver.add(sa_parameters(SaDirection::inbound, cbc_sha1));
    InnerSpec spec = tcp_spec(v4, 60000);
    Octets super = make_inner(spec);
    const Octets complete = super;
    make_partial(super);
    sender.super(offload_of(super, 1448), super);
    sender.flush();
    for (const Octets& frame : sender.egress.wire) {
      CHECK(outer_of(frame).size() <= 1500);
      receiver.inbound(outer_of(frame));
    }
    receiver.flush();
    const std::size_t mss = 1438 - (v4 ? 52 : 72);
    CHECK(receiver.egress.delivered == reference::tso(complete, mss));
    CHECK(sender.balanced());
    CHECK(receiver.balanced());
    CHECK(sender.egress.icmp.empty());
  }
}

TEST_CASE("pipeline: what a queue gives without segmentation") {
  Node sender, receiver;
  sender.add(sa_parameters(SaDirection::outbound, cbc_sha1));
  receiver.add(sa_parameters(SaDirection::inbound, cbc_sha1));
  std::vector<Octets> expected;
  const auto give = [&](Octets p, bool partial) {
    VnetHeader h;
    expected.push_back(p);
    if (partial) {
      make_partial(p);
      h = offload_of(p, 0);
      h.gso_type = vnet_gso_none;
    }
    sender.super(h, p);
  };
  give(make_inner({}), false);
  give(make_inner({}), true);
  give(make_inner(tcp_spec(false, 700)), true);
  const Octets jumbo = make_inner({.payload = 9000});
  give(jumbo, true);  // larger than a frame: cut from where it lies
  sender.flush();
  for (const Octets& frame : sender.egress.wire) receiver.inbound(outer_of(frame));
  receiver.flush();
  auto& got = receiver.egress.delivered;
  REQUIRE(got.size() > 4);
  for (std::size_t i = 0; i < 3; ++i) CHECK(got[i] == expected[i]);
  CHECK(reference::reassemble({got.begin() + 3, got.end()}) == jumbo);
  const Octets jumbo_df = make_inner({.payload = 9000, .dont_fragment = true});
  sender.super({}, jumbo_df);
  sender.flush();
  CHECK(sender.drops(Drop::too_big) == 1);
  CHECK(sender.egress.icmp.size() == 1);
  sender.super({.flags = 1, .csum_start = 9000, .csum_offset = 16}, make_inner({}));
  sender.super({.gso_type = 1, .gso_size = 100}, make_inner({}));
  sender.flush();
  CHECK(sender.drops(Drop::bad_offload) == 2);
  sender.super({}, {0x45, 0, 0});
  CHECK(sender.drops(Drop::unparseable) == 1);
  CHECK(sender.balanced());
  CHECK(receiver.balanced());
}

TEST_CASE("pipeline: an unfinished checksum from AF_XDP is finished") {
  for (const bool bypassed : {true, false}) {
    Node sender, receiver;
    sender.add(sa_parameters(SaDirection::outbound));
    receiver.add(sa_parameters(SaDirection::inbound));
    InnerSpec spec = tcp_spec(true, 100);
    Octets partial = make_inner(spec);
    make_partial(partial);
    sender.outbound(partial, 5, bypassed);
    sender.flush();
    receiver.inbound(outer_of(sender.egress.wire.at(0)));
    receiver.flush();
    REQUIRE(receiver.egress.delivered.size() == 1);
    CHECK(reference::checksums_ok(receiver.egress.delivered[0]) == bypassed);
  }
}

}  // namespace
}  // namespace postern::test
