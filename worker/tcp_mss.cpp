#include "worker/tcp_mss.hpp"

#include "worker/checksum.hpp"

namespace postern {
namespace {

constexpr std::uint32_t checksum_at = 16, offset_at = 12;
constexpr std::uint8_t maximum_segment_size = 2;
constexpr std::uint32_t mss_option_bytes = 4;

// Where the value of the option lies in the header; 0: there is none, or the options before it are broken.
std::uint32_t find_mss(Bytes header) {
  for (std::uint32_t at = tcp_min_header; at < header.size();) {
    const std::uint8_t kind = u8_at(&header[at]);
    if (kind == end_of_options) return 0;
    if (kind == no_operation) {
      ++at;
      continue;
    }
    const std::uint32_t size = at + 1 < header.size() ? u8_at(&header[at + 1]) : 0;
    if (size < 2 || at + size > header.size()) return 0;
    if (kind == maximum_segment_size) return size == mss_option_bytes ? at + 2 : 0;
    at += size;
  }
  return 0;
}

// The words of the checksum that hold the two bytes at `at`: one, or two when padding moved the option.
void store_summed(std::byte* header, std::uint32_t at, std::uint16_t value) {
  const std::uint32_t first = at & ~1U, last = (at + 1) & ~1U;
  const std::uint16_t before_first = load_raw16(header + first), before_last = load_raw16(header + last);
  store_be16(header + at, value);
  adjust_checksum(header + checksum_at, before_first, load_raw16(header + first));
  if (last != first) adjust_checksum(header + checksum_at, before_last, load_raw16(header + last));
}

}  // namespace

void clamp_mss(MutableBytes packet, const IpInfo& info, std::uint16_t most) {
  packet = packet.first(info.total_bytes);
  if (!is_syn(packet, info)) return;
  std::byte* const header = packet.data() + info.network_bytes;
  const std::uint32_t bytes = (u8_at(header + offset_at) >> 4) * 4U;
  if (bytes < tcp_min_header || bytes > info.upper_bytes()) return;
  const std::uint32_t at = find_mss({header, bytes});
  if (at == 0 || load_be16(header + at) <= most) return;
  store_summed(header, at, most);
}

}  // namespace postern
