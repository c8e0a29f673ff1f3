// AH in both modes and around ESP: against what scapy made, there and back, and what is refused.
#include "crypto/ah.hpp"
#include "known_ah_packets.hpp"
#include "worker/ah.hpp"
#include "worker/sa.hpp"

namespace postern::test {
namespace {

using crypto::Integrity;

constexpr Integrity authenticators[] = {
    Integrity::hmac_md5_96,     Integrity::hmac_sha1_96, Integrity::hmac_sha256_128, Integrity::hmac_sha384_192,
    Integrity::hmac_sha512_256, Integrity::aes_xcbc_96,  Integrity::aes_cmac_96};
constexpr std::uint32_t flow = 5, bundle_flow = 6;

struct Ends {
  const char *sender, *receiver;
};
constexpr Ends ends_of(Family family) {
  return family == Family::v4 ? Ends{"192.0.2.1", "192.0.2.2"} : Ends{"2001:db8:ff::1", "2001:db8:ff::2"};
}

void between_ends(SaParameters& p, std::uint8_t protocol = 0) {
  const bool out = p.direction == SaDirection::outbound;
  p.mode = SaMode::transport;
  p.selector_count = 1;
  TrafficSelector& s = p.selectors[0];
  s.source_first = s.source_last = out ? p.local : p.remote;
  s.destination_first = s.destination_last = out ? p.remote : p.local;
  s.protocol = protocol;
}

SaParameters ah_parameters(SaDirection direction, Integrity integrity, Family family, bool transport) {
  const Ends ends = ends_of(family);
  SaParameters p = sa_parameters(direction, cbc_sha1, ends.sender, ends.receiver);
  p.protocol = IpProto::ah;
  p.transform = {crypto::Cipher::none, 0, integrity};
  p.cipher_key_bytes = 0;
  p.integrity_key_bytes = crypto::ah_sizes_of(integrity)->integrity_key_bytes;
  for (std::size_t i = 0; i < p.integrity_key_bytes; ++i) p.integrity_key[i] = static_cast<std::byte>(i + 101);
  if (direction == SaDirection::inbound) p.replay_window = 64;
  if (transport) between_ends(p);
  return p;
}

struct Bundle {
  SaParameters esp, ah;
};
Bundle bundle(SaDirection direction, Family family, bool transport) {
  const Ends ends = ends_of(family);
  Bundle out{sa_parameters(direction, cbc_sha256, ends.sender, ends.receiver),
             ah_parameters(direction, Integrity::hmac_sha256_128, family, false)};
  out.esp.bundle = bundle_flow;
  if (transport) between_ends(out.esp);
  out.ah.flow = bundle_flow;
  out.ah.bundle = flow;
  between_ends(out.ah, static_cast<std::uint8_t>(IpProto::esp));
  return out;
}

TEST_CASE("AH: opens what scapy sealed") {
  for (const KnownAhPacket& row : known_ah_packets) {
    CAPTURE(row.what);
    Node node;
    node.add(ah_parameters(SaDirection::inbound, row.integrity, row.outer, row.transport));
    node.inbound(reference::from_hex(row.hex));
    node.flush();
    REQUIRE(node.egress.delivered.size() == 1);
    CHECK(reference::to_hex(node.egress.delivered[0]) == row.inner);
    CHECK(node.balanced());
  }
}

TEST_CASE("AH: transport mode seals what scapy sealed, byte for byte") {
  for (const KnownAhPacket& row : known_ah_packets) {
    if (!row.transport) continue;
    CAPTURE(row.what);
    Node node;
    node.add(ah_parameters(SaDirection::outbound, row.integrity, row.outer, true));
    node.outbound(reference::from_hex(row.inner));
    node.flush();
    REQUIRE(node.egress.wire.size() == 1);
    CHECK(reference::to_hex(outer_of(node.egress.wire[0])) == row.hex);
  }
}

TEST_CASE("AH: lengths are whole words over IPv4, and double words over IPv6 (RFC 4302 2.6)") {
  struct {
    Integrity integrity;
    std::uint32_t v4, v6;
  } const rows[] = {{Integrity::hmac_md5_96, 24, 24},     {Integrity::aes_xcbc_96, 24, 24},
                    {Integrity::aes_cmac_96, 24, 24},     {Integrity::hmac_sha1_96, 24, 24},
                    {Integrity::hmac_sha256_128, 28, 32}, {Integrity::hmac_sha384_192, 36, 40},
                    {Integrity::hmac_sha512_256, 44, 48}};
  for (const auto& row : rows) {
    const std::uint32_t icv = crypto::ah_sizes_of(row.integrity)->icv_bytes;
    CHECK(crypto::ah_header_bytes(icv, Family::v4) == row.v4);
    CHECK(crypto::ah_header_bytes(icv, Family::v6) == row.v6);
    CHECK(ah_length_field(row.v4) == row.v4 / 4 - 2);
    for (const Family family : {Family::v4, Family::v6}) {
      const SaParameters p = ah_parameters(SaDirection::outbound, row.integrity, family, false);
      const std::uint32_t ah = family == Family::v4 ? row.v4 : row.v6;
      CHECK(overhead_of(p, ends_of(p), *sizes_of(p)).plaintext_mtu(1500) == 1500 - ip_header(family) - ah);
      CHECK(overhead_of(p, ends_of(p), *sizes_of(p)).trailer_bytes(33) == 0);
    }
  }
}

TEST_CASE("AH: every authenticator, mode and family, there and back") {
  for (const Integrity integrity : authenticators)
    for (const Family family : {Family::v4, Family::v6})
      for (const bool transport : {false, true}) {
        Node sender, receiver;
        sender.add(ah_parameters(SaDirection::outbound, integrity, family, transport));
        receiver.add(ah_parameters(SaDirection::inbound, integrity, family, transport));
        std::vector<Octets> inner;
        for (std::size_t payload = 0; payload < 70; ++payload) {
          InnerSpec spec{.payload = payload};
          if (transport) spec.source = ends_of(family).sender, spec.destination = ends_of(family).receiver;
          inner.push_back(make_inner(spec));
          sender.outbound(inner.back());
        }
        sender.flush();
        REQUIRE(sender.egress.wire.size() == inner.size());
        for (const Octets& frame : sender.egress.wire) receiver.inbound(outer_of(frame));
        receiver.flush();
        CHECK(receiver.egress.delivered == inner);
        CHECK(sender.balanced());
        CHECK(receiver.balanced());
      }
}

TEST_CASE("AH around ESP: there and back, counted at both, and both of one SPI") {
  for (const Family family : {Family::v4, Family::v6})
    for (const bool transport : {false, true}) {
      Node sender, receiver;
      const Bundle out = bundle(SaDirection::outbound, family, transport);
      const Bundle in = bundle(SaDirection::inbound, family, transport);
      const std::uint32_t esp = sender.add(out.esp), ah = sender.add(out.ah);
      receiver.add(in.esp);
      const std::uint32_t receiving_ah = receiver.add(in.ah);
      InnerSpec spec;
      if (transport) spec.source = ends_of(family).sender, spec.destination = ends_of(family).receiver;
      const std::vector<Octets> inner(100, make_inner(spec));
      for (const Octets& one : inner) sender.outbound(one);
      sender.flush();
      REQUIRE(sender.egress.wire.size() == inner.size());
      for (const Octets& frame : sender.egress.wire) receiver.inbound(outer_of(frame));
      receiver.flush();
      CHECK(receiver.egress.delivered == inner);
      for (const std::uint32_t slot : {esp, ah}) CHECK(sender.slots[slot].packets == inner.size());
      CHECK(receiver.slots[receiving_ah].packets == inner.size());
      CHECK(sender.balanced());
      CHECK(receiver.balanced());
    }
}

TEST_CASE("AH around ESP: one without the other does not leave, and is not taken") {
  Node sender;
  const Bundle out = bundle(SaDirection::outbound, Family::v4, false);
  sender.add(out.esp);
  sender.outbound(make_inner({}));
  sender.flush();
  CHECK(sender.egress.wire.empty());  // it waits for its AH
  sender.pipeline->poll_held(Clock::now() + std::chrono::seconds(2));
  CHECK(sender.egress.wire.empty());
  CHECK(sender.drops(Drop::no_outbound_sa) == 1);
  CHECK(sender.balanced());

  Node plain, receiver;
  SaParameters alone = out.esp;
  alone.bundle = 0;
  plain.add(alone);
  plain.outbound(make_inner({}));
  plain.flush();
  const Bundle in = bundle(SaDirection::inbound, Family::v4, false);
  const std::uint32_t slot = receiver.add(in.esp);
  receiver.add(in.ah);
  receiver.inbound(outer_of(plain.egress.wire.at(0)));
  receiver.flush();
  CHECK(receiver.egress.delivered.empty());
  CHECK(receiver.drops(Drop::bundle) == 1);
  CHECK(receiver.slots[slot].errors == 1);
  CHECK(receiver.balanced());

  Node bare;  // AH around ESP that is of no SA
  SaParameters outer = out.ah;
  outer.bundle = 0;
  bare.add(outer);
  bare.outbound(make_inner({.source = outer.local.text(), .destination = outer.remote.text(), .protocol = 50}),
                outer.flow);
  bare.flush();
  Node refuser;
  refuser.add(in.esp);
  const std::uint32_t around = refuser.add(in.ah);
  refuser.inbound(outer_of(bare.egress.wire.at(0)));
  refuser.flush();
  CHECK(refuser.egress.delivered.empty());
  CHECK(refuser.drops(Drop::bundle) == 1);
  CHECK(refuser.slots[around].errors == 1);
  CHECK(refuser.slots[around].packets == 0);  // an error or a packet, not both
  CHECK(refuser.slots[around].bytes == 0);
  CHECK(refuser.balanced());
}

TEST_CASE("AH: what an SA may not be") {
  struct {
    const char* why;
    void (*change)(SaParameters&);
  } const rows[] = {
      {"UDP", [](SaParameters& p) { p.udp_encapsulation = true, p.local_port = p.remote_port = 4500; }},
      {"authenticator", [](SaParameters& p) { p.transform.integrity = Integrity::none; }},
      {"key", [](SaParameters& p) { --p.integrity_key_bytes; }},
      {"protocol", [](SaParameters& p) { p.protocol = IpProto::udp; }},
      {"selectors", [](SaParameters& p) { p.mode = SaMode::transport; }},
      {"ends", [](SaParameters& p) { between_ends(p), p.selectors[0].source_last = address("192.0.2.9"); }},
      {"ends", [](SaParameters& p) { between_ends(p), p.selectors[0].destination_first = address("192.0.2.0"); }},
      {"transport", [](SaParameters& p) { p.bundle = 77; }},
      {"flow", [](SaParameters& p) { between_ends(p), p.bundle = p.flow; }},
  };
  for (const auto& row : rows) {
    CAPTURE(row.why);
    Node node;
    SaParameters p = ah_parameters(SaDirection::outbound, Integrity::hmac_sha256_128, Family::v4, false);
    CHECK(node.sad->install(p).has_value());
    row.change(p);
    const auto refused = node.sad->install(p);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().message().find(row.why) != std::string::npos);
  }
}

TEST_CASE("AH: an SPI is one of its protocol (RFC 4301 4.1)") {
  Node node;
  node.add(sa_parameters(SaDirection::inbound));
  const SaParameters ah = ah_parameters(SaDirection::inbound, Integrity::hmac_sha1_96, Family::v4, false);
  node.add(ah);
  CHECK(node.sad->install(ah).error().code == EEXIST);
  const InboundSa* const found = node.sad->inbound({0, ah.spi, ah.local, IpProto::ah});
  REQUIRE(found != nullptr);
  CHECK(found->protocol == IpProto::ah);
  CHECK(node.sad->inbound({0, ah.spi, ah.local, IpProto::esp}) != found);
}

TEST_CASE("AH: a worker that died left SAs that go on") {
  Node node(4);
  SaParameters in = ah_parameters(SaDirection::inbound, Integrity::hmac_sha256_128, Family::v4, false);
  const std::uint32_t slot = node.add(in);
  node.slots[slot].highest_sequence = 10;
  auto again = *Sad::create(node.slot_span(), 1);
  const InboundSa* const found = again->inbound({0, in.spi, in.local, IpProto::ah});
  REQUIRE(found != nullptr);
  CHECK(found->replay->window.check(10) != ReplayVerdict::fresh);
  CHECK(found->replay->window.check(11) == ReplayVerdict::fresh);
}

TEST_CASE("AH: what its ICV covers of IP headers (RFC 4302 3.3.3.1)") {
  CoveredHeaders covered;
  Octets v4 = make_inner({.traffic_class = 0xb8, .dont_fragment = true});
  v4.resize(20);
  REQUIRE(cover_headers(reference::view(v4), covered));
  for (const std::size_t at : {1U, 6U, 7U, 8U, 10U, 11U}) v4[at] = 0;
  CHECK(std::memcmp(covered.data(), v4.data(), v4.size()) == 0);

  Octets v6 = make_inner({.source = "2001:db8::1", .destination = "2001:db8::2", .traffic_class = 0xff});
  v6.resize(40);
  v6[6] = 51;
  REQUIRE(cover_headers(reference::view(v6), covered));
  v6[0] = 0x60;
  for (const std::size_t at : {1U, 2U, 3U, 7U}) v6[at] = 0;
  CHECK(std::memcmp(covered.data(), v6.data(), v6.size()) == 0);

  const auto refused = [&](Octets bytes) { return !cover_headers(reference::view(bytes), covered); };
  CHECK(refused(Octets(19, 0x45)));
  Octets option = v4;
  option.insert(option.end(), {7, 0, 0, 0});  // an option without a length
  CHECK(refused(option));
  option[21] = 5;  // longer than the header
  CHECK(refused(option));
  option[21] = 4;
  CHECK_FALSE(refused(option));
  Octets chain = v6;
  chain[6] = 0;
  chain.insert(chain.end(), {51, 0, 1, 5, 0, 0, 0, 0});  // PadN of 5 bytes, where 4 are left
  CHECK(refused(chain));
  chain[43] = 4;
  CHECK_FALSE(refused(chain));
  chain[41] = 1;  // 16 bytes, of which 8 are there
  CHECK(refused(chain));
  chain[41] = 0;
  chain[6] = 43;
  chain[43] = 1;  // a routing header with a segment left
  CHECK(refused(chain));
  chain[43] = 0;
  CHECK_FALSE(refused(chain));
  chain[6] = 44;
  CHECK(refused(chain));
  CHECK(refused(Octets(crypto::max_ah_headers + 4, 0x60)));
}

}  // namespace
}  // namespace postern::test
