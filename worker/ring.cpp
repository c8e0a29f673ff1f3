#include "worker/ring.hpp"

#include <sys/mman.h>

#include "base/log.hpp"
#include "worker/ring_poll.hpp"
#include "worker/ring_uring.hpp"

namespace postern {

Result<std::unique_ptr<Ring>> Ring::create() {
  auto uring = UringRing::create();
  if (uring) return std::unique_ptr<Ring>(std::move(*uring));
  spdlog::warn("io_uring cannot be used, poll() serves instead: {}", uring.error().message());
  POSTERN_TRY(poll, PollRing::create());
  return std::unique_ptr<Ring>(std::move(poll));
}

Result<Mapping> Ring::map_buffers() {
  POSTERN_TRY(buffers, Mapping::map(std::size_t{read_buffers} * read_buffer_bytes, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, "read buffers"));
  ::madvise(buffers.data(), buffers.size(), MADV_DONTDUMP);
  return buffers;
}

}  // namespace postern
