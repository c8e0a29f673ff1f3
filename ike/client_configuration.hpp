// What peers that ask for a configuration are lent and told (RFC 7296 §2.19).
#pragma once

#include <string>
#include <vector>

#include "base/net_types.hpp"

namespace postern::ike {

struct ClientConfiguration {
  std::vector<Prefix> pools;  // of either family; none: no addresses
  std::vector<IpAddress> dns;
  std::vector<Prefix> subnets;  // behind us
  std::string banner;
  bool required = false;  // who does not ask gets no child SA
  bool operator==(const ClientConfiguration&) const = default;
};

// What a peer has lent and told us when we asked it.
struct AssignedConfiguration {
  std::string interface;  // that the addresses are for
  std::vector<IpAddress> addresses, dns;
  std::vector<Prefix> subnets;  // behind the peer
  std::string banner;           // what is no printable ASCII is '?'
};

}  // namespace postern::ike
