// The Security Association payload: proposals, transforms, attributes (RFC 7296 §3.3).
#include "ike/payload_codec.hpp"

namespace postern::ike {
namespace {

// §3.3.1, §3.3.2: "more" or "last" of the substructures.
constexpr std::uint8_t last = 0, more_proposals = 2, more_transforms = 3;
// §3.3.5: attribute format TV, and the one type there is.
constexpr std::uint16_t short_attribute = 0x8000, key_length_attribute = 14;

// The SPI of a protocol that we do not know may have any size.
bool fits_protocol(ProtocolId protocol, std::size_t spi_bytes) {
  switch (protocol) {
    case ProtocolId::ike: return spi_bytes == 0 || spi_bytes == 8;
    case ProtocolId::ah:
    case ProtocolId::esp: return spi_bytes == 4;
    case ProtocolId::none: break;
  }
  return true;
}

// §3.3.5. Key Length comes once and in the short format (fixed-length attributes have no other); whatever is not that
// makes the transform one that we do not understand.
Decoded<void> decode_attributes(ByteReader in, Transform& transform) {
  while (in.remaining() != 0) {
    const std::uint16_t type = in.u16();
    const std::uint16_t value = in.u16();
    const bool is_short = (type & short_attribute) != 0;
    if (!is_short) in.skip(value);
    if (!in.ok()) return refuse(ParseError::truncated);
    if (type == (short_attribute | key_length_attribute) && !transform.key_bits)
      transform.key_bits = value;
    else
      transform.unknown_attribute = true;
  }
  return {};
}

Decoded<Transform> decode_transform(ByteReader& in, bool is_last) {
  const std::uint8_t marker = in.u8();
  in.skip(1);
  const std::uint16_t length = in.u16();
  Transform transform;
  transform.type = TransformType{in.u8()};
  in.skip(1);
  transform.id = in.u16();
  if (!in.ok()) return refuse(ParseError::truncated);
  if (marker != (is_last ? last : more_transforms)) return refuse(ParseError::bad_value);
  if (length < 8) return refuse(ParseError::bad_length);
  const Bytes attributes = in.take(length - 8U);
  if (!in.ok()) return refuse(ParseError::truncated);
  POSTERN_CHECK(decode_attributes(ByteReader(attributes), transform));
  return transform;
}

Decoded<Proposal> decode_proposal(ByteReader& payload) {
  const std::uint8_t marker = payload.u8();
  payload.skip(1);
  const std::uint16_t length = payload.u16();
  if (!payload.ok()) return refuse(ParseError::truncated);
  if (length < 8) return refuse(ParseError::bad_length);
  ByteReader in(payload.take(length - 4U));
  if (!payload.ok()) return refuse(ParseError::truncated);
  if (marker != (payload.remaining() == 0 ? last : more_proposals)) return refuse(ParseError::bad_value);

  Proposal proposal;
  proposal.number = in.u8();
  proposal.protocol = ProtocolId{in.u8()};
  const std::uint8_t spi_bytes = in.u8();
  const std::uint8_t transforms = in.u8();
  proposal.spi = octets_of(in.take(spi_bytes));
  if (!in.ok()) return refuse(ParseError::truncated);
  if (!fits_protocol(proposal.protocol, spi_bytes)) return refuse(ParseError::bad_value);
  if (transforms > max_transforms) return refuse(ParseError::too_many);
  for (std::size_t i = 0; i < transforms; ++i) {
    POSTERN_TRY(transform, decode_transform(in, i + 1U == transforms));
    proposal.transforms.push_back(transform);
  }
  if (in.remaining() != 0) return refuse(ParseError::bad_length);
  return proposal;
}

void encode(OctetWriter& out, const Transform& transform, bool is_last) {
  out.u8(is_last ? last : more_transforms);
  out.zeros(1);
  out.u16(transform.key_bits ? 12 : 8);
  out.u8(static_cast<std::uint8_t>(transform.type));
  out.zeros(1);
  out.u16(transform.id);
  if (!transform.key_bits) return;
  out.u16(short_attribute | key_length_attribute);
  out.u16(*transform.key_bits);
}

}  // namespace

Decoded<SaPayload> decode_sa(Bytes body) {
  ByteReader in(body);
  SaPayload sa;
  do {
    if (sa.proposals.size() == max_proposals) return refuse(ParseError::too_many);
    POSTERN_TRY(proposal, decode_proposal(in));
    sa.proposals.push_back(std::move(proposal));
  } while (in.remaining() != 0);
  return sa;
}

void encode(OctetWriter& out, const SaPayload& sa) {
  for (const Proposal& proposal : sa.proposals) {
    const std::size_t start = out.size();
    out.u8(&proposal == &sa.proposals.back() ? last : more_proposals);
    out.zeros(3);
    out.u8(proposal.number);
    out.u8(static_cast<std::uint8_t>(proposal.protocol));
    out.u8(static_cast<std::uint8_t>(proposal.spi.size()));
    out.u8(static_cast<std::uint8_t>(proposal.transforms.size()));
    out.bytes(proposal.spi);
    for (const Transform& transform : proposal.transforms)
      encode(out, transform, &transform == &proposal.transforms.back());
    out.put_u16(start + 2, out.size() - start);
  }
}

}  // namespace postern::ike
