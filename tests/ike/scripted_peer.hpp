// A peer that knows the key, and writes whatever a test wants. The session that it talks to, lab.b's, is a real one.
#pragma once

#include "ike/keys.hpp"
#include "tests/ike/session_lab.hpp"

namespace postern::ike::lab {

// One payload as it stands on the wire, generic header in front.
inline Octets wire_payload(PayloadType next, const Octets& body, std::uint8_t flags = 0, int length_error = 0) {
  Octets out(4);
  ByteWriter writer(out);
  writer.u8(static_cast<std::uint8_t>(next));
  writer.u8(flags);
  writer.u16(static_cast<std::uint16_t>(4 + static_cast<int>(body.size()) + length_error));
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

class ScriptedPeer {
 public:
  Lab lab;
  std::uint64_t spi_i = 0x1122334455667788, spi_r = 0;
  std::uint32_t next_id = 0;
  Octets init, init_response, nonce_r;
  Message init_answer;
  bool fragments = false, mobike = false, use_ppk = false;  // what it offers
  std::uint32_t window = 1;

  ScriptedPeer() : dh_(*crypto::DhExchange::create(crypto::DhGroup::curve25519)) {}

  Header header(ExchangeType exchange, bool response = false) const {
    return {spi_i, spi_r, exchange, true, response, next_id};
  }
  // What B sends back; nothing: it says nothing.
  std::vector<Octets> says(const Octets& bytes) {
    const Endpoint from{lab.a.own, 500}, to{lab.b.own, 500};
    if (parse_header(bytes))
      lab.deliver({0, from, to, bytes, lab.sent++});
    else  // no manager would pass it on
      lab.perform(1, lab.b.sessions.back()->on_datagram(bytes, to, from, lab.now));
    std::vector<Octets> out;
    for (Datagram& one : lab.wire) out.push_back(std::move(one.bytes));
    lab.wire.clear();
    return out;
  }
  Octets sealed(const Message& message) { return *seal_message(message, *out_); }
  std::vector<Octets> sealed_within(const Message& message, std::size_t most) {
    return *seal_message_within(message, *out_, most);
  }
  // An Encrypted payload around any bytes.
  Octets sealed_raw(const Header& of, PayloadType first, const Octets& plain) {
    Octets datagram = encode_message({of, {}});
    const std::size_t inside = out_->sealed_bytes(plain.size());
    datagram[16] = static_cast<std::byte>(PayloadType::encrypted);
    store_be32(datagram.data() + 24, static_cast<std::uint32_t>(header_bytes + 4 + inside));
    const Octets generic = wire_payload(first, Octets(inside));
    datagram.insert(datagram.end(), generic.begin(), generic.begin() + 4);
    const auto body = *out_->seal(datagram, plain);
    datagram.insert(datagram.end(), body.begin(), body.end());
    return datagram;
  }
  Message opened(const Octets& bytes) {
    const auto message = open_message(bytes, *in_);
    REQUIRE(message);
    return *message;
  }

  void exchange_init() {
    const SaPayload offer = offer_ike(std::vector{ike_proposal()}, {});
    Message request{header(ExchangeType::ike_sa_init), {}};
    request.header.responder_spi = 0;
    request.add(PayloadType::sa, offer);
    request.add(PayloadType::ke, KePayload{dh_.group(), Octets(dh_.public_value().begin(), dh_.public_value().end())});
    request.add(PayloadType::nonce, NoncePayload{nonce_i_});
    if (fragments) request.add_notify(NotifyType::fragmentation_supported);
    if (use_ppk) request.add_notify(NotifyType::use_ppk);
    init = encode_message(request);
    const auto answers = says(init);
    REQUIRE(answers.size() == 1);
    init_response = answers[0];
    init_answer = *parse_message(init_response);
    const Message& answer = init_answer;
    spi_r = answer.header.responder_spi;
    nonce_r = answer.find<NoncePayload>(PayloadType::nonce)->data;
    const auto chosen = *accept_ike(*answer.find<SaPayload>(PayloadType::sa), offer);
    const auto shared = dh_.shared(answer.find<KePayload>(PayloadType::ke)->data);
    REQUIRE(shared);
    suite_ = chosen.suite;
    keys_ = *derive_ike_keys(suite_, {nonce_i_, nonce_r, spi_i, spi_r, &*shared});
    out_.emplace(*crypto::IkeCipher::create(suite_.cipher, keys_.ei.bytes(), keys_.ai.bytes()));
    in_.emplace(*crypto::IkeCipher::create(suite_.cipher, keys_.er.bytes(), keys_.ar.bytes()));
    next_id = 1;
  }
  const IkeSuite& suite() const { return suite_; }
  const IkeKeys& keys() const { return keys_; }
  const Octets& nonce_i() const { return nonce_i_; }
  // A request that is right, for rows to spoil.
  Message auth_request() {
    const IdPayload id = Identity::of(lab.a.own).payload();
    const auto auth =
        psk_auth(suite_.prf, secret("correct horse battery staple"), init, nonce_r, keys_.pi, id_octets(id));
    Message request{header(ExchangeType::ike_auth), {}};
    request.add(PayloadType::id_initiator, id);
    request.add(PayloadType::auth, AuthPayload{AuthMethod::psk, Octets(auth->bytes().begin(), auth->bytes().end())});
    if (mobike) request.add_notify(NotifyType::mobike_supported);
    Octets width(4);
    store_be32(width.data(), window);
    if (window > 1) request.add_notify(NotifyType::set_window_size, width);
    add_child(request, 0xa0a0a0a0);
    return request;
  }
  void add_child(Message& request, std::uint32_t spi) {
    request.add(PayloadType::sa, offer_esp(lab.b.connections.front()->children.front().proposals, spi, {}));
    request.add(PayloadType::ts_initiator, TsPayload{{selector_of(*Prefix::parse("10.1.0.0/16"))}});
    request.add(PayloadType::ts_responder, TsPayload{{selector_of(*Prefix::parse("10.2.0.0/16"))}});
  }
  Message child_request() {
    Message request{header(ExchangeType::create_child_sa), {}};
    add_child(request, 0xb0b0b0b0);
    request.add(PayloadType::nonce, NoncePayload{nonce_i_});
    return request;
  }
  void establish() {
    exchange_init();
    REQUIRE(says(sealed(auth_request())).size() == 1);
    REQUIRE(lab.b.count(SessionPhase::established) == 1);
    REQUIRE(lab.b.live().size() == 1);
    next_id = 2;
  }

 private:
  crypto::DhExchange dh_;
  Octets nonce_i_ = Octets(32, std::byte{0x17});
  IkeSuite suite_;
  IkeKeys keys_;
  std::optional<crypto::IkeCipher> in_, out_;
};

}  // namespace postern::ike::lab
