// Two ends, a network that loses, doubles and delays by order, and a clock: exchange tests in one process.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "ike/selectors.hpp"
#include "ike/session.hpp"

namespace postern::ike::lab {

inline IpAddress address(const char* text) { return *IpAddress::parse(text); }
inline Secret secret(std::string_view text) { return Secret::copy_of(as_bytes(text)); }

inline IkeProposal ike_proposal(std::vector<crypto::DhGroup> groups = {crypto::DhGroup::curve25519,
                                                                       crypto::DhGroup::ecp256}) {
  return {"P1",
          {{crypto::Cipher::aes_cbc, 256}, {crypto::Cipher::aes_gcm_16, 128}},
          {crypto::Integrity::hmac_sha256_128},
          {crypto::Prf::hmac_sha256},
          std::move(groups)};
}

inline ChildPolicy child_policy(std::string name, std::uint32_t flow, const char* local, const char* remote) {
  ChildPolicy out;
  out.name = std::move(name);
  out.local = {selector_of(*Prefix::parse(local))};
  out.remote = {selector_of(*Prefix::parse(remote))};
  out.proposals = {{{crypto::Cipher::aes_gcm_16, 128, crypto::Integrity::none}, false}};
  out.place.flow = flow;
  return out;
}

inline Connection connection(const char* local, const char* remote) {
  Connection out;
  out.name = "M1 10";
  out.local = address(local);
  out.remote = address(remote);
  out.proposals = {ike_proposal()};
  out.local_identity = Identity::of(out.local);
  out.remote_identities = {Prefix::host(out.remote)};
  out.local_key = out.remote_key = secret("correct horse battery staple");
  return out;
}

struct InstalledChild {
  InstallChild sa;
  bool removed = false;
};

// One node: its sessions, its data plane, and what it told.
struct End {
  std::string name;
  IpAddress own;
  std::mt19937_64 numbers;
  Surroundings surroundings;
  std::vector<std::shared_ptr<const Connection>> connections;
  std::vector<std::unique_ptr<Session>> sessions;
  std::map<ChildId, InstalledChild> children;  // every one there ever was
  std::map<std::uint32_t, ChildId> outbound;   // flow -> the child it goes into
  std::vector<Event> events;
  std::vector<Failure> failures;
  std::vector<Closed> closed;
  std::size_t reauthentications = 0;
  std::vector<AskPki> asked;                // by the newest session; answered when a test says so
  std::vector<FetchCertificates> to_fetch;  // the same
  std::uint32_t next_spi;
  std::uint64_t next_id = 1;
  std::set<std::uint32_t> spis;

  End(std::string called, const char* at, std::uint64_t seed)
      : name(std::move(called)), own(address(at)), numbers(seed), next_spi(static_cast<std::uint32_t>(seed) << 16) {
    surroundings.random = [this](MutableBytes out) -> Result<void> {
      for (std::byte& b : out) b = static_cast<std::byte>(numbers());
      return {};
    };
    surroundings.allocate_spi = [this]() -> Result<std::uint32_t> {
      spis.insert(++next_spi);
      return next_spi;
    };
    surroundings.free_spi = [this](std::uint32_t spi) { spis.erase(spi); };
    surroundings.next_child_id = [this] { return ChildId{next_id++}; };
    surroundings.connections = [this](std::uint32_t, const IpAddress& local, const IpAddress& remote) {
      std::vector<std::shared_ptr<const Connection>> out;
      for (const auto& one : connections)
        if (one->local == local && one->remote == remote) out.push_back(one);
      return out;
    };
  }
  void add(Connection one) { connections.push_back(std::make_shared<const Connection>(std::move(one))); }
  [[nodiscard]] std::vector<const InstallChild*> live() const {
    std::vector<const InstallChild*> out;
    for (const auto& [id, one] : children)
      if (!one.removed) out.push_back(&one.sa);
    return out;
  }
  [[nodiscard]] const InstallChild* bound(std::uint32_t flow) const {
    const auto found = outbound.find(flow);
    return found == outbound.end() ? nullptr : &children.at(found->second).sa;
  }
  [[nodiscard]] Session& established() const {
    for (const auto& one : sessions)
      if (one->phase() == SessionPhase::established) return *one;
    FAIL("no IKE SA is established at " << name);
    std::abort();
  }
  [[nodiscard]] std::size_t count(SessionPhase phase) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(sessions, [&](const auto& one) { return one->phase() == phase; }));
  }
  [[nodiscard]] std::size_t count(EventKind kind) const {
    return static_cast<std::size_t>(std::ranges::count(events, kind, &Event::kind));
  }
};

struct Datagram {
  std::size_t from = 0;  // index of the end
  Endpoint local, remote;
  Octets bytes;
  std::size_t number = 0;  // of all datagrams
};

