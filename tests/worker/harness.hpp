// A node without I/O for the tests: SA state, adjacencies, frames, counters and an Egress that keeps what it was given.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "crypto/packet_cipher.hpp"
#include "reference.hpp"
#include "worker/acquire.hpp"
#include "worker/pipeline.hpp"
#include "worker/sad.hpp"

namespace postern::test {

using reference::Octets;

inline IpAddress address(std::string_view text) { return *IpAddress::parse(text); }

// Inner packets. Addresses decide the family.
struct InnerSpec {
  std::string source = "10.1.0.2", destination = "10.2.0.2";
  std::uint8_t protocol = 17;
  std::size_t payload = 64;
  std::uint16_t source_port = 1111, destination_port = 2222;
  std::uint8_t traffic_class = 0;
  std::uint8_t ttl = 64;
  bool dont_fragment = false;
  std::uint16_t identification = 7;
  std::uint32_t sequence = 1000;
  std::uint8_t tcp_flags = 0x10;
  Octets tcp_options{};
};

inline Octets make_inner(const InnerSpec& spec) {
  const IpAddress source = address(spec.source), destination = address(spec.destination);
  const bool v4 = source.family() == Family::v4;
  Octets p;
  if (v4) {
    p.assign(20, 0);
    p[0] = 0x45;
    p[1] = spec.traffic_class;
    reference::put16(p, 4, spec.identification);
    p[6] = spec.dont_fragment ? 0x40 : 0;
    p[8] = spec.ttl;
    p[9] = spec.protocol;
    std::copy(source.mapped().begin() + 12, source.mapped().end(), p.begin() + 12);
    std::copy(destination.mapped().begin() + 12, destination.mapped().end(), p.begin() + 16);
  } else {
    p.assign(40, 0);
    reference::put16(p, 0, 0x6000U | static_cast<unsigned>(spec.traffic_class) << 4);
    p[6] = spec.protocol;
    p[7] = spec.ttl;
    std::copy(source.mapped().begin(), source.mapped().end(), p.begin() + 8);
    std::copy(destination.mapped().begin(), destination.mapped().end(), p.begin() + 24);
  }
  const std::size_t at = p.size();
  if (spec.protocol == 6) {
    p.resize(at + 20);
    reference::put32(p, at + 4, spec.sequence);
    reference::put32(p, at + 8, 77);
    p[at + 12] = static_cast<std::uint8_t>((20 + spec.tcp_options.size()) / 4 << 4);
    p[at + 13] = spec.tcp_flags;
    reference::put16(p, at + 14, 8192);
    p.insert(p.end(), spec.tcp_options.begin(), spec.tcp_options.end());
  } else if (spec.protocol == 1 || spec.protocol == 58) {
    p.resize(at + 8);
    p[at] = spec.protocol == 1 ? 8 : 128;
  } else {
    p.resize(at + 8);
  }
  if (spec.protocol == 6 || spec.protocol == 17) {
    reference::put16(p, at, spec.source_port);
    reference::put16(p, at + 2, spec.destination_port);
  }
  for (std::size_t i = 0; i < spec.payload; ++i) p.push_back(static_cast<std::uint8_t>(i * 7 + i / 251));
  reference::finish(p);
  return p;
}

inline constexpr crypto::Transform cbc_sha1{crypto::Cipher::aes_cbc, 128, crypto::Integrity::hmac_sha1_96};
inline constexpr crypto::Transform cbc_sha256{crypto::Cipher::aes_cbc, 256, crypto::Integrity::hmac_sha256_128};
inline constexpr crypto::Transform gcm_128{crypto::Cipher::aes_gcm_16, 128, crypto::Integrity::none};
inline constexpr crypto::Transform gcm_256{crypto::Cipher::aes_gcm_16, 256, crypto::Integrity::none};

inline SaParameters sa_parameters(SaDirection direction, const crypto::Transform& transform = cbc_sha256,
                                  std::string_view sender = "192.0.2.1", std::string_view receiver = "192.0.2.2") {
  SaParameters p;
  p.direction = direction;
  p.spi = 0x1001;
  p.flow = 5;
  p.ifindex = 9;
  const bool out = direction == SaDirection::outbound;
  p.local = address(out ? sender : receiver);
  p.remote = address(out ? receiver : sender);
  p.transform = transform;
  const auto sizes = *crypto::sizes_of(transform);
  p.cipher_key_bytes = sizes.key_bytes;
  p.integrity_key_bytes = sizes.integrity_key_bytes;
  for (std::size_t i = 0; i < sizes.key_bytes; ++i) p.cipher_key[i] = static_cast<std::byte>(i + 1);
  for (std::size_t i = 0; i < sizes.integrity_key_bytes; ++i) p.integrity_key[i] = static_cast<std::byte>(i + 101);
  return p;
}

// Zeroed shared memory, as posternd's memfd is.
template <class T>
std::unique_ptr<T[]> zeroed(std::size_t count) {
  auto out = std::unique_ptr<T[]>(new T[count]);
  std::memset(static_cast<void*>(out.get()), 0, count * sizeof(T));
  return out;
}

struct Recorder final : Egress {
  explicit Recorder(FramePool& pool) : frames(pool) {}
  FramePool& frames;
  std::vector<Octets> wire;       // Ethernet frames
  std::vector<Octets> delivered;  // inner packets
  std::vector<Delivery> deliveries;
  std::vector<Octets> icmp;
  std::vector<AdjacencyKey> asked;
  std::vector<Acquire> acquires;
  struct Told {
    const SaSlot* slot;
    SaExpiryKind kind;
  };
  std::vector<Told> told;
  std::vector<SaPeer> moved;
  bool deaf = false;  // refuses to pass on expiries
  const SaSlot* watched = nullptr;
  std::vector<std::uint64_t> next_sequence;  // of the watched slot, as each packet of `wire` came
  std::uint64_t out = 0;                     // packets of all three kinds; the vectors may be cleared

