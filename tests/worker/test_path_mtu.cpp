// Path MTU learned from ICMP (RFC 4301 §8.2, RFC 1191, RFC 8201): who is believed, how far, and for how long.
#include "crypto/ah.hpp"
#include "harness.hpp"
#include "worker/path_mtu.hpp"
#include "worker/sa.hpp"

namespace postern::test {
namespace {

// A router's message about `sent`, of which `quoted` bytes are in it.
Octets too_big(const Octets& sent, std::uint32_t mtu, std::size_t quoted = 28) {
  const bool v4 = sent[0] >> 4 == 4;
  InnerSpec spec{.source = "203.0.113.5", .destination = "192.0.2.1", .protocol = 1, .payload = 0};
  if (!v4) spec = {.source = "2001:db8:99::5", .destination = "2001:db8:ff::1", .protocol = 58, .payload = 0};
  Octets out = make_inner(spec);
  const std::size_t at = v4 ? 20 : 40;
  out[at] = v4 ? 3 : 2;
  out[at + 1] = v4 ? 4 : 0;
  reference::put32(out, at + 4, mtu);
  out.insert(out.end(), sent.begin(), sent.begin() + static_cast<long>(std::min(quoted, sent.size())));
  reference::finish(out);
  return out;
}

struct Options {
  bool v6 = false, udp = false, ah = false;
  crypto::Transform transform = cbc_sha1;
};

struct Sender {
  SaParameters p;
  Node node;
  std::uint32_t slot = 0;
  explicit Sender(const Options& options = {})
      : p(options.v6 ? sa_parameters(SaDirection::outbound, options.transform, "2001:db8:ff::1", "2001:db8:ff::2")
                     : sa_parameters(SaDirection::outbound, options.transform)) {
    p.udp_encapsulation = options.udp;
    p.local_port = p.remote_port = options.udp ? 4500 : 0;
    if (options.ah) {
      p.protocol = IpProto::ah;
      p.transform = {crypto::Cipher::none, 0, crypto::Integrity::hmac_sha256_128};
      p.cipher_key_bytes = 0;
      p.integrity_key_bytes = crypto::ah_sizes_of(p.transform.integrity)->integrity_key_bytes;
    }
    slot = node.add(p);
  }
  // The outer packet of an inner one of `size` bytes.
  Octets send(std::size_t size = 1400) {
    node.egress.wire.clear();
    node.outbound(make_inner({.payload = size - 28, .dont_fragment = true}));
    node.flush();
    return node.egress.wire.empty() ? Octets{} : outer_of(node.egress.wire[0]);
  }
  // The reason under which the message was counted.
  Drop hear(const Octets& message) {
    const auto before = node.all_drops();
    for (Counter& c : node.counters[0].drops) c = 0;
    node.given -= before;
    node.inbound(message);
    node.flush();
    CHECK(node.balanced());
    for (std::size_t i = 0; i < drop_count; ++i)
      if (node.counters[0].drops[i] != 0) return static_cast<Drop>(i);
    return Drop::none;
  }
  std::uint32_t path() { return path_mtu_of(*node.sad->outbound(p.flow)); }
  // The largest inner packet that leaves; what its sender is told of a larger one must be the same.
  std::uint32_t largest() {
    const std::uint32_t wanted = inner_mtu(*node.sad->outbound(p.flow), path());
    const Octets fits = send(wanted);
    CHECK(fits.size() <= path());
    CHECK(fits.size() != 0);
    node.egress.icmp.clear();
    CHECK(send(wanted + 1).empty());
    REQUIRE(node.egress.icmp.size() == 1);
    CHECK(reference::be16(node.egress.icmp[0], 26) == wanted);
    return wanted;
  }
};

}  // namespace

TEST_CASE("path MTU: learned from a quote of what was sent; SV-19 by the new figure") {
  const crypto::Transform cbc_sha512{crypto::Cipher::aes_cbc, 256, crypto::Integrity::hmac_sha512_256};
  for (const bool v6 : {false, true})
    for (const bool udp : {false, true})
      for (const crypto::Transform& transform : {cbc_sha1, cbc_sha256, cbc_sha512, gcm_128, gcm_256}) {
        Sender sender({.v6 = v6, .udp = udp, .transform = transform});
        const std::uint32_t before = sender.largest();
        CHECK(sender.hear(too_big(sender.send(1380), 1400, 64)) == Drop::path_mtu_learned);
        CHECK(sender.path() == 1400);
        CHECK(sender.largest() < before);
        CHECK(sender.hear(too_big(sender.send(1260), 1300, 64)) == Drop::path_mtu_learned);
        CHECK(sender.path() == 1300);
        CHECK(sender.largest() <= 1300);
      }
}

TEST_CASE("path MTU: 8 bytes behind the IP header are enough for ESP, and not for ESP in UDP") {
  Sender plain, encapsulated({.udp = true});
  CHECK(plain.hear(too_big(plain.send(), 1400, 28)) == Drop::path_mtu_learned);
  const Octets sent = encapsulated.send();
  CHECK(encapsulated.hear(too_big(sent, 1400, 28)) == Drop::path_mtu_forged);
  CHECK(encapsulated.hear(too_big(sent, 1400, 31)) == Drop::path_mtu_forged);
  CHECK(encapsulated.hear(too_big(sent, 1400, 32)) == Drop::path_mtu_learned);  // RFC 1812 §4.3.2.3 quotes more
}

TEST_CASE("path MTU: AH") {
  for (const bool v6 : {false, true}) {
    Sender sender({.v6 = v6, .ah = true});
    const std::uint32_t before = sender.largest();
    const Octets sent = sender.send();
    const std::size_t ah = v6 ? 40 : 20;
    Octets forged = sent;
    forged[ah + 7] ^= 1;  // another SPI
    CHECK(sender.hear(too_big(forged, 1400, ah + 8)) == Drop::path_mtu_forged);
    forged = sent;
    forged[ah + 8] ^= 0x40;  // a number that was not used
    CHECK(sender.hear(too_big(forged, 1400, ah + 12)) == Drop::path_mtu_forged);
    CHECK(sender.hear(too_big(sent, 1400, ah + 7)) == Drop::path_mtu_forged);
    Octets as_esp = sent;  // the same SPI in ESP is another SA's
    as_esp[v6 ? 6 : 9] = 50;
    as_esp.erase(as_esp.begin() + static_cast<long>(ah), as_esp.begin() + static_cast<long>(ah) + 4);
    CHECK(sender.hear(too_big(as_esp, 1400, ah + 8)) == Drop::path_mtu_forged);
    CHECK(sender.hear(too_big(sent, 1400, ah + 8)) == Drop::path_mtu_learned);
    CHECK(sender.largest() < before);
  }
}

TEST_CASE("path MTU: never below what the family guarantees") {
  Sender v4, v6({.v6 = true});
  CHECK(v6.hear(too_big(v6.send(), 1279, 64)) == Drop::path_mtu_refused);  // RFC 8201 §4
  CHECK(v6.hear(too_big(v6.send(), 0, 64)) == Drop::path_mtu_refused);
  CHECK(v6.path() == 1500);
  CHECK(v6.hear(too_big(v6.send(), 1280, 64)) == Drop::path_mtu_learned);
  CHECK(v6.path() == 1280);
  CHECK(v4.hear(too_big(v4.send(), 68)) == Drop::path_mtu_learned);
  CHECK(v4.path() == 576);
  CHECK(v4.hear(too_big(v4.send(400), 0)) == Drop::path_mtu_refused);
  CHECK(v4.path() == 576);
  Sender old;
  CHECK(old.hear(too_big(old.send(), 0)) == Drop::path_mtu_learned);  // RFC 1191 §5
  CHECK(old.path() == 576);
}

TEST_CASE("path MTU: what does not make it smaller changes nothing") {
  Sender sender;
  const Octets sent = sender.send();
  CHECK(sender.hear(too_big(sent, 1500)) == Drop::path_mtu_refused);
  CHECK(sender.hear(too_big(sent, 0xffff)) == Drop::path_mtu_refused);
  CHECK(sender.hear(too_big(sent, static_cast<std::uint32_t>(sent.size()))) == Drop::path_mtu_refused);  // it fitted
  CHECK(sender.path() == 1500);
  CHECK(sender.hear(too_big(sent, 1300)) == Drop::path_mtu_learned);
  CHECK(sender.hear(too_big(sent, 1300)) == Drop::path_mtu_refused);
  CHECK(sender.hear(too_big(sent, 1400)) == Drop::path_mtu_refused);
  CHECK(sender.path() == 1300);
}

TEST_CASE("path MTU: forged quotes") {
  Sender sender({.udp = false});
  const Octets sent = sender.send();
  struct Change {
    std::size_t at;
    std::uint8_t bits;
    const char* what;
  };
  for (const Change& change : {Change{23, 1, "another SPI"},
                               {15, 1, "another source"},
                               {19, 1, "another peer"},
                               {9, 51 ^ 50, "AH"},
                               {27, 2, "a number that was not used: 3"},
                               {24, 0x80, "a number far ahead"},
                               {0, 0x20, "the other version"}}) {
    Octets quoted = sent;
    quoted[change.at] = static_cast<std::uint8_t>(quoted[change.at] ^ change.bits);
    CHECK_MESSAGE(sender.hear(too_big(quoted, 1300, 64)) == Drop::path_mtu_forged, change.what);
  }
  Octets zero = sent;
  reference::put32(zero, 24, 0);
  CHECK(sender.hear(too_big(zero, 1300)) == Drop::path_mtu_forged);
  for (std::size_t size = 0; size < 24; ++size) CHECK(sender.hear(too_big(sent, 1300, size)) == Drop::path_mtu_forged);
  Octets damaged = too_big(sent, 1300);
  damaged[27] ^= 1;
  CHECK(sender.hear(damaged) == Drop::path_mtu_forged);  // its checksum
  Octets unreachable = too_big(sent, 1300);
  unreachable[21] = 1;
  reference::finish(unreachable);
  CHECK(sender.hear(unreachable) == Drop::path_mtu_forged);
  CHECK(sender.path() == 1500);
  CHECK(sender.hear(too_big(sent, 1300)) == Drop::path_mtu_learned);
}

TEST_CASE("path MTU: an SA answers for its own packets, its own encapsulation and its own VRF") {
  Sender sender({.udp = true});
  SaParameters other = sa_parameters(SaDirection::outbound, cbc_sha1, "192.0.2.1", "192.0.2.3");
  other.spi = 0x3003;
  other.flow = 6;
  const std::uint32_t slot = sender.node.add(other);
  Octets quoted = sender.send();
  reference::put32(quoted, 28, other.spi);  // the SPI of one SA in a packet to the other's peer
  CHECK(sender.hear(too_big(quoted, 1300, 64)) == Drop::path_mtu_forged);
  Octets plain = sender.send();
  plain.erase(plain.begin() + 20, plain.begin() + 28);
  plain[9] = 50;
  CHECK(sender.hear(too_big(plain, 1300, 64)) == Drop::path_mtu_forged);
  Octets port = sender.send();
  port[21] ^= 1;
  CHECK(sender.hear(too_big(port, 1300, 64)) == Drop::path_mtu_forged);
  const Octets message = too_big(sender.send(), 1300, 64);
  const std::uint64_t before = sender.node.drops(Drop::path_mtu_forged);
  sender.node.inbound(message, 7);
  sender.node.flush();
  CHECK(sender.node.drops(Drop::path_mtu_forged) == before + 1);
  CHECK(sender.path() == 1500);
  CHECK(sender.hear(message) == Drop::path_mtu_learned);
  CHECK(sender.node.slots[slot].path_mtu == LearnedPathMtu::none);
}

TEST_CASE("path MTU: forgotten in time, kept over a rekey, gone with the SA") {
  Sender sender;
  CHECK(sender.hear(too_big(sender.send(), 1300)) == Drop::path_mtu_learned);
  const std::uint64_t word = sender.node.slots[sender.slot].path_mtu, now = monotonic_ns();
  constexpr std::uint64_t second = 1'000'000'000;
  CHECK(LearnedPathMtu::least(word, 1500, now + 598 * second) == 1300);
  CHECK(LearnedPathMtu::least(word, 1500, now + 602 * second) == 1500);
  CHECK(LearnedPathMtu::least(word, 1280, now) == 1280);  // the link has become smaller meanwhile

  SaParameters next = sender.p;
  next.spi = 0x1002;
  const std::uint32_t second_slot = sender.node.add(next);
  CHECK(sender.path() == 1300);
  CHECK(sender.node.sad->remove(sender.slot).has_value());
  CHECK(sender.path() == 1300);
  CHECK(sender.hear(too_big(sender.send(1200), 1000)) == Drop::path_mtu_learned);
  CHECK(sender.node.slots[second_slot].path_mtu != LearnedPathMtu::none);

  const Octets message = too_big(sender.send(900), 800);
  CHECK(sender.node.sad->remove(second_slot).has_value());
  CHECK(sender.hear(message) == Drop::path_mtu_forged);
  sender.node.add(next);
  CHECK(sender.path() == 1500);

  SaParameters elsewhere = next;
  elsewhere.spi = 0x1003;
  elsewhere.remote = address("192.0.2.9");
  CHECK(sender.hear(too_big(sender.send(), 1300)) == Drop::path_mtu_learned);
  sender.node.add(elsewhere);  // another peer, another path
  CHECK(sender.path() == 1500);
}

TEST_CASE("path MTU: a flood is counted and not looked at") {
  Sender sender;
  Octets forged = sender.send();
  forged[23] ^= 1;
  const Octets message = too_big(forged, 1300);
  for (int i = 0; i < 2000; ++i) {
    sender.node.inbound(message);
    sender.node.flush();
  }
  CHECK(sender.node.drops(Drop::path_mtu_forged) >= ErrorBudget::burst);
  CHECK(sender.node.drops(Drop::path_mtu_forged) < 1000);
  CHECK(sender.node.drops(Drop::path_mtu_flood) + sender.node.drops(Drop::path_mtu_forged) == 2000);
  CHECK(sender.node.balanced());
}

TEST_CASE("fragmentation after encryption: the outer packet is cut where both may be, else the inner one") {
  struct Row {
    bool v6;
    DfPolicy df;
    FragmentPolicy when;
    bool outer_pieces;
  };
  for (const Row& row : {Row{false, DfPolicy::copy, FragmentPolicy::after, true},
                         {false, DfPolicy::clear, FragmentPolicy::after, true},
                         {false, DfPolicy::set, FragmentPolicy::after, false},  // the outer one must stay whole
                         {false, DfPolicy::copy, FragmentPolicy::before, false},
                         {true, DfPolicy::copy, FragmentPolicy::after, true},
                         {true, DfPolicy::copy, FragmentPolicy::before, false}}) {
    SaParameters p = row.v6 ? sa_parameters(SaDirection::outbound, cbc_sha1, "2001:db8:ff::1", "2001:db8:ff::2")
                            : sa_parameters(SaDirection::outbound, cbc_sha1);
    p.df = row.df;
    p.fragmentation = row.when;
    Node node;
    const std::uint32_t slot = node.add(p);
    node.outbound(make_inner({.payload = 2500}));
    node.flush();
    CHECK(node.egress.wire.size() == 2);
    CHECK(node.slots[slot].packets == (row.outer_pieces ? 1 : 2));
    for (const Octets& frame : node.egress.wire) {
      const Octets outer = outer_of(frame);
      CHECK(outer.size() <= 1500);
      CHECK((row.v6 ? outer[6] == 44 : (reference::be16(outer, 6) & 0x3fff) != 0) == row.outer_pieces);
    }
    CHECK(node.balanced());
    // What must stay whole is answered, not cut.
    node.outbound(make_inner({.payload = 2500, .dont_fragment = true}));
    node.flush();
    CHECK(node.drops(Drop::too_big) == (row.df == DfPolicy::clear ? 0 : 1));
  }
}

}  // namespace postern::test
