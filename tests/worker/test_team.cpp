// Batches whose cipher work other threads do: order, removal of an SA meanwhile, full queues, and nobody there.
#include <atomic>
#include <random>
#include <thread>

#include "base/secret.hpp"
#include "harness.hpp"
#include "worker/sa.hpp"

namespace postern::test {
namespace {

// A Node as thread 0 of a team of two or more; the test plays the others.
struct Busy {
  explicit Busy(std::uint32_t threads = 2, std::uint32_t frames = 4096) : team(threads) {
    for (std::uint32_t i = 0; i < threads; ++i) team.join(i, std::make_shared<const Bell>(*Bell::create()));
    PipelineConfig config;
    config.team = {&team, 0};
    node = std::make_unique<Node>(16, crypto::EngineKind::automatic, config, frames);
    node->pipeline->set_crowded(true);
    node->pipeline->begin_round(node->sad->epoch());
  }
  ~Busy() { node->pipeline->flush(); }
  void send(int packets, int first = 0) {
    for (int i = 0; i < packets; ++i)
      node->outbound(make_inner({.source_port = static_cast<std::uint16_t>(first + i)}));
  }
  // As DataThread::Worker ends its round.
  void end_round() {
    node->pipeline->end_round();
    const auto since = node->pipeline->held_since();
    since ? node->sad->holding(0, *since) : node->sad->quiescent(0);
    node->pipeline->begin_round(node->sad->epoch());
  }
  Team team;
  std::unique_ptr<Node> node;
};

std::vector<std::uint32_t> sequences(const Node& node) {
  std::vector<std::uint32_t> out;
  for (const Octets& frame : node.egress.wire) out.push_back(reference::be32(frame, 14 + 20 + 4));
  return out;
}
bool counts_up(const std::vector<std::uint32_t>& numbers) {
  for (std::size_t i = 0; i < numbers.size(); ++i)
    if (numbers[i] != i + 1) return false;
  return true;
}

TEST_CASE("team: a busy thread's full batch is done by a free one, and leaves sealed and in order") {
  Busy busy;
  busy.node->add(sa_parameters(SaDirection::outbound));
  auto engine = *crypto::EspEngine::create();
  busy.team.free(1);
  busy.send(packet_batch);
  CHECK(busy.node->egress.wire.empty());
  REQUIRE(busy.node->pipeline->held_since());
  CipherBatch* const batch = busy.team.take(1);
  REQUIRE(batch != nullptr);
  CHECK(batch->count == packet_batch);
  CHECK(batch->sealing);
  busy.send(10, packet_batch);
  busy.node->pipeline->end_round();
  CHECK(busy.node->egress.wire.empty());  // the ten are sealed, and wait for those before them
  batch->cipher(engine);
  busy.team.finish(*batch);
  busy.node->pipeline->end_round();
  CHECK(counts_up(sequences(*busy.node)));
  CHECK(busy.node->egress.wire.size() == packet_batch + 10);
  CHECK(busy.node->counters[0].handed == packet_batch);
  CHECK(busy.node->balanced());
  Node receiver;
  receiver.add(sa_parameters(SaDirection::inbound));
  for (const Octets& frame : busy.node->egress.wire) {
    receiver.inbound(outer_of(frame));
    receiver.flush();
  }
  CHECK(receiver.egress.delivered.size() == packet_batch + 10);
}

TEST_CASE("team: nothing is lent when all are busy, when little waits, or when the batch is not full") {
  Busy busy;
  busy.node->add(sa_parameters(SaDirection::outbound));
  SUBCASE("all busy") { busy.team.busy(1); }
  SUBCASE("little waits") {
    busy.team.free(1);
    busy.node->pipeline->set_crowded(false);
  }
  SUBCASE("alone") {
    busy.team.free(0);  // itself is no helper
  }
  busy.send(packet_batch);
  CHECK(busy.node->egress.wire.size() == packet_batch);
  busy.team.free(1);
  busy.node->pipeline->set_crowded(true);
  busy.send(packet_batch - 1);
  busy.node->pipeline->end_round();
  CHECK(busy.node->egress.wire.size() == 2 * packet_batch - 1);
  CHECK(busy.team.take(1) == nullptr);
  CHECK(busy.node->counters[0].handed == 0);
}

TEST_CASE("team: what nobody began is taken back by flush, settle and a full queue") {
  Busy busy;
  busy.node->add(sa_parameters(SaDirection::outbound));
  busy.team.free(1);
  SUBCASE("flush") {
    busy.send(packet_batch);
    busy.node->flush();
    CHECK(busy.node->egress.wire.size() == packet_batch);
  }
  SUBCASE("before a sleep") {
    busy.send(packet_batch);
    CHECK(busy.node->pipeline->settle() == nullptr);
    CHECK(busy.node->egress.wire.size() == packet_batch);
  }
  SUBCASE("full queue") {
    busy.send(static_cast<int>(packet_batch * (batches_in_queue + 4)));
    CHECK(busy.node->egress.wire.size() >= packet_batch * 4);
    busy.node->flush();
  }
  CHECK(busy.team.take(1) == nullptr);
  CHECK(counts_up(sequences(*busy.node)));
  CHECK(busy.node->counters[0].handed == 0);
  CHECK(busy.node->balanced());
}

TEST_CASE("team: a sleeper is woken for a batch, and a thread that waits for its batch when it is done") {
  Busy busy;
  busy.node->add(sa_parameters(SaDirection::outbound));
  auto engine = *crypto::EspEngine::create();
  const auto bell = std::make_shared<const Bell>(*Bell::create());
  const auto own = std::make_shared<const Bell>(*Bell::create());
  busy.team.join(1, bell);
  busy.team.join(0, own);
  const auto rings = [](const Bell& which) {
    eventfd_t count = 0;
    return ::eventfd_read(which.fd(), &count) == 0 ? count : 0;
  };
  REQUIRE(busy.team.about_to_sleep(1, nullptr));
  busy.send(packet_batch);
  CHECK(rings(*bell) == 1);
  CHECK_FALSE(busy.team.about_to_sleep(1, nullptr));  // something is offered
  CipherBatch* const batch = busy.team.take(1);
  REQUIRE(batch != nullptr);
  busy.send(packet_batch, packet_batch);  // it is awake now: not rung again
  CHECK(rings(*bell) == 0);
  const CipherBatch* const waits = busy.node->pipeline->settle();
  REQUIRE(waits == batch);
  CHECK(busy.team.about_to_sleep(0, waits));
  batch->cipher(engine);
  busy.team.finish(*batch);
  CHECK(rings(*own) == 1);
  CHECK_FALSE(busy.team.about_to_sleep(0, waits));  // done before it slept
  busy.node->pipeline->end_round();
  CHECK(counts_up(sequences(*busy.node)));
  CHECK(busy.node->egress.wire.size() == 2 * packet_batch);
}

TEST_CASE("team: an SA that goes while its batch is away stays whole until the batch is back") {
  Busy busy;
  const auto slot = busy.node->add(sa_parameters(SaDirection::outbound));
  auto engine = *crypto::EspEngine::create();
  busy.node->sad->quiescent(0);
  busy.node->pipeline->begin_round(busy.node->sad->epoch());
  busy.team.free(1);
  busy.send(packet_batch);
  CipherBatch* const batch = busy.team.take(1);
  REQUIRE(batch != nullptr);
  std::atomic<bool> removed = false;
  std::jthread control([&] {
    CHECK(busy.node->sad->remove(slot).has_value());
    removed = true;
  });
  while (busy.node->slots[slot].phase != SlotPhase::retired) std::this_thread::yield();
  for (int i = 0; i < 20; ++i) {
    busy.end_round();
    std::this_thread::yield();
  }
  CHECK_FALSE(removed);
  CHECK(busy.node->slots[slot].parameters.cipher_key_bytes != 0);
  batch->cipher(engine);
  busy.team.finish(*batch);
  busy.end_round();
  control.join();
  CHECK(busy.node->slots[slot].phase == SlotPhase::free);
  CHECK(busy.node->slots[slot].parameters.cipher_key_bytes == 0);
  REQUIRE(busy.node->egress.wire.size() == packet_batch);
  Node receiver;
  receiver.add(sa_parameters(SaDirection::inbound));
  for (const Octets& frame : busy.node->egress.wire) receiver.inbound(outer_of(frame));
  receiver.flush();
  CHECK(receiver.egress.delivered.size() == packet_batch);
}

TEST_CASE("team: a removal ends while batches are away all the time, once those of before are back") {
  Busy busy;
  auto engine = *crypto::EspEngine::create();
  SaParameters old = sa_parameters(SaDirection::outbound);
  const auto slot = busy.node->add(old);
  SaParameters next = old;
  next.spi = 0x2002;
  busy.node->sad->quiescent(0);
  busy.node->pipeline->begin_round(busy.node->sad->epoch());
  busy.team.free(1);
  busy.send(packet_batch);
  CipherBatch* away = busy.team.take(1);
  REQUIRE(away != nullptr);
  busy.node->add(next);  // the flow goes into it now
  std::jthread control([&] { CHECK(busy.node->sad->remove(slot).has_value()); });
  while (busy.node->slots[slot].phase != SlotPhase::retired) std::this_thread::yield();
  busy.end_round();
  for (int i = 0; i < 20; ++i) {
    busy.send(packet_batch);
    CipherBatch* const newer = busy.team.take(1);
    REQUIRE(newer != nullptr);
    away->cipher(engine);
    busy.team.finish(*away);
    away = newer;
    busy.end_round();
    REQUIRE(busy.node->pipeline->held_since());
  }
  control.join();  // though the thread was never quiescent
  away->cipher(engine);
  busy.team.finish(*away);
  busy.end_round();
  CHECK(busy.node->balanced());
}

// Helpers that dawdle at random: everything comes out, sealed once and in order.
TEST_CASE("team: order under random delays, both directions") {
  constexpr int packets = 20000;
  Busy busy(4, 16384);
  busy.node->add(sa_parameters(SaDirection::outbound));
  SaParameters in = sa_parameters(SaDirection::inbound);
  in.replay_window = 64;  // narrow: a packet out of order would be too old
  busy.node->add(in);
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> helped = 0;
  std::vector<std::jthread> helpers;
  for (std::uint32_t self = 1; self < 4; ++self)
    helpers.emplace_back([&, self] {
      auto engine = *crypto::EspEngine::create();
      std::minstd_rand random(self);
      busy.team.free(self);
      while (!stop) {
        CipherBatch* const batch = busy.team.take(self);
        if (batch == nullptr) {
          std::this_thread::yield();
          continue;
        }
        for (auto i = random() % 4; i > 0; --i) std::this_thread::yield();
        batch->cipher(engine);
        helped += batch->count;
        busy.team.finish(*batch);
      }
    });
  std::vector<Octets> wire;
  for (int sent = 0; sent < packets; sent += 500) {
    busy.send(500, sent);
    busy.end_round();
  }
  busy.node->flush();
  CHECK(busy.node->egress.wire.size() == packets);
  CHECK(counts_up(sequences(*busy.node)));
  wire.swap(busy.node->egress.wire);
  for (int i = 0; i < packets; ++i) {
    busy.node->inbound(outer_of(wire[static_cast<std::size_t>(i)]));
    if (i % 500 == 499) busy.end_round();
  }
  busy.node->flush();
  stop = true;
  helpers.clear();
  CHECK(busy.node->egress.delivered.size() == packets);
  for (int i = 0; i < packets; ++i)
    if (reference::be16(busy.node->egress.delivered[static_cast<std::size_t>(i)], 20) != static_cast<unsigned>(i))
      FAIL("out of order at " << i);
  CHECK(busy.node->counters[0].handed == helped);
  CHECK(helped > 0);
  CHECK(busy.node->balanced());
}

}  // namespace
}  // namespace postern::test
