// Outbound: clear in, ESP out (RFC 4303 §3.3, RFC 4301 §5.1). Owner: one worker thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/clock.hpp"
#include "worker/ah.hpp"
#include "worker/batch_queue.hpp"
#include "worker/context.hpp"
#include "worker/fragment.hpp"
#include "worker/hold_queue.hpp"
#include "worker/icmp_error.hpp"
#include "worker/loop_queue.hpp"
#include "worker/outer_header.hpp"
#include "worker/parse.hpp"
#include "worker/sa.hpp"
#include "worker/segment.hpp"
#include "worker/transport.hpp"

namespace postern {

// Of tunnel mode: IPv4 or IPv6 inside.
[[nodiscard]] inline IpProto next_header_of(const IpInfo& info) {
  return info.family == Family::v4 ? IpProto::ipv4 : IpProto::ipv6;
}

// Size and content of dummy packets: nothing that a key is made of. SplitMix64, seeded from the system's generator.
class Scramble {
 public:
  explicit Scramble(std::uint64_t seed) : state_(seed) {}
  [[nodiscard]] std::uint64_t next();
  void fill(MutableBytes out);

 private:
  std::uint64_t state_;
};

class Outbound {
 public:
  Outbound(PipelineContext& context, const PipelineConfig& config);

  void packet(Packet packet);
  void super_packet(const VnetHeader& offload, Bytes ip_packet, std::uint32_t flow, std::uint32_t generation);
  // dummy.cpp: makes one dummy packet; false when the flow has none now.
  [[nodiscard]] bool dummy(std::uint32_t flow);
  // Numbers and seals what is batched, or lends it to another thread; transmits what is sealed.
  void flush();
  // The same, and waits for what other threads have.
  void finish();
  [[nodiscard]] BatchQueue& queue() { return queue_; }

  void poll_held(Time now);
  void drop_held();
  [[nodiscard]] bool has_held() const { return !held_.empty(); }
  void set_oldest_generation(std::uint32_t oldest) { oldest_generation_ = oldest; }

 private:
  // Where a flow's packets go: valid until the next flush(), like the SA pointer in it.
  struct Route {
    std::uint32_t flow = 0;
    OutboundSa* sa = nullptr;
    Adjacency adjacency;
    std::uint32_t outer_mtu = 0;
    std::uint32_t plaintext_mtu = 0;
    std::uint32_t nested_in = 0;  // flow that protects what this one makes; 0: none
  };
  // The policy's answer for what an SA makes, until SA, policy or way out change.
  struct Nesting {
    std::uint64_t epoch = 0;  // of the policy; 0: not asked yet
    std::uint32_t reuse = 0, moves = 0, ifindex = 0, made_by = 0;
    std::uint32_t flow = 0;
  };
  // What goes around what ESP or AH protects.
  struct Around {
    std::uint16_t cut_to = 0;         // not 0: the outer packet is cut to this
    std::uint16_t network_bytes = 0;  // of the IP headers that stand in front already; 0: the SA's come there
    std::uint8_t traffic_class = 0;
    bool dont_fragment = false;
  };
  // A packet in the batch: begins at its ESP or AH header, with room in front for what flush() writes.
  struct Pending {
    Packet packet;
    OutboundSa* sa = nullptr;
    Adjacency adjacency;
    std::uint32_t inner_bytes = 0;
    std::uint32_t nested_in = 0;
    bool dummy = false;
    bool compressed = false;
    Around around;
    Drop refused = Drop::none;
  };

