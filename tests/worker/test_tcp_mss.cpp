// The MSS clamp: SYN and SYN-ACK, both families and directions, never up, checksums right.
#include "harness.hpp"
#include "offloads.hpp"
#include "worker/tcp_mss.hpp"

namespace postern::test {
namespace {

Octets mss_option(unsigned value) {
  return {2, 4, static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)};
}
Octets operator+(Octets a, const Octets& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Octets tcp_packet(bool v4, std::uint8_t flags, const Octets& options, std::size_t payload = 0) {
  InnerSpec spec{.protocol = 6, .payload = payload, .tcp_flags = flags, .tcp_options = options};
  if (!v4) spec.source = "2001:db8:1::2", spec.destination = "2001:db8:2::2";
  return make_inner(spec);
}

Octets clamped(Octets packet, std::uint16_t most) {
  const auto info = parse_ip(reference::view(packet));
  REQUIRE(info.has_value());
  clamp_mss(std::as_writable_bytes(std::span(packet)), *info, most);
  return packet;
}

constexpr std::uint8_t syn = 0x02, syn_ack = 0x12, ack = 0x10;

}  // namespace

TEST_CASE("MSS: lowered in SYN and SYN-ACK of both families, wherever the option stands") {
  const Octets nop{1}, timestamps{8, 10, 1, 2, 3, 4, 5, 6, 7, 8}, window{3, 3, 7}, end{0};
  for (const bool v4 : {true, false})
    for (const std::uint8_t flags : {syn, syn_ack})
      for (const auto& [before, behind] :
           std::initializer_list<std::pair<Octets, Octets>>{{{}, {}},
                                                            {nop + nop, timestamps + nop + nop + nop + nop},
                                                            {nop, window},  // at an odd place
                                                            {window, end},  // and behind an odd one
                                                            {timestamps + nop + nop, {}}})
        for (const unsigned offered : {1460U, 0xffffU, 0x05b3U}) {
          const Octets packet = tcp_packet(v4, flags, before + mss_option(offered) + behind);
          const Octets wanted = tcp_packet(v4, flags, before + mss_option(1357) + behind);
          const Octets got = clamped(packet, 1357);
          CHECK(got == wanted);
          CHECK(reference::checksums_ok(got));
        }
}

TEST_CASE("MSS: never raised, and nothing else is touched") {
  for (const bool v4 : {true, false}) {
    const auto same = [&](const Octets& packet) { CHECK(clamped(packet, 1357) == packet); };
    same(tcp_packet(v4, syn, mss_option(1357)));
    same(tcp_packet(v4, syn, mss_option(536)));
    same(tcp_packet(v4, syn, mss_option(0)));
    same(tcp_packet(v4, ack, mss_option(1460), 100));         // no SYN
    same(tcp_packet(v4, syn, {}));                            // no option: 536 or 1220 is meant
    same(tcp_packet(v4, syn, {0, 0, 0, 0, 2, 4, 5, 0xb4}));   // behind the end of options
    same(tcp_packet(v4, syn, {2, 3, 5, 0xb4}));               // of another length
    same(tcp_packet(v4, syn, {1, 1, 2, 4}));                  // reaches past the header
    same(tcp_packet(v4, syn, {8, 0, 0, 0, 2, 4, 5, 0xb4}));   // behind an option without a length
    same(tcp_packet(v4, syn, {8, 40, 0, 0, 2, 4, 5, 0xb4}));  // behind one that is too long
    Octets lies = tcp_packet(v4, syn, mss_option(1460));
    lies[(v4 ? 20U : 40U) + 12] = 0xf0;  // a header of 60 bytes in a packet of 24
    same(lies);
    Octets udp = tcp_packet(v4, syn, mss_option(1460));
    udp[v4 ? 9 : 6] = 17;
    same(udp);
  }
}

TEST_CASE("MSS: an SA's limit holds for what it sends and what it receives") {
  struct Row {
    std::uint16_t limit;
    bool v4;
    unsigned offered, wanted;
  };
  // CBC with SHA-1-96 over IPv4: 1438 bytes of plaintext at 1500.
  const Row rows[] = {{0, true, 1460, 1460},
                      {1300, true, 1460, 1300},
                      {1300, false, 1440, 1300},
                      {1300, true, 1200, 1200},
                      {mss_of_path, true, 1460, 1438 - 40},
                      {mss_of_path, false, 1440, 1438 - 60},
                      {mss_of_path, true, 1000, 1000}};
  for (const Row& row : rows)
    for (const bool limit_sends : {true, false}) {
      SaParameters out = sa_parameters(SaDirection::outbound, cbc_sha1),
                   in = sa_parameters(SaDirection::inbound, cbc_sha1);
      (limit_sends ? out : in).tcp_mss = row.limit;
      Node sender, receiver;
      sender.add(out);
      receiver.add(in);
      for (const std::uint8_t flags : {syn, syn_ack}) {
        sender.outbound(tcp_packet(row.v4, flags, mss_option(row.offered)));
        sender.flush();
        REQUIRE(sender.egress.wire.size() == 1);
        receiver.inbound(outer_of(sender.egress.wire[0]));
        receiver.flush();
        REQUIRE(receiver.egress.delivered.size() == 1);
        CHECK(receiver.egress.delivered[0] == tcp_packet(row.v4, flags, mss_option(row.wanted)));
        sender.egress.wire.clear();
        receiver.egress.delivered.clear();
      }
    }
}

TEST_CASE("MSS: `auto` follows the path of the way back") {
  SaParameters in = sa_parameters(SaDirection::inbound, cbc_sha1);
  SaParameters answers = sa_parameters(SaDirection::outbound, cbc_sha1, "192.0.2.2", "192.0.2.1");
  in.tcp_mss = answers.tcp_mss = mss_of_path;
  answers.spi = 0x2002;
  Node sender, receiver;
  sender.add(sa_parameters(SaDirection::outbound, cbc_sha1));
  receiver.add(in);
  const std::uint32_t slot = receiver.add(answers);
  receiver.slots[slot].path_mtu = LearnedPathMtu::pack(1400, monotonic_ns() + 60'000'000'000ULL);
  sender.outbound(tcp_packet(true, syn, mss_option(1460)));
  sender.flush();
  receiver.inbound(outer_of(sender.egress.wire.at(0)));
  receiver.flush();
  // (1400 - 20 - 8 - 16 - 12) in blocks of 16, less 2 of trailer and 40 of headers
  CHECK(receiver.egress.delivered.at(0) == tcp_packet(true, syn, mss_option(1344 - 2 - 40)));
}

TEST_CASE("MSS: a SYN that comes from a queue with its checksum unfinished, and one with data to be cut") {
  SaParameters out = sa_parameters(SaDirection::outbound, cbc_sha1);
  out.tcp_mss = 1000;
  for (const bool v4 : {true, false}) {
    Node sender, receiver;
    sender.add(out);
    receiver.add(sa_parameters(SaDirection::inbound, cbc_sha1));
    Octets super = tcp_packet(v4, syn, mss_option(1460), 3000);  // RFC 7413: data in a SYN
    make_partial(super);
    sender.super(offload_of(super, 1400), super);
    sender.flush();
    REQUIRE(sender.egress.wire.size() == 3);
    for (const Octets& frame : sender.egress.wire) receiver.inbound(outer_of(frame));
    receiver.flush();
    const std::size_t option = (v4 ? 20U : 40U) + 20 + 2;
    for (const Octets& got : receiver.egress.delivered) {
      CHECK(reference::checksums_ok(got));
      CHECK(reference::be16(got, option) == 1000);
    }
    CHECK(sender.balanced());
  }
}

}  // namespace postern::test
