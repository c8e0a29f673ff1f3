// The four rings of an AF_XDP socket, mapped from a descriptor that posternd made. Owner: one worker thread; no system
// call but the mappings and statistics().
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include <linux/if_xdp.h>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "maps/counters.hpp"
#include "worker/umem.hpp"

namespace postern {

inline constexpr std::uint32_t xdp_packet_continues =
    1;  // XDP_PKT_CONTD, kernel 6.6: the packet goes on in the next descriptor

// One single-producer, single-consumer ring shared with the kernel; `T` is xdp_desc or a frame address.
template <class T>
class XskRing {
 public:
  XskRing() = default;
  XskRing(Mapping memory, const xdp_ring_offset& offsets, std::uint32_t entries)
      : memory_(std::move(memory)),
        producer_(memory_.as<std::uint32_t>(offsets.producer)),
        consumer_(memory_.as<std::uint32_t>(offsets.consumer)),
        flags_(memory_.as<std::uint32_t>(offsets.flags)),
        entries_(memory_.as<T>(offsets.desc)),
        size_(entries),
        own_(0) {}

  [[nodiscard]] std::uint32_t size() const { return size_; }
  [[nodiscard]] bool needs_wakeup() const {
    return (__atomic_load_n(flags_, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP) != 0;
  }

  // As producer: entries that the consumer has not taken yet, counting those not yet published.
  [[nodiscard]] std::uint32_t waiting() const { return own_ - other(consumer_); }
  [[nodiscard]] std::uint32_t room() const { return size_ - waiting(); }
  void put(const T& entry) { entries_[own_++ & (size_ - 1)] = entry; }
  void publish() { __atomic_store_n(producer_, own_, __ATOMIC_RELEASE); }

  // As consumer.
  [[nodiscard]] std::uint32_t ready() const { return other(producer_) - own_; }
  [[nodiscard]] T get() { return entries_[own_++ & (size_ - 1)]; }
  void release() { __atomic_store_n(consumer_, own_, __ATOMIC_RELEASE); }

  // As producer: what the consumer took so far, and an entry that it took while no newer one has overwritten it.
  [[nodiscard]] std::uint32_t taken() const { return other(consumer_); }
  [[nodiscard]] const T& at(std::uint32_t index) const { return entries_[index & (size_ - 1)]; }

 private:
  static std::uint32_t other(const std::uint32_t* index) { return __atomic_load_n(index, __ATOMIC_ACQUIRE); }

  Mapping memory_;
  std::uint32_t* producer_ = nullptr;
  std::uint32_t* consumer_ = nullptr;
  std::uint32_t* flags_ = nullptr;
  T* entries_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t own_ = 0;  // our side's index
};

class Xsk {
 public:
  // `holder` names this socket in the UMEM's books. The socket may be bound already or not (kernels before 6.4 map the
  // rings of an unbound one only).
  [[nodiscard]] static Result<Xsk> map(int socket, const UmemLayout& layout, Umem& umem, FrameHolder holder);

  [[nodiscard]] Umem& umem() const { return *umem_; }

  // Up to out.size() received descriptors, whole packets or not. The frames are the worker's from now on.
  std::uint32_t receive(std::span<xdp_desc> out);
  // Gives free frames to the kernel until it has `target`. True: it sleeps and must be woken (wake_receive).
  bool refill(std::uint32_t target);

  // Takes back what was sent, and counts what the kernel took off the ring since: call before room(). False: nothing
  // moved.
  bool reclaim(DeviceCounters& counters);
  [[nodiscard]] std::uint32_t room() const { return tx_.room(); }
  void put(std::uint64_t address, std::uint32_t size) {
    umem_->lend(address, holder_);
    tx_.put({address, size, 0});
  }
  void publish() { tx_.publish(); }
  [[nodiscard]] std::uint32_t tx_waiting() const { return tx_.waiting(); }
  [[nodiscard]] std::uint32_t rx_waiting() { return rx_.ready(); }
  [[nodiscard]] bool rx_ready() const { return rx_.ready() > 0; }
  [[nodiscard]] bool needs_kick() const { return tx_.needs_wakeup(); }
  // The kernel took a packet off the ring and then said it was not sent (EBUSY): not to be counted as sent.
  void refused(std::uint32_t packets) { refused_ += packets; }

 private:
  Xsk(Umem& umem, FrameHolder holder) : umem_(&umem), holder_(holder) {}

  Umem* umem_;
  FrameHolder holder_;
  XskRing<xdp_desc> rx_, tx_;
  XskRing<std::uint64_t> fill_, completion_;
  std::uint32_t counted_ = 0;  // of tx_: entries before this index are in the counters
  std::uint32_t refused_ = 0;
};

// XDP_STATISTICS; the first six fields exist on every kernel since 5.9.
[[nodiscard]] Result<xdp_statistics> xsk_statistics(int socket);

}  // namespace postern
