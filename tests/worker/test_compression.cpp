// IPComp (RFC 3173, RFC 2394) as one thread's packets meet it. Against another implementation: test_scapy_ipcomp.py.
#include <doctest/doctest.h>

#include "harness.hpp"
#include "worker/compression.hpp"
#include "worker/sa.hpp"

namespace postern::test {
namespace {

constexpr std::uint16_t cpi = 2;

SaParameters compressing(SaDirection direction, std::string_view sender = "192.0.2.1",
                         std::string_view receiver = "192.0.2.2") {
  SaParameters p = sa_parameters(direction, gcm_128, sender, receiver);
  p.compression_cpi = cpi;
  return p;
}

// xorshift32: nothing in it repeats within a packet.
Octets noise(std::size_t size) {
  Octets out;
  std::uint32_t state = 0x9e3779b9;
  while (out.size() < size) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    out.push_back(static_cast<std::uint8_t>(state));
  }
  return out;
}

Octets with_payload(const Octets& payload) {
  Octets packet = make_inner({.payload = payload.size()});
  std::copy(payload.begin(), payload.end(), packet.begin() + 28);
  reference::finish(packet);
  return packet;
}

// The payload of an ESP packet that both nodes share the key of.
struct Ends {
  Node sender, receiver;
  std::uint32_t out = 0, in = 0;
  explicit Ends(SaParameters sending = compressing(SaDirection::outbound),
                SaParameters receiving = compressing(SaDirection::inbound))
      : out(sender.add(sending)), in(receiver.add(receiving)) {}
  void pass(const Octets& packet) {
    sender.outbound(packet);
    sender.flush();
    for (const Octets& frame : std::exchange(sender.egress.wire, {})) receiver.inbound(outer_of(frame));
    receiver.flush();
  }
  const SaSlot& sent() { return sender.slots[out]; }
  const SaSlot& received() { return receiver.slots[in]; }
};

TEST_CASE("IPComp: there and back, every length; only what becomes smaller is compressed (RFC 3173 2.2)") {
  Ends ends;
  std::uint64_t compressed = 0, given = 0, tried = 0;
  for (std::size_t size = 0; size <= 1380; size += size < 120 ? 1 : 37)
    for (const Octets& payload : {Octets(size, 0x41), noise(size)}) {
      const Octets packet = with_payload(payload);
      ends.sender.outbound(packet);
      ends.sender.flush();
      REQUIRE(ends.sender.egress.wire.size() == 1);
      const std::size_t outer = outer_of(ends.sender.egress.wire[0]).size();
      const std::size_t as_is = 20 + 8 + 8 + (packet.size() + 2 + 3) / 4 * 4 + 16;
      CHECK(outer <= as_is);
      ends.receiver.inbound(outer_of(ends.sender.egress.wire[0]));
      ends.receiver.flush();
      REQUIRE(ends.receiver.egress.delivered.size() == 1);
      CHECK(ends.receiver.egress.delivered[0] == packet);
      ++given;
      tried += packet.size() >= least_to_compress ? 1 : 0;
      compressed += ends.sent().compressed.load() - compressed;
      ends.sender.egress.wire.clear();
      ends.receiver.egress.delivered.clear();
    }
  CHECK(compressed > given / 4);
  CHECK(ends.sent().not_compressed == given - compressed);
  CHECK(ends.sent().compress_failed == tried - compressed);
  CHECK(ends.received().compressed == compressed);
  CHECK(ends.received().not_compressed == given - compressed);
  CHECK(ends.received().compress_failed == 0);
  CHECK(ends.sender.balanced());
  CHECK(ends.receiver.balanced());
}

TEST_CASE("IPComp: an SA without it takes none, one with it takes both") {
  SaParameters plain_in = compressing(SaDirection::inbound);
  plain_in.compression_cpi = 0;
  Ends refused(compressing(SaDirection::outbound), plain_in);
  refused.pass(with_payload(Octets(600, 7)));
  CHECK(refused.receiver.drops(Drop::bad_next_header) == 1);
  CHECK(refused.receiver.balanced());

  SaParameters plain_out = compressing(SaDirection::outbound);
  plain_out.compression_cpi = 0;
  Ends taken(plain_out, compressing(SaDirection::inbound));
  taken.pass(with_payload(Octets(600, 7)));
  CHECK(taken.receiver.egress.delivered.size() == 1);
  CHECK(taken.received().not_compressed == 1);

  SaParameters other = compressing(SaDirection::inbound);
  other.compression_cpi = 300;
  Ends another(compressing(SaDirection::outbound), other);
  another.pass(with_payload(Octets(600, 7)));
  CHECK(another.receiver.drops(Drop::ipcomp_header) == 1);
  CHECK(another.received().compress_failed == 1);
  CHECK(another.received().errors == 1);
  CHECK(another.receiver.balanced());
}

TEST_CASE("IPComp: transport mode compresses what the IP headers carry") {
  const auto own = [](SaParameters p) {
    p.mode = SaMode::transport;
    p.selector_count = 1;
    TrafficSelector& s = p.selectors[0];
    s.source_first = s.source_last = address("192.0.2.1");
    s.destination_first = s.destination_last = address("192.0.2.2");
    return p;
  };
  Ends ends(own(compressing(SaDirection::outbound)), own(compressing(SaDirection::inbound)));
  const Octets packet = make_inner({.source = "192.0.2.1", .destination = "192.0.2.2", .payload = 1200});
  ends.pass(packet);
  REQUIRE(ends.receiver.egress.delivered.size() == 1);
  CHECK(ends.receiver.egress.delivered[0] == packet);
  CHECK(ends.sent().compressed == 1);
  CHECK(ends.received().compressed == 1);
}

TEST_CASE("IPComp: a packet of an SA that has just expired waits for the next one, uncompressed") {
  Node node;
  SaParameters p = compressing(SaDirection::outbound);
  p.hard_packets = 1;
  const std::uint32_t slot = node.add(p);
  const Octets packet = with_payload(Octets(600, 7));
  node.outbound(packet);
  node.outbound(packet);
  node.flush();
  CHECK(node.egress.wire.size() == 1);
  CHECK(node.counters[0].held.load() == 1);
  CHECK(node.slots[slot].compressed == 1);
  SaParameters next = sa_parameters(SaDirection::outbound, gcm_128);  // its peer does not compress
  next.spi = 0x2001;
  node.add(next);
  node.pipeline->poll_held(Clock::now());
  node.flush();
  REQUIRE(node.egress.wire.size() == 2);
  Node receiver;
  SaParameters in = sa_parameters(SaDirection::inbound, gcm_128);
  in.spi = 0x2001;
  receiver.add(in);
  receiver.inbound(outer_of(node.egress.wire[1]));
  receiver.flush();
  REQUIRE(receiver.egress.delivered.size() == 1);
  CHECK(receiver.egress.delivered[0] == packet);
  CHECK(node.balanced());
}

TEST_CASE("IPComp: padding against traffic analysis is not compressed away") {
  SaParameters padded = compressing(SaDirection::outbound);
  padded.tfc_bytes = 1000;
  Ends ends(padded);
  ends.sender.outbound(with_payload(Octets(200, 7)));
  ends.sender.flush();
  REQUIRE(ends.sender.egress.wire.size() == 1);
  CHECK(outer_of(ends.sender.egress.wire[0]).size() > 1000);
  CHECK(ends.sent().compressed == 0);
}

TEST_CASE("IPComp: output ends at the longest packet, and what is no stream is refused") {
  Compression compression;
  const Octets zeros(4000, 0);
  const auto small = compression.compress(reference::view(zeros), 4, cpi);
  REQUIRE(small);
  const Octets whole = reference::octets(*small);
  REQUIRE(compression.decompress(reference::view(whole), cpi, 4000));
  CHECK(compression.decompress(reference::view(whole), cpi, 4000)->payload.size() == 4000);
  const auto refused = [&](const Octets& bytes, std::size_t longest) {
    const auto got = compression.decompress(reference::view(bytes), cpi, longest);
    return got ? Drop::none : got.error();
  };
  CHECK(refused(whole, 3999) == Drop::ipcomp_too_long);
  CHECK(refused(whole, 0) == Drop::ipcomp_too_long);
  for (std::size_t size = 0; size < 4; ++size)
    CHECK(refused(Octets(whole.begin(), whole.begin() + static_cast<long>(size)), 4000) == Drop::ipcomp_header);
  for (std::size_t size = 4; size < whole.size(); ++size)
    CHECK(refused(Octets(whole.begin(), whole.begin() + static_cast<long>(size)), 4000) == Drop::ipcomp_data);
  Octets garbage = whole;
  garbage[4] = 0xff;  // block type 3 does not exist
  CHECK(refused(garbage, 4000) == Drop::ipcomp_data);
  Octets behind = whole;
  behind.insert(behind.end(), 10, 0);
  CHECK(refused(behind, 4000) == Drop::none);
  // It goes on as if nothing had been.
  CHECK(refused(whole, 4000) == Drop::none);
}

TEST_CASE("IPComp: of AH around ESP, ESP compresses") {
  SaParameters ah = compressing(SaDirection::outbound);
  ah.protocol = IpProto::ah;
  ah.transform = {crypto::Cipher::none, 0, crypto::Integrity::hmac_sha256_128};
  ah.cipher_key_bytes = 0;
  ah.integrity_key_bytes = 32;
  CHECK(validate(ah));
  ah.mode = SaMode::transport;
  ah.selector_count = 1;
  ah.selectors[0].source_first = ah.selectors[0].source_last = ah.local;
  ah.selectors[0].destination_first = ah.selectors[0].destination_last = ah.remote;
  ah.bundle = 9;
  CHECK_FALSE(validate(ah));
  ah.compression_cpi = 0;
  CHECK(validate(ah));
}

}  // namespace
}  // namespace postern::test
