#include "ike/message.hpp"

#include <algorithm>

#include "ike/octets.hpp"

namespace postern::ike {
namespace {

constexpr std::uint8_t flag_initiator = 0x08, flag_response = 0x20, critical_bit = 0x80;
constexpr std::uint8_t major_version = 2;
constexpr std::size_t payload_header_bytes = 4, fragment_header_bytes = 8;

std::unexpected<ParseFailure> refuse_message(ParseError error, PayloadType where = PayloadType::none) {
  return std::unexpected(ParseFailure{error, where});
}

// The header and what only the chain of payloads needs.
struct Start {
  Header header;
  PayloadType first{};
};

Parsed<Start> parse_start(Bytes datagram) {
  ByteReader in(datagram);
  Start start;
  Header& header = start.header;
  header.initiator_spi = in.u64();
  header.responder_spi = in.u64();
  start.first = PayloadType{in.u8()};
  const std::uint8_t version = in.u8();
  header.exchange = ExchangeType{in.u8()};
  const std::uint8_t flags = in.u8();
  header.message_id = in.u32();
  const std::uint32_t length = in.u32();
  if (!in.ok()) return refuse_message(ParseError::truncated);
  // §2.5: the minor version is not looked at.
  if (version >> 4 > major_version) return refuse_message(ParseError::unsupported_version);
  if (version >> 4 < major_version) return refuse_message(ParseError::bad_value);
  if (length != datagram.size())
    return refuse_message(length > datagram.size() ? ParseError::truncated : ParseError::bad_length);
  header.from_initiator = (flags & flag_initiator) != 0;
  header.response = (flags & flag_response) != 0;
  // §3.1, but for §1.5: INVALID_SPI outside an IKE SA has no SPI to name.
  if (header.initiator_spi == 0 && header.exchange != ExchangeType::informational)
    return refuse_message(ParseError::bad_value);
  return start;
}

// §2.5: all that RFC 7296 defines counts as known, whether we make use of it or not.
bool is_known(PayloadType type) { return type >= PayloadType::sa && type <= PayloadType::eap; }

// `chain` is read to its end.
Parsed<std::vector<Payload>> parse_chain(PayloadType first, Bytes chain) {
  ByteReader in(chain);
  std::vector<Payload> payloads;
  for (PayloadType type = first; type != PayloadType::none;) {
    const PayloadType next{in.u8()};
    const bool critical = (in.u8() & critical_bit) != 0;
    const std::uint16_t length = in.u16();
    if (!in.ok()) return refuse_message(ParseError::truncated, type);
    if (length < payload_header_bytes) return refuse_message(ParseError::bad_length, type);
    const Bytes body = in.take(length - payload_header_bytes);
    if (!in.ok()) return refuse_message(ParseError::truncated, type);
    if (critical && !is_known(type)) return refuse_message(ParseError::unsupported_critical, type);
    if (type == PayloadType::encrypted) return refuse_message(ParseError::bad_value, type);
    if (payloads.size() == max_payloads) return refuse_message(ParseError::too_many, type);
    POSTERN_TRY(payload, parse_payload(type, body));
    payloads.push_back(std::move(payload));
    type = next;
  }
  if (in.remaining() != 0) return refuse_message(ParseError::bad_length);
  return payloads;
}

// The header with its length left open; finish_header() closes it.
void write_header(OctetWriter& out, const Header& header, PayloadType first) {
  out.u64(header.initiator_spi);
  out.u64(header.responder_spi);
  out.u8(static_cast<std::uint8_t>(first));
  out.u8(major_version << 4);
  out.u8(static_cast<std::uint8_t>(header.exchange));
  out.u8(
      static_cast<std::uint8_t>((header.from_initiator ? flag_initiator : 0) | (header.response ? flag_response : 0)));
  out.u32(header.message_id);
  out.zeros(4);
}
void finish_header(OctetWriter& out, std::size_t message_bytes) { out.put_u32(24, message_bytes); }

PayloadType first_type(const std::vector<Payload>& payloads) {
  return payloads.empty() ? PayloadType::none : payloads.front().type;
}

void write_chain(OctetWriter& out, const std::vector<Payload>& payloads) {
  for (std::size_t i = 0; i < payloads.size(); ++i) {
    const Octets body = encode_payload(payloads[i]);
    out.u8(static_cast<std::uint8_t>(i + 1 < payloads.size() ? payloads[i + 1].type : PayloadType::none));
    out.u8(0);
    out.u16(static_cast<std::uint16_t>(payload_header_bytes + body.size()));
    out.bytes(body);
  }
}

}  // namespace

const NotifyPayload* Message::notify(NotifyType type) const {
  for (const Payload& p : payloads)
    if (const auto* notify = std::get_if<NotifyPayload>(&p.body); notify != nullptr && notify->type == type)
      return notify;
  return nullptr;
}

const NotifyPayload* Message::error() const {
  for (const Payload& p : payloads)
    if (const auto* notify = std::get_if<NotifyPayload>(&p.body); notify != nullptr && is_error(notify->type))
      return notify;
  return nullptr;
}

Message& Message::add(PayloadType type, decltype(Payload::body) body) {
  payloads.push_back({type, std::move(body)});
  return *this;
}

Message& Message::add_notify(NotifyType type, Octets data, ProtocolId protocol, Octets spi) {
  return add(PayloadType::notify, NotifyPayload{type, protocol, std::move(spi), std::move(data)});
}

Parsed<Header> parse_header(Bytes datagram) {
  POSTERN_TRY(start, parse_start(datagram));
  return start.header;
}

Parsed<Message> parse_message(Bytes datagram) {
  POSTERN_TRY(start, parse_start(datagram));
  POSTERN_TRY(payloads, parse_chain(start.first, datagram.subspan(header_bytes)));
  return Message{start.header, std::move(payloads)};
}

Parsed<Message> open_message(Bytes datagram, const crypto::IkeCipher& cipher) {
  // Whatever is wrong before the integrity check anyone may have sent.
  const auto start = parse_start(datagram);
  if (!start || start->first != PayloadType::encrypted)
    return refuse_message(ParseError::not_protected, start ? start->first : PayloadType::none);
  ByteReader in(datagram.subspan(header_bytes));
  const PayloadType first_inside{in.u8()};
  in.skip(1);
  const std::uint16_t length = in.u16();
  const Bytes body = in.rest();
  // §3.14: it is the last payload.
  if (!in.ok() || length != payload_header_bytes + body.size())
    return refuse_message(ParseError::not_protected, PayloadType::encrypted);
  const auto plain = cipher.open(datagram.first(header_bytes + payload_header_bytes), body);
  if (!plain) return refuse_message(ParseError::not_authentic, PayloadType::encrypted);
  POSTERN_TRY(payloads, parse_chain(first_inside, *plain));
  return Message{start->header, std::move(payloads)};
}

std::optional<FragmentNumber> fragment_number(Bytes datagram) {
  const auto start = parse_start(datagram);
  if (!start || start->first != PayloadType::encrypted_fragment) return std::nullopt;
  ByteReader in(datagram.subspan(header_bytes));
  in.skip(2);
  const std::size_t length = in.u16();
  FragmentNumber out;
  out.number = in.u16();
  out.total = in.u16();
  const bool alone = in.ok() && length == datagram.size() - header_bytes;
  if (!alone || out.number == 0 || out.number > out.total) return std::nullopt;
  return out;
}

Parsed<Fragment> open_fragment(Bytes datagram, const crypto::IkeCipher& cipher) {
  const auto place = fragment_number(datagram);
  if (!place) return refuse_message(ParseError::not_protected, PayloadType::encrypted_fragment);
  const std::size_t covered = header_bytes + fragment_header_bytes;
  auto plain = cipher.open(datagram.first(covered), datagram.subspan(covered));
  if (!plain) return refuse_message(ParseError::not_authentic, PayloadType::encrypted_fragment);
  POSTERN_TRY(start, parse_start(datagram));
  return Fragment{start.header, *place, PayloadType{std::to_integer<std::uint8_t>(datagram[header_bytes])},
                  std::move(*plain)};
}

Parsed<Message> join_fragments(const Header& header, PayloadType first_inside, Bytes plain) {
  POSTERN_TRY(payloads, parse_chain(first_inside, plain));
  return Message{header, std::move(payloads)};
}

Octets encode_message(const Message& message) {
  OctetWriter out;
  write_header(out, message.header, first_type(message.payloads));
  write_chain(out, message.payloads);
  finish_header(out, out.size());
  return out.take();
}

namespace {

Octets chain_octets(const Message& message) {
  OctetWriter out;
  write_chain(out, message.payloads);
  return out.take();
}

std::size_t whole_bytes(const crypto::IkeCipher& cipher, Bytes plain) {
  return header_bytes + payload_header_bytes + cipher.sealed_bytes(plain.size());
}

Result<Octets> with_sealed(Octets datagram, crypto::IkeCipher& cipher, Bytes plain) {
  POSTERN_TRY(body, cipher.seal(datagram, plain));
  datagram.insert(datagram.end(), body.begin(), body.end());
  return datagram;
}

Result<Octets> seal_whole(const Message& message, crypto::IkeCipher& cipher, Bytes plain) {
  const std::size_t total = whole_bytes(cipher, plain);
  if (total > max_message_bytes) return fail("an IKE message of " + std::to_string(total) + " bytes fits no datagram");
  OctetWriter out;
  write_header(out, message.header, PayloadType::encrypted);
  finish_header(out, total);
  out.u8(static_cast<std::uint8_t>(first_type(message.payloads)));
  out.u8(0);
  out.u16(static_cast<std::uint16_t>(total - header_bytes));
  return with_sealed(out.take(), cipher, plain);
}

Result<Octets> seal_fragment(const Message& message, crypto::IkeCipher& cipher, FragmentNumber place, Bytes part) {
  const std::size_t payload = fragment_header_bytes + cipher.sealed_bytes(part.size());
  OctetWriter out;
  write_header(out, message.header, PayloadType::encrypted_fragment);
  finish_header(out, header_bytes + payload);
  // §2.5: only the first names the payload that comes first.
  out.u8(static_cast<std::uint8_t>(place.number == 1 ? first_type(message.payloads) : PayloadType::none));
  out.u8(0);
  out.u16(static_cast<std::uint16_t>(payload));
  out.u16(place.number);
  out.u16(place.total);
  return with_sealed(out.take(), cipher, part);
}

// How much of the text a fragment of `most` bytes takes.
std::size_t part_bytes(const crypto::IkeCipher& cipher, std::size_t most) {
  const crypto::TransformSizes& sizes = cipher.sizes();
  const std::size_t around = header_bytes + fragment_header_bytes + sizes.iv_bytes + sizes.icv_bytes;
  if (most < around + sizes.block_bytes + 1) return 0;
  return (most - around) / sizes.block_bytes * sizes.block_bytes - 1;  // without the pad length
}

}  // namespace

Result<std::vector<Octets>> seal_message_within(const Message& message, crypto::IkeCipher& cipher, std::size_t most) {
  const Octets plain = chain_octets(message);
  std::vector<Octets> out;
  if (whole_bytes(cipher, plain) <= most) {
    POSTERN_TRY(whole, seal_whole(message, cipher, plain));
    out.push_back(std::move(whole));
    return out;
  }
  const std::size_t part = part_bytes(cipher, most);
  const std::size_t total = part == 0 ? 0 : (plain.size() + part - 1) / part;
  if (total == 0 || total > max_fragments || plain.size() > max_message_bytes)
    return fail("an IKE message of " + std::to_string(plain.size()) + " bytes cannot be cut to " +
                std::to_string(most));
  for (std::size_t i = 0; i < total; ++i) {
    const FragmentNumber place{static_cast<std::uint16_t>(i + 1), static_cast<std::uint16_t>(total)};
    const Bytes rest = Bytes(plain).subspan(i * part);
    POSTERN_TRY(one, seal_fragment(message, cipher, place, rest.first(std::min(part, rest.size()))));
    out.push_back(std::move(one));
  }
  return out;
}

Result<Octets> seal_message(const Message& message, crypto::IkeCipher& cipher) {
  return seal_whole(message, cipher, chain_octets(message));
}

}  // namespace postern::ike
