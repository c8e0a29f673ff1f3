// A responder that knows how IKE SAs are made, and answers whatever a test wants. The session that begins with it,
// lab.a's, is a real one; lab.b is not there.
#pragma once

#include "ike/keys.hpp"
#include "tests/ike/session_lab.hpp"

namespace postern::ike::lab {

class ScriptedGateway {
 public:
  std::uint64_t spi_i = 0, spi_r = 0x8877665544332211;
  Octets init, init_response, nonce_i;
  std::vector<Redirected> redirected;  // where A has been sent

  explicit ScriptedGateway(Lab& of) : lab_(of) {}

  // Answers A's IKE_SA_INIT request, the one message that is under way. `more`: behind what has to be there.
  void answer_init(const std::vector<Payload>& more = {}) {
    init = taken();
    const auto request = parse_message(init);
    REQUIRE(request);
    const KePayload& ke = *request->find<KePayload>(PayloadType::ke);
    const auto chosen =
        choose_ike(*request->find<SaPayload>(PayloadType::sa), std::vector{ike_proposal()}, ke.group, {});
    REQUIRE(chosen);
    const auto dh = crypto::DhExchange::create(ke.group);
    const auto shared = dh->shared(ke.data);
    REQUIRE(shared);
    spi_i = request->header.initiator_spi;
    nonce_i = request->find<NoncePayload>(PayloadType::nonce)->data;
    suite_ = chosen->suite;
    keys_ = *derive_ike_keys(suite_, {nonce_i, nonce_r_, spi_i, spi_r, &*shared});
    out_.emplace(*crypto::IkeCipher::create(suite_.cipher, keys_.er.bytes(), keys_.ar.bytes()));
    in_.emplace(*crypto::IkeCipher::create(suite_.cipher, keys_.ei.bytes(), keys_.ai.bytes()));
    Message answer = answer_to(*request);
    answer.add(PayloadType::sa, chosen->answer);
    answer.add(PayloadType::ke, KePayload{ke.group, {dh->public_value().begin(), dh->public_value().end()}});
    answer.add(PayloadType::nonce, NoncePayload{nonce_r_});
    for (const Payload& one : more) answer.payloads.push_back(one);
    init_response = encode_message(answer);
    hears(init_response);
  }
  // A's message that is under way.
  Message heard() { return opened(taken()); }
  [[nodiscard]] Message opened(const Octets& bytes) const {
    const auto message = open_message(bytes, *in_);
    REQUIRE(message);
    return *message;
  }
  [[nodiscard]] Octets sealed(const Message& message) { return *seal_message(message, *out_); }
  [[nodiscard]] Message answer_to(const Message& request) const {
    return {{spi_i, spi_r, request.header.exchange, false, true, request.header.message_id}, {}};
  }
  void says(const Message& message) { hears(sealed(message)); }
  // What a signature of ours is over (RFC 7296 §2.15).
  [[nodiscard]] Octets to_be_signed(const IdPayload& own) const {
    return *signed_octets(suite_.prf, init_response, nonce_i, keys_.pr, id_octets(own));
  }
  [[nodiscard]] AuthPayload proof(const IdPayload& own, const Secret& key) const {
    const auto auth = psk_auth(suite_.prf, key, init_response, nonce_i, keys_.pr, id_octets(own));
    return {AuthMethod::psk, Octets(auth->bytes().begin(), auth->bytes().end())};
  }
  // To IKE_AUTH by the shared key of the lab, with the child that is asked for, whole.
  Message auth_answer(const Message& request) const {
    const IdPayload id = Identity::of(lab_.b.own).payload();
    const auto chosen =
        choose_esp(*request.find<SaPayload>(PayloadType::sa), lab_.b.connections.front()->children.front().proposals,
                   {}, crypto::DhGroup::none, 0xa0a0a0a0, true);
    REQUIRE(chosen);
    Message out = answer_to(request);
    out.add(PayloadType::id_responder, id);
    out.add(PayloadType::auth, proof(id, secret("correct horse battery staple")));
    out.add(PayloadType::sa, chosen->answer);
    out.add(PayloadType::ts_initiator, *request.find<TsPayload>(PayloadType::ts_initiator));
    out.add(PayloadType::ts_responder, *request.find<TsPayload>(PayloadType::ts_responder));
    return out;
  }
  void take(Actions actions) {
    for (const Action& action : actions)
      if (const auto* const one = std::get_if<Redirected>(&action)) redirected.push_back(*one);
    lab_.perform(0, std::move(actions));
  }

 private:
  Octets taken() {
    REQUIRE(lab_.wire.size() == 1);
    Octets out = std::move(lab_.wire.front().bytes);
    lab_.wire.clear();
    return out;
  }
  void hears(const Octets& bytes) {
    take(lab_.a.sessions.back()->on_datagram(bytes, {lab_.a.own, 500}, {lab_.b.own, 500}, lab_.now));
  }

  Lab& lab_;
  Octets nonce_r_ = Octets(32, std::byte{0x18});
  IkeSuite suite_;
  IkeKeys keys_;
  std::optional<crypto::IkeCipher> in_, out_;
};

}  // namespace postern::ike::lab
