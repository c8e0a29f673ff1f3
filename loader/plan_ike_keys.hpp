// Which pre-shared keys a connection is given, of its profile and keyring, where the peer is not known by its address
// (plan_ike.cpp). In the order in which they count.
#pragma once

#include <vector>

#include "config/model.hpp"
#include "ike/policy.hpp"

namespace postern::loader {

// DM-13: of peers that come from anywhere: hosts, networks, identities, and who needs no key of the keyring. Empty:
// there is none.
[[nodiscard]] std::vector<ike::PeerKey> peer_keys(const config::Ikev2& ikev2, const config::Ikev2Profile& profile,
                                                  Family family);
// IKE-36: of a peer at an address that the keyring does not name. Empty: it names the address, or no identity that the
// profile accepts.
[[nodiscard]] std::vector<ike::PeerKey> identity_keys(const config::Ikev2& ikev2, const config::Ikev2Profile& profile,
                                                      const IpAddress& remote);

}  // namespace postern::loader
