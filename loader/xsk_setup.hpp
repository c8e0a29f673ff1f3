// AF_XDP sockets for the worker: made, sized, registered and bound here, used there.
//
// The order of a hand-over, for each socket of a thread, first one first:
//   prepare()            socket, UMEM (memfd), ring sizes
//   add_device to the worker with {xsk, UMEM memfd}; it maps the rings and the memfd, fills the fill ring, and replies
//   bind()               device and queue, XDP_MAX_TX_SKB_BUDGET, XSKMAP
//   drop the XskSocket   posternd keeps no descriptor of it
// bind() comes after the worker's mmap because kernels before 6.4 refuse to map any ring of a bound socket (EBUSY).
// Until then a kick (sendto) gives ENXIO, and nothing arrives. XDP_MMAP_OFFSETS and mmap work on the unbound socket.
//
// UMEM pages stay pinned by the socket: posternd's own mapping is gone after prepare(). Each further socket of a thread
// gets its own fill and completion ring and is bound with XDP_SHARED_UMEM to the first, which must be bound by then.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "worker/sa_channel.hpp"

namespace postern::loader {

inline constexpr std::uint32_t xdp_headroom =
    256;  // XDP_PACKET_HEADROOM: the kernel's own, part of UmemLayout::headroom

// Raises RLIMIT_MEMLOCK as far as it goes. A UMEM counts against it where CAP_IPC_LOCK is missing.
[[nodiscard]] Result<void> raise_memlock_limit();

enum class ZeroCopy : std::uint8_t { automatic, off };

struct XskQueue {
  std::uint32_t ifindex = 0;
  std::uint32_t queue = 0;
  std::string device;  // for messages
  bool operator==(const XskQueue&) const = default;
};

struct XskBinding {
  bool zero_copy = false;
  bool scatter_gather = false;  // XDP_USE_SG: packets larger than a frame arrive in several descriptors
  bool tx_budget = false;       // XDP_MAX_TX_SKB_BUDGET was raised; otherwise a kick sends at most 32 packets
};

class XskSocket {
 public:
  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] const UmemLayout& layout() const { return layout_; }
  [[nodiscard]] const XskQueue& queue() const { return queue_; }

 private:
  friend class XskGroup;
  XskSocket(Fd socket, XskQueue queue, const UmemLayout& layout)
      : socket_(std::move(socket)), queue_(std::move(queue)), layout_(layout) {}
  Fd socket_;
  XskQueue queue_;
  UmemLayout layout_;
};

struct XskGroupConfig {
  UmemLayout layout;  // of every socket; frames and frame_bytes describe the one UMEM
  ZeroCopy zero_copy = ZeroCopy::automatic;
  bool scatter_gather = false;  // ask for it: an MTU that does not fit a frame
};

// The sockets of one worker thread over one UMEM. One thread. It keeps a duplicate of each socket, because bind() of a
// further one needs any that is bound: release() those of a device before another socket is to have its queues, and
// drop the group when the worker is gone.
class XskGroup {
 public:
  // ENOBUFS: RLIMIT_MEMLOCK; EINVAL: sizes that AF_XDP cannot have (the message says which).
  [[nodiscard]] static Result<XskGroup> create(const XskGroupConfig& config);

  // The next socket of this group. The first one registers the UMEM.
  [[nodiscard]] Result<XskSocket> prepare(const XskQueue& queue);
  // Binds, waiting up to 2 s for an earlier owner to go (EBUSY); raises the transmit budget; `xsk_map_fd` >= 0: puts it
  // into the XSKMAP at `map_index`. EOPNOTSUPP on a further socket: the first is zero-copy and this device cannot be:
  // make the group again with ZeroCopy::off.
  [[nodiscard]] Result<XskBinding> bind(const XskSocket& socket, int xsk_map_fd, std::uint32_t map_index);

  // Lets go of a device's sockets.
  void release(std::uint32_t ifindex);
  [[nodiscard]] bool empty() const { return sockets_.empty(); }
  [[nodiscard]] bool scatter_gather() const { return scatter_gather_; }

  [[nodiscard]] int umem_memfd() const { return memfd_.get(); }

 private:
  XskGroup(const XskGroupConfig& config, Fd memfd) : config_(config), memfd_(std::move(memfd)) {}
  [[nodiscard]] Result<void> register_umem(int socket) const;
  struct Kept {
    XskQueue queue;
    Fd socket;
    bool bound = false;
  };
  [[nodiscard]] Kept* any_bound();
  [[nodiscard]] Result<void> bind_first(const XskSocket& socket);
  [[nodiscard]] Result<void> bind_once(const XskSocket& socket, std::uint16_t flags, int shared = -1) const;

  XskGroupConfig config_;
  Fd memfd_;
  std::vector<Kept> sockets_;  // the first one made has registered the UMEM
  bool scatter_gather_ = false;
};

// Empties an XSKMAP slot; an empty slot is not an error.
[[nodiscard]] Result<void> clear_xsk_slot(int xsk_map_fd, std::uint32_t map_index);

}  // namespace postern::loader
