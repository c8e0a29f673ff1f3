// ESP that reached the node as fragments: the kernel reassembled it and gives it to a UDP or raw socket, without the
// headers that the pipeline wants to see. They are written again here from what recvmsg() tells. Owner: one worker
// thread.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.hpp"
#include "worker/device.hpp"
#include "worker/packet.hpp"

namespace postern {

// Asks the kernel for addresses and ECN with each packet, and learns the local port; for udp_encap, raw_esp and raw_ah.
[[nodiscard]] Result<void> prepare_socket(Device& device);

enum class SocketRead : std::uint8_t {
  packet,   // `packet` begins at its outer IP header
  dropped,  // larger than a frame, or without addresses
  empty,    // nothing waits
  failed,
};

// File 0 of the device is IPv4, file 1 IPv6. Reads one packet into the frame of `packet` (buffer, capacity and frame
// set), leaving room for the headers.
[[nodiscard]] SocketRead read_socket(Device& device, std::uint8_t part, Packet& packet);

}  // namespace postern
