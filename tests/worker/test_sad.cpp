#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "base/secret.hpp"
#include "harness.hpp"
#include "worker/quiescence.hpp"
#include "worker/sa.hpp"

namespace postern::test {
namespace {

SaKey key_of(const SaParameters& p) { return {p.fvrf, p.spi, p.local, IpProto::esp}; }

struct Table {
  std::unique_ptr<SaSlot[]> slots;
  std::uint32_t count;
  std::unique_ptr<Sad> sad;
  explicit Table(std::uint32_t size, std::uint32_t threads = 1) : slots(zeroed<SaSlot>(size)), count(size) {
    start(threads);
  }
  // As a new worker does with the file of one that died.
  void start(std::uint32_t threads = 1) {
    sad.reset();
    sad = *Sad::create(std::span(slots.get(), count), threads);
  }
};

TEST_CASE("SAD: an inbound SA is found by VRF, SPI and destination, and by nothing less") {
  Table table(8);
  SaParameters p = sa_parameters(SaDirection::inbound);
  p.fvrf = 10;
  REQUIRE(table.sad->install(p).has_value());
  InboundSa* const sa = table.sad->inbound(key_of(p));
  REQUIRE(sa != nullptr);
  CHECK(sa->spi == p.spi);
  SaKey other = key_of(p);
  other.fvrf = 0;
  CHECK(table.sad->inbound(other) == nullptr);
  other = key_of(p);
  other.spi ^= 1;
  CHECK(table.sad->inbound(other) == nullptr);
  other = key_of(p);
  other.destination = address("192.0.2.3");
  CHECK(table.sad->inbound(other) == nullptr);
  other = key_of(p);
  other.protocol = IpProto::ah;
  CHECK(table.sad->inbound(other) == nullptr);
}

TEST_CASE("SAD: the same inbound key twice is refused, another VRF is not") {
  Table table(8);
  SaParameters p = sa_parameters(SaDirection::inbound);
  REQUIRE(table.sad->install(p).has_value());
  const auto again = table.sad->install(p);
  REQUIRE_FALSE(again.has_value());
  CHECK(again.error().code == EEXIST);
  p.fvrf = 3;
  CHECK(table.sad->install(p).has_value());
}

TEST_CASE("SAD: full, and free again after a removal") {
  Table table(2);
  SaParameters p = sa_parameters(SaDirection::inbound);
  const auto first = table.sad->install(p);
  ++p.spi;
  REQUIRE(table.sad->install(p).has_value());
  ++p.spi;
  CHECK(table.sad->install(p).error().code == ENOSPC);
  REQUIRE(table.sad->remove(*first).has_value());
  CHECK(table.sad->install(p).has_value());
  CHECK(table.slots[*first].reuse == 2);
}

TEST_CASE("SAD: what install refuses, by name") {
  struct Row {
    const char* word;
    void (*spoil)(SaParameters&);
  };
  const Row rows[] = {
      {"SPI", [](SaParameters& p) { p.spi = 255; }},
      {"one family", [](SaParameters& p) { p.remote = address("2001:db8::1"); }},
      {"one host", [](SaParameters& p) { p.remote = address("0.0.0.0"); }},
      {"one host", [](SaParameters& p) { p.local = address("224.0.0.1"); }},
      {"replay window 31", [](SaParameters& p) { p.replay_window = 31; }},
      {"replay window 4097", [](SaParameters& p) { p.replay_window = 4097; }},
      {"need a replay window", [](SaParameters& p) { p.extended_sequence = true; }},
      {"both ports", [](SaParameters& p) { p.udp_encapsulation = true; }},
      {"transport mode needs selectors", [](SaParameters& p) { p.mode = SaMode::transport; }},
      {"TTL", [](SaParameters& p) { p.ttl = 0; }},
      {"DSCP", [](SaParameters& p) { p.dscp = 64; }},
      {"path MTU", [](SaParameters& p) { p.path_mtu = 575; }},
      {"path MTU", [](SaParameters& p) { p.path_mtu = 65536; }},
      {"path MTU", [](SaParameters& p) { p.local = p.remote = address("2001:db8::1"), p.path_mtu = 1279; }},
      {"cipher key", [](SaParameters& p) { p.cipher_key_bytes = 16; }},
      {"authentication key", [](SaParameters& p) { p.integrity_key_bytes = 20; }},
      {"33 selectors", [](SaParameters& p) { p.selector_count = max_selectors + 1; }},
      {"selector 0", [](SaParameters& p) { p.selector_count = 1, p.selectors[0].source_first = address("10.0.0.1"); }},
      {"ends before",
       [](SaParameters& p) {
         p.selector_count = 1;
         p.selectors[0] = {address("10.0.0.2"), address("10.0.0.1"), address("10.0.0.1"), address("10.0.0.1")};
       }},
      {"port range",
       [](SaParameters& p) {
         p.selector_count = 1;
         p.selectors[0] = {address("10.0.0.1"), address("10.0.0.1"), address("10.0.0.1"), address("10.0.0.1"), 9, 8};
       }},
      {"enumeration", [](SaParameters& p) { p.df = static_cast<DfPolicy>(9); }},
      {"enumeration", [](SaParameters& p) { p.direction = static_cast<SaDirection>(2); }},
  };
  Table table(4);
  for (const Row& row : rows) {
    SaParameters p = sa_parameters(SaDirection::inbound);
    row.spoil(p);
    const auto result = table.sad->install(p);
    REQUIRE_MESSAGE(!result.has_value(), row.word);
    CHECK_MESSAGE(result.error().what.find(row.word) != std::string::npos, result.error().what);
  }
  SaParameters bad_transform = sa_parameters(SaDirection::inbound);
  bad_transform.transform.key_bits = 100;
  CHECK_FALSE(table.sad->install(bad_transform).has_value());
  for (std::uint32_t i = 0; i < table.count; ++i) CHECK(table.slots[i].phase == SlotPhase::free);
  for (const std::uint16_t window : std::initializer_list<std::uint16_t>{0, 32, 33, 100, 4095, 4096}) {
    SaParameters p = sa_parameters(SaDirection::inbound);
    p.replay_window = window;
    const auto slot = table.sad->install(p);
    REQUIRE(slot.has_value());
    REQUIRE(table.sad->remove(*slot).has_value());
  }
}

TEST_CASE("SAD: removal wipes the keys from the slot") {
  Table table(2);
  const SaParameters p = sa_parameters(SaDirection::inbound);
  const auto slot = table.sad->install(p);
  REQUIRE(slot.has_value());
  const auto holds_key = [&] {
    const Bytes raw = std::as_bytes(std::span(&table.slots[*slot], 1));
    const Bytes key = Bytes(p.cipher_key).first(p.cipher_key_bytes);
    return !std::ranges::search(raw, key).empty();
  };
  CHECK(holds_key());
  CHECK(table.slots[*slot].phase == SlotPhase::live);
  REQUIRE(table.sad->remove(*slot).has_value());
  CHECK_FALSE(holds_key());
  CHECK(table.slots[*slot].phase == SlotPhase::free);
  CHECK(table.sad->inbound(key_of(p)) == nullptr);
  CHECK(table.sad->remove(*slot).error().code == ENOENT);
  CHECK_FALSE(table.sad->remove(77).has_value());
}

TEST_CASE("SAD: flows are bound, switched and unbound") {
  Table table(8);
  SaParameters p = sa_parameters(SaDirection::outbound);
  const auto old_sa = table.sad->install(p);
  ++p.spi;
  const auto new_sa = table.sad->install(p);
  CHECK(table.sad->outbound(5) == nullptr);
  REQUIRE(table.sad->bind_flow(5, *old_sa).has_value());
  OutboundSa* const before = table.sad->outbound(5);
  REQUIRE(before != nullptr);
  CHECK(before->slot == &table.slots[*old_sa]);
  REQUIRE(table.sad->bind_flow(5, *new_sa).has_value());
  CHECK(table.sad->outbound(5)->slot == &table.slots[*new_sa]);
  REQUIRE(table.sad->bind_flow(6, *new_sa).has_value());  // two flows, one SA
  CHECK(table.sad->outbound(6) == table.sad->outbound(5));
  REQUIRE(table.sad->remove(*old_sa).has_value());
  CHECK(table.sad->outbound(5) != nullptr);
  table.sad->unbind_flow(5);
  CHECK(table.sad->outbound(5) == nullptr);
  CHECK(table.sad->outbound(6) != nullptr);
  REQUIRE(table.sad->remove(*new_sa).has_value());
  CHECK(table.sad->outbound(6) == nullptr);
  CHECK(table.sad->bind_flow(5, *new_sa).error().code == EINVAL);
  CHECK_FALSE(table.sad->bind_flow(5, 1000).has_value());
  const auto inbound = table.sad->install(sa_parameters(SaDirection::inbound));
  CHECK_FALSE(table.sad->bind_flow(5, *inbound).has_value());
}

TEST_CASE("SAD: takeover after a crash") {
  Table table(8);
  SaParameters out = sa_parameters(SaDirection::outbound);
  const auto rekeyed_away = table.sad->install(out);
  ++out.spi;
  const auto current = table.sad->install(out);
  REQUIRE(table.sad->bind_flow(5, *rekeyed_away).has_value());
  REQUIRE(table.sad->bind_flow(5, *current).has_value());
  SaParameters in = sa_parameters(SaDirection::inbound);
  in.replay_window = 64;
  const auto inbound = table.sad->install(in);
  table.slots[*current].next_sequence = 5000;
  table.slots[*inbound].highest_sequence = 300;
  table.slots[*inbound].packets = 299;
  // Died while installing, and while removing: neither is an SA, and no key may stay.
  table.slots[6].parameters = in;
  table.slots[6].phase = SlotPhase::installing;
  table.slots[7].parameters = in;
  table.slots[7].phase = SlotPhase::retired;

  table.start();
  InboundSa* const sa = table.sad->inbound(key_of(in));
  REQUIRE(sa != nullptr);
  CHECK(sa->replay->window.check(300) == ReplayVerdict::replayed);
  CHECK(sa->replay->window.check(237) == ReplayVerdict::replayed);
  CHECK(sa->replay->window.check(236) == ReplayVerdict::too_old);
  CHECK(sa->replay->window.check(301) == ReplayVerdict::fresh);
  CHECK(table.slots[*inbound].packets == 299);
  REQUIRE(table.sad->outbound(5) != nullptr);
  CHECK(table.sad->outbound(5)->slot == &table.slots[*current]);
  CHECK(table.slots[*current].next_sequence == 5000);
  for (const std::uint32_t index : {6U, 7U}) {
    CHECK(table.slots[index].phase == SlotPhase::free);
    CHECK(table.slots[index].parameters.cipher_key_bytes == 0);
    CHECK(table.slots[index].parameters.cipher_key[0] == std::byte{0});
  }
  // An unbound flow stays unbound.
  table.sad->unbind_flow(5);
  table.start();
  CHECK(table.sad->outbound(5) == nullptr);
}

TEST_CASE("SAD: after a crash extended numbers go on above, whole") {
  Table table(4);
  SaParameters out = sa_parameters(SaDirection::outbound), in = sa_parameters(SaDirection::inbound);
  out.extended_sequence = in.extended_sequence = true;
  in.replay_window = 64;
  const auto outbound = table.sad->install(out), inbound = table.sad->install(in);
  constexpr std::uint64_t high = std::uint64_t{7} << 32;
  table.slots[*outbound].next_sequence = high + 5;
  table.slots[*inbound].highest_sequence = high + 5;
  table.start();
  CHECK(table.slots[*outbound].next_sequence == high + 5);
  const ReplayWindow& window = table.sad->inbound(key_of(in))->replay->window;
  CHECK(window.extend(6) == high + 6);
  CHECK(window.check(window.extend(5)) == ReplayVerdict::replayed);
  CHECK(window.extend(0xffffffff) == high - 1);  // behind the wrap, and seen
  CHECK(window.check(window.extend(0xffffffff)) == ReplayVerdict::replayed);
}

TEST_CASE("SAD: a slot spoilt by a crash is dropped, not believed") {
  Table table(2);
  const auto slot = table.sad->install(sa_parameters(SaDirection::inbound));
  table.slots[*slot].parameters.cipher_key_bytes = 999;
  table.start();
  CHECK(table.slots[*slot].phase == SlotPhase::free);
  CHECK(table.sad->inbound(key_of(sa_parameters(SaDirection::inbound))) == nullptr);
}

TEST_CASE("SAD: after a crash no number is sealed twice") {
  auto slots = zeroed<SaSlot>(4);
  std::vector<std::uint32_t> numbers;
  for (int life = 0; life < 4; ++life) {
    Node node(4);
    if (life == 0) {
      node.add(sa_parameters(SaDirection::outbound));
    } else {
      std::memcpy(static_cast<void*>(node.slots.get()), static_cast<void*>(slots.get()), 4 * sizeof(SaSlot));
      node.pipeline.reset();
      node.sad = *Sad::create(node.slot_span(), 1);
      node.pipeline = std::make_unique<Pipeline>(*crypto::EspEngine::create(), *node.sad, node.table[0], node.frames,
                                                 node.counters[0], node.egress, PipelineConfig{});
      node.resolve(sa_parameters(SaDirection::outbound));
    }
    for (int i = 0; i < 70 + life; ++i) node.outbound(make_inner({}));
    // The last packets are in the batch and never sealed: the "crash" comes first, with what the file holds now.
    for (const Octets& frame : node.egress.wire) numbers.push_back(reference::be32(frame, 14 + 24));
    std::memcpy(static_cast<void*>(slots.get()), static_cast<void*>(node.slots.get()), 4 * sizeof(SaSlot));
  }
  CHECK(numbers.size() == 4 * 64);
  std::ranges::sort(numbers);
  CHECK(std::ranges::adjacent_find(numbers) == numbers.end());
}

TEST_CASE("SAD: 20,000 SAs, each found, and no slow path when they go") {
  constexpr std::uint32_t many = 20000;
  Table table(many);
  SaParameters in = sa_parameters(SaDirection::inbound, gcm_128), out = sa_parameters(SaDirection::outbound, gcm_128);
  std::vector<std::uint32_t> slots;
  for (std::uint32_t i = 0; i < many / 2; ++i) {
    in.spi = out.spi = 0x1000 + i;
    out.flow = i + 1;
    slots.push_back(*table.sad->install(in));
    slots.push_back(*table.sad->install(out));
    REQUIRE(table.sad->bind_flow(out.flow, slots.back()).has_value());
  }
  for (std::uint32_t i = 0; i < many / 2; ++i) {
    in.spi = 0x1000 + i;
    InboundSa* const sa = table.sad->inbound(key_of(in));
    REQUIRE(sa != nullptr);
    CHECK(sa->spi == in.spi);
    REQUIRE(table.sad->outbound(i + 1) != nullptr);
    CHECK(table.sad->outbound(i + 1)->slot->parameters.flow == i + 1);
  }
  for (const std::uint32_t slot : slots) REQUIRE(table.sad->remove(slot).has_value());
  for (std::uint32_t i = 0; i < many / 2; ++i) CHECK(table.sad->outbound(i + 1) == nullptr);
}

TEST_CASE("SAD: removal waits for a thread that holds an SA, and gives up in time") {
  Table table(4, 2);
  const SaParameters p = sa_parameters(SaDirection::inbound);
  const auto slot = table.sad->install(p);
  table.sad->online(0);
  InboundSa* const held = table.sad->inbound(key_of(p));
  REQUIRE(held != nullptr);
  const auto removed = table.sad->remove(*slot);
  REQUIRE_FALSE(removed.has_value());
  CHECK(removed.error().code == ETIMEDOUT);
  CHECK(table.sad->inbound(key_of(p)) == nullptr);
  CHECK(held->spi == p.spi);  // still whole: the sanitizer would say otherwise
  CHECK(table.slots[*slot].phase == SlotPhase::retired);
  table.sad->quiescent(0);
  CHECK(table.sad->install(p).has_value());  // any later call reclaims
  CHECK(table.slots[*slot].phase != SlotPhase::retired);
}

TEST_CASE("quiescence: a writer waits for those who are awake only") {
  Quiescence q(3);
  const std::uint64_t first = q.advance();
  CHECK(q.passed(first));  // all begin offline
  q.online(1);
  const std::uint64_t second = q.advance();
  CHECK_FALSE(q.passed(second));
  q.quiescent(1);
  CHECK(q.passed(second));
  const std::uint64_t third = q.advance();
  CHECK_FALSE(q.passed(third));
  q.offline(1);
  CHECK(q.passed(third));
  q.quiescent(2);  // wakes
  CHECK_FALSE(q.passed(q.advance()));
}

TEST_CASE("SAD: threads look up while SAs come and go") {
  constexpr std::uint32_t readers = 2, sas = 24;
  Table table(64, readers);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> found{0}, wrong{0};
  const auto read = [&](std::uint32_t thread) {
    std::mt19937 random(thread);
    while (!stop.load(std::memory_order_relaxed)) {
      table.sad->online(thread);
      for (int round = 0; round < 20; ++round) {
        for (int i = 0; i < 32; ++i) {
          const auto n = static_cast<std::uint32_t>(random() % sas);
          if (InboundSa* sa = table.sad->inbound({0, 0x2000 + n, address("192.0.2.2"), IpProto::esp})) {
            wrong += sa->spi != 0x2000 + n || sa->slot->parameters.spi != 0x2000 + n || sa->replay->window.size() != 64;
            ++found;
          }
          if (OutboundSa* sa = table.sad->outbound(n + 1)) {
            wrong += sa->slot->parameters.flow != n + 1 || sa->overhead.outer_bytes != 20;
            sa->slot->next_sequence.fetch_add(1, std::memory_order_relaxed);
            ++found;
          }
        }
        table.sad->quiescent(thread);
      }
      table.sad->offline(thread);
      std::this_thread::yield();
    }
  };
  std::vector<std::jthread> threads;
  for (std::uint32_t i = 0; i < readers; ++i) threads.emplace_back(read, i);

  std::vector<std::optional<std::uint32_t>> in(sas), out(sas);
  std::mt19937 random(99);
  SaParameters pi = sa_parameters(SaDirection::inbound, gcm_128), po = sa_parameters(SaDirection::outbound, gcm_128);
  pi.replay_window = 64;
  const Time deadline = Clock::now() + std::chrono::seconds(20);
  for (int round = 0; (round < 3000 || found < 100000) && Clock::now() < deadline; ++round) {
    const auto n = static_cast<std::uint32_t>(random() % sas);
    pi.spi = po.spi = 0x2000 + n;
    po.flow = n + 1;
    if (in[n]) {
      REQUIRE(table.sad->remove(*std::exchange(in[n], std::nullopt)).has_value());
      REQUIRE(table.sad->remove(*std::exchange(out[n], std::nullopt)).has_value());
    } else {
      in[n] = *table.sad->install(pi);
      out[n] = *table.sad->install(po);
      REQUIRE(table.sad->bind_flow(po.flow, *out[n]).has_value());
    }
  }
  stop = true;
  threads.clear();
  CHECK(wrong == 0);
  CHECK(found >= 100000);
}

TEST_CASE("replay: threads that share an inbound SA let each number through once") {
  ReplayState state(4096);
  std::atomic<std::uint64_t> taken{0};
  const auto run = [&] {
    for (std::uint64_t n = 1; n <= 20000; ++n) {
      if (state.window.check(n) != ReplayVerdict::fresh) continue;
      const ReplayLock lock(state);
      if (state.window.advance(n) == ReplayVerdict::fresh) ++taken;
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back(run);
  }
  CHECK(taken <= 20000);
  CHECK(taken > 0);
  CHECK(state.window.highest() == 20000);
  std::uint64_t unseen = 0;
  for (std::uint64_t n = 20000 - 4095; n <= 20000; ++n) unseen += state.window.check(n) == ReplayVerdict::fresh;
  CHECK(unseen == 0);
}

}  // namespace
}  // namespace postern::test
