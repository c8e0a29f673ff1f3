// What a TUN or TAP queue reads and writes: a virtio-net header, on the steer TAP an Ethernet header whose addresses
// are a stamp, and an IP packet of up to 64 KiB. Owner: one worker thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <sys/uio.h>

#include "maps/abi.h"
#include "worker/coalesce.hpp"
#include "worker/packet.hpp"
#include "worker/parse.hpp"

namespace postern {

// One packet as it was read. The offload header's offsets count from the IP header.
struct TunPacket {
  VnetHeader offload;
  Bytes ip;
  std::uint32_t flow = 0;
  std::uint32_t generation = 0;
};

// Empty when the buffer is too short to hold its headers, or the steer frame is not IP.
[[nodiscard]] std::optional<TunPacket> parse_tunnel_read(Bytes buffer, std::uint32_t flow);
[[nodiscard]] std::optional<TunPacket> parse_steer_read(Bytes buffer);

// A write under way: headers of its own, then parts that point into UMEM frames, which are free again when it has
// ended.
struct TunWrite {
  std::array<std::byte, sizeof(VnetHeader) + ethernet_header> header;
  std::array<iovec, packet_batch + 1> parts;
  std::uint32_t count = 0;
  std::uint32_t bytes = 0;  // of the IP packet

  [[nodiscard]] std::span<const iovec> iovecs() const { return {parts.data(), count}; }
  [[nodiscard]] std::span<const iovec> frames() const { return iovecs().subspan(1); }
};

void prepare_tunnel_write(const CoalescedPacket& packet, TunWrite& out);
// `ifindex`: the interface on which TC ingress shall let it arrive.
void prepare_steer_write(const CoalescedPacket& packet, std::uint32_t ifindex, TunWrite& out);

// A fixed number of slots with numbers, so that a slot can be named in a Token.
template <class T, std::uint32_t Count>
class SlotPool {
 public:
  SlotPool() : slots_(std::make_unique<std::array<T, Count>>()) {
    free_.reserve(Count);
    for (std::uint32_t i = Count; i-- > 0;) free_.push_back(i);
  }
  [[nodiscard]] std::optional<std::uint32_t> take() {
    if (free_.empty()) return std::nullopt;
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  void give(std::uint32_t slot) { free_.push_back(slot); }
  [[nodiscard]] T& operator[](std::uint32_t slot) { return (*slots_)[slot]; }
  [[nodiscard]] std::size_t available() const { return free_.size(); }

 private:
  std::unique_ptr<std::array<T, Count>> slots_;
  std::vector<std::uint32_t> free_;
};

}  // namespace postern
