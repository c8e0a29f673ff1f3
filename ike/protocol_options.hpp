// What a node does of IKEv2's extensions and limits, as the document says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace postern::ike {

struct ProtocolOptions {
  std::uint16_t fragment_mtu = 1280;  // RFC 7383: IP packets that carry fragments have so many bytes; 0: not offered
  std::uint16_t window = 5;           // RFC 7296 §2.3: requests of the peer that are kept until their turn
  std::uint16_t max_selectors = 16;   // of one direction of a child
  bool mobike = true;                 // RFC 4555: the peer may move
  bool crash_detection = true;        // RFC 6290: tokens are given to peers
  // RFC 7296 §3.6: what the URLs begin with that we fetch certificates from (base/http_url.hpp); none: we fetch none.
  std::vector<std::string> cert_lookup = {};
  bool operator==(const ProtocolOptions&) const = default;
};

}  // namespace postern::ike
