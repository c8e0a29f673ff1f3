// IPComp by IKEv2 (RFC 7296 §2.22, §3.10.1): each end says by which CPI it wants to get what is compressed, and how.
#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

constexpr std::uint8_t deflate = 2;  // IANA, "IPCOMP Transform IDs"
// RFC 3173 §3.3: 64 to 255 are reserved, 61440 and above private; those between are negotiated.
constexpr std::uint16_t well_known_deflate = 2, first_negotiated = 256, first_private = 61440;

struct Supported {
  std::uint16_t cpi = 0;
  std::uint8_t transform = 0;
};

std::vector<Supported> supported(const Message& message) {
  std::vector<Supported> out;
  for (const Payload& payload : message.payloads) {
    const auto* const notify = std::get_if<NotifyPayload>(&payload.body);
    if (notify == nullptr || notify->type != NotifyType::ipcomp_supported) continue;
    ByteReader in(notify->data);
    Supported one;
    one.cpi = in.u16();
    one.transform = in.u8();
    if (in.ok()) out.push_back(one);
  }
  return out;
}

bool is_for_us(const Supported& one) {
  return one.transform == deflate && (one.cpi == well_known_deflate || one.cpi >= first_negotiated);
}

}  // namespace

std::uint16_t offered_cpi(const Message& message) {
  for (const Supported& one : supported(message))
    if (is_for_us(one)) return one.cpi;
  return 0;
}

std::optional<std::uint16_t> answered_cpi(const Message& message, bool asked) {
  const auto said = supported(message);
  if (said.empty()) return 0;
  if (said.size() != 1 || !asked || !is_for_us(said.front())) return std::nullopt;
  return said.front().cpi;
}

void add_cpi(Message& message, std::uint16_t cpi) {
  OctetWriter out;
  out.u16(cpi);
  out.u8(deflate);
  message.add_notify(NotifyType::ipcomp_supported, out.take());
}

std::uint16_t cpi_of(std::uint32_t spi) {
  return static_cast<std::uint16_t>(first_negotiated + spi % (first_private - first_negotiated));
}

}  // namespace postern::ike
