// AH by IKEv2 (RFC 7296 §3.3): proposals of protocol 2, keys, REKEY_SA and DELETE that name the protocol; not behind
// NAT.
#include "ike/message.hpp"
#include "scripted_peer.hpp"
#include "tests/ike/troubles.hpp"

namespace postern::ike {
namespace {

using lab::Lab;

EspProposal ah_of(crypto::Integrity integrity, bool extended = false) {
  return {{crypto::Cipher::none, 0, integrity}, extended, ProtocolId::ah};
}
const EspProposal esp_gcm{{crypto::Cipher::aes_gcm_16, 128, crypto::Integrity::none}, false, ProtocolId::esp};
const EspProposal ah_sha256 = ah_of(crypto::Integrity::hmac_sha256_128);

struct AhLab : Lab {
  AhLab(std::vector<EspProposal> at_a, std::vector<EspProposal> at_b) {
    edit(a, [&](Connection& c) { c.children[0].proposals = at_a; });
    edit(b, [&](Connection& c) { c.children[0].proposals = at_b; });
  }
  void run_from(std::size_t index) {
    start(index);
    settle();
  }
};

TEST_CASE("AH: whoever begins, with keys of the authenticator alone, and a rekey keeps it") {
  struct {
    crypto::Integrity integrity;
    std::size_t key;
  } const rows[] = {{crypto::Integrity::hmac_md5_96, 16},     {crypto::Integrity::hmac_sha1_96, 20},
                    {crypto::Integrity::hmac_sha256_128, 32}, {crypto::Integrity::hmac_sha384_192, 48},
                    {crypto::Integrity::hmac_sha512_256, 64}, {crypto::Integrity::aes_xcbc_96, 16},
                    {crypto::Integrity::aes_cmac_96, 16}};
  for (const auto& row : rows)
    for (const std::size_t index : {std::size_t{0}, std::size_t{1}}) {
      AhLab lab({ah_of(row.integrity)}, {ah_of(row.integrity)});
      lab.run_from(index);
      lab.check_whole();
      const InstallChild* const made = lab.a.bound(1);
      CHECK(made->suite.protocol == ProtocolId::ah);
      CHECK(made->suite.transform == crypto::Transform{crypto::Cipher::none, 0, row.integrity});
      CHECK(made->keys.outbound_cipher.empty());
      CHECK(made->keys.outbound_integrity.size() == row.key);
      CHECK(made->keys.outbound_integrity != made->keys.inbound_integrity);
      lab.run(std::chrono::seconds(3600));
      lab.check_whole();
      CHECK(lab.a.bound(1)->suite.protocol == ProtocolId::ah);
      CHECK(lab.a.count(EventKind::child_rekeyed) > 0);
    }
}

TEST_CASE("AH: extended sequence numbers, and PFS with the rekey") {
  AhLab lab({ah_of(crypto::Integrity::hmac_sha256_128, true)}, {ah_of(crypto::Integrity::hmac_sha256_128, true)});
  lab.edit_both([](Connection& c) { c.children[0].pfs = {crypto::DhGroup::ecp256}; });
  lab.run_from(0);
  lab.check_whole();
  CHECK(lab.b.bound(1)->suite.extended_sequence);
  lab.run(std::chrono::seconds(3600));
  lab.check_whole();
  CHECK(lab.b.bound(1)->suite.group == crypto::DhGroup::ecp256);
}

TEST_CASE("AH: the initiator's order decides between AH and ESP; one for the other is no proposal") {
  AhLab both({ah_sha256, esp_gcm}, {esp_gcm, ah_sha256});
  both.run_from(0);
  both.check_whole();
  CHECK(both.b.bound(1)->suite.protocol == ProtocolId::ah);
  for (const bool ah_at_a : {true, false}) {
    AhLab lab({ah_at_a ? ah_sha256 : esp_gcm}, {ah_at_a ? esp_gcm : ah_sha256});
    lab.run_from(0);
    CHECK(lab.a.live().empty());
    CHECK(lab.b.live().empty());
    REQUIRE_FALSE(lab.b.failures.empty());
    CHECK(lab.b.failures.front().differs.find("protocol") != std::string::npos);
  }
  AhLab other({ah_sha256}, {ah_of(crypto::Integrity::hmac_sha384_192)});
  other.run_from(0);
  CHECK(other.b.live().empty());
  REQUIRE_FALSE(other.b.failures.empty());
  CHECK(other.b.failures.front().differs.find("integrity") != std::string::npos);
}

TEST_CASE("AH: behind NAT the reason is told, and ESP beside it is taken") {
  for (const std::size_t index : {std::size_t{0}, std::size_t{1}}) {
    AhLab lab({ah_sha256}, {ah_sha256});
    Lab::edit(lab.a, [](Connection& c) { c.force_encapsulation = true; });  // looks like NAT to both
    lab.run_from(index);
    CHECK(lab.a.live().empty());
    CHECK(lab.b.live().empty());
    const auto told = [](const lab::End& end) {
      return std::ranges::any_of(end.failures,
                                 [](const Failure& f) { return f.summary.find("NAT") != std::string::npos; }) ||
             std::ranges::any_of(end.events,
                                 [](const Event& e) { return e.text.find("NAT changes") != std::string::npos; });
    };
    CHECK((told(lab.a) || told(lab.b)));
    AhLab mixed({ah_sha256, esp_gcm}, {ah_sha256, esp_gcm});
    Lab::edit(mixed.a, [](Connection& c) { c.force_encapsulation = true; });
    mixed.run_from(index);
    mixed.check_whole();
    CHECK(mixed.a.bound(1)->suite.protocol == ProtocolId::esp);
    CHECK(mixed.a.bound(1)->udp_encapsulation);
  }
}

Transform transform(TransformType type, std::uint16_t id, std::optional<std::uint16_t> bits = {}) {
  return {type, id, bits, false};
}

TEST_CASE("AH: proposals that are none") {
  const Transform sha256 = transform(TransformType::integrity, 12), no_esn = transform(TransformType::esn, 0);
  struct {
    std::vector<Transform> transforms;
    bool good;
  } const rows[] = {{{sha256, no_esn}, true},
                    {{no_esn, sha256}, true},
                    {{sha256}, false},                                          // §3.3.3: ESN is mandatory
                    {{no_esn}, false},                                          // and integrity
                    {{transform(TransformType::integrity, 0), no_esn}, false},  // NONE
                    {{transform(TransformType::encryption, 12, 128), sha256, no_esn}, false},  // AH does not encrypt
                    {{transform(TransformType::encryption, 11), sha256, no_esn}, false},       // not even by NULL
                    {{transform(TransformType::integrity, 12, 256), no_esn}, false},           // no key length
                    {{transform(TransformType::prf, 5), sha256, no_esn}, false}};
  for (const auto& row : rows) {
    const SaPayload offer{
        {Proposal{1, ProtocolId::ah, {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}}, row.transforms}}};
    const std::vector<EspProposal> accepted{ah_sha256};
    CHECK(choose_esp(offer, accepted, {}, crypto::DhGroup::none, 0x1000, true).has_value() == row.good);
  }
  // An answer to our AH that is ESP's.
  const std::vector<EspProposal> ours{ah_sha256};
  SaPayload answer = offer_esp(ours, 0x2000, {});
  CHECK(accept_esp(answer, offer_esp(ours, 0x1000, {}), true).has_value());
  answer.proposals[0].protocol = ProtocolId::esp;
  CHECK_FALSE(accept_esp(answer, offer_esp(ours, 0x1000, {}), true).has_value());
}

TEST_CASE("AH: REKEY_SA and DELETE of another protocol are about another SA") {
  lab::ScriptedPeer peer;
  Lab::edit(peer.lab.b, [](Connection& c) { c.children[0].proposals = {ah_sha256}; });
  peer.establish();
  const auto spi = Octets(4, std::byte{0xa0});
  Message rekey = peer.child_request();
  rekey.add_notify(NotifyType::rekey_sa, {}, ProtocolId::esp, spi);
  auto answers = peer.says(peer.sealed(rekey));
  REQUIRE(answers.size() == 1);
  CHECK(peer.opened(answers[0]).notify(NotifyType::child_sa_not_found) != nullptr);
  peer.next_id = 3;
  const auto deletes = [&](ProtocolId protocol) {
    Message message{peer.header(ExchangeType::informational), {}};
    message.add(PayloadType::delete_, DeletePayload{protocol, {0xa0a0a0a0}});
    const auto said = peer.says(peer.sealed(message));
    REQUIRE(said.size() == 1);
    ++peer.next_id;
    const Message answer = peer.opened(said[0]);
    const auto* const ours = answer.find<DeletePayload>(PayloadType::delete_);
    return ours == nullptr ? std::optional<DeletePayload>() : *ours;
  };
  CHECK_FALSE(deletes(ProtocolId::esp));
  CHECK(peer.lab.b.live().size() == 1);
  const auto ours = deletes(ProtocolId::ah);
  REQUIRE(ours);
  CHECK(ours->protocol == ProtocolId::ah);
  CHECK(ours->spis.size() == 1);
  CHECK(peer.lab.b.live().empty());
}

TEST_CASE("AH: each message lost, doubled and late, of the first exchanges and of rekeys by either end") {
  const auto make = [] { return std::make_unique<AhLab>(std::vector{ah_sha256}, std::vector{ah_sha256}); };
  const auto check = [](AhLab& lab) {
    CHECK(lab.a.bound(1)->suite.protocol == ProtocolId::ah);
    CHECK(lab.b.bound(1)->suite.protocol == ProtocolId::ah);
  };
  lab::with_each_message_troubled(4, 1, make, check);
  lab::with_each_rekey_troubled(1, make, check);
}

}  // namespace
}  // namespace postern::ike