  // outbound.cpp: the way of one packet.
  [[nodiscard]] bool admissible(std::uint32_t flow, std::uint32_t generation);
  [[nodiscard]] std::optional<Drop> find_route(std::uint32_t flow);  // a reason to wait
  [[nodiscard]] std::optional<Drop> send(Packet packet);             // a reason to wait; else the packet is taken
  void send_routed(Packet packet);
  [[nodiscard]] Drop refuse(Bytes ip_packet, const IpInfo& info) const;
  [[nodiscard]] bool forward_hop(Packet& packet, IpInfo& info);
  [[nodiscard]] std::uint16_t mss_limit(Family family) const;
  [[nodiscard]] std::uint32_t largest(Bytes packet, const IpInfo& info) const;
  void encapsulate(Packet packet, const IpInfo& info, IpProto next_header, bool cut_outer);
  void encapsulate_between(Packet packet, const IpInfo& info, bool cut_outer);
  void protect(Packet packet, std::uint32_t inner_bytes, IpProto next_header, const Around& around);
  [[nodiscard]] std::uint32_t pad_flow(Packet& packet) const;
  [[nodiscard]] IpProto compress(Packet& packet, IpProto next_header);
  [[nodiscard]] bool decompress(Packet& packet, const OutboundSa& sa, std::uint32_t bytes);
  [[nodiscard]] std::uint32_t dummy_bytes();
  void hold(const Packet& packet, Drop reason);
  void show_held() {
    context_.held_outbound = held_.size();
    context_.publish_held();
  }
  [[nodiscard]] Drop waiting_for(std::uint32_t flow) const;

  // oversize.cpp: what does not fit.
  void oversize(Packet packet, const IpInfo& info);
  [[nodiscard]] bool may_cut_outer(const IpInfo& info) const;
  [[nodiscard]] bool cut_after(const Packet& packet) const;
  void send_fragments(Bytes ip_packet, const IpInfo& info, const Packet& like);
  void answer_too_big(Bytes ip_packet, const IpInfo& info);
  void answer_hop_limit(const Packet& packet, const IpInfo& info);
  [[nodiscard]] bool may_answer_now(Bytes ip_packet, const IpInfo& info, bool too_big);
  [[nodiscard]] std::uint32_t transmit_cut(const Pending& pending, std::uint32_t used);

  // super_packet.cpp
  void plain_from_queue(const VnetHeader& offload, Bytes ip_packet, const IpInfo& info, const Packet& like);
  void oversize_from_queue(const VnetHeader& offload, Bytes ip_packet, const IpInfo& info, const Packet& like);
  void send_segments(const SegmentPlan& plan, const Packet& like);
  // As PipelineContext::allocate, once more after a flush.
  [[nodiscard]] Packet allocate(std::uint32_t size, const Packet& like);

  // nested.cpp: sealed packets that the policy protects once more.
  [[nodiscard]] std::uint32_t nested_in(const OutboundSa& sa, std::uint32_t ifindex, std::uint32_t made_by);
  [[nodiscard]] std::uint32_t path_through(std::uint32_t flow, std::uint32_t mtu) const;
  void loop(Packet packet, std::uint32_t flow);
  void take_loops();

  // seal.cpp: the batch.
  void close_batch();
  void collect(bool wait);
  void number_runs(CipherBatch& batch, std::span<Pending> pending);
  void number_run(std::span<crypto::EspJob> jobs, std::span<Pending> pending);
  [[nodiscard]] static OuterFields outer_fields(const OutboundSa& sa, const Around& around, const crypto::EspJob& job);
  void cover(CipherBatch& batch, std::span<Pending> pending);
  [[nodiscard]] bool wait_for_successor(const Pending& pending);
  void compact(CipherBatch& batch, std::span<Pending> pending);
  void transmit_sealed(const CipherBatch& batch, std::span<Pending> pending);

  PipelineContext& context_;
  PipelineConfig config_;
  HoldQueue held_;
  ErrorBudget errors_;
  std::uint32_t oldest_generation_ = 0;
  Route route_;
  BatchQueue queue_;
  std::unique_ptr<std::array<Pending, packet_batch>[]> pending_;         // beside the jobs of each batch of the queue
  std::unique_ptr<std::array<CoveredHeaders, packet_batch>[]> covered_;  // the same, of AH
  std::array<WirePacket, packet_batch> wire_;
  LoopQueue loops_;
  std::unique_ptr<Nesting[]> nestings_;  // by SA slot
  bool looping_ = false;
  bool sweeping_ = false;  // the hold queue must not grow
  std::array<HeldPacket, packet_batch> late_;
  std::size_t late_count_ = 0;
  std::uint32_t fragment_identification_ = 0;
  Scramble random_;
  IcmpErrorBuffer icmp_;
  std::array<std::byte, 65536> scratch_;  // a packet larger than a frame, while its checksum is completed
};

}  // namespace postern
