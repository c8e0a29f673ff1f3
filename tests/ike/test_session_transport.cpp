// USE_TRANSPORT_MODE (RFC 7296 §1.3.1): asked for, granted, declined, required; and not behind NAT (§2.23.1).
#include "tests/ike/troubles.hpp"

namespace postern::ike {
namespace {

using lab::Lab;

// One flow between the two ends themselves.
struct HostLab : Lab {
  HostLab(bool at_a, bool at_b, bool required_at_a = false, bool required_at_b = false) {
    hosts(a, "192.0.2.1/32", "192.0.2.2/32", at_a, required_at_a);
    hosts(b, "192.0.2.2/32", "192.0.2.1/32", at_b, required_at_b);
  }
  static void hosts(lab::End& end, const char* local, const char* remote, bool transport, bool required) {
    edit(end, [&](Connection& c) {
      c.children = {lab::child_policy("one", 1, local, remote)};
      c.children[0].transport = transport;
      c.children[0].transport_required = required;
    });
  }
  void run_from(std::size_t index) {
    start(index);
    settle();
  }
  void check_mode(bool transport) {
    check_whole();
    CHECK(a.bound(1)->transport == transport);
    CHECK(b.bound(1)->transport == transport);
  }
};

TEST_CASE("transport mode: both ends want it, whoever begins, and a rekey keeps it") {
  for (const std::size_t index : {std::size_t{0}, std::size_t{1}}) {
    HostLab lab(true, true);
    lab.run_from(index);
    lab.check_mode(true);
    lab.run(std::chrono::seconds(3600));
    lab.check_mode(true);
    CHECK(lab.a.count(EventKind::child_rekeyed) > 0);
  }
}

TEST_CASE("transport mode: one end does not want it: tunnel mode") {
  for (const bool at_a : {true, false}) {
    HostLab lab(at_a, !at_a);
    lab.run_from(0);
    lab.check_mode(false);
  }
}

TEST_CASE("transport mode: a flow that is not between the ends stays in tunnel mode") {
  Lab lab;
  lab.edit_both([](Connection& c) { c.children[0].transport = true; });
  lab.start(0);
  lab.settle();
  lab.check_whole();
  CHECK_FALSE(lab.a.bound(1)->transport);
}

TEST_CASE("transport mode: required, and declined: the initiator deletes the SA") {
  HostLab lab(true, false, true);
  lab.run_from(0);
  CHECK(lab.a.live().empty());
  CHECK(lab.b.live().empty());
  CHECK(lab.a.outbound.empty());
  REQUIRE_FALSE(lab.a.failures.empty());
  CHECK(lab.a.failures.front().summary.find("declined transport mode") != std::string::npos);
}

TEST_CASE("transport mode: required by the responder, not asked for: no proposal is chosen") {
  HostLab lab(false, true, false, true);
  lab.run_from(0);
  CHECK(lab.b.live().empty());
  REQUIRE_FALSE(lab.b.failures.empty());
  CHECK(lab.b.failures.front().summary.find("requires transport mode") != std::string::npos);
}

TEST_CASE("transport mode: forced UDP encapsulation looks like NAT, and gets tunnel mode") {
  HostLab lab(true, true);
  Lab::edit(lab.a, [](Connection& c) { c.force_encapsulation = true; });
  lab.run_from(0);
  lab.check_mode(false);
  CHECK(lab.a.bound(1)->udp_encapsulation);
  HostLab required(true, true, true, true);
  Lab::edit(required.a, [](Connection& c) { c.force_encapsulation = true; });
  required.run_from(0);
  CHECK(required.a.live().empty());
  CHECK(required.b.live().empty());
}

TEST_CASE("transport mode: each message lost, doubled and late, of the first exchanges and of rekeys by either end") {
  const auto make = [] { return std::make_unique<HostLab>(true, true); };
  lab::with_each_message_troubled(4, 1, make, [](HostLab& lab) { lab.check_mode(true); });
  lab::with_each_rekey_troubled(1, make, [](HostLab& lab) { lab.check_mode(true); });
}

TEST_CASE("transport mode: required and declined, each message lost, doubled and late: nothing is left of it") {
  constexpr lab::Fate troubles[] = {{0, 0}, {2, 0}, {1, 3}};
  for (std::size_t victim = 0; victim < 6; ++victim)
    for (const lab::Fate& trouble : troubles) {
      CAPTURE(victim);
      CAPTURE(trouble.copies);
      HostLab lab(true, false, true);
      lab.network = [&](const lab::Datagram& one) { return one.number == victim ? trouble : lab::Fate{}; };
      lab.start(0);
      lab.run(std::chrono::seconds(5));
      CHECK(lab.a.live().empty());
      CHECK(lab.b.live().empty());
      CHECK(lab.a.spis.empty());
      CHECK(lab.b.spis.empty());
      CHECK(lab.a.failures.size() == 1);
    }
}

}  // namespace
}  // namespace postern::ike
