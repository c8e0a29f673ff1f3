// RFC 7296 §2.9: a peer that takes a part of what is asked for (ADDITIONAL_TS_POSSIBLE), or pairs of hosts alone
// (SINGLE_PAIR_REQUIRED): both ends, and what an initiator does about it.
#include "ike/message.hpp"
#include "tests/ike/manager_lab.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::manager_lab;

namespace {

Selector net(const char* text) { return selector_of(*Prefix::parse(text)); }

ChildPolicy entry(const Connection& like, std::uint32_t flow, std::vector<Selector> local,
                  std::vector<Selector> remote) {
  ChildPolicy out = like.children.front();
  out.name = "flow " + std::to_string(flow);
  out.local = std::move(local);
  out.remote = std::move(remote);
  out.place.flow = flow;
  out.place.deliver = DeliverTo::map_interface;
  return out;
}

// A asks for one flow of two networks of B's; B has what a test says.
struct Narrowing : Lab {
  Connection at_a = of_a(), at_b = of_b();
  Narrowing() { at_a.children = {entry(at_a, 1, {net("10.1.0.0/24")}, {net("10.2.0.0/23")})}; }
  void flow_of_b(std::uint32_t flow, const char* local, const char* remote = "10.1.0.0/24") {
    if (at_b.children.front().name.starts_with("M1")) at_b.children.clear();
    at_b.children.push_back(entry(of_b(), flow, {net(local)}, {net(remote)}));
  }
  void pairs_at_b(bool only) {
    flow_of_b(11, "10.2.0.0/23");
    ChildPolicy& child = at_b.children.front();
    child.per_host = true;
    child.per_host_only = only;
    child.limit = 8;
  }
  void begin() {
    a.policy({at_a}, now);
    b.policy({at_b}, now);
    asks("10.1.0.5", "10.2.0.9");
  }
  void asks(const char* from, const char* to) {
    a.manager->on_acquire(1, now, Manager::HostPair{ip(from), ip(to)});
    run(3s);
  }
  // What A's SAs are for, in order.
  std::vector<std::string> covered() const {
    std::vector<std::string> out;
    for (const auto& row : a.manager->rows(now))
      for (const ChildView& child : row.session.children) {
        std::string one;
        for (const Selector& s : child.local) one += (one.empty() ? "" : ",") + text(s);
        one += " <-> ";
        for (const Selector& s : child.remote) one += (one.ends_with("> ") ? "" : ",") + text(s);
        out.push_back(one);
      }
    std::ranges::sort(out);
    return out;
  }
  std::set<std::uint32_t> flows_at_a() const {
    std::set<std::uint32_t> out;
    for (const auto& [flow, id] : a.world.bound) out.insert(flow);
    return out;
  }
};

}  // namespace

TEST_CASE("RFC 7296 §2.9: what a peer takes in SAs of their own alone is asked for in pieces, each with its own flow") {
  Narrowing lab;
  lab.flow_of_b(11, "10.2.0.0/24");
  lab.flow_of_b(12, "10.2.1.0/24");
  lab.begin();
  CHECK(lab.covered() == std::vector<std::string>{"10.1.0.0/24 <-> 10.2.0.0/24", "10.1.0.0/24 <-> 10.2.1.0/24"});
  CHECK(lab.flows_at_a().size() == 2);
  CHECK(lab.flows_at_a().contains(1));
  CHECK(lab.b.world.bound.size() == 2);
  CHECK(lab.a.established(lab.now) == 1);
  // A piece that goes comes back, while the rest of its flow stands.
  for (const auto& [flow, id] : std::map(lab.a.world.bound))
    if (flow != 1) lab.a.manager->on_hard_expiry(id, lab.now);
  CHECK(lab.a.world.bound.size() <= 2);
  lab.run(5s);
  CHECK(lab.covered().size() == 2);
  // An edit of another flow leaves all of it as it is.
  auto edited = lab.at_a;
  edited.children.push_back(entry(lab.at_a, 2, {net("10.1.9.0/24")}, {net("10.2.9.0/24")}));
  lab.a.policy({edited}, lab.now);
  lab.run(3s);
  CHECK(lab.covered().size() == 2);
  // And it ends with its flow.
  edited.children.erase(edited.children.begin());
  lab.a.policy({edited}, lab.now);
  lab.run(3s);
  CHECK(lab.covered().empty());
}

TEST_CASE("RFC 7296 §2.9: pieces are bounded, and without the notify nobody asks for more") {
  SUBCASE("more parts than we make pieces of") {
    Narrowing lab;
    lab.at_a.children = {entry(lab.at_a, 1, {net("10.1.0.0/24")}, {net("10.2.0.0/16")})};
    for (std::uint32_t i = 0; i < 20; ++i) lab.flow_of_b(11 + i, ("10.2." + std::to_string(2 * i) + ".0/24").c_str());
    lab.begin();
    lab.run(30s);
    CHECK(lab.covered().size() >= 5);
    CHECK(lab.covered().size() <= 9);
    CHECK(lab.a.world.failure(FailureKind::refused) != nullptr);
  }
  SUBCASE("one part is all that there is") {
    Narrowing lab;
    lab.flow_of_b(11, "10.2.0.0/24");
    lab.begin();
    CHECK(lab.covered() == std::vector<std::string>{"10.1.0.0/24 <-> 10.2.0.0/24"});
    lab.run(60s);
    CHECK(lab.covered().size() == 1);
  }
  SUBCASE("the whole, though there are other flows") {
    Narrowing lab;
    lab.flow_of_b(11, "10.2.0.0/23");
    lab.flow_of_b(12, "10.2.1.0/24");
    lab.begin();
    CHECK(lab.covered() == std::vector<std::string>{"10.1.0.0/24 <-> 10.2.0.0/23"});
  }
  SUBCASE("a tunnel has one flow, which no pieces are made of") {
    Narrowing lab;
    lab.at_a.children.front().place.deliver = DeliverTo::tunnel;
    lab.flow_of_b(11, "10.2.0.0/24");
    lab.flow_of_b(12, "10.2.1.0/24");
    lab.begin();
    CHECK(lab.covered().size() == 1);
  }
}

