#include "worker/fragment.hpp"

#include <algorithm>

#include "worker/checksum.hpp"

namespace postern {
namespace {

constexpr std::uint32_t fragment_header = 8;
constexpr std::uint16_t more_fragments_v4 = 0x2000;

// RFC 791 §3.1: options with the copied flag go into every fragment. Returns the padded size; writes when `out` is not
// null.
std::uint32_t copied_options(Bytes options, std::byte* out) {
  std::uint32_t kept = 0;
  while (!options.empty() && u8_at(options.data()) != 0) {
    const std::uint8_t type = u8_at(options.data());
    std::size_t size = 1;
    if (type != 1) size = options.size() < 2 ? 0 : u8_at(&options[1]);
    if (size < (type == 1 ? 1U : 2U) || size > options.size()) break;  // malformed: nothing after it is copied
    if (type & 0x80U) {
      if (out != nullptr) std::memcpy(out + kept, options.data(), size);
      kept += static_cast<std::uint32_t>(size);
    }
    options = options.subspan(size);
  }
  const std::uint32_t padded = (kept + 3) & ~3U;
  if (out != nullptr) std::memset(out + kept, 0, padded - kept);
  return padded;
}

std::uint32_t payload_offset(const FragmentPlan& plan, std::uint32_t index) {
  return index == 0 ? 0 : plan.first_payload + (index - 1) * plan.later_payload;
}

// Sizes of all pieces from those of their headers.
std::optional<FragmentPlan> cut(FragmentPlan plan, std::uint32_t mtu) {
  if (mtu < plan.first_header_bytes + 8U || mtu < plan.later_header_bytes + 8U) return std::nullopt;
  plan.first_payload = (mtu - plan.first_header_bytes) & ~7U;
  plan.later_payload = (mtu - plan.later_header_bytes) & ~7U;
  const std::uint32_t rest = plan.payload_bytes > plan.first_payload ? plan.payload_bytes - plan.first_payload : 0;
  plan.count = 1 + (rest + plan.later_payload - 1) / plan.later_payload;
  return plan;
}

void write_ipv4_header(const FragmentPlan& plan, std::uint32_t index, std::uint32_t size, std::byte* out) {
  const std::byte* const ip = plan.packet.data();
  std::uint32_t header = plan.first_header_bytes;
  if (index == 0) {
    std::memcpy(out, ip, header);
  } else {
    std::memcpy(out, ip, ipv4_min_header);
    header = plan.later_header_bytes;
    copied_options(plan.packet.subspan(ipv4_min_header, plan.first_header_bytes - ipv4_min_header),
                   out + ipv4_min_header);
    out[0] = static_cast<std::byte>(0x40 | header / 4);
  }
  const std::uint16_t original = load_be16(ip + 6);
  const std::uint32_t offset = (original & 0x1fffU) + payload_offset(plan, index) / 8;
  const std::uint16_t flags =
      static_cast<std::uint16_t>((original & 0xe000U) | (index + 1 != plan.count ? more_fragments_v4 : 0));
  store_be16(out + 2, static_cast<std::uint16_t>(size));
  store_be16(out + 6, static_cast<std::uint16_t>(flags | offset));
  set_ipv4_checksum(out, header);
}

void write_ipv6_headers(const FragmentPlan& plan, std::uint32_t index, std::uint32_t size, std::byte* out) {
  std::memcpy(out, plan.packet.data(), ipv6_header);
  store_be16(out + 4, static_cast<std::uint16_t>(size - ipv6_header));
  out[6] = static_cast<std::byte>(IpProto::fragment);
  ByteWriter writer({out + ipv6_header, fragment_header});
  writer.u8(plan.next_header);
  writer.u8(0);
  writer.u16(static_cast<std::uint16_t>(payload_offset(plan, index) | (index + 1 != plan.count ? 1U : 0U)));
  writer.u32(plan.identification);
}

}  // namespace

std::optional<FragmentPlan> plan_ipv4_fragments(Bytes packet, const IpInfo& info, std::uint32_t mtu) {
  constexpr std::uint32_t longest = 65535;  // RFC 791: behind it, offsets would begin again at zero
  if (std::uint32_t{info.fragment_offset} + info.upper_bytes() > longest) return std::nullopt;
  FragmentPlan plan;
  plan.packet = packet.first(info.total_bytes);
  plan.first_header_bytes = info.network_bytes;
  const Bytes options = packet.subspan(ipv4_min_header, info.network_bytes - ipv4_min_header);
  plan.later_header_bytes = static_cast<std::uint16_t>(ipv4_min_header + copied_options(options, nullptr));
  plan.payload_bytes = info.upper_bytes();
  return cut(plan, mtu);
}

std::optional<FragmentPlan> plan_ipv6_fragments(Bytes packet, std::uint32_t mtu, std::uint32_t identification) {
  FragmentPlan plan;
  plan.packet = packet;
  plan.family = Family::v6;
  plan.first_header_bytes = plan.later_header_bytes = ipv6_header + fragment_header;
  plan.payload_bytes = static_cast<std::uint32_t>(packet.size()) - ipv6_header;
  plan.identification = identification;
  plan.next_header = u8_at(packet.data() + 6);
  return cut(plan, mtu);
}

std::uint32_t fragment_size(const FragmentPlan& plan, std::uint32_t index) {
  const std::uint32_t left = plan.payload_bytes - payload_offset(plan, index);
  if (index == 0) return plan.first_header_bytes + std::min(plan.first_payload, left);
  return plan.later_header_bytes + std::min(plan.later_payload, left);
}

void write_fragment(const FragmentPlan& plan, std::uint32_t index, std::byte* out) {
  const std::uint32_t size = fragment_size(plan, index);
  const bool v4 = plan.family == Family::v4;
  if (v4)
    write_ipv4_header(plan, index, size, out);
  else
    write_ipv6_headers(plan, index, size, out);
  const std::uint32_t original_header = v4 ? plan.first_header_bytes : ipv6_header;
  const std::uint32_t header = index == 0 ? plan.first_header_bytes : plan.later_header_bytes;
  std::memcpy(out + header, plan.packet.data() + original_header + payload_offset(plan, index), size - header);
}

}  // namespace postern