// What the network does with one datagram: how many copies arrive, and after how many others.
struct Fate {
  std::size_t copies = 1;
  std::size_t behind = 0;
};

struct Lab {
  End a{"A", "192.0.2.1", 11}, b{"B", "192.0.2.2", 22};
  Time now{std::chrono::hours(1)};
  std::vector<Datagram> wire;
  std::size_t sent = 0;
  std::function<Fate(const Datagram&)> network = [](const Datagram&) { return Fate{}; };
  Lifetimes lifetimes;
  bool traffic = true;  // flows carry packets: what one sends, the other must be able to open

  Lab() {
    a.add(connection("192.0.2.1", "192.0.2.2"));
    b.add(connection("192.0.2.2", "192.0.2.1"));
    flow("one", 1, "10.1.0.0/16", "10.2.0.0/16");
  }
  // The connections are made anew: call before start().
  void flow(const char* name, std::uint32_t id, const char* at_a, const char* at_b) {
    edit(a, [&](Connection& c) { c.children.push_back(child_policy(name, id, at_a, at_b)); });
    edit(b, [&](Connection& c) { c.children.push_back(child_policy(name, id, at_b, at_a)); });
  }
  static void edit(End& end, const std::function<void(Connection&)>& change) {
    Connection copy = *end.connections.front();
    change(copy);
    end.connections.front() = std::make_shared<const Connection>(std::move(copy));
  }
  void edit_both(const std::function<void(Connection&)>& change) {
    edit(a, change);
    edit(b, change);
  }

  End& end(std::size_t index) { return index == 0 ? a : b; }

  void start(std::size_t index) {
    End& from = end(index);
    Session::Setup setup{&from.surroundings, {from.own, 500}, {end(1 - index).own, 500}, 0, false, lifetimes};
    from.sessions.push_back(Session::initiator(setup, from.connections.front(), {}));
    perform(index, from.sessions.back()->initiate(now));
  }

  void perform(std::size_t index, Actions actions) {
    End& at = end(index);
    for (Action& action : actions) {
      if (auto* const send = std::get_if<SendDatagram>(&action)) {
        wire.push_back({index, send->local, send->remote, std::move(send->bytes), sent++});
      } else if (auto* const install = std::get_if<InstallChild>(&action)) {
        if (install->outbound_now) at.outbound[install->policy.place.flow] = install->id;
        at.children[install->id].sa = std::move(*install);
      } else if (const auto* const to = std::get_if<SwitchOutbound>(&action)) {
        const auto& child = at.children.at(to->id);
        CHECK_FALSE(child.removed);
        at.outbound[child.sa.policy.place.flow] = to->id;
      } else if (const auto* const removed = std::get_if<RemoveChild>(&action)) {
        auto& child = at.children.at(removed->id);
        CHECK_FALSE(child.removed);
        child.removed = true;
        const auto bound = at.outbound.find(child.sa.policy.place.flow);
        if (bound != at.outbound.end() && bound->second == removed->id) at.outbound.erase(bound);
      } else if (auto* const added = std::get_if<AddSession>(&action)) {
        at.sessions.push_back(std::move(added->session));
      } else if (auto* const event = std::get_if<Event>(&action)) {
        if (event->failure) at.failures.push_back(*event->failure);
        at.events.push_back(std::move(*event));
      } else if (std::holds_alternative<Reauthenticate>(action)) {
        ++at.reauthentications;
      } else if (auto* const question = std::get_if<AskPki>(&action)) {
        at.asked.push_back(std::move(*question));
      } else if (auto* const wanted = std::get_if<FetchCertificates>(&action)) {
        at.to_fetch.push_back(std::move(*wanted));
      } else if (auto* const closed = std::get_if<Closed>(&action)) {
        at.closed.push_back(std::move(*closed));
      }
    }
  }

  void deliver(const Datagram& one) {
    const std::size_t index = 1 - one.from;
    End& to = end(index);
    const auto header = parse_header(one.bytes);
    REQUIRE(header);
    const Endpoint local = one.remote, remote = one.local;
    const std::uint64_t own = header->from_initiator ? header->responder_spi : header->initiator_spi;
    for (auto& session : to.sessions) {
      const bool init_again = own == 0 && session->peer_spi() == header->initiator_spi && header->from_initiator &&
                              session->phase() != SessionPhase::closed;
      if (!(own != 0 && session->own_spi() == own) && !init_again) continue;
      return perform(index, session->on_datagram(one.bytes, local, remote, now));
    }
    if (header->exchange != ExchangeType::ike_sa_init || header->response) return;
    to.sessions.push_back(Session::responder({&to.surroundings, local, remote, 0, false, lifetimes}));
    Session& fresh = *to.sessions.back();
    perform(index, fresh.on_datagram(one.bytes, local, remote, now));
  }

