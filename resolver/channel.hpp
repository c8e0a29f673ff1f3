// The channel between postern-ike and postern-resolver (base/frame_codec.hpp): names out, addresses in; URLs of
// certificates out, what is there in. What comes back was read from the network by a process that is not trusted with
// anything: postern-ike checks it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.hpp"
#include "base/frame_codec.hpp"
#include "base/http_url.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"

namespace postern::resolver {

// RFC 1035 §2.3.4, without the trailing dot.
inline constexpr std::size_t max_name_bytes = 253;
inline constexpr std::size_t max_addresses = 16;
inline constexpr std::size_t max_detail_bytes = 200;
inline constexpr std::size_t max_body_bytes = 48U << 10;

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

// By HTTP alone (base/http_url.hpp), without redirects and proxies.
struct UrlQuestion {
  std::string url;
  std::uint32_t max_bytes = 0;  // 1..max_body_bytes
};

enum class UrlOutcome : std::uint8_t {
  found,
  refused,    // the server has another answer than 200: `detail`
  too_large,  // more than max_bytes
  timed_out,
  failed,  // nobody of that name, nobody there, no HTTP: `detail`
  busy,    // too many questions at once
};

struct UrlAnswer {
  UrlOutcome outcome = UrlOutcome::failed;
  std::string detail;           // for a person; empty where the outcome says it all
  std::vector<std::byte> body;  // where it was found
};

using FrameBody = std::variant<Question, Answer, UrlQuestion, UrlAnswer>;
using Frame = NumberedFrame<FrameBody>;

[[nodiscard]] std::vector<std::byte> encode(const Frame& frame);
// Error: not whole, not of this version, with bytes left over, or with a value that is none of its kind.
[[nodiscard]] Result<Frame> decode(Bytes datagram);

// One frame to the socket, never waiting: EAGAIN when it is full.
[[nodiscard]] Result<void> send_frame(int socket, const Frame& frame);
// Nothing: no frame is there. Error: the other end is gone, or speaks another language.
[[nodiscard]] Result<std::optional<Frame>> receive_frame(int socket, std::vector<std::byte>& buffer);

}  // namespace postern::resolver
