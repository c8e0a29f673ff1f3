#include "worker/umem.hpp"

#include <bit>

#include <sys/mman.h>
#include <sys/stat.h>

namespace postern {

Result<std::unique_ptr<Umem>> Umem::map(const Fd& memfd, const UmemLayout& layout) {
  const std::size_t bytes = std::size_t{layout.frames} * layout.frame_bytes;
  if (layout.frames == 0 || layout.frame_bytes < 2048 || !std::has_single_bit(layout.frame_bytes) ||
      layout.headroom >= layout.frame_bytes)
    return fail("UMEM: frames, frame size or headroom out of range", EINVAL);
  struct stat status{};
  if (::fstat(memfd.get(), &status) != 0) return fail_errno("UMEM: fstat");
  if (static_cast<std::size_t>(status.st_size) < bytes)
    return fail("UMEM: memory file is smaller than its layout", EINVAL);
  POSTERN_TRY(memory, Mapping::map(bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0, "UMEM"));
  ::madvise(memory.data(), memory.size(), MADV_DONTDUMP);
  return std::unique_ptr<Umem>(new Umem(std::move(memory), layout));
}

Umem::Umem(Mapping memory, const UmemLayout& layout)
    : memory_(std::move(memory)),
      id_(layout.umem_id),
      frame_count_(layout.frames),
      frame_shift_(static_cast<std::uint32_t>(std::countr_zero(layout.frame_bytes))),
      pool_(memory_.data(), layout.frames, layout.frame_bytes),
      holder_(std::make_unique<FrameHolder[]>(layout.frames)) {}

void Umem::take_back(FrameHolder gone) {
  for (std::uint32_t frame = 0; frame < frame_count_; ++frame) {
    if (holder_[frame] != gone) continue;
    holder_[frame] = held_by_worker;
    pool_.give(std::uint64_t{frame} << frame_shift_);
  }
}

}  // namespace postern
