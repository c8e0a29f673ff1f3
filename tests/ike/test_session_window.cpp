// RFC 7296 §2.3: several requests of ours under way at once, as many as the peer says that it keeps.
#include "tests/ike/scripted_peer.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::lab;

namespace {

constexpr const char* names[] = {"two", "three", "four", "five", "six", "seven", "eight"};

// Eight flows; all but the first are asked for when the IKE SA stands.
struct Wide : Lab {
  std::size_t widest = 0;  // requests of A after IKE_AUTH without an answer that has come
  Wide(std::uint16_t at_a, std::uint16_t at_b, std::size_t more = std::size(names)) {
    for (std::size_t i = 0; i < more; ++i) {
      const std::string near = "10.1" + std::to_string(i) + ".0.0/16", far = "10.2" + std::to_string(i) + ".0.0/16";
      flow(names[i], static_cast<std::uint32_t>(2 + i), near.c_str(), far.c_str());
    }
    edit(a, [&](Connection& c) { c.options.window = at_a; });
    edit(b, [&](Connection& c) { c.options.window = at_b; });
  }
  void watch() {
    network = [this](const Datagram&) {
      for (const auto& one : a.sessions)
        if (one->phase() == SessionPhase::established)
          widest = std::max<std::size_t>(widest, one->view(now).outstanding);
      return Fate{};
    };
  }
};

std::size_t widest_of(std::uint16_t at_a, std::uint16_t at_b) {
  Wide lab(at_a, at_b);
  lab.watch();
  lab.start(0);
  lab.run(std::chrono::seconds(2));
  lab.check_whole(8);
  CHECK(lab.a.established().view(lab.now).queued == 0);
  CHECK(lab.a.established().view(lab.now).outstanding == 0);
  return lab.widest;
}

}  // namespace

TEST_CASE("RFC 7296 §2.3: as many requests at once as both the peer's window and our own setting say") {
  CHECK(widest_of(5, 5) == 5);
  CHECK(widest_of(64, 3) == 3);
  CHECK(widest_of(64, 64) == 7);
  CHECK(widest_of(5, 1) == 1);
  CHECK(widest_of(1, 5) == 1);
}

TEST_CASE("RFC 7296 §2.3: each message of a window lost, doubled and late") {
  with_each_message_troubled(
      18, 8, [] { return std::make_unique<Wide>(std::uint16_t{4}, std::uint16_t{4}); },
      [](Lab& lab) { CHECK(lab.b.established().view(lab.now).early == 0); });
}

TEST_CASE("RFC 7296 §2.3, §2.25: a window full of rekeys, of the IKE SA in between, and of both ends at once") {
  for (const bool both : {false, true})
    for (std::size_t lost = 0; lost < 12; ++lost) {
      CAPTURE(both);
      CAPTURE(lost);
      Wide lab(5, 5, 4);
      lab.start(0);
      lab.run(std::chrono::seconds(2));
      lab.check_whole(5);
      const std::size_t before = lab.sent;
      lab.network = [&](const Datagram& one) { return one.number == before + lost ? Fate{0, 0} : Fate{}; };
      for (std::uint32_t flow = 1; flow <= 5; ++flow) {
        lab.perform(0, lab.a.established().rekey_child(lab.a.outbound.at(flow), lab.now));
        if (both) lab.perform(1, lab.b.established().rekey_child(lab.b.outbound.at(flow), lab.now));
        if (flow == 3) lab.perform(0, lab.a.established().rekey(lab.now));
      }
      lab.run(std::chrono::seconds(120));
      lab.check_whole(5);
      CHECK(lab.a.count(EventKind::ike_rekeyed) >= 1);
      CHECK(lab.a.count(EventKind::child_rekeyed) + lab.b.count(EventKind::child_rekeyed) >= 5);
    }
}

