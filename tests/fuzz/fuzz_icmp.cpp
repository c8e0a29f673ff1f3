// Hostile ICMP errors: what they quote, to path MTU discovery and to traffic selectors. The first byte chooses: the
// rest is the message as it is, or what an error with right checksums quotes. A path never becomes smaller than its
// family guarantees, and only by an SPI, addresses and a number of ours.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "worker/checksum.hpp"
#include "worker/icmp_quote.hpp"
#include "worker/path_mtu.hpp"
#include "worker/sa.hpp"
#include "worker/sad.hpp"

namespace postern {
namespace {

constexpr std::uint32_t slot_count = 4, icmp_bytes = 8;

[[noreturn]] void broken() { std::abort(); }

SaParameters parameters(std::uint32_t flow, bool v6, bool udp) {
  SaParameters p;
  p.direction = SaDirection::outbound;
  p.spi = 0x1000 + flow;
  p.flow = flow;
  p.local = *IpAddress::parse(v6 ? "2001:db8::1" : "192.0.2.1");
  p.remote = *IpAddress::parse(v6 ? "2001:db8::2" : "192.0.2.2");
  p.udp_encapsulation = udp;
  p.local_port = p.remote_port = udp ? 4500 : 0;
  p.transform = {crypto::Cipher::aes_gcm_16, 128, crypto::Integrity::none};
  const auto sizes = *crypto::sizes_of(p.transform);
  p.cipher_key_bytes = sizes.key_bytes;
  p.integrity_key_bytes = sizes.integrity_key_bytes;
  return p;
}

CompiledSelectors narrow() {
  TrafficSelector v4, v6;
  v4.source_first = *IpAddress::parse("10.1.0.0");
  v4.source_last = *IpAddress::parse("10.1.255.255");
  v4.destination_first = *IpAddress::parse("10.2.0.0");
  v4.destination_last = *IpAddress::parse("10.2.255.255");
  v4.destination_port_first = v4.destination_port_last = 80;
  v4.protocol = 6;
  v6.source_first = *IpAddress::parse("2001:db8:1::");
  v6.source_last = *IpAddress::parse("2001:db8:1::ffff");
  v6.destination_first = *IpAddress::parse("2001:db8:2::");
  v6.destination_last = *IpAddress::parse("2001:db8:2::ffff");
  const TrafficSelector both[] = {v4, v6};
  return CompiledSelectors(both);
}

struct Target {
  std::unique_ptr<SaSlot[]> slots{new SaSlot[slot_count]()};
  std::unique_ptr<Sad> sad;
  CompiledSelectors selectors = narrow();

  Target() : sad(*Sad::create({slots.get(), slot_count}, 1)) {
    for (std::uint32_t flow = 1; flow <= slot_count; ++flow) {
      const auto slot = sad->install(parameters(flow, flow % 2 == 0, flow > 2));
      if (!slot) broken();
      slots[*slot].next_sequence = 0x100;
    }
  }

  void take(Bytes packet) {
    // A path that is as small as can be learns nothing more.
    for (std::uint32_t i = 0; i < slot_count; ++i) slots[i].path_mtu = LearnedPathMtu::none;
    PathMtu path_mtu(*sad);  // with a fresh budget
    const auto report = parse_path_mtu(packet);
    const Drop verdict = path_mtu.take(packet, 0, Clock::now());
    if (!report && verdict != Drop::path_mtu_forged) broken();
    std::uint32_t learned = 0;
    for (std::uint32_t i = 0; i < slot_count; ++i) {
      const SaParameters& p = slots[i].parameters;
      const std::uint32_t mtu = LearnedPathMtu::least(slots[i].path_mtu, p.path_mtu, monotonic_ns());
      if (mtu < (p.local.family() == Family::v4 ? 576U : 1280U)) broken();
      if (mtu == p.path_mtu) continue;
      ++learned;
      if (report->spi != p.spi || report->source != p.local || report->destination != p.remote) broken();
      if (report->sequence && (*report->sequence == 0 || *report->sequence >= 0x100)) broken();
    }
    if ((verdict == Drop::path_mtu_learned) != (learned == 1) || learned > 1) broken();
  }

  void judge(Bytes packet) {
    const auto info = parse_ip(packet);
    if (!info) return;
    const Drop verdict = refused_by(selectors, packet, *info);
    const auto quoted = quoted_packet(packet, *info);
    if (quoted && quoted->info.network_bytes > quoted->bytes.size()) broken();
    if (!quoted && verdict == Drop::none && !selectors.permit(packet, *info)) broken();
    const Drop reasons[] = {Drop::none,          Drop::selector,        Drop::icmp_embedded, Drop::fragment_selector,
                            Drop::fragment_tiny, Drop::fragment_overlap};
    if (std::ranges::find(reasons, verdict) == std::end(reasons)) broken();
  }
};

// An error about `quote`, whole and with right checksums.
std::vector<std::byte> error_about(Bytes quote, bool v6, std::uint8_t type, std::uint8_t code, std::uint32_t word) {
  const std::size_t ip = v6 ? ipv6_header : ipv4_min_header;
  std::vector<std::byte> out(ip + icmp_bytes + quote.size());
  if (v6) {
    out[0] = std::byte{0x60};
    store_be16(out.data() + 4, static_cast<std::uint16_t>(out.size() - ip));
    out[6] = std::byte{58};
    out[24] = out[8] = std::byte{0x20};
  } else {
    out[0] = std::byte{0x45};
    store_be16(out.data() + 2, static_cast<std::uint16_t>(out.size()));
    out[9] = std::byte{1};
    out[12] = out[16] = std::byte{203};
  }
  out[ip] = std::byte{type};
  out[ip + 1] = std::byte{code};
  store_be32(out.data() + ip + 4, word);
  std::copy(quote.begin(), quote.end(), out.begin() + static_cast<std::ptrdiff_t>(ip + icmp_bytes));
  const auto upper = static_cast<std::uint32_t>(out.size() - ip);
  const std::uint64_t pseudo = v6 ? pseudo_header_sum(out.data(), Family::v6, 58, upper) : 0;
  store_raw16(out.data() + ip + 2, finish(sum_bytes({out.data() + ip, upper}, pseudo)));
  return out;
}

}  // namespace
}  // namespace postern

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern;
  static Target& target = *new Target;
  if (size < 8 || size > 4096) return 0;
  const Bytes input = std::as_bytes(std::span(data, size));
  // On a copy of its own size the sanitizer sees a read past the end.
  std::vector<std::byte> packet(input.begin() + 1, input.end());
  if (data[0] % 4 != 0) {
    const bool v6 = data[0] % 4 == 2;
    const std::uint8_t type = data[0] % 4 == 3 ? data[1] : v6 ? 2 : 3, code = data[0] % 4 == 1 ? 4 : data[2] % 16;
    packet = error_about(input.subspan(7), v6, type, data[0] % 4 == 2 ? 0 : code, load_be32(input.data() + 3));
  }
  target.take(packet);
  target.judge(packet);
  return 0;
}
