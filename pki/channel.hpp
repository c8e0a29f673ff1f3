// The channel between postern-ike and postern-pki (base/frame_codec.hpp): one struct of pki/questions.hpp a frame. Both
// ends are ours, but postern-pki holds the keys: what it reads it checks.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "base/bytes.hpp"
#include "base/frame_codec.hpp"
#include "base/result.hpp"
#include "pki/questions.hpp"

namespace postern::pki {

inline constexpr std::uint8_t channel_version = 3;
inline constexpr std::size_t max_frame_bytes = 160U << 10;

// A question has the id that its answer comes back with; facts come unasked, with id 0.
struct Facts {
  std::vector<TrustpointFacts> trustpoints;
};
using FrameBody =
    std::variant<SignQuestion, ValidateQuestion, Refusal, Signed, Validated, Facts, TlsQuestion, TlsProgress>;
using Frame = NumberedFrame<FrameBody>;

[[nodiscard]] Octets encode(const Frame& frame);
// Error: not whole, not of this version, or with bytes left over.
[[nodiscard]] Result<Frame> decode(Bytes datagram);

// One frame to the socket, never waiting: EAGAIN when it is full.
[[nodiscard]] Result<void> send_frame(int socket, const Frame& frame);
// Nothing: no frame is there. Error: the other end is gone, or speaks another language.
[[nodiscard]] Result<std::optional<Frame>> receive_frame(int socket, std::vector<std::byte>& buffer);

}  // namespace postern::pki
