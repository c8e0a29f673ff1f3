// The journey of a packet through one worker thread, without I/O: plain packets in, sealed Ethernet frames out, and
// back. Owner: one worker thread; not thread-safe. No allocation, lock or system call in any member but the constructor
// (the one exception is the per-SA spin lock around the replay window, taken after the ICV verified).
//
//   outbound()/outbound_super() -> segment -> encapsulate -> [batch] -> EspEngine::seal -> Ethernet -> Egress::transmit
//   inbound()                   -> find SA -> replay check -> [batch] -> EspEngine::open -> decapsulate ->
//   Egress::deliver
//
// Frames: a Packet that is passed in is owned by the pipeline from then on: it goes out through Egress or back to the
// FramePool, and each end is counted (maps/counters.hpp).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/clock.hpp"
#include "crypto/packet_cipher.hpp"
#include "maps/adjacency.hpp"
#include "maps/counters.hpp"
#include "worker/batch_queue.hpp"
#include "worker/loop_policy.hpp"
#include "worker/packet.hpp"
#include "worker/sa_state.hpp"

namespace postern {

class Sad;  // worker/sad.hpp

// Free frames of one thread's UMEM. LIFO, fixed capacity.
class FramePool {
 public:
  // `base` is the UMEM's mapping of frames * frame_bytes; `reserve` is the capacity of the free list (= frames).
  FramePool(std::byte* base, std::uint32_t frames, std::uint32_t frame_bytes);
  [[nodiscard]] FrameAddress take() { return free_count_ == 0 ? no_frame : free_[--free_count_]; }
  void give(FrameAddress frame) { free_[free_count_++] = frame / frame_bytes_ * frame_bytes_; }
  [[nodiscard]] std::byte* at(FrameAddress frame) const { return base_ + frame; }
  [[nodiscard]] std::uint32_t frame_bytes() const { return frame_bytes_; }
  [[nodiscard]] std::uint32_t available() const { return free_count_; }

 private:
  std::byte* base_;
  std::uint32_t frame_bytes_;
  std::uint32_t free_count_ = 0;
  std::unique_ptr<FrameAddress[]> free_;
};

// A complete Ethernet frame for the wire.
struct WirePacket {
  Packet packet;
  std::uint32_t ifindex = 0;  // outside interface
};

// An authenticated inner IP packet that passed its SA's selectors.
struct Delivery {
  Packet packet;  // begins at the inner IP header
  DeliverTo to = DeliverTo::tunnel;
  std::uint32_t ifindex = 0;  // the tunnel device, or the interface on which it must appear to arrive
  Family family = Family::v4;
};

// What the thread does with the pipeline's results; called once a batch, spans of at most packet_batch. Owns the
// frames.
class Egress {
 public:
  virtual void transmit(std::span<WirePacket> packets) = 0;
  virtual void deliver(std::span<Delivery> packets) = 0;
  // A whole IP packet that the node originates towards the plain side (fragmentation needed, packet too big, time
  // exceeded); the bytes are borrowed. `vrf` is the routing table of the plain side, 0 main.
  virtual void icmp_error(Bytes ip_packet, std::uint32_t vrf) = 0;
  // The next hop for `key` is unknown: ask posternd (rate-limited by the implementation). The packet waits in the hold
  // queue.
  virtual void unresolved(const AdjacencyKey& key, bool forward) = 0;
  // `ip_packet` waits because `flow` has no SA: ask for one (rate-limited by the implementation). Borrowed.
  virtual void acquire(std::uint32_t flow, Bytes ip_packet) {
    static_cast<void>(flow);
    static_cast<void>(ip_packet);
  }
  // An authentic packet of the SA came from `peer`: its installer is to hear of it (rate-limited by the
  // implementation).
  virtual void peer_moved(SaSlot& slot, const SaPeer& peer) {
    static_cast<void>(slot);
    static_cast<void>(peer);
  }
  // The SA's installer is to be told, once; false: it cannot be now, and the next packet tries again.
  [[nodiscard]] virtual bool expiry(SaSlot& slot, SaExpiryKind kind) {
    static_cast<void>(slot);
    static_cast<void>(kind);
    return true;
  }

 protected:
  ~Egress() = default;
};

struct PipelineConfig {
  std::uint32_t hold_packets = 256;              // bound of the hold queue
  std::uint32_t hold_inbound_packets = 512;      // of SAs that are expected (sa_channel.hpp, ExpectSa)
  Duration hold_time = std::chrono::seconds(1);  // then: no_adjacency, no_outbound_sa or no_sa
  TeamMember team{};                             // threads that may do cipher work for this one, and it for them
};

class Pipeline {
 public:
  Pipeline(crypto::EspEngine engine, Sad& sad, const AdjacencyTable& adjacencies, FramePool& frames,
           ThreadCounters& counters, Egress& egress, const PipelineConfig& config);
  ~Pipeline();

  // One plain IP packet on a frame with at least 128 bytes of headroom and 64 of tailroom; packet.flow and .generation
  // set.
  void outbound(Packet packet);
  // One packet as a TUN or TAP queue gave it, after its virtio-net header and, from a TAP, its Ethernet header: perhaps
  // a TSO/USO super-packet, perhaps with an unfinished checksum. Borrowed: it is copied to frames.
  void outbound_super(const VnetHeader& offload, Bytes ip_packet, std::uint32_t flow, std::uint32_t generation);
  // One packet from the cipher side that begins at its outer IP header: ESP, or UDP-encapsulated ESP.
  void inbound(Packet packet, std::uint32_t fvrf);

  // Seals and opens what is batched and hands everything to Egress, also what other threads have. Call before
  // Sad::quiescent() or offline(): batches point to SAs.
  void flush();

  // Instead of flush(), in a team: begin_round() with Sad::epoch() before packets are taken, end_round() after. What
  // other threads work on stays away until a later round; then held_since() is the epoch for Sad::holding().
  void begin_round(std::uint64_t epoch);
  void end_round();
  [[nodiscard]] std::optional<std::uint64_t> held_since() const;
  // More waits than is taken: full batches may be lent.
  void set_crowded(bool crowded);
  // Before a sleep. Does what no other thread began; the oldest batch that one has under work, null when none is away.
  [[nodiscard]] const CipherBatch* settle();
  // Another thread's batch.
  void cipher(CipherBatch& batch);

  // Retries and expires held packets. Call at least every 10 ms while has_held().
  void poll_held(Time now);
  [[nodiscard]] bool has_held() const;
  // Makes and sends one dummy packet of `flow` (RFC 4303 §2.6); false when the flow has no SA now that wants them.
  [[nodiscard]] bool dummy(std::uint32_t flow);
  // Drops what is held (Drop::shutting_down).
  void drop_held();
  void set_oldest_generation(std::uint32_t oldest);
  void set_policy(std::shared_ptr<const LoopPolicy> policy);
  [[nodiscard]] std::string_view engine_name() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace postern