  void transmit(std::span<WirePacket> packets) override {
    CHECK(packets.size() <= packet_batch);
    out += packets.size();
    for (const WirePacket& p : packets) {
      wire.push_back(reference::octets(p.packet.bytes()));
      if (watched != nullptr) next_sequence.push_back(watched->next_sequence);
      frames.give(p.packet.frame);
    }
  }
  void deliver(std::span<Delivery> packets) override {
    CHECK(packets.size() <= packet_batch);
    out += packets.size();
    for (const Delivery& d : packets) {
      delivered.push_back(reference::octets(d.packet.bytes()));
      deliveries.push_back(d);
      frames.give(d.packet.frame);
    }
  }
  void icmp_error(Bytes packet, std::uint32_t) override {
    ++out;
    icmp.push_back(reference::octets(packet));
  }
  void unresolved(const AdjacencyKey& key, bool) override { asked.push_back(key); }
  void acquire(std::uint32_t flow, Bytes packet) override {
    if (const auto wanted = describe_acquire(flow, 0, packet)) acquires.push_back(*wanted);
  }
  void peer_moved(SaSlot&, const SaPeer& peer) override { moved.push_back(peer); }
  bool expiry(SaSlot& slot, SaExpiryKind kind) override {
    if (deaf) return false;
    told.push_back({&slot, kind});
    return true;
  }
};

class Node {
 public:
  explicit Node(std::uint32_t slot_count = 16, crypto::EngineKind kind = crypto::EngineKind::automatic,
                PipelineConfig config = {}, std::uint32_t frame_count = 512)
      : slots(zeroed<SaSlot>(slot_count)),
        table(zeroed<AdjacencyTable>(1)),
        counters(zeroed<ThreadCounters>(1)),
        memory(frame_count * std::size_t{4096}),
        frames(memory.data(), frame_count, 4096),
        egress(frames),
        slot_count_(slot_count),
        frame_count_(frame_count) {
    sad = *Sad::create(std::span(slots.get(), slot_count), 1);
    pipeline = std::make_unique<Pipeline>(*crypto::EspEngine::create(kind), *sad, table[0], frames, counters[0], egress,
                                          config);
  }

