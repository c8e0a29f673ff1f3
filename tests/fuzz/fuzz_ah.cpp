// Hostile bytes into AH and transport mode, with keys that are right: raw packets, headers and payloads that only a
// peer gone bad could authenticate, packets of ours with some bytes changed, and plain packets of every shape on their
// way out. The first byte chooses; after every input the packets must balance, and no frame may be lost.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "crypto/ah.hpp"
#include "worker/ah.hpp"
#include "worker/inbound.hpp"
#include "worker/parse.hpp"
#include "worker/pipeline.hpp"
#include "worker/sad.hpp"
#include "worker/transport.hpp"

namespace postern {
namespace {

constexpr std::uint32_t frame_count = 256, frame_bytes = 4096, slot_count = 32;

[[noreturn]] void broken() { std::abort(); }

struct Sink final : Egress {
  explicit Sink(FramePool& pool) : frames(pool) {}
  FramePool& frames;
  std::vector<std::vector<std::byte>> wire;
  std::uint64_t packets = 0;

  void transmit(std::span<WirePacket> sent) override {
    packets += sent.size();
    for (const WirePacket& p : sent) {
      const Bytes ip(p.packet.data() + 14, p.packet.size - 14);
      if (const auto info = parse_ip(ip); !info || info->total_bytes != ip.size()) broken();
      if (wire.size() < 64) wire.emplace_back(ip.begin(), ip.end());
      frames.give(p.packet.frame);
    }
  }
  void deliver(std::span<Delivery> got) override {
    packets += got.size();
    for (const Delivery& d : got) {
      if (const auto info = parse_ip(d.packet.bytes()); !info || info->total_bytes != d.packet.size) broken();
      frames.give(d.packet.frame);
    }
  }
  void icmp_error(Bytes packet, std::uint32_t) override {
    ++packets;
    if (!parse_ip(packet)) broken();
  }
  void unresolved(const AdjacencyKey&, bool) override {}
};

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

// The node under test lives through all inputs, as a real one does.
struct Target {
  std::unique_ptr<SaSlot[]> slots{new SaSlot[slot_count]()};
  std::unique_ptr<AdjacencyTable> table{new AdjacencyTable()};
  std::unique_ptr<ThreadCounters> counters{new ThreadCounters()};
  std::vector<std::byte> memory = std::vector<std::byte>(std::size_t{frame_count} * frame_bytes);
  FramePool frames{memory.data(), frame_count, frame_bytes};
  Sink sink{frames};
  std::unique_ptr<Sad> sad;
  std::unique_ptr<Pipeline> pipeline;
  crypto::EspEngine engine;
  std::vector<crypto::EspKey> keys;  // of the AH flows
  std::uint64_t given = 0;

  Target()
      : sad(*Sad::create({slots.get(), slot_count}, 1)),
        engine(*crypto::EspEngine::create(crypto::EngineKind::openssl)) {
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
    pipeline = std::make_unique<Pipeline>(*crypto::EspEngine::create(crypto::EngineKind::openssl), *sad, *table, frames,
                                          *counters, sink, PipelineConfig{.hold_packets = 16});
  }

  void install(const SaParameters& in, const SaParameters& out) {
    const auto slot = sad->install(out);
    if (!slot || !sad->install(in) || !sad->bind_flow(out.flow, *slot)) broken();
    Adjacency next;
    next.ifindex = 1;
    if (!table->put({0, out.remote}, next)) broken();
  }