  // A packet of every flow that both ends have bound, both ways: the peer must hold the SA, with the same keys. (A
  // responder has the first SA of a flow until its answer arrives: nobody sends to it yet.)
  void check_traffic() {
    for (std::size_t index = 0; traffic && index < 2; ++index) {
      End &from = end(index), &to = end(1 - index);
      for (const auto& [flow, id] : from.outbound) {
        if (!to.outbound.contains(flow)) continue;
        const InstallChild& out = from.children.at(id).sa;
        const auto live = to.live();
        const auto found = std::ranges::find_if(live, [&](const InstallChild* c) { return c->spi_in == out.spi_out; });
        REQUIRE_MESSAGE(found != live.end(), from.name << " sends into an SA that " << to.name << " does not have");
        CHECK((*found)->keys.inbound_cipher == out.keys.outbound_cipher);
        CHECK((*found)->keys.inbound_integrity == out.keys.outbound_integrity);
      }
    }
  }

  // Delivers until nothing is under way. Of a bounded number of datagrams: a loop is a fault.
  void settle() {
    for (std::size_t steps = 0; !wire.empty(); ++steps) {
      REQUIRE(steps < 2000);
      const Datagram one = std::move(wire.front());
      wire.erase(wire.begin());
      const Fate fate = network(one);
      if (fate.behind > 0) {
        network_late.push_back({one, fate.behind});
      } else {
        for (std::size_t i = 0; i < fate.copies; ++i) deliver(one);
      }
      release_late(wire.empty());
      check_traffic();
    }
  }

  // The next timer of anybody; false: none within `limit`.
  bool tick(Duration limit) {
    std::optional<Time> next;
    for (End* const at : {&a, &b})
      for (const auto& session : at->sessions)
        if (const auto when = session->next_timer()) next = next ? std::min(*next, *when) : *when;
    if (!next || *next > now + limit) return false;
    now = std::max(now, *next);
    for (std::size_t index = 0; index < 2; ++index) {
      End& at = end(index);
      for (std::size_t i = 0; i < at.sessions.size(); ++i)
        if (const auto when = at.sessions[i]->next_timer(); when && *when <= now)
          perform(index, at.sessions[i]->on_timer(now));
    }
    settle();
    return true;
  }
  // Everything that happens within `span`.
  void run(Duration span) {
    settle();
    const Time until = now + span;
    for (std::size_t ticks = 0; tick(until - now); ++ticks) REQUIRE(ticks < 5000);
    now = until;
  }

  // The end state of every test that goes well: one IKE SA each, one child SA for each flow, bound at both ends to each
  // other, nothing left over, no SPI leaked.
  void check_whole(std::size_t flows = 1) {
    for (End* const at : {&a, &b}) {
      INFO(at->name);
      CHECK(at->count(SessionPhase::established) == 1);
      CHECK(at->sessions.size() - at->count(SessionPhase::closed) == 1);
      CHECK(at->live().size() == flows);
      CHECK(at->outbound.size() == flows);
      CHECK(at->spis.size() == flows);
    }
    for (const auto& [flow, id] : a.outbound) {
      const InstallChild* const other = b.bound(flow);
      REQUIRE(other != nullptr);
      CHECK(a.children.at(id).sa.spi_out == other->spi_in);
      CHECK(a.children.at(id).sa.spi_in == other->spi_out);
    }
  }

 private:
  struct Late {
    Datagram datagram;
    std::size_t left;
  };
  std::vector<Late> network_late;
  void release_late(bool all) {
    for (std::size_t i = 0; i < network_late.size();) {
      if (all || --network_late[i].left == 0) {
        const Datagram one = network_late[i].datagram;
        network_late.erase(network_late.begin() + static_cast<std::ptrdiff_t>(i));
        deliver(one);
      } else {
        ++i;
      }
    }
  }
};

// Each of the first `messages` datagrams is lost, doubled, and overtaken by three others, in a lab of its own that
// `make` gives (a unique_ptr); A begins, and the end is whole with `flows` flows and as `check` wants it.
template <class Make, class Check>
void with_each_message_troubled(std::size_t messages, std::size_t flows, Make&& make, Check&& check) {
  constexpr Fate troubles[] = {{0, 0}, {2, 0}, {1, 3}};
  for (std::size_t victim = 0; victim < messages; ++victim)
    for (const Fate& trouble : troubles) {
      CAPTURE(victim);
      CAPTURE(trouble.copies);
      const auto lab = make();
      lab->network = [&](const Datagram& one) { return one.number == victim ? trouble : Fate{}; };
      lab->start(0);
      lab->run(std::chrono::seconds(5));
      lab->check_whole(flows);
      check(*lab);
    }
}

}  // namespace postern::ike::lab
