#include <algorithm>

#include <doctest/doctest.h>

#include "ike/keys.hpp"
#include "ike/message.hpp"
#include "ike/payload_rules.hpp"
#include "strongswan.hpp"
#include "wire.hpp"

// Codec and keys against a foreign implementation: see strongswan.hpp.
namespace postern::ike {
namespace {

using strongswan::Run;
using test::octets;
using test::same;
using test::secret;

const Run* const runs[] = {&strongswan::cbc(), &strongswan::gcm()};

Message init(const Run& run, strongswan::MessageIndex index) {
  auto message = parse_message(octets(run.messages[index]));
  REQUIRE(message);
  return std::move(*message);
}

Octets nonce(const Message& message) {
  const auto* found = message.find<NoncePayload>(PayloadType::nonce);
  REQUIRE(found != nullptr);
  return found->data;
}

void check_keys(const IkeKeys& keys, const strongswan::IkeSa& logged) {
  CHECK(keys.d == secret(logged.d));
  CHECK(keys.ai == secret(logged.ai));
  CHECK(keys.ar == secret(logged.ar));
  CHECK(keys.ei == secret(logged.ei));
  CHECK(keys.er == secret(logged.er));
  CHECK(keys.pi == secret(logged.pi));
  CHECK(keys.pr == secret(logged.pr));
}

IkeKeys first_keys(const Run& run) {
  const Message request = init(run, strongswan::init_request), response = init(run, strongswan::init_response);
  const Octets nonce_i = nonce(request), nonce_r = nonce(response);
  const Secret shared = secret(run.first.shared);
  auto keys = derive_ike_keys(
      run.suite, {nonce_i, nonce_r, response.header.initiator_spi, response.header.responder_spi, &shared});
  REQUIRE(keys);
  return std::move(*keys);
}

Message opened(const Run& run, strongswan::MessageIndex index, const IkeKeys& keys) {
  const Octets datagram = octets(run.messages[index]);
  const bool from_initiator = parse_header(datagram)->from_initiator;
  auto cipher = crypto::IkeCipher::create(run.suite.cipher, from_initiator ? keys.ei.bytes() : keys.er.bytes(),
                                          from_initiator ? keys.ai.bytes() : keys.ar.bytes());
  REQUIRE(cipher);
  auto message = open_message(datagram, *cipher);
  REQUIRE(message);
  return std::move(*message);
}

void check_child(const ChildKeys& keys, const strongswan::ChildSa& logged) {
  CHECK(keys.initiator_cipher == secret(logged.initiator_cipher));
  CHECK(keys.initiator_integrity == secret(logged.initiator_integrity));
  CHECK(keys.responder_cipher == secret(logged.responder_cipher));
  CHECK(keys.responder_integrity == secret(logged.responder_integrity));
}

std::uint64_t spi_of(const Message& message) {
  const Octets& spi = message.find<SaPayload>(PayloadType::sa)->proposals.at(0).spi;
  REQUIRE(spi.size() == 8);
  return ByteReader(spi).u64();
}

// The new IKE SA's keys; `old` is the PRF and SK_d of the one that it replaces.
Result<IkeKeys> second_keys(const Run& run, const IkeKeys& first, crypto::Prf old_prf) {
  const Message request = opened(run, strongswan::rekey_ike_request, first);
  const Message response = opened(run, strongswan::rekey_ike_response, first);
  const Octets nonce_i = nonce(request), nonce_r = nonce(response);
  const Secret shared = secret(run.second.shared);
  return rekey_ike_keys(run.suite, {nonce_i, nonce_r, spi_of(request), spi_of(response), &shared}, old_prf, first.d);
}

}  // namespace

TEST_CASE("keys: of the first IKE SA (RFC 7296 2.14)") {
  for (const Run* run : runs) {
    CAPTURE(run->name);
    check_keys(first_keys(*run), run->first);
    // Each input counts.
    const Octets a(32, std::byte{1}), b(32, std::byte{2});
    const Secret shared = secret(run->first.shared), other = secret("0102");
    const auto base = derive_ike_keys(run->suite, {a, b, 1, 2, &shared});
    REQUIRE(base);
    for (const KeyInputs& changed :
         {KeyInputs{b, b, 1, 2, &shared}, KeyInputs{a, a, 1, 2, &shared}, KeyInputs{a, b, 3, 2, &shared},
          KeyInputs{a, b, 1, 3, &shared}, KeyInputs{a, b, 1, 2, &other}})
      CHECK(!(derive_ike_keys(run->suite, changed)->d == base->d));
  }
}

// The vector of NIST's CAVS for SP 800-135 section 4.1.2 that tests/crypto/test_prf.cpp has whole: its 132 bytes are
// what AES-CBC-128 with HMAC-SHA-1-96 takes. For AUTH with a shared key nobody publishes one: strongSwan's stands
// below, and its PRF is held to RFC 2202 and RFC 4231.
TEST_CASE("keys: the public vector, cut into keys as RFC 7296 2.14 and 2.17 say") {
  const IkeSuite suite{{crypto::Cipher::aes_cbc, 128, crypto::Integrity::hmac_sha1_96},
                       crypto::Prf::hmac_sha1,
                       crypto::DhGroup::modp2048};
  const Octets nonce_i = octets("3651fef5c9c35e93"), nonce_r = octets("c09a8b90a3f04d59");
  const Secret shared = secret(
      "d084a30166a50fb7325c3960874a839449ef9741c2f4f947d0201dd8c1269273d79509f37e3ca3eb4fa2fe2a28254e289cd3f34dad4eb4df"
      "1a07685a4b8a94fa61e2491f7598b3ce65547ff133b3f63d1ac4175eaa695033f3cedb026a6873a36455172a8540b8a5d23a0143bed0390e"
      "e49b168269d75fffee9fb62be965993c");
  const auto keys = derive_ike_keys(suite, {nonce_i, nonce_r, 0x8e5c3ae507221684, 0xb1f201bb155c3acd, &shared});
  REQUIRE(keys);
  CHECK(keys->d == secret("6f1b12cad3cbe097b35430356d869d54cddb0198"));
  CHECK(keys->ai == secret("ec859174d53ceb92dddedbe2436db69f60977c58"));
  CHECK(keys->ar == secret("fa63bbb667f8d36920b109baae8f6c61a9ac49fe"));
  CHECK(keys->ei == secret("da01843225d080ec5539d5881a25521f"));
  CHECK(keys->er == secret("fb2a0a91874a9c0a27fcc2d717eb8963"));
  CHECK(keys->pi == secret("a9e3a89c7ab264757284c28cf8c3ca40576f4220"));
  CHECK(keys->pr == secret("b052b1fb8e9ad60ba3c80557323331a8cbb89f20"));

  const auto child = derive_child_keys(suite.cipher, suite.prf, keys->d, nonce_i, nonce_r, nullptr);
  REQUIRE(child);
  CHECK(child->initiator_cipher == secret("4727dc0ef94eb326ce131cf282fb652f"));
  CHECK(child->initiator_integrity == secret("aa638ad0ddae3786a11bcc0309876009f8c485de"));
  CHECK(child->responder_cipher == secret("011ad962c5b1ca8a41ff814544574907"));
  CHECK(child->responder_integrity == secret("9c5686e26ffebbc342f06981f3da745e11ca0976"));
  const Secret fresh = secret(
      "52f00ab174c25d5b7139ae5ff4e8e9eddee5992d2e36adf8a559ffd90dab1442e4fbe429d320c0f33552a17d1557fa41ea70e8fb916c4fa2"
      "7ed52b5f8ebd8461afa78f1159159a64055ac5f6319e29c28eae58cbc6847770f32c3fed1d04750484f854790f95e9ec01bc5bc461f24966"
      "462e359511329305038e94deb6dd42c2");
  const auto with_pfs = derive_child_keys(suite.cipher, suite.prf, keys->d, nonce_i, nonce_r, &fresh);
  REQUIRE(with_pfs);
  CHECK(with_pfs->initiator_cipher == secret("b109c21ad4c0797768c1cec9e6355468"));
  CHECK(with_pfs->initiator_integrity == secret("1e48f224bca7f23c20c4ea7041983451e9aa1d54"));
}

TEST_CASE("keys: AUTH with a shared key (RFC 7296 2.15)") {
  for (const Run* run : runs) {
    CAPTURE(run->name);
    const IkeKeys keys = first_keys(*run);
    const Message request = opened(*run, strongswan::auth_request, keys),
                  response = opened(*run, strongswan::auth_response, keys);
    const Octets id_i = id_octets(*request.find<IdPayload>(PayloadType::id_initiator)),
                 id_r = id_octets(*response.find<IdPayload>(PayloadType::id_responder));
    CHECK(id_i == octets(run->id_i));
    CHECK(id_r == octets(run->id_r));
    const Octets message_i = octets(run->messages[strongswan::init_request]),
                 message_r = octets(run->messages[strongswan::init_response]);
    const Octets nonce_i = nonce(init(*run, strongswan::init_request)),
                 nonce_r = nonce(init(*run, strongswan::init_response));
    const Secret psk = secret(run->shared_key);

    const auto auth_i = psk_auth(run->suite.prf, psk, message_i, nonce_r, keys.pi, id_i);
    const auto auth_r = psk_auth(run->suite.prf, psk, message_r, nonce_i, keys.pr, id_r);
    REQUIRE(auth_i);
    REQUIRE(auth_r);
    CHECK(same(auth_i->bytes(), octets(run->auth_i)));
    CHECK(same(auth_r->bytes(), octets(run->auth_r)));
    const auto* sent = request.find<AuthPayload>(PayloadType::auth);
    CHECK(sent->method == AuthMethod::psk);
    CHECK(same(auth_i->bytes(), sent->data));
    CHECK(same(auth_r->bytes(), response.find<AuthPayload>(PayloadType::auth)->data));
    CHECK(!same(psk_auth(run->suite.prf, secret("00"), message_i, nonce_r, keys.pi, id_i)->bytes(), sent->data));
    CHECK(!same(psk_auth(run->suite.prf, psk, message_i, nonce_r, keys.pi, id_r)->bytes(), sent->data));
  }
}

TEST_CASE("keys: of children, with and without PFS (RFC 7296 2.17)") {
  for (const Run* run : runs) {
    CAPTURE(run->name);
    const IkeKeys keys = first_keys(*run);
    const Octets nonce_i = nonce(init(*run, strongswan::init_request)),
                 nonce_r = nonce(init(*run, strongswan::init_response));
    const auto child = derive_child_keys(run->esp, run->suite.prf, keys.d, nonce_i, nonce_r, nullptr);
    REQUIRE(child);
    check_child(*child, run->child);

    const Message request = opened(*run, strongswan::rekey_child_request, keys),
                  response = opened(*run, strongswan::rekey_child_response, keys);
    CHECK(request.notify(NotifyType::rekey_sa)->spi.size() == 4);
    const Secret shared = secret(run->child_with_pfs.shared);
    const auto second = derive_child_keys(run->esp, run->suite.prf, keys.d, nonce(request), nonce(response), &shared);
    REQUIRE(second);
    check_child(*second, run->child_with_pfs);
    const auto without = derive_child_keys(run->esp, run->suite.prf, keys.d, nonce(request), nonce(response), nullptr);
    CHECK(!(without->initiator_cipher == second->initiator_cipher));
  }
}

TEST_CASE("keys: of a rekeyed IKE SA (RFC 7296 2.18)") {
  for (const Run* run : runs) {
    CAPTURE(run->name);
    const IkeKeys first = first_keys(*run);
    const auto second = second_keys(*run, first, run->suite.prf);
    REQUIRE(second);
    check_keys(*second, run->second);
    const Message last = opened(*run, strongswan::delete_ike_request, *second);
    CHECK(last.find<DeletePayload>(PayloadType::delete_)->protocol == ProtocolId::ike);
    // It is the old SA's PRF that makes SKEYSEED.
    const auto wrong = second_keys(*run, first, crypto::Prf::hmac_sha1);
    REQUIRE(wrong);
    CHECK(!(wrong->d == second->d));
  }
}

TEST_CASE("keys: every message of strongSwan's opens, obeys the rules and is written as it was") {
  for (const Run* run : runs) {
    const IkeKeys first = first_keys(*run);
    const auto second = second_keys(*run, first, run->suite.prf);
    REQUIRE(second);
    for (std::size_t i = 0; i < strongswan::message_count; ++i) {
      CAPTURE(run->name);
      CAPTURE(i);
      const auto index = static_cast<strongswan::MessageIndex>(i);
      const IkeKeys& keys = index >= strongswan::delete_ike_request ? *second : first;
      const bool protected_message = index >= strongswan::auth_request;
      const Message message = protected_message ? opened(*run, index, keys) : init(*run, index);
      CHECK(message.header.response == (i % 2 == 1));
      CHECK(broken_rule(message) == std::nullopt);
      if (!protected_message) continue;
      const auto& key = message.header.from_initiator ? keys.ei : keys.er;
      const auto& integrity = message.header.from_initiator ? keys.ai : keys.ar;
      auto cipher = crypto::IkeCipher::create(run->suite.cipher, key.bytes(), integrity.bytes());
      REQUIRE(cipher);
      const Octets datagram = octets(run->messages[index]);
      const auto plain = cipher->open(Bytes(datagram).first(32), Bytes(datagram).subspan(32));
      REQUIRE(plain);
      CHECK(same(Bytes(encode_message(message)).subspan(header_bytes), *plain));
      const auto again = seal_message(message, *cipher);
      REQUIRE(again);
      CHECK(again->size() == datagram.size());
      CHECK(same(Bytes(*again).first(32), Bytes(datagram).first(32)));
      CHECK(open_message(*again, *cipher));
    }
  }
}

TEST_CASE("keys: NAT detection (RFC 7296 2.23)") {
  for (const Run* run : runs) {
    const Octets input = octets(run->nat_input);
    ByteReader in(input);
    const std::uint64_t spi_i = in.u64(), spi_r = in.u64();
    const auto address = IpAddress::v4(in.u32());
    const std::uint16_t port = in.u16();
    REQUIRE(in.ok());
    CHECK(nat_detection_hash(spi_i, spi_r, address, port) == octets(run->nat_hash));
    CHECK(nat_detection_hash(spi_i, spi_r, address, static_cast<std::uint16_t>(port + 1)) != octets(run->nat_hash));
    CHECK(nat_detection_hash(spi_i, spi_r + 1, address, port) != octets(run->nat_hash));
  }
  // IPv6: SHA-1 of 34 bytes, by Python's hashlib.
  CHECK(nat_detection_hash(1, 2, *IpAddress::parse("2001:db8::1"), 500) ==
        octets("23695cc326b88fd9fd34e31bb3f0e25a293440a9"));
}

}  // namespace postern::ike
