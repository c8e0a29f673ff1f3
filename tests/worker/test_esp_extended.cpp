// Extended sequence numbers through the pipeline (RFC 4303 §2.2.1, §3.3.3, §3.4.3, appendix A2).
#include "harness.hpp"
#include "worker/sa.hpp"

namespace postern::test {
namespace {

constexpr crypto::Transform all_transforms[] = {cbc_sha1, cbc_sha256, gcm_128, gcm_256};
constexpr std::uint64_t wrap = std::uint64_t{1} << 32;

// Two nodes whose SA stands at `number`: the sender takes it next, the receiver has seen all below.
struct Pair {
  Node sender, receiver;
  std::uint32_t outbound = 0, inbound = 0;

  Pair(const crypto::Transform& transform, std::uint64_t number, std::uint16_t window = 64) {
    SaParameters out = sa_parameters(SaDirection::outbound, transform);
    SaParameters in = sa_parameters(SaDirection::inbound, transform);
    out.extended_sequence = in.extended_sequence = true;
    in.replay_window = window;
    outbound = sender.add(out);
    inbound = receiver.add(in);
    sender.slots[outbound].next_sequence = number;
    if (number > 1) receiver.sad->inbound({0, in.spi, in.local, IpProto::esp})->replay->window.resume(number - 1);
  }
  // One packet on the wire, behind its Ethernet header.
  Octets seal() {
    sender.egress.wire.clear();
    sender.outbound(make_inner({}));
    sender.flush();
    REQUIRE(sender.egress.wire.size() == 1);
    return outer_of(sender.egress.wire[0]);
  }
  // True when it is delivered.
  bool open(const Octets& packet) {
    const std::size_t before = receiver.egress.delivered.size();
    receiver.inbound(packet);
    receiver.flush();
    return receiver.egress.delivered.size() != before;
  }
  void check_balance() const {
    CHECK(sender.balanced());
    CHECK(receiver.balanced());
  }
};

TEST_CASE("extended numbers: the low half wraps, the packets go on in order and across it") {
  for (const crypto::Transform& transform : all_transforms)
    for (const std::uint64_t high : {0U, 1U, 0xfffffffeU}) {
      Pair pair(transform, (high << 32) + wrap - 5);
      for (std::uint64_t i = 0; i < 10; ++i) {
        const Octets packet = pair.seal();
        CHECK(reference::be32(packet, 24) == static_cast<std::uint32_t>(wrap - 5 + i));
        CHECK(pair.open(packet));
        CHECK_FALSE(pair.open(packet));
      }
      CHECK(pair.receiver.slots[pair.inbound].highest_sequence == (high << 32) + wrap + 4);
      CHECK(pair.receiver.drops(Drop::replayed) == 10);
      pair.check_balance();
    }
}

TEST_CASE("extended numbers: reordered across the wrap, each once; behind the window too old or of another high half") {
  for (const crypto::Transform& transform : all_transforms) {
    Pair pair(transform, wrap - 32, 32);
    std::vector<Octets> packets;
    for (int i = 0; i < 64; ++i) packets.push_back(pair.seal());  // wrap - 32 to wrap + 31
    CHECK(pair.open(packets[40]));                                // wrap + 8: the bottom is at wrap - 23
    for (int i = 9; i < 40; ++i) CHECK(pair.open(packets[static_cast<std::size_t>(i)]));
    for (int i = 9; i <= 40; ++i) CHECK_FALSE(pair.open(packets[static_cast<std::size_t>(i)]));
    CHECK(pair.receiver.drops(Drop::replayed) == 32);
    // One below the bottom is taken for one 2^32 above it: the ICV does not verify, the window stays (RFC 4303 §3.4.3).
    CHECK_FALSE(pair.open(packets[8]));
    CHECK(pair.receiver.drops(Drop::bad_icv) == 1);
    CHECK(pair.receiver.slots[pair.inbound].integrity_drops == 1);
    CHECK(pair.receiver.slots[pair.inbound].highest_sequence == wrap + 8);
    CHECK(pair.open(packets[63]));
    pair.check_balance();
  }
}

TEST_CASE("extended numbers: a packet of another high half is bad_icv, replayed across the wrap or forged ahead") {
  for (const crypto::Transform& transform : all_transforms) {
    Pair pair(transform, 10);
    const Octets old = pair.seal();
    CHECK(pair.open(old));
    for (const std::uint64_t jump : {wrap - 100, wrap}) {
      pair.sender.slots[pair.outbound].next_sequence = jump;
      CHECK(pair.open(pair.seal()));
    }
    CHECK_FALSE(pair.open(old));  // 10 again, 2^32 later
    CHECK(pair.receiver.drops(Drop::bad_icv) == 1);
    pair.sender.slots[pair.outbound].next_sequence = 5 * wrap + 100;  // four halves ahead: no receiver can know
    CHECK_FALSE(pair.open(pair.seal()));
    CHECK(pair.receiver.drops(Drop::bad_icv) == 2);
    pair.sender.slots[pair.outbound].next_sequence = wrap + 1;
    CHECK(pair.open(pair.seal()));
    CHECK(pair.receiver.slots[pair.inbound].highest_sequence == wrap + 1);
    pair.check_balance();
  }
}

TEST_CASE("extended numbers: a receiver of the other form refuses") {
  for (const crypto::Transform& transform : all_transforms) {
    Pair pair(transform, 1);
    Node other;
    SaParameters in = sa_parameters(SaDirection::inbound, transform);
    in.replay_window = 64;
    other.add(in);
    const Octets packet = pair.seal();
    other.inbound(packet);
    other.flush();
    CHECK(other.drops(Drop::bad_icv) == 1);
    CHECK(other.balanced());
    CHECK(pair.open(packet));
  }
}

TEST_CASE("extended numbers: a batch of 64 across the wrap") {
  for (const crypto::Transform& transform : all_transforms) {
    Pair pair(transform, wrap - 32, 128);
    for (int i = 0; i < 64; ++i) pair.sender.outbound(make_inner({}));
    pair.sender.flush();
    REQUIRE(pair.sender.egress.wire.size() == 64);
    for (const Octets& frame : pair.sender.egress.wire) pair.receiver.inbound(outer_of(frame));
    pair.receiver.flush();
    CHECK(pair.receiver.egress.delivered.size() == 64);
    CHECK(pair.receiver.slots[pair.inbound].highest_sequence == wrap + 31);
    pair.check_balance();
  }
}

}  // namespace
}  // namespace postern::test
