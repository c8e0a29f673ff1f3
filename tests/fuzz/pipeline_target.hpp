// The data plane of one thread as the fuzz targets of ESP, AH and IPComp drive it: a node that lives through all
// inputs, as a real one does. After every input the packets must balance, and no frame may be lost.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "worker/coalesce.hpp"
#include "worker/inbound.hpp"
#include "worker/parse.hpp"
#include "worker/pipeline.hpp"
#include "worker/sad.hpp"

namespace postern::fuzz {

inline constexpr std::uint32_t frame_count = 256, frame_bytes = 4096, slot_count = 64;

[[noreturn]] inline void broken() { std::abort(); }

// What leaves is a whole IP packet, either way, and is joined to super-packets without a byte more or less.
struct Sink final : Egress {
  explicit Sink(FramePool& pool) : frames(pool) {}
  FramePool& frames;
  std::vector<std::vector<std::byte>> wire;  // IP packets, the first 64
  CoalescedBatch batch;
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

struct PipelineTarget {
  std::unique_ptr<SaSlot[]> slots{new SaSlot[slot_count]()};
  std::unique_ptr<AdjacencyTable> table{new AdjacencyTable()};
  std::unique_ptr<ThreadCounters> counters{new ThreadCounters()};
  std::vector<std::byte> memory = std::vector<std::byte>(std::size_t{frame_count} * frame_bytes);
  FramePool frames{memory.data(), frame_count, frame_bytes};
  Sink sink{frames};
  std::unique_ptr<Sad> sad = *Sad::create({slots.get(), slot_count}, 1);
  std::unique_ptr<Pipeline> pipeline = std::make_unique<Pipeline>(engine_of_our_own(), *sad, *table, frames, *counters,
                                                                  sink, PipelineConfig{.hold_packets = 16});
  crypto::EspEngine engine = engine_of_our_own();  // the peer's
  std::uint64_t given = 0;

  static crypto::EspEngine engine_of_our_own() { return *crypto::EspEngine::create(crypto::EngineKind::openssl); }

  void install(const SaParameters& in, const SaParameters& out) {
    const auto slot = sad->install(out);
    if (!slot || !sad->install(in) || !sad->bind_flow(out.flow, *slot)) broken();
    Adjacency next;
    next.ifindex = 1;
    if (!table->put({0, out.remote}, next)) broken();
  }

  // `behind`: room behind the packet. Frames lie side by side: with none the sanitizer sees what reads on in the last
  // one.
  void inbound(Bytes bytes, std::uint32_t behind = 0) {
    // On a copy of its own size the sanitizer sees a read past the end.
    const std::vector<std::byte> copy(bytes.begin(), bytes.end());
    if (const auto esp = parse_outer_esp(copy); esp && esp->esp_offset + esp->esp_bytes > copy.size()) broken();
    (void)parse_esp_trailer(copy);
    Packet packet = frame_of(bytes, 256 + behind);
    packet.offset = frame_bytes - packet.size - behind;
    if (packet.size != 0) std::memcpy(packet.data(), bytes.data(), packet.size);
    ++given;
    pipeline->inbound(packet, 0);
  }
  void outbound(Bytes bytes, std::uint32_t flow, bool bypassed = false) {
    Packet packet = frame_of(bytes, 128 + 64);
    packet.offset = 128;
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
  // `data` begins with a virtio-net header.
  void super(Bytes data, std::uint32_t flow) {
    VnetHeader offload;
    if (data.size() < sizeof offload) return;
    std::memcpy(&offload, data.data(), sizeof offload);
    const std::vector<std::byte> packet(data.begin() + sizeof offload, data.end());
    super(offload, packet, flow);
  }
  // Seals what follows four bytes of `data` as a plain packet, changes some bytes of what leaves as they say, and gives
  // it to the other side.
  void inbound_changed(Bytes data, std::uint32_t flow, std::uint32_t behind = 0) {
    if (data.size() < 4) return;
    const Bytes changes = data.first(4);
    sink.wire.clear();
    super({}, data.subspan(4), flow);
    pipeline->flush();
    for (auto packet : sink.wire) {
      const std::size_t at = load_be16(changes.data()) % packet.size();
      packet[at] ^= changes[2];
      packet.resize(packet.size() - std::min(packet.size(), std::to_integer<std::size_t>(changes[3]) & 15));
      inbound(packet, behind);
    }
  }

  void check() {
    pipeline->flush();
    std::uint64_t drops = 0;
    for (const Counter& c : counters->drops) drops += c.load();
    const std::uint64_t held = counters->held.load();
    if (given + counters->split.load() + counters->made.load() != sink.packets + held + drops) broken();
    if (frames.available() + held != frame_count) broken();
  }

 private:
  [[nodiscard]] Packet frame_of(Bytes bytes, std::uint32_t around) {
    Packet packet;
    packet.frame = frames.take();
    packet.buffer = frames.at(packet.frame);
    packet.capacity = frame_bytes;
    packet.size = static_cast<std::uint32_t>(std::min<std::size_t>(bytes.size(), frame_bytes - around));
    return packet;
  }
};

// One input of libFuzzer's, by `run`, on the target that lives through all of them.
template <class Target>
int one_input(void (*run)(Target&, Bytes), const std::uint8_t* data, std::size_t size) {
  static Target target;
  target.sink.wire.clear();
  run(target, std::as_bytes(std::span(data, size)));
  target.check();
  return 0;
}

// What lies under the cipher, trailer and all, made an ESP packet from 192.0.2.1 to 192.0.2.2 by the right key.
inline std::vector<std::byte> sealed_esp(crypto::EspEngine& engine, const crypto::EspKey& key, std::uint32_t spi,
                                         Bytes plain) {
  const crypto::TransformSizes& sizes = key.sizes();
  const std::size_t front = 20 + 8U + sizes.iv_bytes;
  std::vector<std::byte> packet(front + plain.size() + sizes.icv_bytes);
  packet[0] = std::byte{0x45};
  store_be16(packet.data() + 2, static_cast<std::uint16_t>(packet.size()));
  packet[9] = std::byte{50};
  store_be32(packet.data() + 12, 0xc0000201);
  store_be32(packet.data() + 16, 0xc0000202);
  store_be32(packet.data() + 20, spi);
  store_be32(packet.data() + 24, 1);
  std::memcpy(packet.data() + front, plain.data(), plain.size());
  crypto::EspJob job{&key, packet.data() + 20, static_cast<std::uint32_t>(packet.size() - 20), 1, false};
  engine.seal(std::span(&job, 1));
  return packet;
}

}  // namespace postern::fuzz
