// Hostile bytes into AH and transport mode, with keys that are right: raw packets, headers and payloads that only a
// peer gone bad could authenticate, packets of ours with some bytes changed, and plain packets of every shape on their
// way out. The first byte chooses; after every input the packets must balance, and no frame may be lost.
#include "crypto/ah.hpp"
#include "crypto/overhead.hpp"
#include "tests/fuzz/pipeline_target.hpp"
#include "worker/ah.hpp"
#include "worker/transport.hpp"

namespace postern::fuzz {
namespace {

// What each flow is.
struct Kind {
  IpProto protocol;
  bool transport, v6, udp;
};
constexpr Kind kinds[] = {{IpProto::ah, false, false, false}, {IpProto::ah, false, true, false},
                          {IpProto::ah, true, false, false},  {IpProto::ah, true, true, false},
                          {IpProto::esp, true, false, false}, {IpProto::esp, true, true, false},
                          {IpProto::esp, true, false, true},  {IpProto::esp, true, true, true}};
constexpr std::uint32_t flows = std::size(kinds), bundle_flow = 100;

IpAddress end(bool v6, bool left) {
  return v6 ? *IpAddress::parse(left ? "2001:db8::1" : "2001:db8::2") : IpAddress::v4(left ? 0xc0000201 : 0xc0000202);
}

void between_ends(SaParameters& p, std::uint8_t protocol) {
  const bool out = p.direction == SaDirection::outbound;
  p.mode = SaMode::transport;
  p.selector_count = 1;
  p.selectors[0].source_first = p.selectors[0].source_last = out ? p.local : p.remote;
  p.selectors[0].destination_first = p.selectors[0].destination_last = out ? p.remote : p.local;
  p.selectors[0].protocol = protocol;
}

SaParameters parameters(SaDirection direction, std::uint32_t flow, const Kind& kind) {
  SaParameters p;
  const bool out = direction == SaDirection::outbound;
  p.direction = direction;
  p.protocol = kind.protocol;
  p.spi = 0x1000 + flow;
  p.flow = flow;
  p.local = end(kind.v6, out);
  p.remote = end(kind.v6, !out);
  p.udp_encapsulation = kind.udp;
  p.local_port = p.remote_port = 4500;
  p.transform = kind.protocol == IpProto::ah
                    ? crypto::Transform{crypto::Cipher::none, 0, crypto::Integrity::hmac_sha256_128}
                    : crypto::Transform{crypto::Cipher::aes_cbc, 128, crypto::Integrity::hmac_sha1_96};
  p.cipher_key_bytes = kind.protocol == IpProto::ah ? 0 : 16;
  p.integrity_key_bytes = kind.protocol == IpProto::ah ? 32 : 20;
  if (kind.transport) between_ends(p, 0);
  return p;
}

struct Target : PipelineTarget {
  std::vector<crypto::EspKey> keys;  // of the AH flows

  Target() {
    for (std::uint32_t flow = 1; flow <= flows; ++flow) {
      const Kind& kind = kinds[flow - 1];
      const auto in = parameters(SaDirection::inbound, flow, kind);
      install(in, parameters(SaDirection::outbound, flow, kind));
      if (kind.protocol == IpProto::ah)
        keys.push_back(
            *crypto::EspKey::create_authenticator(in.transform.integrity, Bytes(in.integrity_key).first(32)));
    }
    // And AH around ESP.
    for (const bool ah : {false, true}) {
      const Kind kind{ah ? IpProto::ah : IpProto::esp, false, false, false};
      SaParameters in = parameters(SaDirection::inbound, flows + 1, kind), out = in;
      out = parameters(SaDirection::outbound, flows + 1, kind);
      for (SaParameters* const p : {&in, &out}) {
        p->bundle = ah ? flows + 1 : bundle_flow;
        if (ah) p->flow = bundle_flow;
        if (ah) between_ends(*p, 50);
      }
      install(in, out);
    }
  }

