// What the worker sealed does not pass TC egress: where the policy of the way out protects it, it goes through the
// pipeline once more (design: the same rules, asked once for an SA and remembered).
#include "worker/outbound.hpp"
#include "worker/outer_header.hpp"

namespace postern {
namespace {

constexpr std::uint32_t room_in_front = 256;
constexpr std::uint32_t room_behind = 64;

// Outer headers of another layer fit in front, a trailer and ICV behind. False: the frame is too small.
bool make_room(Packet& packet) {
  if (packet.headroom() >= room_in_front / 2 && packet.tailroom() >= room_behind) return true;
  if (packet.capacity < room_in_front + packet.size + room_behind) return false;
  std::memmove(packet.buffer + room_in_front, packet.data(), packet.size);
  packet.offset = room_in_front;
  return true;
}

PolicyPacket as_policy_sees(const SaSlot& slot) {
  const SaParameters& made = slot.parameters;
  const SaEnds ends = ends_of(slot);
  PolicyPacket out;
  out.source = ends.local;
  out.destination = ends.remote;
  out.protocol = static_cast<std::uint8_t>(ends.udp_encapsulation ? IpProto::udp : made.protocol);
  if (ends.udp_encapsulation) {
    out.source_port = ends.local_port;
    out.destination_port = ends.remote_port;
  }
  out.traffic_class = made.dscp_copy ? 0 : static_cast<std::uint8_t>(made.dscp << 2);
  return out;
}

}  // namespace

std::uint32_t Outbound::nested_in(const OutboundSa& sa, std::uint32_t ifindex, std::uint32_t made_by) {
  if (sa.bundle != 0 && sa.protocol == IpProto::esp) return sa.bundle;  // AH comes around it
  if (sa.bundle != 0) made_by = sa.bundle;                              // its packets are the flow's
  if (context_.policy == nullptr) return 0;
  const LoopPolicy& policy = *context_.policy;
  Nesting& known = nestings_[context_.sad.index_of(*sa.slot)];
  const std::uint32_t reuse = sa.slot->reuse.load(std::memory_order_relaxed);
  const std::uint32_t moves = sa.slot->moves.load(std::memory_order_relaxed);
  if (known.epoch != policy.epoch() || known.reuse != reuse || known.moves != moves || known.ifindex != ifindex ||
      known.made_by != made_by)
    known = {policy.epoch(), reuse,   moves,
             ifindex,        made_by, policy.flow_for(ifindex, as_policy_sees(*sa.slot), made_by)};
  return known.flow;
}

// The largest packet that passes through the layer of `flow`, and through what that one is nested in.
std::uint32_t Outbound::path_through(std::uint32_t flow, std::uint32_t mtu) const {
  const OutboundSa* const sa = context_.sad.outbound(flow);
  if (sa == nullptr) return mtu;
  const std::uint32_t learned = path_mtu_of(*sa);
  const auto next = context_.adjacencies.find({sa->slot->parameters.fvrf, outer_destination(*sa)});
  const std::uint32_t path = next && next->mtu != 0 ? std::min<std::uint32_t>(learned, next->mtu) : learned;
  return std::min(mtu, inner_mtu(*sa, path));
}

// `packet` begins at its outer IP header.
void Outbound::loop(Packet packet, std::uint32_t flow) {
  packet.flow = flow;
  packet.generation = 0;
  packet.bypassed_kernel = false;
  ++packet.loops;
  if (!make_room(packet)) return context_.drop(packet, Drop::no_frame);
  if (!loops_.push({packet, 0})) context_.drop(packet, Drop::tx_full);
}

// Not while it runs already: taking one may seal a batch.
void Outbound::take_loops() {
  if (looping_) return;
  looping_ = true;
  while (!loops_.empty()) {
    while (!loops_.empty()) packet(loops_.pop().packet);
    close_batch();
    collect(false);
  }
  looping_ = false;
}

}  // namespace postern
