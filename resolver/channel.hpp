// The channel between postern-ike and postern-resolver (base/frame_codec.hpp): names out, addresses in. What comes back
// was read from the network by a process that is not trusted with anything: postern-ike checks it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.hpp"
#include "base/frame_codec.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"

namespace postern::resolver {

// RFC 1035 §2.3.4, without the trailing dot.
inline constexpr std::size_t max_name_bytes = 253;
inline constexpr std::size_t max_addresses = 16;
inline constexpr std::size_t max_detail_bytes = 200;

struct Question {
  std::string name;
  Family family = Family::v4;
};

enum class Outcome : std::uint8_t {
  found,
  no_name,      // nobody has this name
  no_address,   // it has no address of the family
  unreachable,  // no name server answered, or none could
  failed,       // what else the C library says: `detail`
  busy,         // too many questions at once
};

struct Answer {
  Outcome outcome = Outcome::failed;
  std::string detail;                // for a person; empty where the outcome says it all
  std::vector<IpAddress> addresses;  // in the C library's order (RFC 6724)
};

using FrameBody = std::variant<Question, Answer>;
using Frame = NumberedFrame<FrameBody>;

[[nodiscard]] std::vector<std::byte> encode(const Frame& frame);
// Error: not whole, not of this version, with bytes left over, or with a value that is none of its kind.
[[nodiscard]] Result<Frame> decode(Bytes datagram);

// One frame to the socket, never waiting: EAGAIN when it is full.
[[nodiscard]] Result<void> send_frame(int socket, const Frame& frame);
// Nothing: no frame is there. Error: the other end is gone, or speaks another language.
[[nodiscard]] Result<std::optional<Frame>> receive_frame(int socket, std::vector<std::byte>& buffer);

}  // namespace postern::resolver
