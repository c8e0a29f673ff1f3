#include "loader/xsk_setup.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>

#include <bpf/bpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_xdp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loader/patience.hpp"

namespace postern::loader {
namespace {

// Of Linux 6.6 and 6.18, not in the headers of 6.1.
constexpr std::uint16_t use_scatter_gather = 1U << 4;  // XDP_USE_SG
constexpr int max_tx_skb_budget = 9;                   // XDP_MAX_TX_SKB_BUDGET
constexpr std::uint32_t largest_ring = 1U << 20;

Result<void> check_layout(const UmemLayout& layout) {
  const auto page = static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
  const auto ring_fits = [](std::uint32_t entries) { return std::has_single_bit(entries) && entries <= largest_ring; };
  if (layout.frames == 0) return fail("UMEM: no frames", EINVAL);
  if (!std::has_single_bit(layout.frame_bytes) || layout.frame_bytes < 2048 || layout.frame_bytes > page)
    return fail(fmt::format("UMEM: frames of {} bytes; 2048 to {}, a power of two", layout.frame_bytes, page), EINVAL);
  if (layout.headroom < xdp_headroom || layout.headroom > layout.frame_bytes / 2)
    return fail(fmt::format("UMEM: headroom of {} bytes; at least {}", layout.headroom, xdp_headroom), EINVAL);
  if (!ring_fits(layout.rx_entries) || !ring_fits(layout.tx_entries) || !ring_fits(layout.fill_entries) ||
      !ring_fits(layout.completion_entries))
    return fail("AF_XDP rings: sizes must be powers of two", EINVAL);
  return {};
}

std::size_t umem_bytes(const UmemLayout& layout) { return std::size_t{layout.frames} * layout.frame_bytes; }

Result<Fd> make_umem_file(const UmemLayout& layout) {
  Fd file(::memfd_create("postern-umem", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return fail_errno("memfd for UMEM");
  if (::ftruncate(file.get(), static_cast<off_t>(umem_bytes(layout))) != 0) return fail_errno("size of UMEM");
  // The kernel writes into the pinned pages: a file that shrank would leave the worker with other pages.
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return fail_errno("seal UMEM");
  return file;
}

Result<void> set_ring(int socket, int option, std::uint32_t entries, const char* name) {
  if (::setsockopt(socket, SOL_XDP, option, &entries, sizeof entries) == 0) return {};
  return fail_errno(fmt::format("AF_XDP {} ring of {} entries", name, entries));
}

Result<void> set_rings(int socket, const UmemLayout& layout) {
  POSTERN_CHECK(set_ring(socket, XDP_UMEM_FILL_RING, layout.fill_entries, "fill"));
  POSTERN_CHECK(set_ring(socket, XDP_UMEM_COMPLETION_RING, layout.completion_entries, "completion"));
  POSTERN_CHECK(set_ring(socket, XDP_RX_RING, layout.rx_entries, "receive"));
  return set_ring(socket, XDP_TX_RING, layout.tx_entries, "transmit");
}

bool is_zero_copy(int socket) {
  xdp_options options{};
  socklen_t size = sizeof options;
  return ::getsockopt(socket, SOL_XDP, XDP_OPTIONS, &options, &size) == 0 &&
         (options.flags & XDP_OPTIONS_ZEROCOPY) != 0;
}

// Without it a kick in copy mode sends at most 32 packets and half the load is dropped (docs/PERFORMANCE.md).
bool raise_tx_budget(int socket, std::uint32_t entries) {
  const std::uint32_t budget = std::max(entries, 32U);
  return ::setsockopt(socket, SOL_XDP, max_tx_skb_budget, &budget, sizeof budget) == 0;
}

std::string describe(const XskQueue& queue) { return fmt::format("AF_XDP {} queue {}", queue.device, queue.queue); }

}  // namespace

Result<void> raise_memlock_limit() {
  rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
  if (::setrlimit(RLIMIT_MEMLOCK, &limit) == 0) return {};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return fail_errno("read RLIMIT_MEMLOCK");
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0) return fail_errno("raise RLIMIT_MEMLOCK");
  return {};
}

Result<XskGroup> XskGroup::create(const XskGroupConfig& config) {
  POSTERN_CHECK(check_layout(config.layout));
  POSTERN_TRY(memfd, make_umem_file(config.layout));
  return XskGroup(config, std::move(memfd));
}

// The mapping goes at the end of this function: the pages are pinned by the socket and are the memfd's own, so that
// every other mapping of the memfd sees what the kernel writes.
Result<void> XskGroup::register_umem(int socket) const {
  const UmemLayout& layout = config_.layout;
  POSTERN_TRY(mapping, Mapping::map(umem_bytes(layout), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memfd_.get(),
                                    0, "UMEM"));
  xdp_umem_reg registration{};
  registration.addr = reinterpret_cast<std::uintptr_t>(mapping.data());
  registration.len = mapping.size();
  registration.chunk_size = layout.frame_bytes;
  registration.headroom = layout.headroom - xdp_headroom;
  if (::setsockopt(socket, SOL_XDP, XDP_UMEM_REG, &registration, sizeof registration) == 0) return {};
  const int code = errno;
  if (code == ENOBUFS)
    return fail(fmt::format("register UMEM of {} bytes: RLIMIT_MEMLOCK is too small", mapping.size()), code);
  return fail("register UMEM", code);
}

Result<XskSocket> XskGroup::prepare(const XskQueue& queue) {
  Fd socket(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno(describe(queue) + ": socket");
  if (sockets_.empty()) POSTERN_CHECK(register_umem(socket.get()));
  POSTERN_CHECK(set_rings(socket.get(), config_.layout));
  Fd copy(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return fail_errno(describe(queue) + ": duplicate");
  sockets_.push_back({queue, std::move(copy), false});
  return XskSocket(std::move(socket), queue, config_.layout);
}

Result<void> XskGroup::bind_once(const XskSocket& socket, std::uint16_t flags, int shared) const {
  sockaddr_xdp address{};
  address.sxdp_family = AF_XDP;
  address.sxdp_flags = flags;
  address.sxdp_ifindex = socket.queue().ifindex;
  address.sxdp_queue_id = socket.queue().queue;
  if (shared >= 0) {
    address.sxdp_flags |= XDP_SHARED_UMEM;
    address.sxdp_shared_umem_fd = static_cast<std::uint32_t>(shared);
  }
  return with_patience([&]() -> Result<void> {
    if (::bind(socket.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return {};
    return fail_errno(describe(socket.queue()) + ": bind");
  });
}

// The first socket chooses the mode of the UMEM; zero-copy is tried by the kernel itself unless it is told not to.
// Further sockets inherit the mode and must not name it.
Result<void> XskGroup::bind_first(const XskSocket& socket) {
  const auto mode =
      static_cast<std::uint16_t>(XDP_USE_NEED_WAKEUP | (config_.zero_copy == ZeroCopy::off ? XDP_COPY : 0));
  if (config_.scatter_gather) {
    const auto bound = bind_once(socket, static_cast<std::uint16_t>(mode | use_scatter_gather));
    scatter_gather_ = bound.has_value();
    // Kernels before 6.6 do not know the flag.
    if (bound || bound.error().code != EINVAL) return bound;
  }
  return bind_once(socket, mode);
}

Result<XskBinding> XskGroup::bind(const XskSocket& socket, int xsk_map_fd, std::uint32_t map_index) {
  const auto mine = std::ranges::find(sockets_, socket.queue(), &Kept::queue);
  const Kept* const bound = any_bound();
  if (mine == sockets_.end() || (bound == nullptr && mine != sockets_.begin()))
    return fail(describe(socket.queue()) + ": the group's first socket is not bound", EINVAL);
  POSTERN_CHECK(bound == nullptr ? bind_first(socket) : bind_once(socket, 0, bound->socket.get()));
  mine->bound = true;
  const XskBinding binding{.zero_copy = is_zero_copy(socket.fd()),
                           .scatter_gather = scatter_gather_,
                           .tx_budget = raise_tx_budget(socket.fd(), socket.layout().tx_entries)};
  if (xsk_map_fd >= 0) {
    const int value = socket.fd();
    if (::bpf_map_update_elem(xsk_map_fd, &map_index, &value, BPF_ANY) != 0)
      return fail_errno(fmt::format("{}: XSKMAP index {}", describe(socket.queue()), map_index));
  }
  return binding;
}

XskGroup::Kept* XskGroup::any_bound() {
  const auto found = std::ranges::find(sockets_, true, &Kept::bound);
  return found == sockets_.end() ? nullptr : &*found;
}

void XskGroup::release(std::uint32_t ifindex) {
  std::erase_if(sockets_, [&](const Kept& kept) { return kept.queue.ifindex == ifindex; });
}

Result<void> clear_xsk_slot(int xsk_map_fd, std::uint32_t map_index) {
  if (::bpf_map_delete_elem(xsk_map_fd, &map_index) == 0 || errno == ENOENT) return {};
  return fail_errno(fmt::format("clear XSKMAP index {}", map_index));
}

}  // namespace postern::loader
