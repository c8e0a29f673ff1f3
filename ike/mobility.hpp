// Where the ends of an IKE SA are, and where else they may be (RFC 4555). Plain values, of one session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.hpp"
#include "ike/actions.hpp"

namespace postern::ike {

// Of one end, beside the one that it uses: more are neither kept nor told.
inline constexpr std::size_t max_other_addresses = 8;

struct Mobility {
  std::uint32_t moves = 0;       // of ours, or to another address of the peer's
  std::uint32_t peer_moves = 0;  // by the peer's word
  // §3.4, §3.6: the peer's others, of the family in use, as it told them last; the next to be tried first. And how many
  // of them have not been tried since it was last heard.
  std::vector<IpAddress> theirs;
  std::size_t untried = 0;
  // All of ours, and what the peer knows of them.
  std::vector<IpAddress> ours, told;
  // §3.7: where the children's packets go while the peer has not shown that it is at its new place.
  std::optional<Endpoint> proven;
};

// What the requests are about: an answer counts for the move that it was asked by.
struct Updating {  // §3.5: UPDATE_SA_ADDRESSES
  std::uint32_t moves = 0;
  Octets cookie;  // COOKIE2; empty: there was none
};
struct CheckingRoute {  // §3.7
  std::uint32_t peer_moves = 0;
  Octets cookie;
};
struct Announcing {};  // §3.6: the list of our addresses

}  // namespace postern::ike
