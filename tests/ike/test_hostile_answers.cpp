// A peer that is authenticated, and answers our requests as no peer should. It gets nothing by it, and we keep nothing.
#include "tests/ike/scripted_peer.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::lab;

namespace {

struct Answering : ScriptedPeer {
  Answering() {
    establish();
    id = lab.b.outbound.at(1);
  }
  // What B asks by this; its one request.
  Message asked(Actions actions) {
    lab.perform(1, std::move(actions));
    REQUIRE(lab.wire.size() == 1);
    const Message out = opened(lab.wire.front().bytes);
    lab.wire.clear();
    return out;
  }
  Message answer_to(const Message& request) {
    next_id = request.header.message_id;
    return {header(request.header.exchange, true), {}};
  }
  // All that makes a child, by B's own offer.
  Message whole_child(const Message& request) {
    Message out = answer_to(request);
    const auto* const ke = request.find<KePayload>(PayloadType::ke);
    const auto chosen =
        choose_esp(*request.find<SaPayload>(PayloadType::sa), lab.b.connections.front()->children.front().proposals,
                   lab.b.connections.front()->children.front().pfs, ke == nullptr ? crypto::DhGroup::none : ke->group,
                   0xc0c0c0c0, false);
    REQUIRE(chosen);
    out.add(PayloadType::sa, chosen->answer);
    out.add(PayloadType::nonce, NoncePayload{Octets(32, std::byte{9})});
    out.add(PayloadType::ts_initiator, *request.find<TsPayload>(PayloadType::ts_initiator));
    out.add(PayloadType::ts_responder, *request.find<TsPayload>(PayloadType::ts_responder));
    return out;
  }
  ChildId id{};
};

constexpr NotifyType errors[] = {NotifyType::no_additional_sas,    NotifyType::no_proposal_chosen,
                                 NotifyType::ts_unacceptable,      NotifyType::invalid_syntax,
                                 NotifyType::temporary_failure,    NotifyType::child_sa_not_found,
                                 NotifyType::failed_cp_required,   NotifyType::internal_address_failure,
                                 NotifyType::single_pair_required, NotifyType{9000}};

}  // namespace

TEST_CASE("§2.21.3: an answer that makes a child and refuses it makes none") {
  for (const bool rekeys : {true, false})
    for (const NotifyType error : errors) {
      CAPTURE(rekeys);
      CAPTURE(text(error));
      Answering peer;
      End& b = peer.lab.b;
      if (!rekeys) peer.lab.flow("two", 2, "10.11.0.0/16", "10.12.0.0/16");
      const std::size_t spis = b.spis.size();
      const Message request = peer.asked(rekeys ? b.established().rekey_child(peer.id, peer.lab.now)
                                                : b.established().want_child("two", peer.lab.now));
      Message answer = peer.whole_child(request);
      answer.add_notify(error);
      const auto more = peer.says(peer.sealed(answer));
      CHECK(b.children.size() == 1);
      CHECK(b.outbound.size() <= 1);
      CHECK(b.count(SessionPhase::established) == 1);
      // Where the peer says that it knows the old child no more, that one goes, and another one is asked for.
      if (!rekeys || error != NotifyType::child_sa_not_found) {
        CHECK(b.live().size() == 1);
        CHECK(more.empty());
        CHECK(b.spis.size() == spis);
      }
    }
}

TEST_CASE("§3.1: a rekeyed IKE SA whose SPI would be zero is none, whoever begins it") {
  Answering peer;
  End& b = peer.lab.b;
  SUBCASE("in an answer") {
    const Message request = peer.asked(b.established().rekey(peer.lab.now));
    const auto group = request.find<KePayload>(PayloadType::ke)->group;
    const auto dh = *crypto::DhExchange::create(group);
    const auto chosen =
        choose_ike(*request.find<SaPayload>(PayloadType::sa), std::vector{ike_proposal()}, group, Octets(8));
    REQUIRE(chosen);
    Message answer = peer.answer_to(request);
    answer.add(PayloadType::sa, chosen->answer);
    answer.add(PayloadType::nonce, NoncePayload{Octets(32, std::byte{9})});
    answer.add(PayloadType::ke, KePayload{group, {dh.public_value().begin(), dh.public_value().end()}});
    (void)peer.says(peer.sealed(answer));
    REQUIRE(b.failures.size() == 1);
    CHECK(b.failures[0].by_peer);
  }
  SUBCASE("in a request") {
    const auto dh = *crypto::DhExchange::create(crypto::DhGroup::curve25519);
    Message request{peer.header(ExchangeType::create_child_sa), {}};
    request.add(PayloadType::sa, offer_ike(std::vector{ike_proposal()}, Octets(8)));
    request.add(PayloadType::nonce, NoncePayload{Octets(32, std::byte{9})});
    request.add(PayloadType::ke, KePayload{dh.group(), {dh.public_value().begin(), dh.public_value().end()}});
    const auto answers = peer.says(peer.sealed(request));
    REQUIRE(answers.size() == 1);
    CHECK(peer.opened(answers[0]).error() != nullptr);
  }
  CHECK(b.sessions.size() == 1);
  CHECK(b.count(SessionPhase::established) == 1);
  CHECK(b.live().size() == 1);
}

