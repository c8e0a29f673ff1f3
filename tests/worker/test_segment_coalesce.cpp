// Segmentation against a reference that shares no code with it, and coalescing as its inverse.
#include <random>

#include "harness.hpp"
#include "worker/checksum.hpp"
#include "worker/coalesce.hpp"
#include "worker/sa.hpp"
#include "worker/segment.hpp"

namespace postern::test {
namespace {

// As a TUN queue gives a CHECKSUM_PARTIAL packet: the field holds the pseudo header's sum.
void make_partial(Octets& p) {
  const auto s = reference::shape(p);
  reference::put16(p, reference::checksum_at(s), reference::pseudo(p, s, p.size() - s.network) & 0xffff);
}

VnetHeader offload_of(const Octets& p, std::uint16_t gso_size) {
  const auto s = reference::shape(p);
  VnetHeader h;
  h.flags = vnet_needs_csum;
  h.gso_type = s.protocol == 17 ? vnet_gso_udp_l4 : s.v4 ? vnet_gso_tcpv4 : vnet_gso_tcpv6;
  h.gso_size = gso_size;
  h.header_bytes = static_cast<std::uint16_t>(s.network + (s.protocol == 17 ? 8 : (p[s.network + 12] >> 4) * 4));
  h.csum_start = static_cast<std::uint16_t>(s.network);
  h.csum_offset = s.protocol == 17 ? 6 : 16;
  return h;
}

InnerSpec tcp_spec(bool v4, std::size_t payload) {
  InnerSpec spec{.protocol = 6, .payload = payload, .identification = 65530, .sequence = 0xfffff000};
  spec.tcp_flags = 0x18;
  spec.tcp_options = {1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8};
  if (!v4) spec.source = "2001:db8:1::2", spec.destination = "2001:db8:2::2";
  return spec;
}

std::vector<Octets> segment(const VnetHeader& offload, const Octets& super, std::uint32_t mtu = 65535) {
  const Bytes bytes = reference::view(super);
  const auto info = parse_ip(bytes);
  REQUIRE(info);
  auto plan = plan_segments(offload, bytes, *info);
  REQUIRE(plan);
  REQUIRE(clamp_to_mtu(*plan, mtu));
  std::vector<Octets> out;
  for (std::uint32_t i = 0; i < plan->count; ++i) {
    out.emplace_back(segment_size(*plan, i));
    write_segment(*plan, i, reinterpret_cast<std::byte*>(out.back().data()));
  }
  return out;
}

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

// Deliveries over vectors, as the pipeline makes them over frames.
struct Input {
  std::vector<Octets> packets;
  std::vector<Delivery> deliveries;
  explicit Input(std::vector<Octets> given) : packets(std::move(given)) {
    for (Octets& p : packets) {
      Packet packet;
      packet.buffer = reinterpret_cast<std::byte*>(p.data());
      packet.capacity = packet.size = static_cast<std::uint32_t>(p.size());
      deliveries.push_back({packet, DeliverTo::tunnel, 1, p[0] >> 4 == 4 ? Family::v4 : Family::v6});
    }
  }
};

struct Output {
  VnetHeader offload;
  Octets packet;
  std::uint32_t packets;
};

std::vector<Output> run(Input& input, const CoalesceOptions& options = {true, true}) {
  auto batch = std::make_unique<CoalescedBatch>();
  coalesce(input.deliveries, options, *batch);
  std::vector<Output> out;
  std::uint32_t total = 0;
  for (const CoalescedPacket& p : batch->packets()) {
    Octets bytes;
    for (const iovec& part : p.parts) {
      const Octets piece = reference::octets({static_cast<const std::byte*>(part.iov_base), part.iov_len});
      bytes.insert(bytes.end(), piece.begin(), piece.end());
    }
    CHECK(bytes.size() == p.bytes);
    total += p.packets;
    out.push_back({p.offload, bytes, p.packets});
  }
  CHECK(total == input.deliveries.size());
  CHECK(batch->merged == total - out.size());
  return out;
}

TEST_CASE("coalesce: the inverse of segmentation") {
  for (const bool v4 : {true, false})
    for (const bool udp : {false, true})
      for (const std::size_t payload : {1001U, 2000U, 2001U, 30000U, 60000U}) {
        InnerSpec spec = tcp_spec(v4, payload);
        if (udp) spec.protocol = 17;
        Octets super = make_inner(spec);
        make_partial(super);
        const VnetHeader offload = offload_of(super, 1000);
        Input input(segment(offload, super));
        const std::vector<Output> out = run(input);
        REQUIRE(out.size() == 1);
        CHECK(out[0].packet == super);
        CHECK(std::memcmp(&out[0].offload, &offload, sizeof offload) == 0);
      }
}

TEST_CASE("coalesce: CWR leads, and says so in the header") {
  InnerSpec spec = tcp_spec(true, 3000);
  spec.tcp_flags = 0x98;
  Octets super = make_inner(spec);
  make_partial(super);
  Input input(segment(offload_of(super, 1000), super));
  const auto out = run(input);
  REQUIRE(out.size() == 1);
  CHECK(out[0].packet == super);
  CHECK(out[0].offload.gso_type == (vnet_gso_tcpv4 | vnet_gso_ecn));
}

std::vector<Octets> three_segments(bool v4 = true) {
  InnerSpec spec = tcp_spec(v4, 3000);
  spec.tcp_flags = 0x10;
  spec.identification = 100;
  return reference::tso(make_inner(spec), 1000);
}

TEST_CASE("coalesce: what keeps packets apart") {
  struct Row {
    const char* what;
    void (*spoil)(Octets&);  // the second of three
    bool leads = false;      // may take the third with it
  };
  const Row rows[] = {
      {"bad TCP checksum", [](Octets& p) { p[60] ^= 1; }},
      {"bad IPv4 checksum", [](Octets& p) { p[10] ^= 1; }},
      {"sequence gap", [](Octets& p) { reference::put32(p, 24, reference::be32(p, 24) + 1), reference::finish(p); }},
      {"other acknowledgement", [](Octets& p) { p[31] ^= 1, reference::finish(p); }},
      {"other window", [](Octets& p) { p[35] ^= 1, reference::finish(p); }},
      {"other timestamp", [](Octets& p) { p[47] ^= 1, reference::finish(p); }},
      {"ECE", [](Octets& p) { p[33] |= 0x40, reference::finish(p); }},
      {"URG", [](Octets& p) { p[33] |= 0x20, reference::finish(p); }},
      {"SYN", [](Octets& p) { p[33] |= 2, reference::finish(p); }},
      {"RST", [](Octets& p) { p[33] |= 4, reference::finish(p); }},
      {"CWR in the middle", [](Octets& p) { p[33] |= 0x80, reference::finish(p); }, true},
      {"other TTL", [](Octets& p) { p[8]--, reference::finish(p); }},
      {"other traffic class", [](Octets& p) { p[1] ^= 3, reference::finish(p); }},
      {"other DF", [](Octets& p) { p[6] ^= 0x40, reference::finish(p); }},
      {"identification gap", [](Octets& p) { p[5] ^= 0x40, reference::finish(p); }},
      {"longer than the first", [](Octets& p) { p.push_back(0), reference::finish(p); }},
      {"another flow", [](Octets& p) { p[21] ^= 1, reference::finish(p); }},
  };
  for (const Row& row : rows) {
    std::vector<Octets> packets = three_segments();
    row.spoil(packets[1]);
    const std::vector<Octets> before = packets;
    Input input(packets);
    const auto out = run(input);
    REQUIRE_MESSAGE(out.size() >= 2, row.what);
    CHECK_MESSAGE(out[0].packets <= 2, row.what);
    if (row.leads) {
      CHECK_MESSAGE(out[0].packets == 1, row.what);
      continue;
    }
    // Whatever was merged, the odd one stands alone, unchanged, with no offload.
    CHECK_MESSAGE(out[1].packet == before[1], row.what);
    CHECK_MESSAGE(out[1].offload.gso_type == vnet_gso_none, row.what);
  }
  Input good(three_segments());
  CHECK(run(good).size() == 1);
}

TEST_CASE("coalesce: short segment, PSH and FIN end a super-packet; nothing follows them in") {
  for (const std::uint8_t flag : std::initializer_list<std::uint8_t>{0x01, 0x08}) {
    std::vector<Octets> packets = three_segments();
    packets[1][33] |= flag;
    reference::finish(packets[1]);
    Input input(packets);
    const auto out = run(input);
    REQUIRE(out.size() == 2);
    CHECK(out[0].packets == 2);
    CHECK((out[0].packet[33] & flag) != 0);
    CHECK(out[1].packets == 1);
  }
  InnerSpec spec = tcp_spec(true, 1500);
  spec.tcp_flags = 0x10;
  auto packets = reference::tso(make_inner(spec), 1000);
  spec.sequence += 1500;
  spec.identification = static_cast<std::uint16_t>(spec.identification + 2);
  spec.payload = 1000;
  packets.push_back(make_inner(spec));
  Input input(packets);
  const auto out = run(input);
  REQUIRE(out.size() == 2);
  CHECK(out[0].packets == 2);
}

TEST_CASE("coalesce: interleaved flows merge each for itself, order within each is kept") {
  std::vector<Octets> a = three_segments(), b = three_segments();
  for (Octets& p : b) p[23] ^= 0xff, reference::finish(p);
  const std::vector<Octets> v6 = three_segments(false);
  std::vector<Octets> mixed;
  for (std::size_t i = 0; i < 3; ++i) {
    mixed.push_back(a[i]);
    mixed.push_back(b[i]);
    mixed.push_back(v6[i]);
    mixed.push_back(make_inner({.protocol = 1, .payload = i}));
  }
  Input input(mixed);
  const auto out = run(input);
  CHECK(out.size() == 3 + 3);
  CHECK(std::ranges::count_if(out, [](const Output& o) { return o.packets == 3; }) == 3);
  // A pure acknowledgement of the same flow stays behind the data it came after.
  auto ack_spec = tcp_spec(true, 0);
  ack_spec.tcp_flags = 0x10;
  Input with_ack({a[0], a[1], make_inner(ack_spec), a[2]});
  const auto ordered = run(with_ack);
  REQUIRE(ordered.size() == 3);
  CHECK(ordered[0].packets == 2);
  CHECK(ordered[1].packet.size() == 52);
  CHECK(ordered[2].packets == 1);
}

TEST_CASE("coalesce: DF set frees the identification; IPv6 flow labels must agree") {
  InnerSpec spec = tcp_spec(true, 3000);
  spec.tcp_flags = 0x10;
  spec.dont_fragment = true;
  auto packets = reference::tso(make_inner(spec), 1000);
  for (Octets& p : packets) reference::put16(p, 4, 0), reference::finish(p);
  Input same_id(packets);
  CHECK(run(same_id).size() == 1);
  auto v6 = three_segments(false);
  v6[1][3] = 9;
  Input labels(v6);
  CHECK(run(labels).size() == 3);
}

TEST_CASE("coalesce: UDP only where the queue takes it, never without a checksum, never a fragment") {
  InnerSpec spec{.payload = 3000};
  Octets super = make_inner(spec);
  make_partial(super);
  const auto datagrams = segment(offload_of(super, 1000), super);
  Input off(datagrams);
  CHECK(run(off, {true, false}).size() == 3);
  Input on(datagrams);
  CHECK(run(on, {true, true}).size() == 1);
  auto unsummed = datagrams;
  for (Octets& p : unsummed) reference::put16(p, 26, 0);
  Input zero(unsummed);
  CHECK(run(zero, {true, true}).size() == 3);
  auto fragments = datagrams;
  for (Octets& p : fragments) {
    p[6] = 0x20;
    reference::put16(p, 10, 0);
    reference::put16(p, 10, ~reference::sum(p, 0, 20) & 0xffff);
  }
  Input cut(fragments);
  CHECK(run(cut, {true, true}).size() == 3);
}

TEST_CASE("coalesce: never more than 64 KB") {
  InnerSpec spec = tcp_spec(true, 1400);
  spec.tcp_flags = 0x10;
  std::vector<Octets> packets;
  for (int i = 0; i < 64; ++i) {
    packets.push_back(make_inner(spec));
    spec.sequence += 1400;
    ++spec.identification;
  }
  Input input(packets);
  const auto out = run(input);
  REQUIRE(out.size() == 2);
  CHECK(out[0].packets == 46);
  CHECK(out[0].packet.size() <= 65535);
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
