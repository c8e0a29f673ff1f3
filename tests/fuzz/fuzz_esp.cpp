// Hostile bytes into the data plane, with keys that are right: raw packets, valid packets with some bytes changed,
// contents that only a peer gone bad could seal, and super-packets whose virtio-net header lies. The first byte
// chooses; after every input the packets must balance and no frame may be lost.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "crypto/transforms.hpp"
#include "worker/coalesce.hpp"
#include "worker/inbound.hpp"
#include "worker/parse.hpp"
#include "worker/pipeline.hpp"
#include "worker/sad.hpp"

namespace postern {
namespace {

constexpr std::uint32_t frame_count = 256, frame_bytes = 4096, slot_count = 64;

[[noreturn]] void broken() { std::abort(); }

struct Sink final : Egress {
  explicit Sink(FramePool& pool) : frames(pool) {}
  FramePool& frames;
  std::vector<std::vector<std::byte>> wire;
  CoalescedBatch batch;
  std::uint64_t packets = 0;

  void transmit(std::span<WirePacket> sent) override {
    packets += sent.size();
    for (const WirePacket& p : sent) {
      if (wire.size() < 64) wire.emplace_back(p.packet.data() + 14, p.packet.data() + p.packet.size);
      frames.give(p.packet.frame);
    }
  }
  void deliver(std::span<Delivery> got) override {
    packets += got.size();
    for (const Delivery& d : got)
      if (const auto info = parse_ip(d.packet.bytes()); !info || info->total_bytes != d.packet.size) broken();
    coalesce(got, {true, true}, batch);
    std::uint32_t total = 0;
    for (const CoalescedPacket& p : batch.packets()) {
      total += p.packets;
      std::uint32_t bytes = 0;
      for (const iovec& part : p.parts) bytes += static_cast<std::uint32_t>(part.iov_len);
      if (bytes != p.bytes) broken();
    }
    if (total != got.size() || batch.merged != got.size() - batch.count) broken();
    for (const Delivery& d : got) frames.give(d.packet.frame);
  }
  void icmp_error(Bytes packet, std::uint32_t) override {
    ++packets;
    if (!parse_ip(packet)) broken();
  }
  void unresolved(const AdjacencyKey&, bool) override {}
};

// Every cipher of the table in a flow of its own, over IPv4 and without UDP, beside authenticators in turn; behind them
// a flow in UDP and one over IPv6.
const std::size_t ciphers = static_cast<std::size_t>(std::ranges::count_if(
    crypto::named_transforms(), [](const crypto::NamedTransform& row) { return row.cipher != crypto::Cipher::none; }));
const auto udp_flow = static_cast<std::uint32_t>(ciphers + 1), v6_flow = udp_flow + 1, last_flow = v6_flow;

crypto::Transform transform_of(std::uint32_t flow) {
  const auto words = crypto::named_transforms();  // ciphers first
  const crypto::NamedTransform& cipher = words[flow % ciphers];
  if (crypto::is_aead(cipher.cipher)) return {cipher.cipher, cipher.key_bits, crypto::Integrity::none};
  return {cipher.cipher, cipher.key_bits, words[ciphers + flow % (words.size() - ciphers)].integrity};
}

SaParameters parameters(SaDirection direction, std::uint32_t flow) {
  const bool udp = flow == udp_flow, outer_v6 = flow == v6_flow;
  SaParameters p;
  p.direction = direction;
  p.spi = 0x1000 + flow;
  p.flow = flow;
  const auto one = *IpAddress::parse(outer_v6 ? "2001:db8::1" : "192.0.2.1");
  const auto two = *IpAddress::parse(outer_v6 ? "2001:db8::2" : "192.0.2.2");
  p.local = direction == SaDirection::outbound ? one : two;
  p.remote = direction == SaDirection::outbound ? two : one;
  p.udp_encapsulation = udp;
  p.local_port = p.remote_port = 4500;
  p.df = flow % 2 == 0 ? DfPolicy::clear : DfPolicy::copy;
  p.transform = transform_of(flow);
  const auto sizes = *crypto::sizes_of(p.transform);
  p.cipher_key_bytes = sizes.key_bytes;
  p.integrity_key_bytes = sizes.integrity_key_bytes;
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
  std::vector<crypto::EspKey> keys;
  std::uint64_t given = 0;

  Target()
      : sad(*Sad::create({slots.get(), slot_count}, 1)),
        engine(*crypto::EspEngine::create(crypto::EngineKind::openssl)) {
    for (std::uint32_t flow = 1; flow <= last_flow; ++flow) {
      const auto in = parameters(SaDirection::inbound, flow);
      const auto out = parameters(SaDirection::outbound, flow);
      const auto slot = sad->install(out);
      if (!slot || !sad->install(in) || !sad->bind_flow(flow, *slot)) broken();
      Adjacency next;
      next.ifindex = 1;
      if (!table->put({0, out.remote}, next)) broken();
      keys.push_back(*crypto::EspKey::create(in.transform, Bytes(in.cipher_key).first(in.cipher_key_bytes),
                                             Bytes(in.integrity_key).first(in.integrity_key_bytes)));
    }
    pipeline = std::make_unique<Pipeline>(*crypto::EspEngine::create(crypto::EngineKind::openssl), *sad, *table, frames,
                                          *counters, sink, PipelineConfig{.hold_packets = 16});
  }

  void inbound(Bytes bytes) {
    // Frames lie side by side; on a copy of its own size the sanitizer sees a read past the end.
    const std::vector<std::byte> copy(bytes.begin(), bytes.end());
    if (const auto esp = parse_outer_esp(copy); esp && esp->esp_offset + esp->esp_bytes > copy.size()) broken();
    (void)parse_esp_trailer(copy);
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
  void outbound(Bytes bytes, std::uint32_t flow, bool bypassed) {
    Packet packet;
    packet.frame = frames.take();
    packet.buffer = frames.at(packet.frame);
    packet.capacity = frame_bytes;
    packet.offset = 128;
    packet.size = static_cast<std::uint32_t>(std::min<std::size_t>(bytes.size(), frame_bytes - 128 - 64));
    if (packet.size != 0) std::memcpy(packet.data(), bytes.data(), packet.size);
    packet.flow = flow;
    packet.bypassed_kernel = bypassed;
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

// `data` is what lies under the cipher, trailer and all; sealed with the right key.
void inbound_sealed(Target& target, Bytes data, std::size_t flow) {
  const crypto::EspKey& key = target.keys[flow - 1];
  const crypto::TransformSizes& sizes = key.sizes();
  const std::size_t block = sizes.block_bytes, front = 20 + 8U + sizes.iv_bytes;
  const std::size_t plain = std::clamp<std::size_t>(data.size() / block * block, block, 2000 / block * block);
  std::vector<std::byte> packet(front + plain + sizes.icv_bytes);
  packet[0] = std::byte{0x45};
  store_be16(packet.data() + 2, static_cast<std::uint16_t>(packet.size()));
  packet[9] = std::byte{50};
  store_be32(packet.data() + 12, 0xc0000201);
  store_be32(packet.data() + 16, 0xc0000202);
  store_be32(packet.data() + 20, static_cast<std::uint32_t>(0x1000 + flow));
  store_be32(packet.data() + 24, 1);
  std::memcpy(packet.data() + front, data.data(), std::min(plain, data.size()));
  crypto::EspJob job{&key, packet.data() + 20, static_cast<std::uint32_t>(packet.size() - 20), 1, false};
  target.engine.seal(std::span(&job, 1));
  target.inbound(packet);
}

// Seals `data` as a plain packet, changes some bytes of what leaves, and gives it to the other side.
void inbound_changed(Target& target, Bytes data, std::uint32_t flow) {
  if (data.size() < 4) return;
  const Bytes changes = data.first(std::min<std::size_t>(4, data.size()));
  target.sink.wire.clear();
  target.super({}, data.subspan(changes.size()), flow);
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
  const std::uint32_t flow = choice / 8 % last_flow + 1;
  const Bytes rest = data.subspan(1);
  switch (choice % 5) {
    case 0: target.inbound(rest); break;
    case 1: inbound_sealed(target, rest, choice / 8 % ciphers + 1); break;
    case 2: inbound_changed(target, rest, flow); break;
    case 3: target.outbound(rest, flow, (choice & 128) != 0); break;
    default: {
      VnetHeader offload;
      if (rest.size() < sizeof offload) return;
      std::memcpy(&offload, rest.data(), sizeof offload);
      // A copy of its own size, so that a read past its end is seen.
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
