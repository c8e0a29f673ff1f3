// Outer headers, MTU arithmetic, fragmentation and the ICMP errors that replace what cannot be sent.
#include <random>
#include <set>

#include "crypto/transforms.hpp"
#include "harness.hpp"
#include "worker/fragment.hpp"
#include "worker/icmp_error.hpp"
#include "worker/sa.hpp"

namespace postern::test {
namespace {

struct Pair {
  Node sender, receiver;
  SaParameters out, in;
  Pair(SaParameters o, SaParameters i) : out(o), in(i) {
    sender.add(out);
    receiver.add(in);
  }
  // What the receiver gets of what the sender sent. Outer fragments are put together as the kernel would.
  std::vector<Octets> pass() {
    sender.flush();
    std::vector<Octets> pieces;
    for (const Octets& frame : sender.egress.wire) {
      const Octets outer = outer_of(frame);
      const bool v4 = outer[0] >> 4 == 4;
      const bool piece = v4 ? (reference::be16(outer, 6) & 0x3fff) != 0 : outer[6] == 44;
      if (!piece) {
        receiver.inbound(outer);
        continue;
      }
      pieces.push_back(outer);
      if (v4 ? (reference::be16(outer, 6) & 0x2000) == 0 : (reference::be16(outer, 42) & 1) == 0) {
        receiver.inbound(reference::reassemble(pieces));
        pieces.clear();
      }
    }
    CHECK(pieces.empty());
    receiver.flush();
    sender.egress.wire.clear();
    return std::exchange(receiver.egress.delivered, {});
  }
};

SaParameters outer_v6(SaDirection d, const crypto::Transform& t = cbc_sha1) {
  return sa_parameters(d, t, "2001:db8:ff::1", "2001:db8:ff::2");
}

TEST_CASE("MTU: the arithmetic of SV-19") {
  struct Row {
    crypto::Transform transform;
    bool v6, udp;
    std::uint32_t mtu, plaintext;
  };
  constexpr Row rows[] = {
      {cbc_sha1, false, false, 1500, 1438}, {cbc_sha256, false, false, 1500, 1438}, {gcm_128, false, false, 1500, 1446},
      {gcm_256, false, false, 1500, 1446},  {cbc_sha1, true, false, 1500, 1422},    {cbc_sha1, false, true, 1500, 1422},
      {gcm_128, true, true, 1500, 1418},    {cbc_sha1, false, false, 1400, 1342},   {gcm_128, false, false, 9000, 8946},
  };
  for (const Row& row : rows) {
    SaParameters p =
        row.v6 ? outer_v6(SaDirection::outbound, row.transform) : sa_parameters(SaDirection::outbound, row.transform);
    p.udp_encapsulation = row.udp;
    const EspOverhead overhead = overhead_of(p, ends_of(p), *crypto::sizes_of(row.transform));
    CHECK(overhead.plaintext_mtu(row.mtu) == row.plaintext);
  }
  CHECK(EspOverhead{20, 16, 12, 16}.plaintext_mtu(56) == 0);
  CHECK(EspOverhead{20, 16, 12, 16}.plaintext_mtu(72) == 14);
  CHECK(EspOverhead{20, 16, 12, 16}.plaintext_mtu(71) == 0);
}

// Every cipher and every authenticator of the table at least once.
std::vector<crypto::Transform> every_transform() {
  std::vector<crypto::Transform> out;
  for (const crypto::NamedTransform& row : crypto::named_transforms())
    if (row.cipher == crypto::Cipher::none)
      out.push_back({crypto::Cipher::aes_cbc, 256, row.integrity});
    else
      out.push_back({row.cipher, row.key_bits,
                     crypto::is_aead(row.cipher) ? crypto::Integrity::none : crypto::Integrity::hmac_sha256_128});
  return out;
}

TEST_CASE("MTU: the largest packet fits the path exactly, one more byte does not") {
  for (const crypto::Transform& transform : every_transform())
    for (std::uint32_t mtu = 1485; mtu <= 1500; ++mtu) {
      CAPTURE(crypto::text(transform));
      Node node(2, crypto::EngineKind::automatic, {}, 64);
      SaParameters p = sa_parameters(SaDirection::outbound, transform);
      p.path_mtu = mtu;
      node.add(p);
      const std::uint32_t plaintext = *crypto::largest_inside({transform}, Family::v4, false, mtu);
      node.outbound(make_inner({.payload = plaintext - 28, .dont_fragment = true}));
      node.outbound(make_inner({.payload = plaintext - 27, .dont_fragment = true}));
      node.flush();
      REQUIRE(node.egress.wire.size() == 1);
      CHECK(outer_of(node.egress.wire[0]).size() <= mtu);
      CHECK(outer_of(node.egress.wire[0]).size() + 16 > mtu);
      CHECK(node.drops(Drop::too_big) == 1);
      REQUIRE(node.egress.icmp.size() == 1);
      CHECK(reference::be16(node.egress.icmp[0], 26) == plaintext);
      CHECK(node.balanced());
    }
}

TEST_CASE("MTU: the next hop's counts when it is smaller") {
  Node node;
  const SaParameters p = sa_parameters(SaDirection::outbound, cbc_sha1);
  node.add(p);
  node.resolve(p, 1400);
  node.outbound(make_inner({.payload = 1342 - 28, .dont_fragment = true}));
  node.outbound(make_inner({.payload = 1343 - 28, .dont_fragment = true}));
  node.flush();
  CHECK(node.egress.wire.size() == 1);
  REQUIRE(node.egress.icmp.size() == 1);
  CHECK(reference::be16(node.egress.icmp[0], 26) == 1342);
}

TEST_CASE("MTU: a path of jumbo frames is used as far as a frame of ours goes, and the error says how far") {
  SaParameters p = sa_parameters(SaDirection::outbound, cbc_sha1);
  p.path_mtu = 9000;
  Node node;
  node.add(p);
  const std::size_t most = 4096 - 128 - 64;
  node.super({}, make_inner({.payload = most - 28, .dont_fragment = true}));
  node.super({}, make_inner({.payload = most - 27, .dont_fragment = true}));
  node.super({}, make_inner({.payload = 6000}));
  node.flush();
  CHECK(node.egress.wire.size() == 1 + 2);
  REQUIRE(node.egress.icmp.size() == 1);
  CHECK(reference::be16(node.egress.icmp[0], 26) == most);
  CHECK(node.balanced());
}

TEST_CASE("outer: TTL, DSCP, ECN and the identification") {
  SaParameters p = sa_parameters(SaDirection::outbound);
  p.ttl = 37;
  for (const bool copy : {true, false})
    for (const EcnPolicy ecn : {EcnPolicy::propagate, EcnPolicy::discard}) {
      p.dscp_copy = copy;
      p.dscp = 46;
      p.ecn = ecn;
      Node node;
      node.add(p);
      std::set<unsigned> numbers;
      for (unsigned inner = 0; inner < 256; ++inner) {
        const unsigned expected = (copy ? inner & 0xfc : 46U << 2) | (ecn == EcnPolicy::propagate ? inner & 3 : 0);
        const auto tos = static_cast<std::uint8_t>(inner);
        node.egress.wire.clear();
        node.outbound(make_inner({.traffic_class = tos}));
        node.outbound(make_inner({.source = "2001:db8:1::2", .destination = "2001:db8:2::2", .traffic_class = tos}));
        node.flush();
        REQUIRE(node.egress.wire.size() == 2);
        for (const Octets& frame : node.egress.wire) {
          const Octets outer = outer_of(frame);
          CHECK(outer[1] == expected);
          CHECK(outer[8] == 37);
          CHECK(outer[9] == 50);
          CHECK(reference::sum(outer, 0, 20) == 0xffff);
          CHECK(reference::be16(outer, 2) == outer.size());
          numbers.insert(reference::be16(outer, 4));
        }
      }
      CHECK(numbers.size() == 512);
    }
}

TEST_CASE("outer: IPv6 traffic class, hop limit and a flow label of zero") {
  SaParameters p = outer_v6(SaDirection::outbound);
  p.ttl = 9;
  Node node;
  node.add(p);
  node.outbound(make_inner({.traffic_class = 0xbb}));
  node.flush();
  const Octets outer = outer_of(node.egress.wire.at(0));
  CHECK(reference::be32(outer, 0) == 0x6bb00000);
  CHECK(outer[7] == 9);
  CHECK(reference::be16(outer, 4) == outer.size() - 40);
}

TEST_CASE("outer: DF by policy, all combinations (RFC 4301 §8.1)") {
  struct Row {
    DfPolicy policy;
    bool inner, outer;
  };
  constexpr Row rows[] = {{DfPolicy::copy, false, false},  {DfPolicy::copy, true, true},
                          {DfPolicy::set, false, true},    {DfPolicy::set, true, true},
                          {DfPolicy::clear, false, false}, {DfPolicy::clear, true, false}};
  for (const Row& row : rows) {
    SaParameters p = sa_parameters(SaDirection::outbound);
    p.df = row.policy;
    Node node;
    node.add(p);
    node.outbound(make_inner({.dont_fragment = row.inner}));
    node.outbound(make_inner({.source = "2001:db8:1::2", .destination = "2001:db8:2::2"}));
    node.flush();
    CHECK((outer_of(node.egress.wire.at(0))[6] == 0x40) == row.outer);
    CHECK((outer_of(node.egress.wire.at(1))[6] == 0x40) ==
          (row.policy != DfPolicy::clear));  // IPv6 never lets routers cut
  }
}

TEST_CASE("oversize: without DF the inner packet is cut first, and comes out whole") {
  for (const DfPolicy policy : {DfPolicy::copy, DfPolicy::set, DfPolicy::clear})
    for (const std::size_t payload : {1411U, 1412U, 2000U, 3500U, 3700U}) {
      SaParameters out = sa_parameters(SaDirection::outbound, cbc_sha1);
      out.df = policy;
      Pair pair(out, sa_parameters(SaDirection::inbound, cbc_sha1));
      const Octets inner = make_inner({.payload = payload, .identification = 4711});
      pair.sender.outbound(inner);
      pair.sender.flush();
      for (const Octets& frame : pair.sender.egress.wire) CHECK(outer_of(frame).size() <= 1500);
      const std::vector<Octets> got = pair.pass();
      CHECK(got.size() == (inner.size() - 20 + 1415) / 1416);  // 1438 less the header, in units of 8
      for (const Octets& piece : got) CHECK(reference::checksums_ok(piece));
      CHECK(reference::reassemble(got) == inner);
      CHECK(pair.sender.balanced());
      CHECK(pair.receiver.balanced());
      CHECK(pair.sender.counters[0].split == got.size() - 1);
    }
}

TEST_CASE("oversize: DF clear on the SA lets the outer packet be cut instead of the inner") {
  for (const bool outer_is_v6 : {false, true}) {
    SaParameters out = outer_is_v6 ? outer_v6(SaDirection::outbound) : sa_parameters(SaDirection::outbound, cbc_sha1);
    out.df = DfPolicy::clear;
    Pair pair(out, outer_is_v6 ? outer_v6(SaDirection::inbound) : sa_parameters(SaDirection::inbound, cbc_sha1));
    const Octets inner = make_inner({.payload = 2500, .dont_fragment = true});
    pair.sender.outbound(inner);
    pair.sender.flush();
    CHECK(pair.sender.egress.wire.size() == 2);
    for (const Octets& frame : pair.sender.egress.wire) {
      const Octets outer = outer_of(frame);
      CHECK(outer.size() <= 1500);
      if (!outer_is_v6) CHECK(reference::sum(outer, 0, 20) == 0xffff);
    }
    const std::vector<Octets> got = pair.pass();
    REQUIRE(got.size() == 1);
    CHECK(got[0] == inner);
    CHECK(pair.sender.balanced());
  }
}

TEST_CASE("oversize: IPv6 up to 1280 always passes, even where the tunnel is smaller (RFC 2473 §7.1)") {
  SaParameters out = sa_parameters(SaDirection::outbound, cbc_sha1);
  out.path_mtu = 1000;
  Pair pair(out, sa_parameters(SaDirection::inbound, cbc_sha1));
  const Octets fits = make_inner({.source = "2001:db8:1::2", .destination = "2001:db8:2::2", .payload = 1280 - 48});
  const Octets larger = make_inner({.source = "2001:db8:1::2", .destination = "2001:db8:2::2", .payload = 1281 - 48});
  pair.sender.outbound(fits);
  pair.sender.outbound(larger);
  const std::vector<Octets> got = pair.pass();
  REQUIRE(got.size() == 1);
  CHECK(got[0] == fits);
  REQUIRE(pair.sender.egress.icmp.size() == 1);
  const Octets& error = pair.sender.egress.icmp[0];
  CHECK(error[40] == 2);
  CHECK(reference::be32(error, 44) == 1280);
  CHECK(pair.sender.counters[0].made == 1);
}

TEST_CASE("too big: whom the error goes to, from where, and what it quotes") {
  struct Row {
    bool outer_v6, inner_v6;
    const char* source;
  };
  constexpr Row rows[] = {
      {false, false, "192.0.2.1"},
      {true, true, "2001:db8:ff::1"},
      {false, true, "2001:db8:2::2"},  // no address of this family outside: the destination stands in
      {true, false, "10.2.0.2"}};
  for (const Row& row : rows) {
    Node node;
    node.add(row.outer_v6 ? outer_v6(SaDirection::outbound) : sa_parameters(SaDirection::outbound, cbc_sha1));
    InnerSpec spec{.payload = 1450, .dont_fragment = true};
    if (row.inner_v6) spec.source = "2001:db8:1::2", spec.destination = "2001:db8:2::2";
    const Octets inner = make_inner(spec);
    node.outbound(inner);
    node.flush();
    REQUIRE(node.egress.icmp.size() == 1);
    const Octets& error = node.egress.icmp[0];
    CHECK(reference::checksums_ok(error));
    const bool v4 = !row.inner_v6;
    CHECK(source_of(reinterpret_cast<const std::byte*>(error.data()), v4 ? Family::v4 : Family::v6) ==
          address(row.source));
    CHECK(destination_of(reinterpret_cast<const std::byte*>(error.data()), v4 ? Family::v4 : Family::v6) ==
          address(spec.source));
    CHECK(error.size() == (v4 ? 576 : 1280));
    CHECK(error[v4 ? 20 : 40] == (v4 ? 3 : 2));
    CHECK(error[v4 ? 21 : 41] == (v4 ? 4 : 0));
    const std::size_t quote = v4 ? 28 : 48;
    CHECK(std::equal(error.begin() + static_cast<std::ptrdiff_t>(quote), error.end(), inner.begin()));
    CHECK(node.balanced());
  }
}

TEST_CASE("ICMP errors: never about errors, later fragments, multicast or nobody") {
  const auto may = [](const Octets& p, bool too_big) {
    return may_answer(reference::view(p), *parse_ip(reference::view(p)), too_big);
  };
  CHECK(may(make_inner({}), false));
  CHECK(may(make_inner({.protocol = 1}), false));  // an echo request
  for (const std::uint8_t type : std::initializer_list<std::uint8_t>{3, 4, 5, 11, 12}) {
    Octets p = make_inner({.protocol = 1});
    p[20] = type;
    CHECK_FALSE(may(p, false));
  }
  Octets fragment = make_inner({});
  reference::put16(fragment, 6, 0x2001);
  CHECK_FALSE(may(fragment, false));
  reference::put16(fragment, 6, 0x2000);
  CHECK(may(fragment, false));  // the first one
  for (const char* source : {"0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255", "240.0.0.1"})
    CHECK_FALSE(may(make_inner({.source = source}), false));
  CHECK_FALSE(may(make_inner({.destination = "239.1.1.1"}), true));
  CHECK_FALSE(may(make_inner({.destination = "255.255.255.255"}), false));
  const InnerSpec v6{.source = "2001:db8::1", .destination = "ff02::1:3"};
  CHECK_FALSE(may(make_inner(v6), false));
  CHECK(may(make_inner(v6), true));  // RFC 4443 §2.4(e.3)
  CHECK_FALSE(may(make_inner({.source = "::", .destination = "2001:db8::1"}), true));
  for (const std::uint8_t type : std::initializer_list<std::uint8_t>{1, 2, 3, 4, 100, 127}) {
    Octets p = make_inner({.source = "2001:db8::1", .destination = "2001:db8::2", .protocol = 58});
    p[40] = type;
    CHECK_FALSE(may(p, true));
  }
}

TEST_CASE("ICMP errors are rate-limited; the drops are all counted") {
  Node node;
  node.add(sa_parameters(SaDirection::outbound, cbc_sha1));
  const Octets inner = make_inner({.payload = 1450, .dont_fragment = true});
  for (int i = 0; i < 1000; ++i) node.outbound(inner);
  node.flush();
  CHECK(node.drops(Drop::too_big) == 1000);
  CHECK(node.egress.icmp.size() >= 100);
  CHECK(node.egress.icmp.size() < 500);
  CHECK(node.balanced());
}

TEST_CASE("hop limit: the step is ours only when the kernel was bypassed") {
  for (const bool v4 : {true, false})
    for (const std::uint8_t ttl : std::initializer_list<std::uint8_t>{0, 1, 2, 64, 255}) {
      InnerSpec spec{.ttl = ttl};
      if (!v4) spec.source = "2001:db8:1::2", spec.destination = "2001:db8:2::2";
      const Octets inner = make_inner(spec);
      Pair kernel(sa_parameters(SaDirection::outbound), sa_parameters(SaDirection::inbound));
      kernel.sender.outbound(inner);
      CHECK(kernel.pass() == std::vector<Octets>{inner});
      Pair bypass(sa_parameters(SaDirection::outbound), sa_parameters(SaDirection::inbound));
      bypass.sender.outbound(inner, 5, true);
      const auto got = bypass.pass();
      if (ttl <= 1) {
        CHECK(got.empty());
        CHECK(bypass.sender.drops(Drop::hop_limit) == 1);
        REQUIRE(bypass.sender.egress.icmp.size() == 1);
        const Octets& error = bypass.sender.egress.icmp[0];
        CHECK(error[v4 ? 20 : 40] == (v4 ? 11 : 3));
        CHECK(error[v4 ? 21 : 41] == 0);
        CHECK(reference::checksums_ok(error));
        CHECK(error.size() == inner.size() + (v4 ? 28 : 48));
      } else {
        REQUIRE(got.size() == 1);
        --spec.ttl;
        CHECK(got[0] == make_inner(spec));
      }
      CHECK(bypass.sender.balanced());
    }
}

TEST_CASE("fragments: options with the copied flag go into each piece, others only into the first") {
  Octets p = make_inner({.payload = 1000, .identification = 99});
  const Octets options = {0x83, 7, 4,    1, 2, 3,
                          4,    1, 0x44, 4, 5, 0};  // source route (copied), no-op, timestamp (not copied)
  p.insert(p.begin() + 20, options.begin(), options.end());
  p[0] = 0x48;
  reference::put16(p, 2, static_cast<unsigned>(p.size()));
  reference::put16(p, 10, 0);
  reference::put16(p, 10, ~reference::sum(p, 0, 32) & 0xffff);
  const auto info = parse_ip(reference::view(p));
  REQUIRE(info);
  const auto plan = plan_ipv4_fragments(reference::view(p), *info, 300);
  REQUIRE(plan);
  std::size_t payload = 0;
  for (std::uint32_t i = 0; i < plan->count; ++i) {
    Octets piece(fragment_size(*plan, i));
    write_fragment(*plan, i, reinterpret_cast<std::byte*>(piece.data()));
    CHECK(piece.size() <= 300);
    const std::size_t header = (piece[0] & 15U) * 4;
    CHECK(header == (i == 0 ? 32 : 28));
    CHECK(reference::sum(piece, 0, header) == 0xffff);
    CHECK(reference::be16(piece, 4) == 99);
    if (i != 0) CHECK(Octets(piece.begin() + 20, piece.begin() + 28) == Octets{0x83, 7, 4, 1, 2, 3, 4, 0});
    CHECK((reference::be16(piece, 6) & 0x1fff) * 8U == payload);
    CHECK(((reference::be16(piece, 6) & 0x2000) != 0) == (i + 1 != plan->count));
    payload += piece.size() - header;
  }
  CHECK(payload == p.size() - 32);
  CHECK_FALSE(plan_ipv4_fragments(reference::view(p), *info, 39));  // not even 8 bytes behind the header
}

TEST_CASE("fragments: a fragment is cut again with its own offset and flag") {
  Octets p = make_inner({.payload = 500});
  reference::put16(p, 6, 0x2000 | 100);  // more to come, offset 800
  reference::put16(p, 10, 0);
  reference::put16(p, 10, ~reference::sum(p, 0, 20) & 0xffff);
  const auto info = parse_ip(reference::view(p));
  const auto plan = plan_ipv4_fragments(reference::view(p), *info, 220);
  REQUIRE(plan);
  REQUIRE(plan->count == 3);
  for (std::uint32_t i = 0; i < 3; ++i) {
    Octets piece(fragment_size(*plan, i));
    write_fragment(*plan, i, reinterpret_cast<std::byte*>(piece.data()));
    CHECK((reference::be16(piece, 6) & 0x1fff) == 100 + i * 25);
    CHECK((reference::be16(piece, 6) & 0x2000) != 0);
  }
}

}  // namespace
}  // namespace postern::test
