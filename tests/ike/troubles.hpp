// What begins in a lab that is up, on a network that loses, doubles and delays.
#pragma once

#include "tests/ike/session_lab.hpp"

namespace postern::ike::lab {

// Each of the first `messages` of what `act` begins, once IKE SA and children are up, is lost, doubled, and overtaken
// by three others; each in a lab of its own that `make` gives (a unique_ptr). The end is as `check` wants it.
template <class Make, class Act, class Check>
void with_each_message_of(std::size_t messages, Make&& make, Act&& act, Check&& check) {
  constexpr Fate troubles[] = {{0, 0}, {2, 0}, {1, 3}};
  for (std::size_t victim = 0; victim < messages; ++victim)
    for (const Fate& trouble : troubles) {
      CAPTURE(victim);
      CAPTURE(trouble.copies);
      const auto lab = make();
      lab->start(0);
      lab->run(std::chrono::seconds(2));
      const std::size_t begun = lab->sent;
      lab->network = [&, begun](const Datagram& one) { return one.number == begun + victim ? trouble : Fate{}; };
      act(*lab);
      lab->run(std::chrono::seconds(20));
      check(*lab);
    }
}

// Rekeys of the child of flow 1, and of the IKE SA, by either end.
template <class Make, class Check>
void with_each_rekey_troubled(std::size_t flows, Make&& make, Check&& check) {
  for (const std::size_t by : {std::size_t{0}, std::size_t{1}})
    for (const bool of_child : {true, false}) {
      CAPTURE(by);
      CAPTURE(of_child);
      with_each_message_of(
          5, make,
          [&](auto& lab) {
            End& end = lab.end(by);
            Session& session = end.established();
            lab.perform(by, of_child ? session.rekey_child(end.outbound.at(1), lab.now) : session.rekey(lab.now));
          },
          [&](auto& lab) {
            lab.check_whole(flows);
            CHECK(lab.a.count(of_child ? EventKind::child_rekeyed : EventKind::ike_rekeyed) == 1);
            check(lab);
          });
    }
}

}  // namespace postern::ike::lab
