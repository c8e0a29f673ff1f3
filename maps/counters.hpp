// The counter page: one shared-memory file per node, written by the worker, read by posternd for `show`. No keys.
// Memory: created by posternd (size = sizeof(CounterPage)), survives a restart of either process.
// Writers: each worker thread only its own ThreadCounters. Readers: anyone, relaxed: a snapshot is consistent per
// counter.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "maps/drops.hpp"

namespace postern {

inline constexpr std::uint32_t counter_page_magic = 0x504e4350;  // "PNCP"
inline constexpr std::uint32_t counter_page_version = 3;
inline constexpr std::size_t max_worker_threads = 64;
inline constexpr std::size_t max_worker_devices = 256;

using Counter = std::atomic<std::uint64_t>;
static_assert(Counter::is_always_lock_free);

// Data path only: the writer is one thread, so a plain load and store is enough and costs no locked instruction.
inline void count(Counter& counter, std::uint64_t by = 1) {
  counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

// One descriptor of one thread: an XSK (device, queue), a TUN or steer TAP queue, or a socket. Rows outlive their
// device, and the same device gets the same row again, so that sums over a thread never step back. What the kernel lost
// in front of an XSK (rx_dropped, rx_ring_full) counts in rx_packets and as Drop::rx_overrun; what it refused to send
// (tx_invalid) as Drop::invalid_descriptor and not in tx_packets. fill_empty explains rx_dropped, it adds nothing.
struct alignas(64) DeviceCounters {
  Counter rx_packets, rx_bytes;
  Counter tx_packets, tx_bytes;
  Counter tx_refused;  // offered to the kernel and not taken; each is also a drop (tx_full, tx_failed)
  // Kernel-side losses as XDP_STATISTICS tells them, refreshed about once a second and before a control reply.
  Counter kernel_rx_dropped, kernel_rx_ring_full, kernel_rx_fill_empty, kernel_rx_invalid, kernel_tx_invalid;
  Counter identity;  // whose row this is: device_identity() of worker/sa_channel.hpp; 0: never used
};

// Packets balance: rx + split + made + redelivered = tx + merged + held + sum(drops), over all devices of the thread.
struct alignas(64) ThreadCounters {
  std::array<Counter, drop_count> drops;
  Counter split;                   // packets gained by segmentation (TSO/USO) and fragmentation: n made of 1 counts n-1
  Counter merged;                  // packets lost by coalescing (and reassembly): 1 made of n counts n-1
  Counter made;                    // packets the worker itself made: ICMP errors, dummies, keepalives
  Counter held;                    // gauge: waiting in hold queues now
  Counter captured, capture_lost;  // records given to, and refused by, a running capture
  Counter wakeups, system_calls;   // io_uring_enter calls, and those that slept
  Counter handed, helped;          // packets of its own that another thread sealed or opened, and of others that it did
  std::array<DeviceCounters, max_worker_devices> devices;
};

struct CounterPage {
  std::uint32_t magic;
  std::uint32_t version;
  std::atomic<std::uint32_t> threads;
  std::atomic<std::uint32_t> worker_starts;  // how often a worker took the page over
  std::array<ThreadCounters, max_worker_threads> thread;
};

}  // namespace postern
