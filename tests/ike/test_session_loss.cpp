// Loss, doubling and late arrival of every single datagram of a whole life: set-up, rekey of the child from either
// side, rekey of the IKE SA from either side, a delete. Traffic must be openable after each step (session_lab.hpp).
#include "session_lab.hpp"

namespace postern::ike {
namespace {

using lab::Fate;
using lab::Lab;

// Every exchange once; the number of datagrams that it takes without trouble.
void live_a_life(Lab& lab) {
  lab.flow("two", 2, "10.3.0.0/16", "10.4.0.0/16");
  lab.start(0);
  lab.run(std::chrono::seconds(40));
  for (const std::size_t index : {std::size_t{0}, std::size_t{1}}) {
    const ChildId child = lab.end(index).outbound.at(1);
    lab.perform(index, lab.end(index).established().rekey_child(child, lab.now));
    lab.run(std::chrono::seconds(40));
    CHECK(lab.end(index).outbound.at(1) != child);
  }
  for (const std::size_t index : {std::size_t{0}, std::size_t{1}}) {
    const std::uint64_t before = lab.end(index).established().own_spi();
    lab.perform(index, lab.end(index).established().rekey(lab.now));
    lab.run(std::chrono::seconds(40));
    CHECK(lab.end(index).established().own_spi() != before);
  }
  lab.check_whole(2);
  lab.perform(1, lab.b.established().delete_child(lab.b.outbound.at(2), lab.now));
  lab.run(std::chrono::seconds(40));
  lab.check_whole(1);
  lab.perform(0, lab.a.established().close(lab.now));
  lab.run(std::chrono::seconds(40));
  for (const auto* const at : {&lab.a, &lab.b}) {
    CHECK(at->live().empty());
    CHECK(at->spis.empty());
    CHECK(at->count(SessionPhase::closed) == at->sessions.size());
  }
}

std::size_t datagrams_of_a_life() {
  Lab lab;
  live_a_life(lab);
  return lab.sent;
}

TEST_CASE("session: any one datagram lost") {
  const std::size_t count = datagrams_of_a_life();
  CHECK(count > 24);
  for (std::size_t victim = 0; victim < count; ++victim) {
    CAPTURE(victim);
    Lab lab;
    lab.network = [&](const auto& d) { return Fate{d.number == victim ? 0U : 1U, 0}; };
    live_a_life(lab);
  }
}

TEST_CASE("session: every datagram twice, or any one late") {
  Lab twice;
  twice.network = [](const auto&) { return Fate{2, 0}; };
  live_a_life(twice);
  const std::size_t count = datagrams_of_a_life();
  for (std::size_t victim = 0; victim < count; ++victim) {
    CAPTURE(victim);
    Lab lab;
    lab.network = [&](const auto& d) { return d.number == victim ? Fate{1, 2} : Fate{}; };
    live_a_life(lab);
  }
}

TEST_CASE("session: a third of everything lost, at random") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Lab lab;
    std::mt19937_64 dice(seed);
    lab.network = [&](const auto&) { return Fate{dice() % 3 == 0 ? 0U : 1U, 0}; };
    lab.start(0);
    lab.run(std::chrono::minutes(2));
    if (lab.a.count(SessionPhase::established) == 0) continue;  // given up, as it should after eight tries
    lab.perform(0, lab.a.established().rekey_child(lab.a.outbound.at(1), lab.now));
    lab.run(std::chrono::minutes(2));
    lab.network = [](const auto&) { return Fate{}; };
    lab.run(std::chrono::minutes(2));
    if (lab.a.count(SessionPhase::established) == 1 && lab.b.count(SessionPhase::established) == 1) lab.check_whole();
  }
}

}  // namespace
}  // namespace postern::ike