TEST_CASE("§2.25: TEMPORARY_FAILURE is waited for, and after minutes of nothing else the IKE SA is closed") {
  Answering peer;
  End& b = peer.lab.b;
  peer.lab.flow("two", 2, "10.11.0.0/16", "10.12.0.0/16");
  Message request = peer.asked(b.established().want_child("two", peer.lab.now));
  const Time begun = peer.lab.now;
  std::size_t asked = 0;
  while (request.header.exchange == ExchangeType::create_child_sa && peer.lab.now < begun + std::chrono::minutes(10)) {
    ++asked;
    Message answer = peer.answer_to(request);
    answer.add_notify(NotifyType::temporary_failure);
    auto next = peer.says(peer.sealed(answer));
    while (next.empty()) {
      const auto at = b.sessions.back()->next_timer();
      REQUIRE(at);
      peer.lab.now = std::max(peer.lab.now, *at);
      peer.lab.perform(1, b.sessions.back()->on_timer(peer.lab.now));
      for (Datagram& one : std::exchange(peer.lab.wire, {})) next.push_back(std::move(one.bytes));
    }
    request = peer.opened(next.front());
  }
  CHECK(request.find<DeletePayload>(PayloadType::delete_) != nullptr);
  CHECK(peer.lab.now - begun >= std::chrono::minutes(4));
  CHECK(peer.lab.now - begun <= std::chrono::minutes(6));
  CHECK(asked > 100);
  CHECK(asked < 700);
}

TEST_CASE("§1.3, §2.18: after an edit a rekey offers what is wanted now, with a KE of a group of it") {
  Answering peer;
  End& b = peer.lab.b;
  const auto group_of = [](const Message& m) {
    const auto* const ke = m.find<KePayload>(PayloadType::ke);
    return ke == nullptr ? crypto::DhGroup::none : ke->group;
  };
  SUBCASE("the IKE SA") {
    Lab::edit(b, [](Connection& c) { c.proposals = {ike_proposal({crypto::DhGroup::ecp256})}; });
    const Message request = peer.asked(b.established().rekey(peer.lab.now));
    CHECK(group_of(request) == crypto::DhGroup::ecp256);
  }
  SUBCASE("a child that had another group") {
    Lab::edit(b, [](Connection& c) { c.children.front().pfs = {crypto::DhGroup::curve25519}; });
    const Message first = peer.asked(b.established().rekey_child(peer.id, peer.lab.now));
    CHECK(group_of(first) == crypto::DhGroup::curve25519);
    const auto dh = *crypto::DhExchange::create(crypto::DhGroup::curve25519);
    Message answer = peer.whole_child(first);
    answer.add(PayloadType::ke, KePayload{dh.group(), {dh.public_value().begin(), dh.public_value().end()}});
    const auto deletion = peer.says(peer.sealed(answer));  // of the old child
    REQUIRE(deletion.size() == 1);
    (void)peer.says(peer.sealed(peer.answer_to(peer.opened(deletion[0]))));
    const ChildId fresh = b.outbound.at(1);
    REQUIRE(fresh != peer.id);
    SUBCASE("and is to have this one") {
      Lab::edit(b, [](Connection& c) { c.children.front().pfs = {crypto::DhGroup::ecp256}; });
      CHECK(group_of(peer.asked(b.established().rekey_child(fresh, peer.lab.now))) == crypto::DhGroup::ecp256);
    }
    SUBCASE("and is to have none") {
      Lab::edit(b, [](Connection& c) { c.children.front().pfs.clear(); });
      CHECK(group_of(peer.asked(b.established().rekey_child(fresh, peer.lab.now))) == crypto::DhGroup::none);
    }
  }
}