  // An SA, bound to its flow when outbound, with a next hop.
  std::uint32_t add(const SaParameters& p) {
    const auto slot = sad->install(p);
    REQUIRE_MESSAGE(slot.has_value(), (slot ? "" : slot.error().message()));
    if (p.direction == SaDirection::outbound) {
      REQUIRE(sad->bind_flow(p.flow, *slot).has_value());
      resolve(p);
    }
    return *slot;
  }
  void resolve(const SaParameters& p, std::uint16_t mtu = 0) {
    Adjacency next;
    next.ifindex = 3;
    next.mtu = mtu;
    next.destination = {2, 0, 0, 0, 0, 2};
    next.source = {2, 0, 0, 0, 0, 1};
    REQUIRE(table[0].put({p.fvrf, p.remote}, next));
  }

  [[nodiscard]] Packet frame_of(const Octets& bytes) {
    Packet packet;
    packet.frame = frames.take();
    REQUIRE(packet.frame != no_frame);
    packet.buffer = frames.at(packet.frame);
    packet.capacity = 4096;
    packet.offset = 256;
    packet.size = static_cast<std::uint32_t>(bytes.size());
    if (!bytes.empty()) std::memcpy(packet.data(), bytes.data(), bytes.size());
    return packet;
  }
  void outbound(const Octets& bytes, std::uint32_t flow = 5, bool bypassed = false, std::uint32_t generation = 1) {
    Packet packet = frame_of(bytes);
    packet.flow = flow;
    packet.generation = generation;
    packet.bypassed_kernel = bypassed;
    ++given;
    pipeline->outbound(packet);
  }
  void super(const VnetHeader& offload, const Octets& bytes, std::uint32_t flow = 5) {
    ++given;
    pipeline->outbound_super(offload, reference::view(bytes), flow, 1);
  }
  void inbound(const Octets& bytes, std::uint32_t fvrf = 0) {
    ++given;
    pipeline->inbound(frame_of(bytes), fvrf);
  }
  void flush() { pipeline->flush(); }

  [[nodiscard]] std::uint64_t drops(Drop reason) const {
    return counters[0].drops[static_cast<std::size_t>(reason)].load();
  }
  [[nodiscard]] std::uint64_t all_drops() const {
    std::uint64_t sum = 0;
    for (const Counter& c : counters[0].drops) sum += c.load();
    return sum;
  }
  // maps/counters.hpp: every packet that came in or was made is out, held or dropped; and no frame is lost.
  [[nodiscard]] bool balanced() const {
    const std::uint64_t in = given + counters[0].split.load() + counters[0].made.load();
    return in == egress.out + counters[0].held.load() + all_drops() &&
           frames.available() + counters[0].held.load() == frame_count_;
  }
  [[nodiscard]] std::span<SaSlot> slot_span() const { return {slots.get(), slot_count_}; }

  std::unique_ptr<SaSlot[]> slots;
  std::unique_ptr<AdjacencyTable[]> table;
  std::unique_ptr<ThreadCounters[]> counters;
  std::vector<std::byte> memory;
  FramePool frames;
  Recorder egress;
  std::unique_ptr<Sad> sad;
  std::unique_ptr<Pipeline> pipeline;
  std::uint64_t given = 0;

 private:
  std::uint32_t slot_count_;
  std::uint32_t frame_count_;
};

// What an Ethernet frame carries.
inline Octets outer_of(const Octets& frame) { return Octets(frame.begin() + 14, frame.end()); }

}  // namespace postern::test
