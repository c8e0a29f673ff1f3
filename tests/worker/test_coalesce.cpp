// Coalescing as the inverse of segmentation, and everything that must keep packets apart.
#include <algorithm>

#include "offloads.hpp"
#include "worker/coalesce.hpp"

namespace postern::test {
namespace {

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

}  // namespace
}  // namespace postern::test
