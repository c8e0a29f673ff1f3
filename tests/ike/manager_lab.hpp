// Two managers with real sessions, a network between them, recorded effects and one clock.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "ike/manager.hpp"
#include "ike/selectors.hpp"

namespace postern::ike::manager_lab {

using namespace std::chrono_literals;

inline IpAddress ip(const char* text) { return *IpAddress::parse(text); }

struct Packet {
  std::size_t from = 0;
  Endpoint local, remote;
  Octets bytes;
};

// The world of one node.
struct World : Effects {
  std::size_t index;
  std::deque<Packet>& wire;
  std::map<ChildId, std::uint32_t> installed;  // flow
  std::map<std::uint32_t, ChildId> bound;
  std::set<ChildId> sends;
  std::map<ChildId, Endpoint> moved;
  std::vector<MoveChild> moves;
  bool immovable = false;
  std::size_t keepalives = 0;
  std::vector<std::pair<ChildId, std::uint32_t>> ever;
  std::vector<Event> events;
  std::map<std::string, std::vector<IpAddress>> assigned;
  std::set<std::uint32_t> expected;  // SPIs, before the peer was asked
  std::string refuse;                // installs fail with these words
  std::vector<PeerName> asked;       // names, in order
  // postern-pki, where there is one, and what it has not answered yet; nothing is asked of it else.
  std::function<pki::Answer(const pki::Question&)> pki;
  std::vector<std::pair<std::uint64_t, AskPki>> questions;

  World(std::size_t at, std::deque<Packet>& network) : index(at), wire(network) {}
  void send(const SendDatagram& d) override { wire.push_back({index, d.local, d.remote, d.bytes}); }
  void send(const SendKeepalive&) override { ++keepalives; }
  void expect(const ExpectChild& child) override { expected.insert(child.spi_in); }
  Result<void> install(const InstallChild& child) override {
    if (!refuse.empty()) return fail(refuse);
    const std::uint32_t flow = child.policy.place.flow;
    installed[child.id] = flow;
    ever.emplace_back(child.id, flow);
    if (child.outbound_now) switch_outbound(child.id);
    return {};
  }
  void switch_outbound(ChildId id) override {
    bound[installed.at(id)] = id;
    sends.insert(id);
  }
  Result<void> move(const MoveChild& child) override {
    moved[child.id] = child.remote_endpoint;
    moves.push_back(child);
    return immovable ? fail("refused", EINVAL) : Result<void>{};
  }
  void remove(ChildId id) override {
    const auto known = installed.find(id);
    if (known == installed.end()) return;
    const std::uint32_t flow = known->second;
    const bool carried = bound.contains(flow) && bound.at(flow) == id;
    installed.erase(known);
    sends.erase(id);
    if (!carried) return;
    bound.erase(flow);  // the newest other one takes over, as SaInstaller does it
    for (const auto& [other, of] : installed)
      if (of == flow && sends.contains(other)) bound[flow] = other;
  }
  void tell(const Event& event) override { events.push_back(event); }
  void assign(const std::string& interface, const std::vector<IpAddress>& addresses) override {
    assigned[interface] = addresses;
  }
  void ask(std::uint64_t session, const AskPki& question) override {
    REQUIRE_MESSAGE(pki, "nobody has a certificate here");
    questions.emplace_back(session, question);
  }
  void resolve(const PeerName& name) override { asked.push_back(name); }
  void fetch(const CertificateFetches::Fetch&) override { FAIL("nobody has a certificate here"); }
  [[nodiscard]] std::size_t count(EventKind kind) const {
    return static_cast<std::size_t>(std::ranges::count(events, kind, &Event::kind));
  }
  [[nodiscard]] const Failure* failure(FailureKind kind) const {
    for (const Event& event : events)
      if (event.failure && event.failure->kind == kind) return &*event.failure;
    return nullptr;
  }
};

inline Connection connection(std::string name, const char* local, const char* remote, std::uint32_t flow,
                             Initiate initiate = Initiate::on_traffic) {
  Connection out;
  out.name = name;
  out.local = ip(local);
  out.remote = ip(remote);
  out.proposals = {
      {"P1", {{crypto::Cipher::aes_gcm_16, 128}}, {}, {crypto::Prf::hmac_sha256}, {crypto::DhGroup::curve25519}}};
  out.local_identity = Identity::of(out.local);
  out.remote_identities = {Prefix::host(out.remote)};
  out.local_key = out.remote_key = Secret::copy_of(as_bytes("a key that both have"));
  ChildPolicy child;
  child.name = name + " 1";
  child.interface = "out0";
  child.map = "M1";
  child.sequence = 10;
  child.initiate = initiate;
  child.local = child.remote = {any_selector(Family::v4)};
  child.proposals = {{{crypto::Cipher::aes_gcm_16, 128, crypto::Integrity::none}, false}};
  child.place.flow = flow;
  out.children = {child};
  return out;
}

struct Node {
  World world;
  std::mt19937_64 numbers;
  std::unique_ptr<Manager> manager;
  std::uint64_t generation = 0;
  Secret key;  // the node's, of its policies