  // The pure functions too, on copies of their own size.
  void received(Bytes bytes) {
    std::vector<std::byte> copy(bytes.begin(), bytes.end());
    if (const auto info = parse_ip(copy)) {
      const std::vector<std::byte> headers(copy.begin(), copy.begin() + info->network_bytes);
      CoveredHeaders covered;
      (void)cover_headers(headers, covered);
      if (const auto place = place_to_protect(copy, *info); place && place->bytes > info->network_bytes) broken();
      if (end_of_headers(copy.data(), info->family, info->network_bytes).bytes != info->network_bytes &&
          !info->fragment)
        broken();
      renew_upper_checksum(MutableBytes(copy).first(info->total_bytes), *info);
    }
    inbound(bytes, ah_lent_behind);
  }
};

// `data` is IP headers and what is behind them, made a packet of an AH flow's ends: AH comes in between, with a right
// ICV.
void inbound_authentic(Target& target, Bytes data, std::uint32_t which) {
  const Kind& kind = kinds[which];
  std::vector<std::byte> ip(data.begin(), data.end());
  const std::size_t least = kind.v6 ? 40 : 20;
  ip.resize(std::clamp<std::size_t>(ip.size(), least, 2000));
  std::array<std::byte, 32> ends;
  std::memcpy(ends.data(), end(kind.v6, true).mapped().data() + (kind.v6 ? 0 : 12), kind.v6 ? 16 : 4);
  std::memcpy(ends.data() + (kind.v6 ? 16 : 4), end(kind.v6, false).mapped().data() + (kind.v6 ? 0 : 12),
              kind.v6 ? 16 : 4);
  std::memcpy(ip.data() + (kind.v6 ? 8 : 12), ends.data(), kind.v6 ? 32 : 8);
  ip[0] = (ip[0] & std::byte{0x0f}) | std::byte{kind.v6 ? std::uint8_t{0x60} : std::uint8_t{0x40}};
  if (!kind.v6) store_be16(ip.data() + 2, static_cast<std::uint16_t>(ip.size()));
  if (kind.v6) store_be16(ip.data() + 4, static_cast<std::uint16_t>(ip.size() - 40));
  const auto info = parse_ip(ip);
  if (!info || info->fragment) return target.received(ip);
  const HeaderEnd place = end_of_headers(ip.data(), info->family, info->network_bytes);
  const std::uint32_t header = crypto::ah_header_bytes(16, info->family);
  std::vector<std::byte> ah(header);
  write_ah(ah.data(), place.next_header, header, __builtin_bswap32(0x1001 + which));
  ah[11] = std::byte{1};
  ip.insert(ip.begin() + place.bytes, ah.begin(), ah.end());
  rewrite_headers(ip.data(), info->family, place, 51, static_cast<std::uint32_t>(ip.size()));
  CoveredHeaders covered;
  if (!cover_headers(Bytes(ip).first(place.bytes), covered)) return target.received(ip);
  crypto::EspJob job{&target.keys[which],
                     ip.data() + place.bytes,
                     static_cast<std::uint32_t>(ip.size() - place.bytes),
                     1,
                     false,
                     covered.data(),
                     place.bytes};
  target.engine.seal(std::span(&job, 1));
  if (!job.ok) broken();
  target.received(ip);
}

void run(Target& target, Bytes data) {
  if (data.size() < 2) return;
  const auto choice = std::to_integer<std::uint32_t>(data[0]);
  const std::uint32_t flow = choice / 8 % (flows + 1) + 1;
  const Bytes rest = data.subspan(1);
  switch (choice % 5) {
    case 0: target.received(rest); break;
    case 1: inbound_authentic(target, rest, flow % 4); break;
    case 2: target.inbound_changed(rest, flow, ah_lent_behind); break;
    case 3: target.outbound(rest, flow); break;
    default: target.super(rest, flow);
  }
}

}  // namespace
}  // namespace postern::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return postern::fuzz::one_input(postern::fuzz::run, data, size);
}
