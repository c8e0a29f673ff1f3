// The outbound batch: numbers, sealing, outer headers, transmission.
#include "worker/outbound.hpp"
#include "worker/outer_header.hpp"

namespace postern {

void Outbound::flush() {
  route_.sa = nullptr;
  if (count_ == 0) return;
  number_runs();
  compact();
  context_.engine.seal(std::span(jobs_).first(count_));
  transmit_sealed();
  count_ = 0;
}

void Outbound::number_runs() {
  for (std::size_t first = 0; first < count_;) {
    std::size_t last = first + 1;
    while (last < count_ && pending_[last].sa == pending_[first].sa) ++last;
    number_run(first, last);
    first = last;
  }
}

// Takes numbers and lifetime for a run of one SA's packets, in one step each. Numbers are taken before anything is
// sealed, so that a crash wastes some and never repeats one; those behind the last that RFC 4303 §3.3.3 allows are
// refused.
void Outbound::number_run(std::size_t first, std::size_t last) {
  SaSlot& slot = *pending_[first].sa->slot;
  const std::uint64_t packets = last - first;
  std::uint64_t bytes = 0;
  for (std::size_t i = first; i < last; ++i) bytes += pending_[i].inner_bytes;
  const std::uint64_t number = slot.next_sequence.fetch_add(packets, std::memory_order_relaxed);
  std::uint64_t packets_before = slot.packets.fetch_add(packets, std::memory_order_relaxed);
  std::uint64_t bytes_before = slot.bytes.fetch_add(bytes, std::memory_order_relaxed);
  slot.last_used_ns.store(monotonic_ns(), std::memory_order_relaxed);

  const bool limited = pending_[first].sa->limited;
  const std::uint64_t most_packets =
      limited && slot.parameters.hard_packets != 0 ? slot.parameters.hard_packets : UINT64_MAX;
  const std::uint64_t most_bytes = limited && slot.parameters.hard_bytes != 0 ? slot.parameters.hard_bytes : UINT64_MAX;
  for (std::size_t i = first; i < last; ++i) {
    Pending& pending = pending_[i];
    jobs_[i].sequence = number + (i - first);
    store_be32(pending.packet.data() + 4, static_cast<std::uint32_t>(jobs_[i].sequence));
    if (packets_before >= most_packets || bytes_before + pending.inner_bytes > most_bytes) {
      pending.refused = Drop::sa_expired;
      context_.tell(slot, SaExpiryKind::hard);
    } else if (jobs_[i].sequence > last_sequence) {
      pending.refused = Drop::sequence_exhausted;
      context_.tell(slot, SaExpiryKind::sequence_end);
    } else {
      ++packets_before;
      bytes_before += pending.inner_bytes;
      continue;
    }
    slot.packets.fetch_sub(1, std::memory_order_relaxed);
    slot.bytes.fetch_sub(pending.inner_bytes, std::memory_order_relaxed);
  }
  if (number + packets > sequence_warning) [[unlikely]]
    context_.tell(slot, SaExpiryKind::sequence_near_end);
  if (limited && soft_lifetime_over(slot.parameters, packets_before, bytes_before))
    context_.tell(slot, SaExpiryKind::soft);
}

void Outbound::compact() {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    if (pending_[i].refused != Drop::none) {
      context_.drop(pending_[i].packet, pending_[i].refused, *pending_[i].sa->slot);
      continue;
    }
    if (kept != i) {
      jobs_[kept] = jobs_[i];
      pending_[kept] = pending_[i];
    }
    ++kept;
  }
  count_ = kept;
}

void Outbound::transmit_sealed() {
  std::uint32_t used = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    Pending& pending = pending_[i];
    const OutboundSa& sa = *pending.sa;
    if (!jobs_[i].ok) {
      context_.drop(pending.packet, Drop::tx_failed, *sa.slot);
      continue;
    }
    const std::uint32_t esp_bytes = pending.packet.size;
    const auto identification = static_cast<std::uint16_t>(jobs_[i].sequence + sa.identification);
    std::byte* const outer = pending.packet.push(sa.overhead.outer_bytes);
    write_outer(sa, {pending.traffic_class, pending.dont_fragment, identification, esp_bytes}, outer);
    finish_udp_checksum(sa, esp_bytes, outer);
    if (pending.outer_mtu != 0) {
      used = transmit_cut(pending, used);
      continue;
    }
    if (used == packet_batch) {
      context_.egress.transmit(std::span(wire_).first(used));
      used = 0;
    }
    write_ethernet(pending.adjacency, sa.outer, pending.packet);
    wire_[used++] = {pending.packet, pending.adjacency.ifindex};
  }
  if (used != 0) context_.egress.transmit(std::span(wire_).first(used));
}

}  // namespace postern
