#include "worker/xsk.hpp"

#include <algorithm>
#include <bit>

#include <sys/mman.h>
#include <sys/socket.h>

namespace postern {
namespace {

Result<xdp_mmap_offsets> ring_offsets(int socket) {
  xdp_mmap_offsets offsets{};
  socklen_t size = sizeof offsets;
  if (::getsockopt(socket, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &size) != 0) return fail_errno("XDP_MMAP_OFFSETS");
  if (size != sizeof offsets) return fail("XDP_MMAP_OFFSETS: kernel older than 5.4", EPROTO);
  return offsets;
}

template <class T>
Result<XskRing<T>> map_ring(int socket, const xdp_ring_offset& offsets, std::uint32_t entries,
                            std::uint64_t page_offset, const char* what) {
  if (!std::has_single_bit(entries)) return fail(std::string(what) + ": size is not a power of two", EINVAL);
  POSTERN_TRY(memory, Mapping::map(offsets.desc + entries * sizeof(T), PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_POPULATE, socket, static_cast<off_t>(page_offset), what));
  return XskRing<T>(std::move(memory), offsets, entries);
}

}  // namespace

Result<Xsk> Xsk::map(int socket, const UmemLayout& layout, Umem& umem, FrameHolder holder) {
  POSTERN_TRY(offsets, ring_offsets(socket));
  Xsk out(umem, holder);
  POSTERN_TRY(fill,
              map_ring<std::uint64_t>(socket, offsets.fr, layout.fill_entries, XDP_UMEM_PGOFF_FILL_RING, "fill ring"));
  POSTERN_TRY(completion, map_ring<std::uint64_t>(socket, offsets.cr, layout.completion_entries,
                                                  XDP_UMEM_PGOFF_COMPLETION_RING, "completion ring"));
  POSTERN_TRY(rx, map_ring<xdp_desc>(socket, offsets.rx, layout.rx_entries, XDP_PGOFF_RX_RING, "RX ring"));
  POSTERN_TRY(tx, map_ring<xdp_desc>(socket, offsets.tx, layout.tx_entries, XDP_PGOFF_TX_RING, "TX ring"));
  out.fill_ = std::move(fill);
  out.completion_ = std::move(completion);
  out.rx_ = std::move(rx);
  out.tx_ = std::move(tx);
  return out;
}

std::uint32_t Xsk::receive(std::span<xdp_desc> out) {
  const std::uint32_t count = std::min(rx_.ready(), static_cast<std::uint32_t>(out.size()));
  if (count == 0) return 0;
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const xdp_desc entry = rx_.get();
    if (!umem_->contains(entry.addr, entry.len) || !umem_->returned(entry.addr, holder_)) continue;
    out[kept++] = entry;
  }
  rx_.release();
  return kept;
}

bool Xsk::refill(std::uint32_t target) {
  const std::uint32_t waiting = fill_.waiting();
  std::uint32_t missing = waiting < target ? std::min(target, fill_.size()) - waiting : 0;
  missing = std::min(missing, umem_->pool().available());
  for (std::uint32_t i = 0; i < missing; ++i) {
    const FrameAddress frame = umem_->pool().take();
    umem_->lend(frame, holder_);
    fill_.put(frame);
  }
  if (missing > 0) fill_.publish();
  return missing > 0 && fill_.needs_wakeup();
}

bool Xsk::reclaim(DeviceCounters& counters) {
  const std::uint32_t taken = tx_.taken() - counted_;
  if (taken > 0) {
    std::uint64_t bytes = 0;
    const std::uint32_t refused = std::min(refused_, taken);
    for (std::uint32_t i = 0; i < taken - refused; ++i) bytes += tx_.at(counted_ + i).len;
    counted_ += taken;
    refused_ -= refused;
    count(counters.tx_packets, taken - refused);
    count(counters.tx_bytes, bytes);
  }
  const std::uint32_t ready = completion_.ready();
  if (ready == 0) return taken > 0;
  for (std::uint32_t i = 0; i < ready; ++i) {
    const std::uint64_t address = completion_.get();
    if (address < umem_->bytes() && umem_->returned(address, holder_)) umem_->pool().give(address);
  }
  completion_.release();
  return true;
}

Result<xdp_statistics> xsk_statistics(int socket) {
  xdp_statistics statistics{};
  socklen_t size = sizeof statistics;
  if (::getsockopt(socket, SOL_XDP, XDP_STATISTICS, &statistics, &size) != 0) return fail_errno("XDP_STATISTICS");
  return statistics;
}

}  // namespace postern
