#include "ike/payload_codec.hpp"

namespace postern::ike {
namespace {

constexpr std::uint16_t reserved_bit = 0x8000;

// §3.15.1: values that have a length of their own; an attribute that asks for something may be empty.
bool has_good_length(const ConfigAttribute& attribute) {
  const std::size_t size = attribute.value.size();
  switch (attribute.type) {
    case ConfigType::ip4_address:
    case ConfigType::ip4_netmask:
    case ConfigType::ip4_dns:
    case ConfigType::ip4_nbns:
    case ConfigType::ip4_dhcp: return size == 0 || size == 4;
    case ConfigType::ip6_address:
    case ConfigType::ip6_subnet: return size == 0 || size == 17;
    case ConfigType::ip6_dns:
    case ConfigType::ip6_dhcp: return size == 0 || size == 16;
    case ConfigType::ip4_subnet: return size == 0 || size == 8;
    case ConfigType::supported_attributes: return size % 2 == 0;
    case ConfigType::application_version:
    case ConfigType::unity_banner: break;
  }
  return true;
}

}  // namespace

Decoded<ConfigurationPayload> decode_configuration(Bytes body) {
  ByteReader in(body);
  ConfigurationPayload out;
  out.kind = ConfigKind{in.u8()};
  in.skip(3);
  if (!in.ok()) return refuse(ParseError::truncated);
  while (in.remaining() != 0) {
    ConfigAttribute one;
    one.type = ConfigType{static_cast<std::uint16_t>(in.u16() & ~reserved_bit)};
    const std::size_t length = in.u16();
    const Bytes value = in.take(length);
    if (!in.ok()) return refuse(ParseError::truncated);
    one.value = octets_of(value);
    if (!has_good_length(one)) return refuse(ParseError::bad_length);
    if (out.attributes.size() == max_config_attributes) return refuse(ParseError::too_many);
    out.attributes.push_back(std::move(one));
  }
  return out;
}

void encode(OctetWriter& out, const ConfigurationPayload& configuration) {
  out.u8(static_cast<std::uint8_t>(configuration.kind));
  out.zeros(3);
  for (const ConfigAttribute& one : configuration.attributes) {
    out.u16(static_cast<std::uint16_t>(one.type));
    out.u16(static_cast<std::uint16_t>(one.value.size()));
    out.bytes(one.value);
  }
}

}  // namespace postern::ike
