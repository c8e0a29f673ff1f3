// A peer's IKE datagrams. The first byte chooses: a datagram as it stands, its payloads in an Encrypted payload that
// was really sealed, so that what only an authenticated peer can send is reached, or fragments of such ones (RFC 7383).
// What parses must be written to bytes that parse to the same; rules, negotiation and narrowing run on whatever came,
// and their answers must keep their promises.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "ike/gateway_identity.hpp"
#include "ike/message.hpp"
#include "ike/negotiate.hpp"
#include "ike/payload_rules.hpp"
#include "ike/reassembly.hpp"
#include "ike/selectors.hpp"

namespace postern::ike {
namespace {

[[noreturn]] void broken() { std::abort(); }
void require(bool condition) {
  if (!condition) broken();
}

using crypto::Cipher;
using crypto::DhGroup;
using crypto::Integrity;
using crypto::Prf;

struct Target {
  crypto::IkeCipher cipher = *crypto::IkeCipher::create({Cipher::aes_cbc, 128, Integrity::hmac_sha256_128},
                                                        Octets(16, std::byte{1}), Octets(32, std::byte{2}));
  std::vector<IkeProposal> ike = {{"one",
                                   {{Cipher::aes_cbc, 128}, {Cipher::aes_gcm_16, 256}},
                                   {Integrity::hmac_sha256_128},
                                   {Prf::hmac_sha256, Prf::hmac_sha384},
                                   {DhGroup::modp2048, DhGroup::ecp384}}};
  std::vector<EspProposal> esp = {{{Cipher::aes_cbc, 128, Integrity::hmac_sha256_128}, false},
                                  {{Cipher::aes_gcm_16, 256, Integrity::none}, true}};
  std::vector<Selector> policy = {selector_of(*Prefix::parse("10.1.0.0/16")), any_selector(Family::v6),
                                  selector_of(*Prefix::parse("192.0.2.0/24"), 17, 53, 60)};
};

// Unknown attributes and selectors are not kept, so a message that had them is not the same afterwards.
bool lost_something(const Message& message) {
  for (const Payload& payload : message.payloads) {
    if (const auto* ts = std::get_if<TsPayload>(&payload.body); ts != nullptr && ts->selectors.empty()) return true;
    if (const auto* sa = std::get_if<SaPayload>(&payload.body))
      for (const Proposal& proposal : sa->proposals)
        if (std::ranges::any_of(proposal.transforms, &Transform::unknown_attribute)) return true;
  }
  return false;
}

void check_round_trip(const Message& message) {
  const Octets bytes = encode_message(message);
  if (lost_something(message)) return;
  const auto again = parse_message(bytes);
  require(again.has_value() && again->header == message.header);
  require(again->payloads.size() == message.payloads.size() && encode_message(*again) == bytes);
}

void check_negotiation(const Target& target, const SaPayload& offer, DhGroup ke_group) {
  const Octets no_spi, spi(8, std::byte{3});
  for (const Octets& ours : {no_spi, spi})
    if (const auto chosen = choose_ike(offer, target.ike, ke_group, ours)) {
      require(chosen->suite.group == ke_group && chosen->peer_spi.size() == ours.size());
      // What we answer the peer must take for a choice from its own offer.
      const auto numbered = std::ranges::count(offer.proposals, chosen->answer.proposals[0].number, &Proposal::number);
      require(numbered != 1 || accept_ike(chosen->answer, offer).has_value());
    }
  for (const bool first : {true, false}) {
    const std::vector<DhGroup> demanded{DhGroup::modp2048};
    for (const auto& groups : {std::vector<DhGroup>{}, demanded}) {
      const auto chosen = choose_esp(offer, target.esp, groups, ke_group, 0x1000, first);
      if (!chosen) continue;
      require(chosen->peer_spi >= first_usable_spi && chosen->answer.proposals.size() == 1);
      require(chosen->suite.group == DhGroup::none || (chosen->suite.group == ke_group && !first));
    }
  }
  (void)accept_ike(offer, offer_ike(target.ike, {}));
  (void)accept_esp(offer, offer_esp(target.esp, 0x1000, {}), false);
  (void)explain_ike(offer, target.ike);
  (void)explain_esp(offer, target.esp, {});
  require(text(offer).size() == offer.proposals.size());
}

void check_narrowing(const Target& target, std::span<const Selector> offered) {
  for (const Selector& selector : narrow(offered, target.policy)) {
    const auto inside = [&](const Selector& s) { return intersect(s, selector) == selector; };
    require(std::ranges::any_of(offered, inside) && std::ranges::any_of(target.policy, inside));
    require(covers(target.policy, selector));
  }
  for (const Selector& selector : offered) {
    (void)covers(offered, selector);
    require(!text(selector).empty());
  }
}

// RFC 5685 §9: with the data's own end for a nonce, so that one fits.
void check_gateway(const NotifyPayload& notify) {
  const Bytes data = notify.data;
  for (const std::size_t behind : {std::size_t{0}, std::size_t{16}, std::size_t{32}}) {
    const Bytes nonce = data.last(std::min(behind, data.size()));
    const auto gateway = decode_gateway(data, nonce);
    if (!gateway) continue;
    require(gateway->address.has_value() == gateway->name.empty());
    require(*decode_gateway(encode_gateway(*gateway, nonce), nonce) == *gateway);
    require(GatewayIdentity::parse(gateway->text()) == *gateway);
  }
}

void check(const Target& target, const Message& message) {
  check_round_trip(message);
  (void)broken_rule(message);
  (void)message.error();
  const auto* ke = message.find<KePayload>(PayloadType::ke);
  for (const Payload& payload : message.payloads) {
    if (const auto* sa = std::get_if<SaPayload>(&payload.body))
      check_negotiation(target, *sa, ke == nullptr ? DhGroup::none : ke->group);
    if (const auto* ts = std::get_if<TsPayload>(&payload.body)) check_narrowing(target, ts->selectors);
    if (const auto* notify = std::get_if<NotifyPayload>(&payload.body)) check_gateway(*notify);
  }
}

void as_it_stands(Target& target, Bytes datagram) {
  const auto header = parse_header(datagram);
  const auto message = parse_message(datagram);
  require(header.has_value() || !message.has_value());
  if (message) check(target, *message);
  if (!message) require(!text(message.error()).empty());
  require(!open_message(datagram, target.cipher).has_value());
}

// `datagram`'s payloads in an Encrypted payload, sealed with the right key.
void in_an_encrypted_payload(Target& target, Bytes datagram) {
  if (datagram.size() < header_bytes) return;
  const Bytes plain = datagram.subspan(header_bytes);
  const std::size_t body = target.cipher.sealed_bytes(plain.size());
  OctetWriter out;
  out.bytes(datagram.first(16));
  out.u8(static_cast<std::uint8_t>(PayloadType::encrypted));
  out.u8(0x20);
  out.bytes(datagram.subspan(18, 6));
  out.u32(static_cast<std::uint32_t>(header_bytes + 4 + body));
  out.bytes(datagram.subspan(16, 1));
  out.u8(0);
  out.u16(static_cast<std::uint16_t>(4 + body));
  Octets message = out.take();
  const auto sealed = target.cipher.seal(message, plain);
  require(sealed.has_value() && sealed->size() == body);
  message.insert(message.end(), sealed->begin(), sealed->end());
  const auto opened = open_message(message, target.cipher);
  // It is authentic, whatever else it is; a zero initiator SPI is judged before that.
  if (!opened) {
    require(opened.error().error != ParseError::not_authentic);
    return;
  }
  check(target, *opened);
  if (lost_something(*opened)) return;
  const auto again = seal_message(*opened, target.cipher);
  require(again.has_value());
  const auto reopened = open_message(*again, target.cipher);
  require(reopened.has_value() && encode_message(*reopened) == encode_message(*opened));
}

// Records of number, total, length and text: each is a fragment that was really sealed, of one message.
void in_fragments(Target& target, Bytes data) {
  constexpr std::size_t most = 2000;
  Reassembly gathered;
  ByteReader in(data);
  const std::uint8_t first = in.u8();
  while (in.ok() && in.remaining() > 3) {
    const std::uint16_t number = in.u8(), total = in.u8();
    const Bytes part = in.take(std::min<std::size_t>(in.u8(), in.remaining()));
    OctetWriter out;
    out.u64(1);
    out.u64(2);
    out.u8(static_cast<std::uint8_t>(PayloadType::encrypted_fragment));
    out.u8(0x20);
    out.u8(static_cast<std::uint8_t>(ExchangeType::informational));
    out.u8(0);
    out.u32(5);
    const std::size_t body = target.cipher.sealed_bytes(part.size());
    out.u32(static_cast<std::uint32_t>(header_bytes + 8 + body));
    out.u8(number == 1 ? first : std::uint8_t{0});
    out.u8(0);
    out.u16(static_cast<std::uint16_t>(8 + body));
    out.u16(number);
    out.u16(total);
    Octets datagram = out.take();
    const auto sealed = target.cipher.seal(datagram, part);
    require(sealed.has_value());
    datagram.insert(datagram.end(), sealed->begin(), sealed->end());
    require(fragment_number(datagram).has_value() == (number != 0 && number <= total));
    const auto whole = gathered.take(datagram, target.cipher, most);
    require(gathered.bytes() <= most);
    if (!whole) continue;
    require(gathered.bytes() == 0);
    if (*whole) check(target, **whole);
    // And cut again it is the same.
    if (!*whole || lost_something(**whole)) continue;
    const auto again = seal_message_within(**whole, target.cipher, 300);
    require(again.has_value());
    std::optional<Parsed<Message>> joined;
    for (const Octets& one : *again)
      if (fragment_number(one)) joined = gathered.take(one, target.cipher, 65535);
    require(again->size() == 1 || (joined && *joined && encode_message(**joined) == encode_message(**whole)));
  }
}

void run(Target& target, Bytes data) {
  if (data.empty()) return;
  const Octets datagram = octets_of(data.subspan(1));  // a copy of its own size, so that a read past its end is seen
  if (data[0] == std::byte{0})
    as_it_stands(target, datagram);
  else if (data[0] == std::byte{2})
    in_fragments(target, datagram);
  else
    in_an_encrypted_payload(target, datagram);
}

}  // namespace
}  // namespace postern::ike

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static postern::ike::Target target;
  if (size <= 60000) postern::ike::run(target, std::as_bytes(std::span(data, size)));
  return 0;
}
