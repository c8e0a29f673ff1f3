// Who belongs to whom among the ikev2 objects: the rules by which a connection finds its policy, profile and key. Pure;
// for check_*.cpp and for posternd's plan.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/model.hpp"

namespace postern::config {

// The ends of a connection. `local` is not known while the document leaves the address to the system: it fits all then.
struct Ikev2Ends {
  std::optional<IpAddress> local;
  IpAddress remote;
  std::optional<std::string> fvrf;  // the VRF's name; none: global
  std::string remote_name = {};     // of a peer by name, whose `remote` is unspecified
  [[nodiscard]] std::string remote_text() const { return remote_name.empty() ? remote.text() : remote_name; }
};

[[nodiscard]] bool in_scope(const Ikev2Scope& scope, const Ikev2Ends& ends);
// The peer may call itself by its address, as far as the rule says.
[[nodiscard]] bool names_address(const IdentityRule& rule, const IpAddress& address);

// IKE-32, IKE-33: of those in scope, one with the address before one without, one that names the VRF before "any", then
// the first. nullptr: none, and the proposal "default" counts.
[[nodiscard]] const Ikev2Policy* policy_for(const Ikev2& ikev2, const Ikev2Ends& ends);

// `name`, or else the first profile in scope that accepts the peer's address, or name, as its identity (IKE-37).
[[nodiscard]] const Ikev2Profile* profile_for(const Ikev2& ikev2, const std::optional<std::string>& name,
                                              const Ikev2Ends& ends);
// Of a tunnel: its own, the IPsec profile's, by the rules.
[[nodiscard]] const Ikev2Profile* profile_for(const Document& document, const Tunnel& tunnel, const Ikev2Ends& ends);

// IKE-36: by host address, then by network, the first in the file of each; where no address decides, those with an
// identity that `profile` accepts, of which the one counts that the peer says it is. peer_for(): the first of all.
[[nodiscard]] const KeyringPeer* peer_at(const Keyring& keyring, const IpAddress& remote);
[[nodiscard]] std::vector<const KeyringPeer*> peers_called(const Keyring& keyring, const Ikev2Profile& profile);
[[nodiscard]] const KeyringPeer* peer_for(const Keyring& keyring, const Ikev2Profile& profile, const IpAddress& remote);

// The key that we prove and the one that the peer proves; nullptr: there is none.
struct KeyPair {
  const Secret *local = nullptr, *remote = nullptr;
  const Ppk* ppk = nullptr;
};
[[nodiscard]] KeyPair keys_for(const Ikev2& ikev2, const Ikev2Profile& profile, const IpAddress& remote);

// IKE-28: what a proposal lacks ("encryption, group"); empty: nothing.
[[nodiscard]] std::string missing_in(const Ikev2Proposal& proposal);

}  // namespace postern::config