  void inbound(Bytes bytes) {
    // Frames lie side by side; on copies of their own size the sanitizer sees a read past the end.
    std::vector<std::byte> copy(bytes.begin(), bytes.end());
    if (const auto esp = parse_outer_esp(copy); esp && esp->esp_offset + esp->esp_bytes > copy.size()) broken();
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
    Packet packet;
    packet.frame = frames.take();
    packet.buffer = frames.at(packet.frame);
    packet.capacity = frame_bytes;
    packet.size = static_cast<std::uint32_t>(std::min<std::size_t>(bytes.size(), frame_bytes - 256));
    packet.offset = frame_bytes - packet.size;
    if (packet.size != 0) std::memcpy(packet.data(), bytes.data(), packet.size);
    ++given;
    pipeline->inbound(packet, 0);
  }
  void outbound(Bytes bytes, std::uint32_t flow) {
    Packet packet;
    packet.frame = frames.take();
    packet.buffer = frames.at(packet.frame);
    packet.capacity = frame_bytes;
    packet.offset = 128;
    packet.size = static_cast<std::uint32_t>(std::min<std::size_t>(bytes.size(), frame_bytes - 128 - 64));
    if (packet.size != 0) std::memcpy(packet.data(), bytes.data(), packet.size);
    packet.flow = flow;
    ++given;
    pipeline->outbound(packet);
  }
  void super(const VnetHeader& offload, Bytes bytes, std::uint32_t flow) {
    ++given;
    pipeline->outbound_super(offload, bytes, flow, 0);
  }
  void check() {
    pipeline->flush();
    std::uint64_t drops = 0;
    for (const Counter& c : counters->drops) drops += c.load();
    const std::uint64_t held = counters->held.load();
    if (given + counters->split.load() + counters->made.load() != sink.packets + held + drops) broken();
    if (frames.available() + held != frame_count) broken();
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
  if (!info || info->fragment) return target.inbound(ip);
  const HeaderEnd place = end_of_headers(ip.data(), info->family, info->network_bytes);
  const std::uint32_t header = ah_bytes(16, info->family);
  std::vector<std::byte> ah(header);
  write_ah(ah.data(), place.next_header, header, __builtin_bswap32(0x1001 + which));
  ah[11] = std::byte{1};
  ip.insert(ip.begin() + place.bytes, ah.begin(), ah.end());
  rewrite_headers(ip.data(), info->family, place, 51, static_cast<std::uint32_t>(ip.size()));
  CoveredHeaders covered;
  if (!cover_headers(Bytes(ip).first(place.bytes), covered)) return target.inbound(ip);
  crypto::EspJob job{&target.keys[which],
                     ip.data() + place.bytes,
                     static_cast<std::uint32_t>(ip.size() - place.bytes),
                     1,
                     false,
                     covered.data(),
                     place.bytes};
  target.engine.seal(std::span(&job, 1));
  if (!job.ok) broken();
  target.inbound(ip);
}

// Seals `data` as a plain packet, changes some bytes of what leaves, and gives it to the other side.
void inbound_changed(Target& target, Bytes data, std::uint32_t flow) {
  if (data.size() < 4) return;
  const Bytes changes = data.first(4);
  target.sink.wire.clear();
  target.super({}, data.subspan(4), flow);
  target.pipeline->flush();
  for (auto packet : target.sink.wire) {
    const std::size_t at = load_be16(changes.data()) % packet.size();
    packet[at] ^= changes[2];
    packet.resize(packet.size() - std::min<std::size_t>(packet.size(), std::to_integer<std::size_t>(changes[3]) & 15));
    target.inbound(packet);
  }
}

void run(Target& target, Bytes data) {
  if (data.size() < 2) return;
  const auto choice = std::to_integer<std::uint32_t>(data[0]);
  const std::uint32_t flow = choice / 8 % (flows + 1) + 1;
  const Bytes rest = data.subspan(1);
  switch (choice % 5) {
    case 0: target.inbound(rest); break;
    case 1: inbound_authentic(target, rest, flow % 4); break;
    case 2: inbound_changed(target, rest, flow); break;
    case 3: target.outbound(rest, flow); break;
    default: {
      VnetHeader offload;
      if (rest.size() < sizeof offload) return;
      std::memcpy(&offload, rest.data(), sizeof offload);
      const std::vector<std::byte> packet(rest.begin() + sizeof offload, rest.end());
      target.super(offload, packet, flow);
    }
  }
}

}  // namespace
}  // namespace postern

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static postern::Target target;
  target.sink.wire.clear();
  postern::run(target, std::as_bytes(std::span(data, size)));
  target.check();
  return 0;
}