  Node(std::size_t index, std::deque<Packet>& wire, ManagerLimits limits) : world(index, wire), numbers(index + 77) {
    restart(limits);
  }
  void restart(ManagerLimits limits) {
    world.installed.clear();
    world.bound.clear();
    manager = std::make_unique<Manager>(Manager::Setup{&world,
                                                       [this](MutableBytes out) -> Result<void> {
                                                         for (std::byte& b : out) b = static_cast<std::byte>(numbers());
                                                         return {};
                                                       },
                                                       limits,
                                                       {}});
  }
  void policy(std::vector<Connection> connections, Time now) {
    auto policy = std::make_shared<Policy>();
    policy->generation = ++generation;
    policy->node_key = key;
    for (Connection& one : connections)
      policy->connections.push_back(std::make_shared<const Connection>(std::move(one)));
    manager->set_policy(std::move(policy), now);
  }
  [[nodiscard]] std::size_t established(Time now) const {
    const auto rows = manager->rows(now);
    return static_cast<std::size_t>(
        std::ranges::count_if(rows, [](const auto& row) { return row.session.phase == SessionPhase::established; }));
  }
};

inline constexpr const char* address_a = "192.0.2.1";
inline constexpr const char* address_b = "192.0.2.2";

struct Lab {
  std::deque<Packet> wire;
  Time now{1h};
  ManagerLimits limits;
  Node a, b;
  std::function<bool(const Packet&)> passes = [](const Packet&) { return true; };
  bool nat = false;  // A is behind one that changes its ports
  std::uint16_t nat_offset = 10000;

  explicit Lab(ManagerLimits with = {}) : limits(with), a(0, wire, with), b(1, wire, with) {}

  static Connection of_a(Initiate initiate = Initiate::on_traffic) {
    return connection("M1 10", address_a, address_b, 1, initiate);
  }
  static Connection of_b(Initiate initiate = Initiate::on_traffic) {
    return connection("M1 10", address_b, address_a, 2, initiate);
  }
  void policies(Initiate at_a = Initiate::on_traffic, Initiate at_b = Initiate::on_traffic) {
    a.policy({of_a(at_a)}, now);
    b.policy({of_b(at_b)}, now);
  }

  bool answer_questions() {
    bool any = false;
    for (Node* const node : {&a, &b})
      for (const auto& [session, one] : std::exchange(node->world.questions, {})) {
        node->manager->on_pki_answer(session, one.ticket, node->world.pki(one.question), now);
        any = true;
      }
    return any;
  }
  void deliver() {
    for (int steps = 0; !wire.empty() || answer_questions(); ++steps) {
      REQUIRE(steps < 5000);
      if (wire.empty()) continue;
      Packet packet = std::move(wire.front());
      wire.pop_front();
      if (!passes(packet)) continue;
      if (nat && packet.from == 0) packet.local.port = static_cast<std::uint16_t>(packet.local.port + nat_offset);
      if (nat && packet.from == 1) packet.remote.port = static_cast<std::uint16_t>(packet.remote.port - nat_offset);
      Node& to = packet.from == 0 ? b : a;
      to.manager->on_datagram({packet.remote, packet.local, 0, packet.bytes}, now);
    }
  }
  // Everything that happens within `span`.
  void run(Duration span) {
    const Time until = now + span;
    deliver();
    for (int ticks = 0;; ++ticks) {
      REQUIRE(ticks < 20000);
      const auto next_a = a.manager->next_timer(), next_b = b.manager->next_timer();
      Time next = until;
      for (const auto& one : {next_a, next_b})
        if (one) next = std::min(next, *one);
      if (next >= until) break;
      now = std::max(now, next);
      a.manager->on_timer(now);
      b.manager->on_timer(now);
      deliver();
    }
    now = until;
  }
  // One IKE SA and one child each, bound at both ends.
  void check_up() {
    for (Node* const node : {&a, &b}) {
      CAPTURE(node->world.index);
      CHECK(node->established(now) == 1);
      CHECK(node->world.installed.size() == 1);
      CHECK(node->world.bound.size() == 1);
    }
  }
};

// What a network does to one packet.
enum class Trouble : std::uint8_t { lost, doubled, late };  // late: three others overtake it
inline constexpr Trouble troubles[] = {Trouble::lost, Trouble::doubled, Trouble::late};

// It happens to the packet of that number, counted from now. `arrives`: what else keeps packets away.
inline void trouble(
    Lab& lab, std::size_t victim, Trouble how,
    std::function<bool(const Packet&)> arrives = [](const Packet&) { return true; }) {
  struct State {
    std::size_t seen = 0, behind = 0;
    std::optional<Packet> held;
  };
  lab.passes = [&lab, victim, how, arrives = std::move(arrives), state = std::make_shared<State>()](const Packet& one) {
    const bool chosen = state->seen++ == victim;
    if (chosen && how == Trouble::doubled) lab.wire.push_front(one);
    if (chosen && how == Trouble::late) {
      state->held = one;
      state->behind = 3;
    } else if (state->held && --state->behind == 0) {
      lab.wire.push_front(*std::exchange(state->held, {}));
    }
    return !(chosen && how != Trouble::doubled) && arrives(one);
  };
}

// Each of the first `packets` of what follows, in a lab of its own that is ready for it (a unique_ptr), troubled.
template <class Make, class Run>
void with_each_packet_troubled(std::size_t packets, Make&& make, Run&& run) {
  for (std::size_t victim = 0; victim < packets; ++victim)
    for (const Trouble how : troubles) {
      CAPTURE(victim);
      CAPTURE(static_cast<int>(how));
      const auto lab = make();
      trouble(*lab, victim, how);
      run(*lab);
    }
}

}  // namespace postern::ike::manager_lab