TEST_CASE("RFC 7296 §2.9: a peer of single pairs is asked for the packet's pair alone, and for each that comes") {
  Narrowing lab;
  lab.pairs_at_b(true);
  lab.begin();
  CHECK(lab.covered() == std::vector<std::string>{"10.1.0.5/32 <-> 10.2.0.9/32"});
  const Failure* const told = lab.a.world.failure(FailureKind::pairs_required);
  REQUIRE(told != nullptr);
  CHECK(told->by_peer);
  lab.asks("10.1.0.6", "10.2.1.9");
  lab.asks("10.1.0.6", "10.2.1.9");
  CHECK(lab.covered().size() == 2);
  CHECK_FALSE(lab.flows_at_a().contains(1));
  CHECK(lab.a.established(lab.now) == 1);
  lab.asks("10.9.9.9", "10.2.1.9");  // not of this flow
  CHECK(lab.covered().size() == 2);
  CHECK(std::ranges::count_if(lab.a.world.events, [](const Event& e) {
          return e.failure && e.failure->kind == FailureKind::pairs_required;
        }) == 1);  // the whole is asked for once
  lab.a.policy({lab.at_a}, lab.now);
  lab.run(3s);
  CHECK(lab.covered().size() == 2);
}

TEST_CASE("CM-09: a peer may have the whole rule, unless the entry says per_host_only") {
  Narrowing lab;
  lab.pairs_at_b(false);
  lab.begin();
  CHECK(lab.covered() == std::vector<std::string>{"10.1.0.0/24 <-> 10.2.0.0/23"});
  CHECK(lab.a.world.failure(FailureKind::pairs_required) == nullptr);
}

TEST_CASE(
    "RFC 7296 §2.9: with nobody's packet there is no pair to ask for; an initiator that wants it up waits for one") {
  Narrowing lab;
  lab.pairs_at_b(true);
  lab.at_a.children.front().initiate = Initiate::always;
  lab.a.policy({lab.at_a}, lab.now);
  lab.b.policy({lab.at_b}, lab.now);
  lab.run(120s);
  CHECK(lab.covered().empty());
  CHECK(std::ranges::count_if(lab.a.world.events, [](const Event& e) { return e.failure.has_value(); }) == 1);
  lab.asks("10.1.0.6", "10.2.1.9");
  CHECK(lab.covered() == std::vector<std::string>{"10.1.0.6/32 <-> 10.2.1.9/32"});
}

TEST_CASE("RFC 7296 §2.9: the pair of the packet that an initiator puts in front is what a peer of pairs takes") {
  Narrowing lab;
  lab.pairs_at_b(true);
  lab.at_a.children.front().local.insert(lab.at_a.children.front().local.begin(), net("10.1.0.5/32"));
  lab.at_a.children.front().remote.insert(lab.at_a.children.front().remote.begin(), net("10.2.0.9/32"));
  lab.at_a.children.front().place.deliver = DeliverTo::tunnel;  // what is left is not asked for
  lab.begin();
  CHECK(lab.covered() == std::vector<std::string>{"10.1.0.5/32 <-> 10.2.0.9/32"});
  CHECK(lab.a.world.failure(FailureKind::pairs_required) == nullptr);
}

TEST_CASE("RFC 7296 §2.9: each packet lost, doubled and late: all pieces are made, each once") {
  const auto make = [] {
    auto lab = std::make_unique<Narrowing>();
    lab->flow_of_b(11, "10.2.0.0/24");
    lab->flow_of_b(12, "10.2.1.0/24");
    return lab;
  };
  with_each_packet_troubled(8, make, [](Narrowing& lab) {
    lab.begin();
    lab.run(40s);
    CHECK(lab.covered() == std::vector<std::string>{"10.1.0.0/24 <-> 10.2.0.0/24", "10.1.0.0/24 <-> 10.2.1.0/24"});
    CHECK(lab.flows_at_a().size() == 2);
    CHECK(lab.b.world.bound.size() == 2);
    CHECK(lab.b.world.installed.size() == 2);
    CHECK(lab.a.manager->size() == 1);
    CHECK(lab.b.manager->size() == 1);
  });
}

TEST_CASE("RFC 7296 §2.9: each packet lost, doubled and late: of a peer of pairs the pair is made, and no other") {
  const auto make = [] {
    auto lab = std::make_unique<Narrowing>();
    lab->pairs_at_b(true);
    return lab;
  };
  with_each_packet_troubled(8, make, [](Narrowing& lab) {
    lab.begin();
    lab.run(40s);
    CHECK(lab.covered() == std::vector<std::string>{"10.1.0.5/32 <-> 10.2.0.9/32"});
    CHECK_FALSE(lab.flows_at_a().contains(1));
    CHECK(lab.b.world.installed.size() == 1);
    CHECK(lab.a.manager->size() == 1);
    CHECK(lab.b.manager->size() == 1);
    lab.passes = [](const Packet&) { return true; };
    lab.asks("10.1.0.6", "10.2.1.9");
    CHECK(lab.covered().size() == 2);
  });
}
