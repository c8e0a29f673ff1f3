// The outbound batch: numbers, sealing, outer headers, transmission.
#include "worker/outbound.hpp"

namespace postern {

void Outbound::flush() {
  close_batch();
  collect(false);
  take_loops();
}

void Outbound::finish() {
  close_batch();
  collect(true);
  while (!looping_ && !loops_.empty()) {
    take_loops();
    collect(true);
  }
}

void Outbound::close_batch() {
  route_.sa = nullptr;
  CipherBatch& batch = queue_.filling();
  if (batch.count == 0) return;
  const std::span pending = std::span(pending_[queue_.filling_slot()]).first(batch.count);
  const bool full = batch.count == packet_batch;
  number_runs(batch, pending);
  cover(batch, pending);
  compact(batch, pending);
  if (batch.count != 0) queue_.close(full && context_.crowded);
}

void Outbound::collect(bool wait) {
  while (const auto slot = queue_.finished(wait)) {
    const CipherBatch& batch = queue_.at(*slot);
    transmit_sealed(batch, std::span(pending_[*slot]).first(batch.count));
    queue_.release();
  }
}

void Outbound::number_runs(CipherBatch& batch, std::span<Pending> pending) {
  const std::span jobs(batch.jobs);
  for (std::size_t first = 0; first < pending.size();) {
    std::size_t last = first + 1;
    while (last < pending.size() && pending[last].sa == pending[first].sa) ++last;
    number_run(jobs.subspan(first, last - first), pending.subspan(first, last - first));
    first = last;
  }
}

// Takes numbers and lifetime for a run of one SA's packets, in one step each. Numbers are taken before anything is
// sealed, so that a crash wastes some and never repeats one; those behind the last that RFC 4303 §3.3.3 allows are
// refused.
void Outbound::number_run(std::span<crypto::EspJob> jobs, std::span<Pending> run) {
  SaSlot& slot = *run[0].sa->slot;
  std::uint64_t packets = 0, bytes = 0;
  for (const Pending& pending : run) {
    packets += pending.dummy ? 0 : 1;
    bytes += pending.inner_bytes;
  }
  const std::uint64_t number = slot.next_sequence.fetch_add(run.size(), std::memory_order_relaxed);
  std::uint64_t packets_before = slot.packets.fetch_add(packets, std::memory_order_relaxed);
  std::uint64_t bytes_before = slot.bytes.fetch_add(bytes, std::memory_order_relaxed);
  const std::uint64_t now = monotonic_ns();
  if (packets != 0) slot.last_used_ns.store(now, std::memory_order_relaxed);

  const bool limited = run[0].sa->limited, extended = run[0].sa->extended_sequence;
  const std::uint64_t last = last_sequence(extended);
  const std::uint64_t most_packets =
      limited && slot.parameters.hard_packets != 0 ? slot.parameters.hard_packets : UINT64_MAX;
  const std::uint64_t most_bytes = limited && slot.parameters.hard_bytes != 0 ? slot.parameters.hard_bytes : UINT64_MAX;
  const bool over = limited && hard_seconds_over(slot, now);
  const std::uint32_t sequence_at = run[0].sa->protocol == IpProto::esp ? 4 : ah_sequence_at;
  for (std::size_t i = 0; i < run.size(); ++i) {
    Pending& pending = run[i];
    jobs[i].sequence = number + i;
    store_be32(pending.packet.data() + sequence_at, static_cast<std::uint32_t>(jobs[i].sequence));
    if (over || packets_before >= most_packets || bytes_before + pending.inner_bytes > most_bytes) {
      pending.refused = Drop::sa_expired;
      context_.tell(slot, SaExpiryKind::hard);
    } else if (jobs[i].sequence > last) {
      pending.refused = Drop::sequence_exhausted;
      slot.next_sequence.store(last + 1, std::memory_order_relaxed);  // a number behind it is never sent, nor cycles
      context_.tell(slot, SaExpiryKind::sequence_end);
    } else if (pending.dummy) {
      slot.dummy_packets.fetch_add(1, std::memory_order_relaxed);
      continue;
    } else {
      ++packets_before;
      bytes_before += pending.inner_bytes;
      continue;
    }
    if (!pending.dummy) slot.packets.fetch_sub(1, std::memory_order_relaxed);
    slot.bytes.fetch_sub(pending.inner_bytes, std::memory_order_relaxed);
  }
  if (number + run.size() > sequence_warning(extended)) [[unlikely]]
    context_.tell(slot, SaExpiryKind::sequence_near_end);
  if (limited && soft_lifetime_over(slot.parameters, packets_before, bytes_before))
    context_.tell(slot, SaExpiryKind::soft);
}

// RFC 4302 §3.3.3: AH's ICV covers the IP headers in front of it, so these are there before it.
void Outbound::cover(CipherBatch& batch, std::span<Pending> all) {
  for (std::uint32_t i = 0; i < all.size(); ++i) {
    Pending& pending = all[i];
    const OutboundSa& sa = *pending.sa;
    if (sa.protocol == IpProto::esp || pending.refused != Drop::none) [[likely]]
      continue;
    crypto::EspJob& job = batch.jobs[i];
    Around& around = pending.around;
    if (around.network_bytes == 0) {
      around.network_bytes = sa.overhead.outer_bytes;
      write_outer(sa, outer_fields(sa, around, job), job.esp - around.network_bytes);
    }
    CoveredHeaders& headers = covered_[queue_.filling_slot()][i];
    job.covered = headers.data();
    job.covered_bytes = around.network_bytes;
    if (!cover_headers({job.esp - around.network_bytes, around.network_bytes}, headers))
      pending.refused = Drop::unparseable;
  }
}

OuterFields Outbound::outer_fields(const OutboundSa& sa, const Around& around, const crypto::EspJob& job) {
  return {around.traffic_class, around.dont_fragment, static_cast<std::uint16_t>(job.sequence + sa.identification),
          job.size};
}

// The packet as it was before protect(): it waits for the SA that a rekey makes. False: it cannot.
bool Outbound::wait_for_successor(const Pending& pending) {
  // A dummy need not wait; in transport mode the headers are rewritten already.
  if (pending.dummy || pending.around.network_bytes != 0) return false;
  Packet plain = pending.packet;
  plain.pull(pending.sa->overhead.header + pending.sa->overhead.iv_bytes);
  if (!pending.compressed)
    plain.size = pending.inner_bytes;
  else if (!decompress(plain, *pending.sa, pending.inner_bytes))
    return false;
  plain.bypassed_kernel = false;  // its hop is counted
  const HeldPacket held{plain, Clock::now() + config_.hold_time, Drop::sa_expired};
  if (!sweeping_) {
    const bool held_now = held_.push(held);
    show_held();
    return held_now;
  }
  if (late_count_ == late_.size()) return false;
  late_[late_count_++] = held;
  return true;
}

void Outbound::compact(CipherBatch& batch, std::span<Pending> pending) {
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < pending.size(); ++i) {
    if (pending[i].refused == Drop::sa_expired && wait_for_successor(pending[i])) continue;
    if (pending[i].refused != Drop::none) {
      context_.drop(pending[i].packet, pending[i].refused, *pending[i].sa->slot);
      continue;
    }
    if (kept != i) {
      batch.jobs[kept] = batch.jobs[i];
      pending[kept] = pending[i];
    }
    ++kept;
  }
  batch.count = kept;
}

void Outbound::transmit_sealed(const CipherBatch& batch, std::span<Pending> all) {
  std::uint32_t used = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    Pending& pending = all[i];
    const crypto::EspJob& job = batch.jobs[i];
    const OutboundSa& sa = *pending.sa;
    if (!job.ok) {
      context_.drop(pending.packet, Drop::tx_failed, *sa.slot);
      continue;
    }
    const std::uint32_t esp_bytes = pending.packet.size;
    if (pending.around.network_bytes == 0) [[likely]] {
      std::byte* const outer = pending.packet.push(sa.overhead.outer_bytes);
      write_outer(sa, outer_fields(sa, pending.around, job), outer);
      finish_udp_checksum(sa, esp_bytes, outer, ip_header(sa.outer));
    } else {
      const std::uint32_t udp = sa.udp_encapsulation ? udp_header : 0;
      std::byte* const outer = pending.packet.push(pending.around.network_bytes + udp);
      finish_udp_checksum(sa, esp_bytes, outer, pending.around.network_bytes);
    }
    if (pending.nested_in != 0) [[unlikely]] {
      loop(pending.packet, pending.nested_in);
      continue;
    }
    if (pending.around.cut_to != 0) {
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