TEST_CASE("RFC 7296 §2.3: after a rekey of the IKE SA the window is one until it is told, which it is") {
  Wide lab(5, 7, 2);
  Lab::edit(lab.a, [](Connection& c) { c.options.crash_detection = false; });
  Lab::edit(lab.b, [](Connection& c) { c.options.crash_detection = false; });
  lab.start(0);
  lab.run(std::chrono::seconds(2));
  for (const std::size_t by : {std::size_t{0}, std::size_t{1}}) {
    lab.perform(by, lab.end(by).established().rekey(lab.now));
    lab.run(std::chrono::seconds(20));
    lab.check_whole(3);
    CHECK(lab.a.established().view(lab.now).window == 7);
    CHECK(lab.b.established().view(lab.now).window == 5);
  }
}

namespace {

// A peer that keeps `window` requests; B asks for flows.
struct Asked : ScriptedPeer {
  std::vector<Octets> requests;

  explicit Asked(std::uint32_t keeps) {
    window = keeps;
    for (std::size_t i = 0; i < std::size(names); ++i)
      lab.flow(names[i], static_cast<std::uint32_t>(2 + i), "10.3.0.0/16", "10.4.0.0/16");
    establish();
  }
  std::vector<std::uint32_t> wants(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) lab.perform(1, lab.b.established().want_child(names[i], lab.now));
    return sent();
  }
  std::vector<std::uint32_t> sent() {
    std::vector<std::uint32_t> out;
    for (Datagram& one : lab.wire) {
      const auto header = parse_header(one.bytes);
      if (header && !header->response) out.push_back(header->message_id);
    }
    lab.wire.clear();
    return out;
  }
  // NO_ADDITIONAL_SAS to request `id`; which requests of B follow.
  std::vector<std::uint32_t> answers(std::uint32_t id, bool forged = false) {
    next_id = id;
    Message refusal{header(ExchangeType::create_child_sa, true), {}};
    refusal.add_notify(NotifyType::no_additional_sas);
    Octets bytes = sealed(refusal);
    if (forged) bytes.back() ^= std::byte{1};
    lab.deliver({0, {lab.a.own, 500}, {lab.b.own, 500}, bytes, lab.sent++});
    return sent();
  }
  std::uint32_t outstanding() { return lab.b.established().view(lab.now).outstanding; }
};

using Ids = std::vector<std::uint32_t>;

}  // namespace

TEST_CASE("RFC 7296 §2.3: request X waits until all up to X-N are answered, however many later ones are") {
  Asked peer(3);
  CHECK(peer.wants(6) == Ids{0, 1, 2});
  CHECK(peer.outstanding() == 3);
  CHECK(peer.answers(1).empty());
  CHECK(peer.answers(2).empty());
  CHECK(peer.outstanding() == 1);
  CHECK(peer.answers(2).empty());  // doubled
  CHECK(peer.answers(7).empty());  // to nothing that was asked
  CHECK(peer.answers(0, true).empty());
  CHECK(peer.outstanding() == 1);
  CHECK(peer.answers(0) == Ids{3, 4, 5});
  CHECK(peer.answers(0).empty());  // late
  for (const std::uint32_t id : {5U, 3U, 4U}) (void)peer.answers(id);
  CHECK(peer.outstanding() == 0);
  CHECK(peer.lab.b.failures.size() == 6);
  CHECK(peer.lab.b.count(SessionPhase::established) == 1);
  CHECK(peer.lab.b.spis.size() == 1);
}

TEST_CASE("RFC 7296 §2.3: a peer that says nothing keeps one, and each request is sent again by itself") {
  Asked one(1);
  CHECK(one.wants(3) == Ids{0});
  CHECK(one.answers(0) == Ids{1});
  CHECK(one.answers(1) == Ids{2});
  Asked peer(2);
  CHECK(peer.wants(2) == Ids{0, 1});
  CHECK(peer.answers(0).empty());
  peer.lab.perform(1, peer.lab.b.established().on_timer(peer.lab.now + std::chrono::milliseconds(600)));
  CHECK(peer.sent() == Ids{1});
}
