#include "worker/path_mtu.hpp"

#include <algorithm>

#include "worker/checksum.hpp"
#include "worker/icmp_quote.hpp"
#include "worker/sa.hpp"

namespace postern {
namespace {

constexpr IcmpType too_big_v4{3, 4}, too_big_v6{2, 0};  // "fragmentation needed" and Packet Too Big

bool checksum_ok(Bytes packet, const IpInfo& info) {
  const Bytes message = packet.subspan(info.network_bytes, info.upper_bytes());
  if (info.family == Family::v4) return finish(sum_bytes(message)) == 0;
  return finish(sum_bytes(message, pseudo_header_sum(packet.data(), info.family, info.protocol, info.upper_bytes()))) ==
         0;
}

// Fills in what the quoted packet says of ESP or AH behind its IP headers. False: it says nothing.
bool read_sa(const QuotedPacket& quoted, PathMtuReport& report) {
  if (!quoted.info.has_upper_header()) return false;
  ByteReader upper(quoted.bytes.subspan(quoted.info.network_bytes));
  if (quoted.info.protocol == static_cast<std::uint8_t>(IpProto::udp)) {
    report.udp = true;
    report.source_port = upper.u16();
    report.destination_port = upper.u16();
    upper.skip(4);
  } else if (quoted.info.protocol == static_cast<std::uint8_t>(IpProto::ah)) {
    report.protocol = IpProto::ah;
    upper.skip(4);  // next header, length
  } else if (quoted.info.protocol != static_cast<std::uint8_t>(IpProto::esp)) {
    return false;
  }
  report.spi = upper.u32();
  if (!upper.ok() || report.spi == 0) return false;
  const std::uint32_t sequence = upper.u32();
  if (upper.ok()) report.sequence = sequence;
  return true;
}

// The number was used: RFC 4303 §2.2 begins with 1. Of 64-bit numbers the packet shows the lower half.
bool was_sent(const SaSlot& slot, std::uint32_t sequence) {
  const std::uint64_t next = slot.next_sequence.load(std::memory_order_relaxed);
  const bool wrapped = next > last_sequence(false) + 1;
  return wrapped || (sequence != 0 && sequence < next);
}

bool sent_by(const OutboundSa& sa, const PathMtuReport& report) {
  const SaEnds ends = ends_of(*sa.slot);
  if (ends.local != report.source || ends.udp_encapsulation != report.udp) return false;
  if (report.udp && (ends.local_port != report.source_port || ends.remote_port != report.destination_port))
    return false;
  return !report.sequence || was_sent(*sa.slot, *report.sequence);
}

// What the path shall be from now on. 0: RFC 8201 §4 ignores less than IPv6 guarantees. IPv4 guarantees less than we
// go down to; RFC 1191 §5 takes 576 where no number was given.
std::uint32_t obeyed(const PathMtuReport& report) {
  if (report.family == Family::v6) return report.mtu < ipv6_min_mtu ? 0 : report.mtu;
  return std::max(report.mtu, min_path_mtu);
}

}  // namespace

bool is_icmp(Bytes packet) {
  const auto info = parse_ip(packet);
  if (!info) return false;
  return info->protocol == static_cast<std::uint8_t>(info->family == Family::v4 ? IpProto::icmp : IpProto::icmpv6);
}

std::optional<PathMtuReport> parse_path_mtu(Bytes packet) {
  const auto info = parse_ip(packet);
  if (!info || info->fragment) return std::nullopt;
  const auto type = icmp_type(packet, *info);
  const IcmpType wanted = info->family == Family::v4 ? too_big_v4 : too_big_v6;
  if (!type || type->type != wanted.type || type->code != wanted.code || !checksum_ok(packet, *info))
    return std::nullopt;
  const auto quoted = quoted_packet(packet, *info);
  if (!quoted) return std::nullopt;
  PathMtuReport report;
  report.family = info->family;
  const std::byte* const word = packet.data() + info->network_bytes + 4;
  report.mtu = info->family == Family::v4 ? load_be16(word + 2) : load_be32(word);
  report.source = source_of(quoted->bytes.data(), info->family);
  report.destination = destination_of(quoted->bytes.data(), info->family);
  report.quoted_bytes = quoted->info.total_bytes;
  if (!read_sa(*quoted, report)) return std::nullopt;
  return report;
}

Drop PathMtu::take(Bytes packet, std::uint32_t fvrf, Time now) {
  if (!budget_.take(now)) return Drop::path_mtu_flood;
  const auto report = parse_path_mtu(packet);
  if (!report) return Drop::path_mtu_forged;
  const OutboundSa* const sa = sad_.sender({fvrf, report->spi, report->destination, report->protocol});
  if (sa == nullptr || !sent_by(*sa, *report)) return Drop::path_mtu_forged;
  const std::uint32_t mtu = obeyed(*report);
  // A router that forwards packets of this size had no reason to complain.
  if (mtu == 0 || mtu >= std::max(report->quoted_bytes, min_path_mtu + 1)) return Drop::path_mtu_refused;
  std::atomic<std::uint64_t>& learned = sa->slot->path_mtu;
  const std::uint64_t now_ns = monotonic_ns();
  const SaParameters& p = sa->slot->parameters;
  if (mtu >= LearnedPathMtu::least(learned.load(std::memory_order_relaxed), p.path_mtu, now_ns))
    return Drop::path_mtu_refused;
  learned.store(LearnedPathMtu::pack(static_cast<std::uint16_t>(mtu), now_ns + p.path_mtu_aging_s * 1'000'000'000ULL),
                std::memory_order_relaxed);
  return Drop::path_mtu_learned;
}

}  // namespace postern
